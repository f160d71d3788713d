"""Stage `train_frozen`: train the head of a classifier on a frozen backbone.

Reads   data/processed/train, data/processed/validation
Writes  models/train_frozen.keras, metrics/train_frozen/ (curves, by DVCLive)
Params  seed, model, augmentation, train_frozen
"""

import logging
from pathlib import Path
from typing import Any

from pneumonia.errors import run_stage
from pneumonia.store.params import Seed, load_section
from pneumonia.training.augmentation import AugmentationParams
from pneumonia.training.fit import PhaseParams
from pneumonia.training.network import ModelParams, freeze_backbone, load_pretrained
from pneumonia.training.phase import PhaseFiles, run_phase
from pneumonia.training.pretrained import obtain_weights

TRAIN = Path("data/processed/train")
VALIDATION = Path("data/processed/validation")
MODEL = Path("models/train_frozen.keras")
CURVES = Path("metrics/train_frozen")
SCRATCH = Path(".scratch/train_frozen")

log = logging.getLogger("train_frozen")


def main(root: Path = Path()) -> None:
    seed = load_section(root / "params.yaml", "seed", Seed)
    model = load_section(root / "params.yaml", "model", ModelParams)
    augmentation = load_section(root / "params.yaml", "augmentation", AugmentationParams)
    params = load_section(root / "params.yaml", "train_frozen", PhaseParams)
    # Before anything else: where the weights cannot be had, no other work is worth doing.
    weights = obtain_weights(model.backbone, model.weights)

    def enter(classifier: Any) -> None:
        if weights is not None:
            load_pretrained(classifier, weights)
        freeze_backbone(classifier)

    files = PhaseFiles(
        train=root / TRAIN,
        validation=root / VALIDATION,
        given=weights,
        model=root / MODEL,
        curves=root / CURVES,
        metrics=None,
        scratch=root / SCRATCH,
    )
    run_phase(files, enter, model, augmentation, params, seed, log)


if __name__ == "__main__":
    run_stage(main)

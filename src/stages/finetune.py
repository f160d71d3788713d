"""Stage `finetune`: train all layers, starting from the frozen phase's model.

Reads   data/processed/train, data/processed/validation, models/train_frozen.keras
Writes  models/finetune.keras, metrics/finetune.json, metrics/finetune/ (curves, by DVCLive)
Params  seed, model, augmentation, finetune
"""

import logging
from pathlib import Path
from typing import Any

from pneumonia.errors import run_stage
from pneumonia.store.params import Seed, load_section
from pneumonia.training.augmentation import AugmentationParams
from pneumonia.training.fit import PhaseParams
from pneumonia.training.model_files import load_classifier
from pneumonia.training.network import ModelParams, unfreeze_backbone
from pneumonia.training.phase import PhaseFiles, run_phase

TRAIN = Path("data/processed/train")
VALIDATION = Path("data/processed/validation")
GIVEN = Path("models/train_frozen.keras")
MODEL = Path("models/finetune.keras")
CURVES = Path("metrics/finetune")
METRICS = Path("metrics/finetune.json")
SCRATCH = Path(".scratch/finetune")

log = logging.getLogger("finetune")


def main(root: Path = Path()) -> None:
    seed = load_section(root / "params.yaml", "seed", Seed)
    model = load_section(root / "params.yaml", "model", ModelParams)
    augmentation = load_section(root / "params.yaml", "augmentation", AugmentationParams)
    params = load_section(root / "params.yaml", "finetune", PhaseParams)
    given = load_classifier(root / GIVEN).get_weights()

    def enter(classifier: Any) -> None:
        unfreeze_backbone(classifier, model)
        classifier.set_weights(given)

    files = PhaseFiles(
        train=root / TRAIN,
        validation=root / VALIDATION,
        given=root / GIVEN,
        model=root / MODEL,
        curves=root / CURVES,
        metrics=root / METRICS,
        scratch=root / SCRATCH,
    )
    run_phase(files, enter, model, augmentation, params, seed, log)


if __name__ == "__main__":
    run_stage(main)

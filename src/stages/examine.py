"""Stage `examine`: what the pixels say about the model, beside what the predictions say.

Reads   models/finetune.keras, models/operating_point.json, metrics/predictions.csv
        data/processed/test
        data/processed/train  for two classifiers that cannot see pneumonia
Writes  metrics/robustness.csv       recall, specificity and area under graded corruptions
        metrics/shortcuts.csv        how far file metadata and a thumbnail come
        metrics/activation_maps.csv  whether the maps depend on what was learned
        plots/examine/               PNGs of these, and sample radiographs
Params  seed, robustness
"""

import logging
from functools import partial
from pathlib import Path

from pneumonia.data.datasets import is_public
from pneumonia.data.privacy import key_from_environment
from pneumonia.errors import run_stage
from pneumonia.evaluation.map_study import map_study, outcomes
from pneumonia.evaluation.predictions import TEXT_COLUMNS, as_printed, in_order
from pneumonia.evaluation.robustness import SETTINGS, RobustnessParams, robustness
from pneumonia.evaluation.shortcuts import shortcuts_table
from pneumonia.plots.radiographs import activation_maps_png, middle_places, samples_png
from pneumonia.plots.robustness import robustness_png
from pneumonia.plots.sanity import sanity_png
from pneumonia.progress import reported
from pneumonia.store.arrays import open_split
from pneumonia.store.files import read_json, read_table, write_bytes, write_table
from pneumonia.store.params import Seed, load_section
from pneumonia.training.model_files import load_classifier, predict_probabilities

MODEL = Path("models/finetune.keras")
OPERATING_POINT = Path("models/operating_point.json")
PREDICTIONS = Path("metrics/predictions.csv")
TRAIN = Path("data/processed/train")
TEST = Path("data/processed/test")
ROBUSTNESS = Path("metrics/robustness.csv")
SHORTCUTS = Path("metrics/shortcuts.csv")
MAPS = Path("metrics/activation_maps.csv")
PLOTS = Path("plots/examine")

log = logging.getLogger("examine")


def main(root: Path = Path()) -> None:
    """Run the stage on the repository at `root`."""
    seed = load_section(root / "params.yaml", "seed", Seed)
    params = load_section(root / "params.yaml", "robustness", RobustnessParams)
    point = read_json(root / OPERATING_POINT)
    threshold = point["operating_threshold"]
    key = None if is_public(point["dataset"]) else key_from_environment()
    split = open_split(root / TEST)
    test = in_order(read_table(root / PREDICTIONS, TEXT_COLUMNS), split.index["name"], key)
    y_prob = test["probability"].to_numpy()
    test["outcome"] = outcomes(split.labels, y_prob, threshold)
    classifier = load_classifier(root / MODEL)
    log.info("test: %d images, outcomes %s", len(test), test["outcome"].value_counts().to_dict())

    robust = robustness(
        partial(predict_probabilities, classifier),
        split.images,
        split.index,
        threshold,
        params.n_images,
        seed,
        partial(reported, n_items=len(SETTINGS), what="corruptions tried", log=log),
    )
    beside = shortcuts_table(open_split(root / TRAIN), split, y_prob, seed)
    log.info("activation maps, trained and with random weights")
    few = middle_places(test)
    kinds, outcome = (test[name].to_numpy(dtype=str) for name in ("kind", "outcome"))
    study = map_study(classifier, split.images, kinds, outcome, few, seed)

    write_table(root / ROBUSTNESS, as_printed(robust))
    write_table(root / SHORTCUTS, as_printed(beside))
    write_table(root / MAPS, as_printed(study.table))
    # Radiographs that are not public appear in no file that Git keeps.
    images = None if key else split.images
    drawn = {
        "robustness.png": robustness_png(robust, len(test), point),
        "samples.png": samples_png(test, images, point),
        "activation_maps.png": activation_maps_png(test, images, study.maps, point),
        "activation_maps_sanity.png": sanity_png(test, images, study, few, point),
    }
    for name, data in drawn.items():
        write_bytes(root / PLOTS / name, data)
    log.info("%d plots in %s", len(drawn), PLOTS)


if __name__ == "__main__":
    run_stage(main)

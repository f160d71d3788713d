"""Stage `evaluate`: choose the operating threshold on validation, then open test once.

Reads   models/finetune.keras
        data/processed/validation, data/processed/test
        metrics/{train_frozen,finetune}/plots/metrics  DVCLive's curves of the two phases
Writes  models/operating_point.json  the threshold, and what it was chosen for
        metrics/evaluate.json        counts, rates and areas with intervals
        metrics/predictions.csv      a row an image, from which all figures are derived
        plots/evaluate/              tables that DVC draws, and pictures
Params  seed, evaluate, fetch.source
"""

import logging
import time
from pathlib import Path
from typing import Any

import pandas as pd

from pneumonia.artifacts import read_table, write_bytes, write_json, write_table
from pneumonia.curves import history_table, plot_tables
from pneumonia.dataset import Split, open_split
from pneumonia.errors import run_stage
from pneumonia.figures import pictures, sample_films
from pneumonia.metrics import EvaluateParams, evaluation, metrics_table, operating_point
from pneumonia.model_files import load_classifier, predict_probabilities
from pneumonia.params import load_section
from pneumonia.predictions import as_printed, split_predictions
from pneumonia.privacy import key_from_environment
from pneumonia.records import is_public

MODEL = Path("models/finetune.keras")
VALIDATION = Path("data/processed/validation")
TEST = Path("data/processed/test")
FROZEN_CURVES = Path("metrics/train_frozen/plots/metrics")
FINETUNE_CURVES = Path("metrics/finetune/plots/metrics")
OPERATING_POINT = Path("models/operating_point.json")
METRICS = Path("metrics/evaluate.json")
PREDICTIONS = Path("metrics/predictions.csv")
PLOTS = Path("plots/evaluate")

log = logging.getLogger("evaluate")


def main(root: Path = Path()) -> None:
    """Run the stage on the repository at `root`."""
    start = time.monotonic()
    seed = load_section(root / "params.yaml", "seed", int)
    params = load_section(root / "params.yaml", "evaluate", EvaluateParams)
    source = load_section(root / "params.yaml", "fetch.source", str)
    key = None if is_public(source) else key_from_environment()
    histories = {
        "train_frozen": _history(root / FROZEN_CURVES),
        "finetune": _history(root / FINETUNE_CURVES),
    }
    classifier = load_classifier(root / MODEL)

    validation = _predictions(classifier, open_split(root / VALIDATION), "validation", key)
    point = operating_point(validation, params, source)
    write_json(root / OPERATING_POINT, point)
    threshold = point["operating_threshold"]
    log.info("operating threshold %.6f, chosen on validation and stored", threshold)

    test_split = open_split(root / TEST)
    test = _predictions(classifier, test_split, "test", key)
    predictions = pd.concat([validation, test], ignore_index=True)
    evaluate = evaluation(predictions, params, seed, source)

    films = sample_films(test, threshold)
    place_of = test_split.index["name"].tolist().index
    # Under a key the names are not the index's, and no film is shown.
    images = None if key else test_split.images[[place_of(name) for name in films["name"]]]
    for name, table in plot_tables(predictions, threshold, histories).items():
        write_table(root / PLOTS / name, table)
    for name, data in pictures(predictions, evaluate, histories, films, images).items():
        write_bytes(root / PLOTS / name, data)
    write_table(root / PREDICTIONS, as_printed(predictions))
    write_json(root / METRICS, evaluate)
    log.info("pictures in %s; took %.0f s", PLOTS, time.monotonic() - start)
    log.info("\n%s", metrics_table(evaluate))


def _predictions(classifier: Any, split: Split, name: str, key: bytes | None) -> pd.DataFrame:
    """The predictions table of one split."""
    kinds = split.index["kind"].value_counts().to_dict()
    log.info("%s: %d images %s", name, len(split.index), kinds)
    y_prob = predict_probabilities(classifier, split.images)
    return split_predictions(split.index, y_prob, name, key)


def _history(folder: Path) -> pd.DataFrame:
    """The curves of one phase, a row an epoch."""
    files = sorted(folder.rglob("*.tsv"))
    return history_table(
        {file.relative_to(folder).as_posix(): read_table(file) for file in files}, str(folder)
    )


if __name__ == "__main__":
    run_stage(main)

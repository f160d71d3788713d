"""Stage `evaluate`: choose the operating threshold on validation, then open test once.

Reads   models/finetune.keras
        data/processed/validation, data/processed/test
        data/processed/train      for two classifiers that cannot see pneumonia
        metrics/{train_frozen,finetune}/plots/metrics  DVCLive's curves of the two phases
Writes  models/operating_point.json  the threshold, and what it was chosen for
        metrics/evaluate.json        counts, rates and areas with intervals
        metrics/predictions.csv      a row an image, from which all figures are derived
        metrics/shortcuts.json       how far file metadata and a thumbnail come
        metrics/robustness.csv       recall, specificity and area under graded corruptions
        metrics/maps.json            whether the activation maps depend on what was learned
        plots/evaluate/              tables that DVC draws, and pictures
Params  seed, evaluate, robustness, fetch.source
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pneumonia.data.datasets import is_public
from pneumonia.data.privacy import key_from_environment
from pneumonia.errors import run_stage
from pneumonia.evaluation.clinical import decision_table, reliability_table
from pneumonia.evaluation.metrics import (
    EvaluateParams,
    evaluation,
    metrics_table,
    operating_point,
    resampling_seed,
)
from pneumonia.evaluation.predictions import as_printed, split_predictions
from pneumonia.evaluation.robustness import SETTINGS, RobustnessParams, robustness
from pneumonia.evaluation.robustness import as_printed as robustness_as_printed
from pneumonia.evaluation.shortcuts import shortcuts
from pneumonia.plots.clinical import clinical_pictures
from pneumonia.plots.headline import pictures, sample_films
from pneumonia.plots.map_study import map_study
from pneumonia.plots.robustness import robustness_png
from pneumonia.plots.tables import history_table, plot_tables
from pneumonia.progress import reported
from pneumonia.store.arrays import Split, open_split
from pneumonia.store.files import read_table, write_bytes, write_json, write_table
from pneumonia.store.params import Seed, load_section
from pneumonia.training.model_files import load_classifier, predict_probabilities

MODEL = Path("models/finetune.keras")
TRAIN = Path("data/processed/train")
VALIDATION = Path("data/processed/validation")
TEST = Path("data/processed/test")
FROZEN_CURVES = Path("metrics/train_frozen/plots/metrics")
FINETUNE_CURVES = Path("metrics/finetune/plots/metrics")
OPERATING_POINT = Path("models/operating_point.json")
METRICS = Path("metrics/evaluate.json")
PREDICTIONS = Path("metrics/predictions.csv")
SHORTCUTS = Path("metrics/shortcuts.json")
ROBUSTNESS = Path("metrics/robustness.csv")
MAPS = Path("metrics/maps.json")
PLOTS = Path("plots/evaluate")

log = logging.getLogger("evaluate")


def main(root: Path = Path()) -> None:
    """Run the stage on the repository at `root`."""
    start = time.monotonic()
    seed = load_section(root / "params.yaml", "seed", Seed)
    params = load_section(root / "params.yaml", "evaluate", EvaluateParams)
    corrupted = load_section(root / "params.yaml", "robustness", RobustnessParams)
    source = load_section(root / "params.yaml", "fetch.source", str)
    key = None if is_public(source) else key_from_environment()
    histories = {
        "train_frozen": _history(root / FROZEN_CURVES),
        "finetune": _history(root / FINETUNE_CURVES),
    }
    classifier = load_classifier(root / MODEL)
    probabilities = partial(predict_probabilities, classifier)

    films = open_split(root / VALIDATION)
    validation = split_predictions(
        films.index, _predicted(probabilities, films, "validation"), "validation", key
    )
    point = operating_point(validation, params, source)
    write_json(root / OPERATING_POINT, point)
    threshold = point["operating_threshold"]
    log.info("operating threshold %.6f, chosen on validation and stored", threshold)

    films = open_split(root / TEST)
    y_prob = _predicted(probabilities, films, "test")
    test = split_predictions(films.index, y_prob, "test", key)
    predictions = pd.concat([validation, test], ignore_index=True)
    evaluate = evaluation(predictions, params, seed, source)
    resampling = params.n_bootstrap, resampling_seed(seed, "test")

    beside = shortcuts(open_split(root / TRAIN), films, y_prob, *resampling)
    settings = partial(reported, n_items=len(SETTINGS), what="corruptions tried", log=log)
    robust = robustness(
        probabilities, films.images, films.index, threshold, corrupted.n_images, seed, settings
    )
    samples = sample_films(test, threshold)
    # Under a key the names are not the index's, and no film is shown.
    place_of = films.index["name"].tolist().index
    places = None if key else np.array([place_of(name) for name in samples["name"]])
    maps, map_pictures = map_study(classifier, films, y_prob, samples, places, evaluate)
    images = None if places is None else films.images[places]

    tables = {
        **plot_tables(predictions, threshold, histories),
        "reliability_test.csv": reliability_table(test, *resampling),
        "decision_test.csv": decision_table(test, *resampling),
    }
    drawn = {
        **pictures(predictions, evaluate, histories, samples, images),
        **clinical_pictures(tables["reliability_test.csv"], tables["decision_test.csv"], evaluate),
        "robustness.png": robustness_png(robust, evaluate),
        **map_pictures,
    }
    for name, table in tables.items():
        write_table(root / PLOTS / name, table)
    for name, data in drawn.items():
        write_bytes(root / PLOTS / name, data)
    write_json(root / SHORTCUTS, beside)
    write_table(root / ROBUSTNESS, robustness_as_printed(robust))
    write_json(root / MAPS, maps)
    write_table(root / PREDICTIONS, as_printed(predictions))
    write_json(root / METRICS, evaluate)
    log.info("pictures in %s; took %.0f s", PLOTS, time.monotonic() - start)
    log.info("\n%s", metrics_table(evaluate))


def _predicted(
    probabilities: Callable[[NDArray[np.uint8]], NDArray[np.float64]], films: Split, name: str
) -> NDArray[np.float64]:
    """(n_images,) P(pneumonia) of one split, in its order."""
    kinds = films.index["kind"].value_counts().to_dict()
    log.info("%s: %d images %s", name, len(films.index), kinds)
    return probabilities(films.images)


def _history(folder: Path) -> pd.DataFrame:
    """The curves of one phase, a row an epoch."""
    files = sorted(folder.rglob("*.tsv"))
    return history_table(
        {file.relative_to(folder).as_posix(): read_table(file) for file in files}, str(folder)
    )


if __name__ == "__main__":
    run_stage(main)

"""Stage `evaluate`: choose the operating threshold on validation, then open test once.

Reads   models/finetune.keras, data/processed/validation, data/processed/test
Writes  models/operating_point.json  the threshold, and how it was chosen
        metrics/predictions.csv      a row an image, from which every metric is derived
        metrics/evaluate.json        counts and rates at the threshold, and ROC-AUC
Params  evaluate.target_recall, fetch.source
"""

import logging
from pathlib import Path

import pandas as pd

from pneumonia.data.datasets import is_public
from pneumonia.data.privacy import key_from_environment
from pneumonia.errors import run_stage
from pneumonia.evaluation.metrics import EvaluateParams, evaluation, metrics_table
from pneumonia.evaluation.predictions import as_printed, split_predictions
from pneumonia.evaluation.threshold import operating_point
from pneumonia.store.arrays import open_split
from pneumonia.store.files import write_json, write_table
from pneumonia.store.params import load_section
from pneumonia.training.model_files import load_classifier, predict_probabilities

MODEL = Path("models/finetune.keras")
VALIDATION = Path("data/processed/validation")
TEST = Path("data/processed/test")
OPERATING_POINT = Path("models/operating_point.json")
PREDICTIONS = Path("metrics/predictions.csv")
METRICS = Path("metrics/evaluate.json")

log = logging.getLogger("evaluate")


def main(root: Path = Path()) -> None:
    """Run the stage on the repository at `root`."""
    target_recall = load_section(root / "params.yaml", "evaluate", EvaluateParams).target_recall
    dataset = load_section(root / "params.yaml", "fetch.source", str)
    key = None if is_public(dataset) else key_from_environment()
    classifier = load_classifier(root / MODEL)

    def predicted(folder: Path) -> pd.DataFrame:
        split = open_split(root / folder)
        kinds = split.index["kind"].value_counts().to_dict()
        log.info("%s: %d images %s", folder.name, len(split.index), kinds)
        y_prob = predict_probabilities(classifier, split.images)
        return split_predictions(split.index, y_prob, folder.name, key)

    validation = predicted(VALIDATION)
    point = operating_point(validation, target_recall, dataset)
    write_json(root / OPERATING_POINT, point)
    log.info("operating threshold %.6f, stored", point["operating_threshold"])

    predictions = pd.concat([validation, predicted(TEST)], ignore_index=True)
    evaluate = evaluation(predictions, target_recall, dataset)
    write_table(root / PREDICTIONS, as_printed(predictions))
    write_json(root / METRICS, evaluate)
    log.info("\n%s", metrics_table(evaluate))


if __name__ == "__main__":
    run_stage(main)

"""Verdicts at a threshold, and the operating threshold: chosen on validation, never on test.

An image is called pneumonia when its probability is at or above the threshold.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from pneumonia.evaluation.predictions import one_split

SCHEMA = 2


@dataclass(frozen=True)
class Counts:
    """Images by truth and verdict; positive is pneumonia."""

    tn: int
    fp: int
    fn: int
    tp: int


def counts(y_true: NDArray[np.int_], y_prob: NDArray[np.float64], threshold: float) -> Counts:
    """Counts of (n_images,) truths (1 = pneumonia) and probabilities in [0, 1] at a threshold."""
    called, pneumonia = y_prob >= threshold, y_true == 1
    return Counts(
        tn=int((~pneumonia & ~called).sum()),
        fp=int((~pneumonia & called).sum()),
        fn=int((pneumonia & ~called).sum()),
        tp=int((pneumonia & called).sum()),
    )


def operating_threshold(
    y_true: NDArray[np.int_], y_prob: NDArray[np.float64], min_recall: float
) -> float:
    """Highest threshold that still reaches `min_recall`. Choose it on validation only.

    Args:
        y_true: (n_images,) int; 1 = pneumonia, 0 = normal; both occur.
        y_prob: (n_images,) float; P(pneumonia) in [0, 1], rounded to six decimals.
        min_recall: least acceptable tp / (tp + fn), in (0, 1].

    Returns:
        t, one of y_prob, such that an image is called pneumonia when y_prob >= t.
    """
    # drop_intermediate=False: sklearn otherwise drops collinear points, and with them thresholds.
    _, recall, thresholds = roc_curve(y_true, y_prob, drop_intermediate=False)
    return float(thresholds[np.argmax(recall >= min_recall)])


def operating_point(
    predictions: pd.DataFrame, target_recall: float, dataset: str
) -> dict[str, Any]:
    """The content of models/operating_point.json: the threshold, and how it was chosen.

    Args:
        predictions: the predictions table; only its validation rows are read.
        target_recall: in (0, 1].
        dataset: name of the dataset.

    Raises:
        PipelineError: a class is missing in validation.
    """
    validation = one_split(predictions, "validation")
    y_true, y_prob = validation["label"].to_numpy(), validation["probability"].to_numpy()
    threshold = operating_threshold(y_true, y_prob, target_recall)
    return {
        "schema": SCHEMA,
        "dataset": dataset,
        "chosen_on": "validation",
        "target_recall": target_recall,
        "operating_threshold": round(threshold, 6),
        **asdict(counts(y_true, y_prob, threshold)),
    }

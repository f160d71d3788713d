"""Verdicts at a threshold, and the operating threshold: chosen on validation, never on test.

An image is called pneumonia when its probability is at or above the threshold. Arrays are as in
`weighted`, probabilities rounded to six decimals.
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
    """Images by truth and verdict at a threshold."""
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
    """The highest of y_prob that still reaches a recall of `min_recall`, in (0, 1].

    Choose it on validation only. Both classes must occur.
    """
    # drop_intermediate=False: sklearn otherwise drops collinear points, and with them thresholds.
    _, recall, thresholds = roc_curve(y_true, y_prob, drop_intermediate=False)
    return float(thresholds[np.argmax(recall >= min_recall)])


def operating_point(
    predictions: pd.DataFrame, target_recall: float, dataset: str
) -> dict[str, Any]:
    """The content of models/operating_point.json: the threshold, and how it was chosen.

    Only the validation rows of the predictions table are read.

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

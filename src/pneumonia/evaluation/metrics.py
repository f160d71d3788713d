"""Figures of a classifier, all of them derived from its predictions table.

The names are scikit-learn's: `recall` is the radiologist's sensitivity, `precision` the positive
predictive value. An image is called pneumonia when its probability is at or above the threshold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from pneumonia.errors import PipelineError
from pneumonia.evaluation.clinical import clinical
from pneumonia.evaluation.intervals import (
    patient_resamples,
    percentile_interval,
    wilson_interval,
    with_interval,
)
from pneumonia.evaluation.predictions import SPLITS, checked
from pneumonia.store.params import Section

SCHEMA = 1
HALF = 0.5
# Stages that share the one seed of params.yaml draw from streams of their own.
_BOOTSTRAP_STREAM = 6


class EvaluateParams(Section):
    """Section `evaluate` of params.yaml."""

    target_recall: float = Field(
        gt=0, le=1, description="on validation; the operating threshold is chosen for it"
    )
    # 2.5 % of fewer than 40 resamples is less than one of them.
    n_bootstrap: int = Field(ge=40, le=100_000, description="resamples of patients")


@dataclass(frozen=True)
class Counts:
    """Images by truth and verdict; positive is pneumonia."""

    tn: int
    fp: int
    fn: int
    tp: int


def operating_threshold(
    y_true: NDArray[np.int_], y_prob: NDArray[np.float64], min_recall: float
) -> float:
    """Highest threshold that still reaches `min_recall`. Choose it on validation only.

    Args:
        y_true: (n_images,) int; 1 = pneumonia, 0 = normal.
        y_prob: (n_images,) float; P(pneumonia) in [0, 1], rounded to six decimals.
        min_recall: least acceptable tp / (tp + fn), in (0, 1].

    Returns:
        t, one of y_prob, such that an image is called pneumonia when y_prob >= t.

    Raises:
        PipelineError: one of the classes is missing.
    """
    _need_both_classes(y_true, "the operating threshold", "validation")
    # drop_intermediate=False: sklearn otherwise drops collinear points, and with them thresholds.
    _, recall, thresholds = roc_curve(y_true, y_prob, drop_intermediate=False)
    return float(thresholds[np.argmax(recall >= min_recall)])


def counts(y_true: NDArray[np.int_], y_prob: NDArray[np.float64], threshold: float) -> Counts:
    """Counts of (n_images,) truths (1 = pneumonia) and probabilities in [0, 1] at a threshold."""
    y_pred = y_prob >= threshold
    pneumonia = y_true == 1
    return Counts(
        tn=int((~pneumonia & ~y_pred).sum()),
        fp=int((~pneumonia & y_pred).sum()),
        fn=int((pneumonia & ~y_pred).sum()),
        tp=int((pneumonia & y_pred).sum()),
    )


def rates(c: Counts) -> dict[str, tuple[int, int]]:
    """Numerator and denominator, in images, of accuracy, precision, recall and specificity."""
    return {
        "accuracy": (c.tn + c.tp, c.tn + c.fp + c.fn + c.tp),
        "precision": (c.tp, c.tp + c.fp),
        "recall": (c.tp, c.tp + c.fn),
        "specificity": (c.tn, c.tn + c.fp),
    }


def f1(c: Counts) -> float:
    """Harmonic mean of precision and recall, as 2 tp / (2 tp + fp + fn), in [0, 1]."""
    return 2 * c.tp / (2 * c.tp + c.fp + c.fn)


def weighted_areas(
    y_true: NDArray[np.int_], y_prob: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ROC-AUC and average precision, each (n,) in [0, 1], for n weightings at once.

    scikit-learn's roc_auc_score and average_precision_score with sample_weight give the same,
    one weighting at a time.

    Args:
        y_true: (n_images,) int; 1 = pneumonia, 0 = normal.
        y_prob: (n_images,) float in [0, 1].
        weights: (n, n_images) float, at least 0; each row weighs both classes.
    """
    order = np.argsort(-y_prob, kind="stable")
    # Tied images move past a threshold together: one column a distinct probability.
    starts = np.flatnonzero(np.diff(y_prob[order], prepend=np.inf))
    pneumonia = np.add.reduceat((weights * (y_true == 1))[:, order], starts, axis=1)
    normal = np.add.reduceat((weights * (y_true == 0))[:, order], starts, axis=1)
    tp, fp = pneumonia.cumsum(axis=1), normal.cumsum(axis=1)
    n_pneumonia, n_normal = tp[:, -1], fp[:, -1]
    # Pairs ranked rightly: normals below each pneumonia, and half of those beside it.
    right = (pneumonia * (n_normal[:, None] - fp + normal / 2)).sum(axis=1)
    called = tp + fp
    # Nothing is called at a threshold above all weight; no pneumonia weighs there either.
    precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    return right / (n_pneumonia * n_normal), (pneumonia * precision).sum(axis=1) / n_pneumonia


def operating_point(
    validation: pd.DataFrame, params: EvaluateParams, source: str
) -> dict[str, Any]:
    """The content of models/operating_point.json: the threshold, what for, and from what.

    Args:
        validation: predictions of the validation split.
        params: target recall.
        source: name of the data source.

    Raises:
        PipelineError: one of the classes is missing.
    """
    y_true, y_prob = validation["label"].to_numpy(), validation["probability"].to_numpy()
    threshold = operating_threshold(y_true, y_prob, params.target_recall)
    c = counts(y_true, y_prob, threshold)
    return {
        "schema": SCHEMA,
        "source": source,
        "chosen_on": "validation",
        "target_recall": params.target_recall,
        "operating_threshold": round(threshold, 6),
        "tn": c.tn,
        "fp": c.fp,
        "fn": c.fn,
        "tp": c.tp,
    }


def evaluation(
    predictions: pd.DataFrame, params: EvaluateParams, seed: int, source: str
) -> dict[str, Any]:
    """The content of metrics/evaluate.json, from the predictions table alone.

    Rates have Wilson intervals on images; the areas and F1 have percentile intervals of a
    bootstrap over patients. All intervals are two-sided, 95 %; floats have six decimals. The
    order of the rows does not matter.

    Args:
        predictions: as `pneumonia.predictions.checked` wants it.
        params: target recall and number of resamples.
        seed: of the resamples.
        source: name of the data source.

    Raises:
        PipelineError: the table is not sound, or a metric is undefined on it.
    """
    predictions = checked(predictions)
    validation = predictions[predictions["split"] == "validation"]
    threshold = operating_threshold(
        validation["label"].to_numpy(), validation["probability"].to_numpy(), params.target_recall
    )
    return {
        "schema": SCHEMA,
        "source": source,
        "seed": seed,
        "n_bootstrap": params.n_bootstrap,
        "target_recall": params.target_recall,
        "operating_threshold": round(threshold, 6),
        **{
            split: _split_metrics(
                split,
                predictions[predictions["split"] == split],
                threshold,
                params.n_bootstrap,
                resampling_seed(seed, split),
            )
            for split in SPLITS
        },
    }


def resampling_seed(seed: int, split: str) -> list[int]:
    """Seed of the resamples of one split: with it another figure has the very same patients."""
    return [seed, _BOOTSTRAP_STREAM, SPLITS.index(split)]


def _split_metrics(
    split: str, predictions: pd.DataFrame, threshold: float, n_bootstrap: int, seed: list[int]
) -> dict[str, Any]:
    """Everything measured on one split."""
    y_true = predictions["label"].to_numpy()
    y_prob = predictions["probability"].to_numpy()
    patients = predictions["patient_id"].to_numpy(dtype=str)
    _need_both_classes(y_true, "roc_auc", split)
    thresholds = {"at_operating_threshold": threshold, "at_half": HALF}

    resampled: dict[str, list[NDArray[np.float64]]] = {}
    for weights in patient_resamples(patients, y_true, n_bootstrap, seed):
        roc_auc, average_precision = weighted_areas(y_true, y_prob, weights)
        resampled.setdefault("roc_auc", []).append(roc_auc)
        resampled.setdefault("average_precision", []).append(average_precision)
        for key, value in thresholds.items():
            y_pred = (y_prob >= value).astype(np.float64)
            called_and_sick = weights @ y_pred + weights @ y_true
            resampled.setdefault(key, []).append(
                2 * (weights @ (y_pred * y_true)) / called_and_sick
            )
    interval = {
        key: percentile_interval(np.concatenate(values)) for key, values in resampled.items()
    }

    def at(key: str) -> dict[str, Any]:
        c = counts(y_true, y_prob, thresholds[key])
        measured: dict[str, Any] = {"tn": c.tn, "fp": c.fp, "fn": c.fn, "tp": c.tp}
        for name, (n_hits, n_total) in rates(c).items():
            if n_total == 0:  # only precision's: both classes are there
                raise PipelineError(
                    f"{name} is undefined on {split} at threshold {thresholds[key]}: expected "
                    "images that are called pneumonia. Received: none with a probability that "
                    f"high, the highest is {y_prob.max():.6f}; train longer"
                )
            measured |= with_interval(name, n_hits / n_total, wilson_interval(n_hits, n_total))
        return measured | with_interval("f1", f1(c), interval[key])

    return {
        "n_images": len(predictions),
        "n_patients": len(np.unique(patients)),
        **with_interval("roc_auc", roc_auc_score(y_true, y_prob), interval["roc_auc"]),
        **with_interval(
            "average_precision",
            average_precision_score(y_true, y_prob),
            interval["average_precision"],
        ),
        **{key: at(key) for key in thresholds},
        **clinical(predictions, threshold, n_bootstrap, seed),
    }


def _need_both_classes(y_true: NDArray[np.int_], metric: str, split: str) -> None:
    n_pneumonia = int((y_true == 1).sum())
    if not 0 < n_pneumonia < len(y_true):
        raise PipelineError(
            f"{metric} is undefined on {split}: expected normal and pneumonia images. "
            f"Received: {len(y_true) - n_pneumonia} normal, {n_pneumonia} pneumonia"
        )


def source_in_words(source: str) -> str:
    """The source as every table and picture names it; phantoms are never left to look real."""
    return "phantoms (drawn, no patients)" if source == "phantoms" else f"source {source}"


def metrics_table(evaluate: Mapping[str, Any]) -> str:
    """The content of metrics/evaluate.json as lines of at most 78 characters for a terminal."""
    threshold = evaluate["operating_threshold"]
    lines = [
        f"Pneumonia against normal, {source_in_words(evaluate['source'])}; 95 % intervals",
        f"Operating threshold {threshold:.6f}, chosen on validation for a recall of "
        f"{evaluate['target_recall']:g}",
    ]
    for split in SPLITS:
        measured = evaluate[split]
        operating, half = measured["at_operating_threshold"], measured["at_half"]
        lines += [
            "",
            f"{split}: {measured['n_images']} images of {measured['n_patients']} patients",
            f"  {'roc_auc':<20}{shown(measured, 'roc_auc')}",
            f"  {'average_precision':<20}{shown(measured, 'average_precision')}",
            f"  {'':<20}{f'at {threshold:.6f}':<26}at {HALF}",
        ]
        lines += [
            f"  {name:<20}{shown(operating, name):<26}{shown(half, name)}"
            for name in ("recall", "specificity", "precision", "accuracy", "f1")
        ]
        lines += [
            f"  {words:<20}{f'{operating[wrong]} of {operating[wrong] + operating[right]}':<26}"
            f"{half[wrong]} of {half[wrong] + half[right]}"
            for words, wrong, right in (
                ("pneumonia missed", "fn", "tp"),
                ("false alarms", "fp", "tn"),
            )
        ]
    return "\n".join(lines)


def shown(measured: Mapping[str, float], name: str) -> str:
    """The metric and, in brackets, the ends of its interval, to three decimals.

    Args:
        measured: what holds it as `with_interval` gives it: a part of metrics/evaluate.json.
        name: of the metric.
    """
    return f"{measured[name]:.3f} ({measured[f'{name}_low']:.3f}–{measured[f'{name}_high']:.3f})"

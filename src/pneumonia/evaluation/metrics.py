"""The headline metrics: counts and rates at the operating threshold, from predictions alone.

The names are scikit-learn's: `recall` is the radiologist's sensitivity, `precision` the positive
predictive value. An image is called pneumonia when its probability is at or above the threshold.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from pydantic import Field
from sklearn.metrics import roc_auc_score

from pneumonia.errors import PipelineError
from pneumonia.evaluation.predictions import checked, one_split
from pneumonia.evaluation.threshold import SCHEMA, Counts, counts, operating_threshold
from pneumonia.store.params import Section

HALF = 0.5


class EvaluateParams(Section):
    """Section `evaluate` of params.yaml."""

    target_recall: float = Field(
        gt=0, le=1, description="on validation; the operating threshold is chosen for it"
    )
    # 2.5 % of fewer than 40 resamples is less than one of them.
    n_bootstrap: int = Field(ge=40, le=100_000, description="resamples of patients")


def rates(c: Counts) -> dict[str, tuple[int, int]]:
    """Numerator and denominator, in images, of recall, specificity, precision and accuracy."""
    return {
        "recall": (c.tp, c.tp + c.fn),
        "specificity": (c.tn, c.tn + c.fp),
        "precision": (c.tp, c.tp + c.fp),
        "accuracy": (c.tn + c.tp, c.tn + c.fp + c.fn + c.tp),
    }


def f1(c: Counts) -> float:
    """Harmonic mean of precision and recall, as 2 tp / (2 tp + fp + fn), in [0, 1]."""
    return 2 * c.tp / (2 * c.tp + c.fp + c.fn)


def evaluation(predictions: pd.DataFrame, target_recall: float, dataset: str) -> dict[str, Any]:
    """The content of metrics/evaluate.json, schema 2; floats have six decimals.

    The order of the rows does not matter.

    Args:
        predictions: as `checked` wants it.
        target_recall: on validation, in (0, 1].
        dataset: name of the dataset.

    Raises:
        PipelineError: the table is not sound, or a metric is undefined on it.
    """
    predictions = checked(predictions)
    validation = one_split(predictions, "validation")
    threshold = operating_threshold(
        validation["label"].to_numpy(), validation["probability"].to_numpy(), target_recall
    )
    return {
        "schema": SCHEMA,
        "dataset": dataset,
        "operating_threshold": round(threshold, 6),
        "test": _headline(one_split(predictions, "test"), threshold),
        "validation": _headline(validation, threshold),
    }


def _headline(rows: pd.DataFrame, threshold: float) -> dict[str, Any]:
    """The metrics of one split at the operating threshold."""
    y_true, y_prob = rows["label"].to_numpy(), rows["probability"].to_numpy()
    c = counts(y_true, y_prob, threshold)
    if c.tp + c.fp == 0:  # of the four rates only precision can be undefined
        raise PipelineError(
            f"precision is undefined on {rows['split'][0]} at threshold {threshold:.6f}: expected "
            "images that are called pneumonia. Received: none with a probability that high, the "
            f"highest is {y_prob.max():.6f}; train longer"
        )
    return {
        "n_images": len(rows),
        "n_patients": int(rows["patient_id"].nunique()),
        "missed": c.fn,
        "false_alarms": c.fp,
        **{name: round(n_hits / n_total, 6) for name, (n_hits, n_total) in rates(c).items()},
        "f1": round(f1(c), 6),
        "roc_auc": round(float(roc_auc_score(y_true, y_prob)), 6),
    }


def dataset_in_words(dataset: str) -> str:
    """The dataset as every table and plot names it; phantoms never look real."""
    return "phantoms (drawn, no patients)" if dataset == "phantoms" else f"dataset {dataset}"


def metrics_table(evaluate: Mapping[str, Any]) -> str:
    """The content of metrics/evaluate.json as lines of at most 78 characters for a terminal."""
    lines = [
        f"Pneumonia against normal, {dataset_in_words(evaluate['dataset'])}",
        f"at the operating threshold {evaluate['operating_threshold']:.6f}, chosen on validation",
        "",
        f"{'':<18}{'test':>12}{'validation':>12}",
    ]
    for name in evaluate["test"]:
        test, validation = (evaluate[split][name] for split in ("test", "validation"))
        form = ",d" if isinstance(test, int) else ".3f"
        lines.append(f"{name:<18}{test:>12{form}}{validation:>12{form}}")
    return "\n".join(lines)

"""Every metric that has an interval, a row each: the content of metrics/intervals.csv.

All intervals are two-sided, 95 %. Column `method` says how each came about:

- `Wilson, images`: Wilson's score; the unit is the image.
- `Wilson, patients`: the same; the unit is the patient.
- `bootstrap, patients`: percentiles over resamples of patients.
- `wider of Wilson and bootstrap`: the bootstrap is blind where no resample can differ: with
  nothing missed it would call a recall of 1 certain. Wilson's interval on images is not.

An undefined metric has no row: the precision, or ppv, where no image is called pneumonia; the npv
where all are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pneumonia.evaluation.calibration import calibration_metrics
from pneumonia.evaluation.decision import net_benefits
from pneumonia.evaluation.intervals import (
    Interval,
    over_resamples,
    percentile_interval,
    resampling_seed,
    wider,
    wilson_interval,
)
from pneumonia.evaluation.metrics import HALF, rates
from pneumonia.evaluation.predictions import SPLITS, checked, one_split
from pneumonia.evaluation.threshold import counts
from pneumonia.evaluation.weighted import Floats, mean, predictive_values, weighted_curve

KEY = ("split", "threshold", "group", "metric")
COLUMNS = (*KEY, "value", "low", "high", "n_hits", "n_total", "method")
# Counts are text, for they are empty where a metric is no share.
TEXT_COLUMNS = (*KEY, "n_hits", "n_total", "method")
IMAGES, ILL_PATIENTS = "Wilson, images", "Wilson, patients"
PATIENTS, WIDER = "bootstrap, patients", "wider of Wilson and bootstrap"

# Percent. Both curve points show how well the model ranks: their thresholds are of the split
# itself, and none is given, because none may be taken from test.
RECALLS = (95, 98)
SPECIFICITIES = (90, 95)
PREVALENCES = (5, 20, 50)
DECISIONS = (10, 20)

# Threshold, group and metric of a row: its place within a split.
_Row: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Measured:
    """One row of the table: a metric with its interval."""

    value: float
    low: float
    high: float
    n_hits: int | None  # of n_total; None where the metric is no share
    n_total: int | None
    method: str

    def __str__(self) -> str:
        """Value and ends to three decimals, as in 0.995 (0.981–0.999)."""
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


# By (split, threshold, group, metric).
Intervals: TypeAlias = Mapping[tuple[str, str, str, str], Measured]


def interval_table(
    predictions: pd.DataFrame, threshold: float, n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """The content of metrics/intervals.csv; floats are rounded to six decimals, counts are text.

    Thresholds, groups and metrics are listed in docs/metrics.md. The order of the rows of
    `predictions` does not matter.

    Args:
        predictions: as `checked` wants it.
        threshold: the operating threshold, chosen on validation.
        n_bootstrap: number of resamples of patients.
        seed: of params.yaml.

    Raises:
        PipelineError: the table is not sound, or a class is missing in a split.
    """
    predictions = checked(predictions)
    return pd.concat(
        [
            _split_table(
                one_split(predictions, split), threshold, n_bootstrap, resampling_seed(seed, split)
            )
            for split in SPLITS
        ],
        ignore_index=True,
    )


def measured(table: pd.DataFrame) -> dict[tuple[str, str, str, str], Measured]:
    """Each row by (split, threshold, group, metric), from the table as written or as read."""
    return {
        (row["split"], row["threshold"], row["group"], row["metric"]): Measured(
            value=row["value"],
            low=row["low"],
            high=row["high"],
            n_hits=int(row["n_hits"]) if row["n_hits"] else None,
            n_total=int(row["n_total"]) if row["n_total"] else None,
            method=row["method"],
        )
        for row in table.to_dict("records")
    }


def _split_table(
    rows: pd.DataFrame, threshold: float, n_bootstrap: int, seed: list[int]
) -> pd.DataFrame:
    """The rows of one split, which `rows` holds as `one_split` gives it."""
    y_true, y_prob = rows["label"].to_numpy(), rows["probability"].to_numpy()
    thresholds = {"operating": threshold, "half": HALF}
    right = (y_prob >= threshold) == y_true
    groups = _groups(rows)

    def measure(weights: Floats) -> Mapping[_Row, Floats]:
        curve = weighted_curve(y_true, y_prob, weights)
        found = {("operating", *key): mean(right, weights * of) for key, of in groups.items()}
        for name, value in thresholds.items():
            tp, fp = curve.at(value)
            found[name, "all", "f1"] = 2 * tp / (tp + fp + curve.n_pneumonia)
        tp, fp = curve.at(threshold)
        recall, specificity = tp / curve.n_pneumonia, 1 - fp / curve.n_normal
        for percent in PREVALENCES:
            npv, ppv = predictive_values(recall, specificity, percent / 100)
            group = f"prevalence_{percent:02}"
            found |= {("operating", group, "npv"): npv, ("operating", group, "ppv"): ppv}
        for percent in RECALLS:
            values = curve.specificity_at_recall(percent / 100)
            found[f"recall_{percent}", "all", "specificity"] = values
        for percent in SPECIFICITIES:
            values = curve.recall_at_specificity(percent / 100)
            found[f"specificity_{percent}", "all", "recall"] = values
        for percent in DECISIONS:
            for name, values in net_benefits(curve, percent / 100).items():
                found[f"{percent / 100:.2f}", "all", f"net_benefit_{name}"] = values
        found["none", "all", "roc_auc"] = curve.roc_auc()
        found["none", "all", "average_precision"] = curve.average_precision()
        for name, values in calibration_metrics(y_true, y_prob, weights).items():
            found["none", "all", name] = values
        return found

    values, resampled = over_resamples(measure, rows, n_bootstrap, seed)
    table = {key: _of_patients(values[key], resampled[key]) for key in values}
    # Each resample adds noise of its own to the noise in the bins: so much too high is it.
    error = ("none", "all", "calibration_error")
    noise = float(resampled[error].mean()) - values[error]
    table[error] = _of_patients(values[error], (resampled[error] - noise).clip(min=0))

    def with_wilson(key: _Row, wilson: Interval) -> Measured:
        ends = wider((table[key].low, table[key].high), wilson)
        return Measured(values[key], *ends, None, None, WIDER)

    shares = {("operating", *key): of for key, of in groups.items()}
    shares |= {(f"recall_{p}", "all", "specificity"): y_true == 0 for p in RECALLS}
    shares |= {(f"specificity_{p}", "all", "recall"): y_true == 1 for p in SPECIFICITIES}
    for key, of in shares.items():
        n_total = int(of.sum())
        n_hits = round(values[key] * n_total)
        row = with_wilson(key, wilson_interval(n_hits, n_total))
        table[key] = replace(row, n_hits=n_hits, n_total=n_total)
    for percent in PREVALENCES:
        for name, wilson in _predictive_intervals(y_true, right, percent / 100).items():
            key = ("operating", f"prevalence_{percent:02}", name)
            table[key] = with_wilson(key, wilson)
    for name, value in thresholds.items():
        for metric, (n_hits, n_total) in rates(counts(y_true, y_prob, value)).items():
            if n_total:
                table[name, "all", metric] = _wilson(n_hits, n_total, IMAGES)
    ill = rows[y_true == 1].groupby("patient_id")["probability"].max()
    caught = int((ill >= threshold).sum())
    table["operating", "patients", "recall"] = _wilson(caught, len(ill), ILL_PATIENTS)
    return _as_table(str(rows["split"][0]), table)


def _groups(rows: pd.DataFrame) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Images of each kind, by kind and metric: recall of the ill, specificity of the healthy."""
    kinds, y_true = rows["kind"].to_numpy(dtype=str), rows["label"].to_numpy()
    found = {
        (str(kind), metric): (kinds == kind) & (y_true == label)
        for metric, label in (("recall", 1), ("specificity", 0))
        for kind in np.unique(kinds)
    }
    return {key: of for key, of in found.items() if of.any()}


def _predictive_intervals(
    y_true: NDArray[np.int_], right: NDArray[np.bool_], prevalence: float
) -> dict[str, Interval]:
    """Npv and ppv with recall, or else specificity, at either end of its Wilson interval."""
    ill, healthy = right[y_true == 1], right[y_true == 0]
    recall, specificity = ill.mean(), healthy.mean()
    npv, ppv = predictive_values(
        np.array([*wilson_interval(int(ill.sum()), len(ill)), recall, recall]),
        np.array([specificity, specificity, *wilson_interval(int(healthy.sum()), len(healthy))]),
        prevalence,
    )
    return {
        "npv": (float(npv.min()), float(npv.max())),
        "ppv": (float(ppv.min()), float(ppv.max())),
    }


def _wilson(n_hits: int, n_total: int, method: str) -> Measured:
    return Measured(n_hits / n_total, *wilson_interval(n_hits, n_total), n_hits, n_total, method)


def _of_patients(value: float, resampled: Floats) -> Measured:
    return Measured(value, *percentile_interval(resampled), None, None, PATIENTS)


def _as_table(split: str, found: Mapping[_Row, Measured]) -> pd.DataFrame:
    """The table of one split in its order; without what is undefined."""
    thresholds = ["operating", "half"]
    thresholds += [f"recall_{percent}" for percent in RECALLS]
    thresholds += [f"specificity_{percent}" for percent in SPECIFICITIES]
    thresholds += [f"{percent / 100:.2f}" for percent in DECISIONS] + ["none"]
    metrics = ["recall", "specificity", "precision", "accuracy", "f1"]

    def place(key: _Row) -> tuple[int, bool, bool, int]:
        threshold, group, metric = key
        return (
            thresholds.index(threshold),
            group != "all",
            group.startswith("prevalence"),
            metrics.index(metric) if metric in metrics else len(metrics),
        )

    return pd.DataFrame(
        [
            (
                split, *key,
                *(round(end, 6) for end in (row.value, row.low, row.high)),
                *("" if n is None else str(n) for n in (row.n_hits, row.n_total)),
                row.method,
            )
            for key, row in sorted(found.items(), key=lambda item: place(item[0]))
            if not math.isnan(row.value)
        ],
        columns=list(COLUMNS),
    )  # fmt: skip

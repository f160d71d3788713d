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
from dataclasses import dataclass
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
from pneumonia.evaluation.metrics import HALF
from pneumonia.evaluation.predictions import SPLITS, checked, one_split
from pneumonia.evaluation.weighted import Floats, mean, predictive_values, weighted_curve

KEY = ("split", "threshold", "group", "metric")
COLUMNS = (*KEY, "value", "low", "high", "n_hits", "n_total", "method")
# Counts are text, for they are empty where a metric is no share.
TEXT_COLUMNS = (*KEY, "n_hits", "n_total", "method")
IMAGES, ILL_PATIENTS = "Wilson, images", "Wilson, patients"
PATIENTS, WIDER = "bootstrap, patients", "wider of Wilson and bootstrap"

# Percent. Points of the curve show how well the model ranks. Their thresholds are of the split
# itself and stand nowhere, because none may be taken from test.
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

    Thresholds, groups and metrics are listed in docs/metrics.md. `threshold` is the operating
    threshold, `seed` that of params.yaml. The order of the rows of `predictions` does not matter.

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


@dataclass(frozen=True)
class _Share:
    """A rate: among the images `of`, those that are `hits`; both (n_images,) bool."""

    hits: NDArray[np.bool_]
    of: NDArray[np.bool_]
    method: str


def _split_table(
    rows: pd.DataFrame, threshold: float, n_bootstrap: int, seed: list[int]
) -> pd.DataFrame:
    """The rows of one split, which `rows` holds as `one_split` gives it."""
    y_true, y_prob = rows["label"].to_numpy(), rows["probability"].to_numpy()
    thresholds = {"operating": threshold, "half": HALF}
    shares = _shares(rows, thresholds)

    def measure(weights: Floats) -> dict[_Row, Floats]:
        curve = weighted_curve(y_true, y_prob, weights)
        found = {key: mean(share.hits, weights * share.of) for key, share in shares.items()}
        for name, value in thresholds.items():
            tp, fp = curve.at(value)
            found[name, "all", "f1"] = 2 * tp / (tp + fp + curve.n_pneumonia)
        recall, specificity = (found["operating", "all", m] for m in ("recall", "specificity"))
        found |= {
            ("operating", _prevalence(percent), name): value
            for percent in PREVALENCES
            for name, value in predictive_values(recall, specificity, percent / 100).items()
        }
        found |= {
            (f"recall_{percent}", "all", "specificity"): curve.specificity_at_recall(percent / 100)
            for percent in RECALLS
        }
        found |= {
            (f"specificity_{percent}", "all", "recall"): curve.recall_at_specificity(percent / 100)
            for percent in SPECIFICITIES
        }
        found |= {
            (f"{percent / 100:.2f}", "all", f"net_benefit_{name}"): value
            for percent in DECISIONS
            for name, value in net_benefits(curve, percent / 100).items()
        }
        areas = {"roc_auc": curve.roc_auc(), "average_precision": curve.average_precision()}
        areas |= calibration_metrics(y_true, y_prob, weights)
        return found | {("none", "all", name): value for name, value in areas.items()}

    values, resampled = over_resamples(measure, rows, n_bootstrap, seed)
    # Each resample adds noise of its own to the noise in the bins, and so raises the error.
    error = ("none", "all", "calibration_error")
    resampled[error] -= resampled[error].mean() - values[error]
    resampled[error].clip(min=0, out=resampled[error])

    predictive = {
        ("operating", _prevalence(percent), name): ends
        for percent in PREVALENCES
        for name, ends in _predictive_intervals(shares, percent / 100).items()
    }
    n_total_of = {key: int(share.of.sum()) for key, share in shares.items()}
    n_total_of |= {(f"recall_{p}", "all", "specificity"): int((y_true == 0).sum()) for p in RECALLS}
    n_total_of |= {(f"specificity_{p}", "all", "recall"): int(y_true.sum()) for p in SPECIFICITIES}
    table: list[tuple[object, ...]] = []
    groups = list(dict.fromkeys(key[:2] for key in values))
    for key in sorted(values, key=lambda key: groups.index(key[:2])):
        value = values[key]
        if math.isnan(value):
            continue
        ends, method, n_hits, n_total = percentile_interval(resampled[key]), PATIENTS, "", ""
        if key in n_total_of:
            n_hits, n_total = str(round(value * n_total_of[key])), str(n_total_of[key])
            method = shares[key].method if key in shares else WIDER
            wilson = wilson_interval(int(n_hits), int(n_total))
            ends = wider(ends, wilson) if method == WIDER else wilson
        elif key in predictive:
            ends, method = wider(ends, predictive[key]), WIDER
        rounded = (round(number, 6) for number in (value, *ends))
        table.append((rows["split"][0], *key, *rounded, n_hits, n_total, method))
    return pd.DataFrame(table, columns=list(COLUMNS))


def _prevalence(percent: int) -> str:
    return f"prevalence_{percent:02}"


def _shares(rows: pd.DataFrame, thresholds: Mapping[str, float]) -> dict[_Row, _Share]:
    """The rates: four at each threshold, then of each kind and of patients at the first."""
    kinds, y_prob = rows["kind"].to_numpy(dtype=str), rows["probability"].to_numpy()
    ill = rows["label"].to_numpy() == 1
    found: dict[_Row, _Share] = {}
    for name, value in thresholds.items():
        called = y_prob >= value
        found |= {
            (name, "all", "recall"): _Share(called, ill, IMAGES),
            (name, "all", "specificity"): _Share(~called, ~ill, IMAGES),
            (name, "all", "precision"): _Share(ill, called, IMAGES),
            (name, "all", "accuracy"): _Share(called == ill, np.full(len(ill), True), IMAGES),
        }
    first, called = next((name, y_prob >= value) for name, value in thresholds.items())
    for metric, of_class in (("recall", ill), ("specificity", ~ill)):
        for kind in np.unique(kinds[of_class]):
            of = of_class & (kinds == kind)
            found[first, str(kind), metric] = _Share(called == ill, of, WIDER)
    # A patient is one of their images: all of them are drawn together.
    caught = rows["patient_id"].isin(rows["patient_id"][called & ill]).to_numpy()
    one_each = ill & ~rows["patient_id"].where(ill).duplicated().to_numpy()
    found[first, "patients", "recall"] = _Share(caught, one_each, ILL_PATIENTS)
    return found


def _predictive_intervals(shares: Mapping[_Row, _Share], prevalence: float) -> dict[str, Interval]:
    """Npv and ppv with recall, or else specificity, at either end of its Wilson interval."""
    ends, value = {}, {}
    for metric in ("recall", "specificity"):
        share = shares["operating", "all", metric]
        n_hits, n_total = int((share.hits & share.of).sum()), int(share.of.sum())
        ends[metric], value[metric] = wilson_interval(n_hits, n_total), n_hits / n_total
    values = predictive_values(
        np.array([*ends["recall"], value["recall"], value["recall"]]),
        np.array([value["specificity"], value["specificity"], *ends["specificity"]]),
        prevalence,
    )
    return {name: (float(of.min()), float(of.max())) for name, of in values.items()}

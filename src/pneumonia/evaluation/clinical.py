"""What a clinic asks of a classifier, derived from one split of the predictions table.

`recall` is the radiologist's sensitivity. An image is called pneumonia when its probability is at
or above the threshold. Values are of images; every interval is two-sided, 95 %, from a bootstrap
over patients. That bootstrap is blind where no resample can differ: with nothing missed it would
call a recall of 1 certain. So a rate has the wider of two intervals, this and Wilson's on images.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pneumonia.errors import PipelineError
from pneumonia.evaluation.intervals import (
    patient_resamples,
    percentile_interval,
    wilson_interval,
    with_interval,
)

# Shares in percent, which is how the keys of the metrics file name them.
RECALLS = (95, 98)
SPECIFICITIES = (90, 95)
PREVALENCES = (5, 20, 50)
# Threshold probabilities of the decision curve, and those that the metrics file names. Who would
# call nine healthy children rather than miss one ill child decides at 10 %; four, at 20 %.
DECISION_THRESHOLDS = tuple(range(1, 51))
DECISIONS = (10, 20)
N_BINS = 10

# What `clinical` adds to a split, ends of intervals aside.
KEYS = frozenset(
    [
        "by_kind",
        *(f"at_recall_{percent}" for percent in RECALLS),
        *(f"at_specificity_{percent}" for percent in SPECIFICITIES),
        *(f"at_prevalence_{percent:02}" for percent in PREVALENCES),
        *(
            f"{name}{end}"
            for name in ("brier", "calibration_error", "calibration_in_the_large")
            for end in ("", "_low", "_high")
        ),
        *(f"net_benefit_at_{percent}" for percent in DECISIONS),
    ]
)

_Floats = NDArray[np.float64]
_Interval = tuple[float, float]


def clinical(
    predictions: pd.DataFrame, threshold: float, n_bootstrap: int, seed: list[int]
) -> dict[str, Any]:
    """What metrics/evaluate.json says of one split beside the areas; floats have six decimals.

    - `by_kind`: images, patients, counts, and recall (of the healthy: specificity) of each kind at
      the operating threshold. A kind that does not occur is left out.
    - `at_recall_95` …: the specificity at the highest threshold that reaches this recall in percent
      on this very split; `at_specificity_90` …: the recall at the lowest threshold that reaches
      this specificity. Both tell how well the model ranks, and so no threshold is given: none may
      be taken from test.
    - `at_prevalence_05` …: `npv` and `ppv` at the operating threshold where so many of a hundred
      are ill, as `predictive_values` has them. Left out is the npv of a model that calls no image
      normal, and the ppv of one that calls none pneumonia: they are undefined.
    - `brier`: mean of (probability - truth)², in [0, 1]; 0 is perfect.
    - `calibration_error`: mean distance of predicted from observed over the bins of
      `reliability_table`, weighted by their images, in [0, 1]. Noise alone makes it larger than 0,
      and larger once more in each resample: the interval is moved down by that second excess.
    - `calibration_in_the_large`: mean probability less the share of pneumonia, in [-1, 1]; above
      0 the model says pneumonia too readily.
    - `net_benefit_at_10` …: points of the decision curve, as `net_benefits` has them.

    The order of the rows does not matter.

    Sources: Brier, Verification of forecasts expressed in terms of probability, Mon. Weather Rev.
    78 (1950) 1–3. Calibration error: Naeini, Cooper and Hauskrecht, Obtaining well calibrated
    probabilities using Bayesian binning, AAAI 2015, there with bins of equal width; with as many
    images in each, Nguyen and O'Connor, Posterior calibration and exploratory analysis for natural
    language processing models, EMNLP 2015. Calibration in the large: Van Calster et al.,
    Calibration: the Achilles heel of predictive analytics, BMC Med. 17 (2019) 230.

    Args:
        predictions: one split of what `pneumonia.predictions.checked` gives.
        threshold: the operating threshold, chosen on validation.
        n_bootstrap: number of resamples of patients.
        seed: of the resamples.

    Raises:
        PipelineError: a class is missing, or a figure is undefined: there is no npv where no image
            is called normal, no ppv where none is called pneumonia.
    """
    predictions = _sound(predictions)
    y_true, y_prob = _truth_and_probability(predictions)
    y_pred = (y_prob >= threshold).astype(np.int64)
    kinds = predictions["kind"].to_numpy(dtype=str)
    bins = _bins(y_prob)

    def classes_of(kind: str) -> dict[str, NDArray[np.bool_]]:
        """Which images are of the kind and ill, and which of it and healthy; none left out."""
        classes = {
            f"recall.{kind}": (kinds == kind) & (y_true == 1),
            f"specificity.{kind}": (kinds == kind) & (y_true == 0),
        }
        return {key: of for key, of in classes.items() if of.any()}

    def figures(weights: _Floats) -> dict[str, _Floats]:
        recall = _mean(y_pred, weights * (y_true == 1))
        specificity = _mean(1 - y_pred, weights * (y_true == 0))
        found = {
            key: _mean(y_pred == y_true, weights * of)
            for kind in np.unique(kinds)
            for key, of in classes_of(kind).items()
        }
        found |= curve_points(y_true, y_prob, weights)
        for percent in PREVALENCES:
            npv, ppv = predictive_values(recall, specificity, percent / 100)
            found |= {f"npv.{percent}": npv, f"ppv.{percent}": ppv}
        found["brier"] = _mean((y_prob - y_true) ** 2, weights)
        excess = (weights * (y_prob - y_true)) @ bins
        found["calibration_error"] = np.abs(excess).sum(axis=1) / weights.sum(axis=1)
        found["calibration_in_the_large"] = _mean(y_prob - y_true, weights)
        return found | {
            f"{name}.{percent}": values
            for percent in DECISIONS
            for name, values in net_benefits(y_true, y_prob, weights, percent / 100).items()
        }

    values, resampled = _measured(figures, predictions, n_bootstrap, seed)

    def plain(name: str, key: str) -> dict[str, float]:
        return with_interval(name, values[key], _ends(resampled[key]))

    def rate(name: str, key: str, of: NDArray[np.bool_]) -> dict[str, float]:
        wilson = wilson_interval(round(float(values[key]) * int(of.sum())), int(of.sum()))
        return with_interval(name, values[key], _wider(_ends(resampled[key]), wilson))

    def predictive(percent: int) -> dict[str, float]:
        wilson = _predictive_intervals(y_true, y_pred, percent / 100)
        return {
            key: value
            for name, defined in (("npv", not y_pred.all()), ("ppv", y_pred.any()))
            if defined
            for key, value in with_interval(
                name,
                values[f"{name}.{percent}"],
                _wider(_ends(resampled[f"{name}.{percent}"]), wilson[name]),
            ).items()
        }

    def of_kind(kind: str) -> dict[str, Any]:
        patients = predictions["patient_id"][kinds == kind]
        found = {"n_images": len(patients), "n_patients": patients.nunique()}
        for key, of in classes_of(kind).items():
            name, n_called = key.split(".")[0], int(y_pred[of].sum())
            cleared, called = ("fn", "tp") if name == "recall" else ("tn", "fp")
            found |= {cleared: int(of.sum()) - n_called, called: n_called, **rate(name, key, of)}
        return found

    error = resampled["calibration_error"]
    low, high = _ends(error - (error.mean() - values["calibration_error"]))
    return {
        "by_kind": {str(kind): of_kind(kind) for kind in np.unique(kinds)},
        **{
            f"at_recall_{percent}": rate("specificity", f"at_recall.{percent}", y_true == 0)
            for percent in RECALLS
        },
        **{
            f"at_specificity_{percent}": rate("recall", f"at_specificity.{percent}", y_true == 1)
            for percent in SPECIFICITIES
        },
        **{f"at_prevalence_{percent:02}": predictive(percent) for percent in PREVALENCES},
        **plain("brier", "brier"),
        **with_interval("calibration_error", values["calibration_error"], (max(0.0, low), high)),
        **plain("calibration_in_the_large", "calibration_in_the_large"),
        **{
            f"net_benefit_at_{percent}": {
                key: value
                for name in ("model", "all", "gain")
                for key, value in plain(name, f"{name}.{percent}").items()
            }
            for percent in DECISIONS
        },
    }


def predictive_values(
    recall: _Floats, specificity: _Floats, prevalence: float
) -> tuple[_Floats, _Floats]:
    """Negative and positive predictive value, each (n,) in [0, 1], where the prevalence is given.

    By Bayes' theorem. It holds where the films of the ill, and those of the healthy, are like the
    ones that were measured, and only their shares differ. NaN where no film would be called so.

    Source: Altman and Bland, Diagnostic tests 2: predictive values, BMJ 309 (1994) 102.

    Args:
        recall: (n,) in [0, 1].
        specificity: (n,) in [0, 1].
        prevalence: share of pneumonia, in (0, 1).
    """
    tn, fn = specificity * (1 - prevalence), (1 - recall) * prevalence
    tp, fp = recall * prevalence, (1 - specificity) * (1 - prevalence)
    return _share(tn, tn + fn), _share(tp, tp + fp)


def net_benefits(
    y_true: NDArray[np.int_], y_prob: _Floats, weights: _Floats, threshold: float
) -> dict[str, _Floats]:
    """Net benefit at one threshold probability t for n weightings, each (n,): model, all, gain.

    tp / n - fp / n * t / (1 - t), in true positives an image, of calling what the model gives t or
    more (`model`) and of calling every image (`all`); calling none has 0. `gain` is the model's
    less the better of these two. It depends on the prevalence, which is that of the images.

    Source: Vickers and Elkin, Decision curve analysis: a novel method for evaluating prediction
    models, Med. Decis. Making 26 (2006) 565–574.

    Args:
        y_true: (n_images,) int; 1 = pneumonia, 0 = normal.
        y_prob: (n_images,) float in [0, 1].
        weights: (n, n_images) float, at least 0.
        threshold: t, in (0, 1).
    """
    worth = np.where(y_true == 1, 1.0, -threshold / (1 - threshold))
    model, everyone = _mean(worth * (y_prob >= threshold), weights), _mean(worth, weights)
    return {"model": model, "all": everyone, "gain": model - np.maximum(everyone, 0)}


def curve_points(y_true: NDArray[np.int_], y_prob: _Floats, weights: _Floats) -> dict[str, _Floats]:
    """Specificity at `RECALLS` and recall at `SPECIFICITIES`, each (n,), for n weightings.

    Keys are at_recall.95 …: the specificity at the highest threshold that reaches the recall; and
    at_specificity.90 …: the recall at the lowest threshold that reaches the specificity, or 0
    where only calling nobody does.

    Args:
        y_true: (n_images,) int; 1 = pneumonia, 0 = normal.
        y_prob: (n_images,) float in [0, 1].
        weights: (n, n_images) float, at least 0; each row weighs both classes.
    """
    order = np.argsort(-y_prob, kind="stable")
    # Tied images move past a threshold together: one column a distinct probability.
    starts = np.flatnonzero(np.diff(y_prob[order], prepend=np.inf))
    tp, fp = (
        np.add.reduceat((weights * (y_true == label))[:, order], starts, axis=1).cumsum(axis=1)
        for label in (1, 0)
    )
    # The first column: a threshold above all, where no image is called.
    nobody = np.zeros((len(weights), 1))
    recall = np.hstack([nobody, tp / tp[:, -1:]])
    specificity = np.hstack([nobody + 1, (fp[:, -1:] - fp) / fp[:, -1:]])
    rows = np.arange(len(weights))
    return {
        f"at_recall.{percent}": specificity[rows, (recall >= percent / 100).argmax(axis=1)]
        for percent in RECALLS
    } | {
        f"at_specificity.{percent}": recall[rows, (specificity >= percent / 100).sum(axis=1) - 1]
        for percent in SPECIFICITIES
    }


def reliability_table(predictions: pd.DataFrame, n_bootstrap: int, seed: list[int]) -> pd.DataFrame:
    """A row a bin of rising probability: bin, n_images, predicted, observed, low, high.

    Ten bins of as many images as can be; images of equal probability are in one, so that there may
    be fewer. `predicted` is the mean probability, `observed` the share of pneumonia, `low` and
    `high` the ends of its interval. Resamples keep the bins.

    Arguments as in `clinical`.

    Raises:
        PipelineError: a class is missing.
    """
    predictions = _sound(predictions)
    y_true, y_prob = _truth_and_probability(predictions)
    bins = _bins(y_prob)

    def figures(weights: _Floats) -> dict[str, _Floats]:
        return {
            str(number): _mean(y_true, weights * column) for number, column in enumerate(bins.T)
        }

    observed, resampled = _measured(figures, predictions, n_bootstrap, seed)
    rows = []
    for number, column in enumerate(bins.T.astype(bool)):
        wilson = wilson_interval(int(y_true[column].sum()), int(column.sum()))
        low, high = _wider(_ends(resampled[str(number)]), wilson)
        rows.append(
            {
                "bin": number + 1,
                "n_images": int(column.sum()),
                "predicted": y_prob[column].mean(),
                "observed": observed[str(number)],
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows).round(6)


def decision_table(predictions: pd.DataFrame, n_bootstrap: int, seed: list[int]) -> pd.DataFrame:
    """The decision curve, a row a threshold probability from 0.01 to 0.5, by `net_benefits`.

    Columns threshold, net_benefit_model, net_benefit_all, net_benefit_none (which is 0), and
    net_benefit_gain of the model over the better of the two; the model's and the gain's with the
    ends of their intervals in columns _low and _high. The prevalence is that of the split.

    Arguments as in `clinical`.

    Raises:
        PipelineError: a class is missing.
    """
    predictions = _sound(predictions)
    y_true, y_prob = _truth_and_probability(predictions)

    def figures(weights: _Floats) -> dict[str, _Floats]:
        return {
            f"{name}.{percent}": values
            for percent in DECISION_THRESHOLDS
            for name, values in net_benefits(y_true, y_prob, weights, percent / 100).items()
        }

    values, resampled = _measured(figures, predictions, n_bootstrap, seed)
    return pd.DataFrame(
        [
            {
                "threshold": percent / 100,
                **with_interval(
                    "net_benefit_model", values[f"model.{percent}"],
                    _ends(resampled[f"model.{percent}"]),
                ),
                "net_benefit_all": round(values[f"all.{percent}"], 6),
                "net_benefit_none": 0.0,
                **with_interval(
                    "net_benefit_gain", values[f"gain.{percent}"],
                    _ends(resampled[f"gain.{percent}"]),
                ),
            }
            for percent in DECISION_THRESHOLDS
        ]
    )  # fmt: skip


def _sound(predictions: pd.DataFrame) -> pd.DataFrame:
    """The split by name, if both classes are in it."""
    n_pneumonia = int(predictions["label"].sum())
    if not 0 < n_pneumonia < len(predictions):
        raise PipelineError(
            f"clinical figures of {_split(predictions)} are undefined: expected normal and "
            f"pneumonia images. Received: {len(predictions) - n_pneumonia} normal, "
            f"{n_pneumonia} pneumonia"
        )
    # In one order, sums are the same to the last bit.
    return predictions.sort_values("name", ignore_index=True)


def _split(predictions: pd.DataFrame) -> str:
    return str(predictions["split"].iloc[0]) if len(predictions) else "an empty split"


def _truth_and_probability(predictions: pd.DataFrame) -> tuple[NDArray[np.int_], _Floats]:
    return predictions["label"].to_numpy(), predictions["probability"].to_numpy()


def _measured(
    figures: Callable[[_Floats], dict[str, _Floats]],
    predictions: pd.DataFrame,
    n_bootstrap: int,
    seed: list[int],
) -> tuple[dict[str, float], dict[str, _Floats]]:
    """Each figure, and its (n_bootstrap,) values over resamples of patients.

    Args:
        figures: from (n, n_images) weights to (n,) values by key.
        predictions: one split, as `_sound` gives it.
        n_bootstrap: number of resamples.
        seed: of the resamples.
    """
    y_true, _ = _truth_and_probability(predictions)
    patients = predictions["patient_id"].to_numpy(dtype=str)
    chunks = [
        figures(weights) for weights in patient_resamples(patients, y_true, n_bootstrap, seed)
    ]
    once = figures(np.ones((1, len(predictions))))
    return (
        {key: float(value[0]) for key, value in once.items()},
        {key: np.concatenate([chunk[key] for chunk in chunks]) for key in once},
    )


def _bins(y_prob: _Floats) -> _Floats:
    """(n_images, n_bins) float, 1 where the image is in the bin; no bin is empty."""
    # By the number of images below: equal probabilities get one bin, whatever the rows' order.
    number: NDArray[np.int64] = N_BINS * np.searchsorted(np.sort(y_prob), y_prob) // len(y_prob)
    in_bin: NDArray[np.bool_] = number[:, None] == np.unique(number)
    return in_bin.astype(np.float64)


def _predictive_intervals(
    y_true: NDArray[np.int_], y_pred: NDArray[np.int64], prevalence: float
) -> dict[str, _Interval]:
    """Npv and ppv with recall, or else specificity, at either end of its Wilson interval."""
    called, healthy_called = y_pred[y_true == 1], y_pred[y_true == 0]
    recall, specificity = called.mean(), 1 - healthy_called.mean()
    recalls = wilson_interval(int(called.sum()), len(called))
    specificities = wilson_interval(int((1 - healthy_called).sum()), len(healthy_called))
    npv, ppv = predictive_values(
        np.array([*recalls, recall, recall]),
        np.array([specificity, specificity, *specificities]),
        prevalence,
    )
    return {
        "npv": (float(npv.min()), float(npv.max())),
        "ppv": (float(ppv.min()), float(ppv.max())),
    }


def _mean(values: NDArray[Any], weights: _Floats) -> _Floats:
    """Weighted means, (n,), of (n_images,) values; NaN where nothing weighs."""
    return _share(weights @ values.astype(np.float64), weights.sum(axis=1))


def _share(part: _Floats, whole: _Floats) -> _Floats:
    share = np.full_like(whole, np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share


def _ends(resampled: _Floats) -> _Interval:
    """The percentile interval; a resample on which the figure is undefined is as if not drawn."""
    return percentile_interval(resampled[~np.isnan(resampled)])


def _wider(a: _Interval, b: _Interval) -> _Interval:
    return min(a[0], b[0]), max(a[1], b[1])

"""How a classifier does on corrupted images, beside the very same images as they came."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pneumonia.errors import PipelineError
from pneumonia.evaluation.corruptions import CORRUPTIONS, corrupted
from pneumonia.evaluation.intervals import (
    patient_resamples,
    percentile_interval,
    wilson_interval,
    with_interval,
)
from pneumonia.evaluation.metrics import rates
from pneumonia.evaluation.paired import loss_bounds
from pneumonia.evaluation.predictions import rounded
from pneumonia.evaluation.threshold import counts
from pneumonia.evaluation.weighted import weighted_curve
from pneumonia.store.params import Section, require

CLEAN = "none"
# Of five: all of them would be two thirds more to predict, for curves that these already draw.
SEVERITIES = (1, 3, 5)
METRICS = ("recall", "specificity", "roc_auc")
N_BOOTSTRAP = 1000
# Stages share one seed; no two draws are one another's continuation.
_STREAM = 10
_SAMPLE, _RESAMPLES = 0, 1

# Name of a corruption and its severity.
Setting: TypeAlias = tuple[str, int]
# Images as they came first; a corruption without grades has one severity.
SETTINGS: tuple[Setting, ...] = (
    (CLEAN, 0),
    *(
        (name, severity)
        for name, corruption in CORRUPTIONS.items()
        for severity in SEVERITIES
        if severity <= len(corruption.levels)
    ),
)
COLUMNS = (
    "corruption", "severity", "level", "n_images", "n_patients", "tn", "fp", "fn", "tp",
    *(
        f"{metric}{what}{end}"
        for metric in METRICS
        for what in ("", "_change")
        for end in ("", "_low", "_high")
    ),
)  # fmt: skip


class RobustnessParams(Section):
    """Section `robustness` of params.yaml."""

    n_images: int = Field(
        ge=0, le=1_000_000, description="test images, stratified by kind; 0 turns it off"
    )

    @model_validator(mode="after")
    def _enough_or_none(self) -> Self:
        # With fewer the intervals span nearly everything.
        require(
            self.n_images == 0 or self.n_images >= 20,
            "n_images",
            "be 0 or at least 20",
            self.n_images,
        )
        return self


def robustness(
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float64]],
    images: NDArray[np.uint8],
    test_rows: pd.DataFrame,
    threshold: float,
    n_images: int,
    seed: int,
    seen: Callable[[Iterable[Setting]], Iterable[Setting]] = iter,
) -> pd.DataFrame:
    """Recall, specificity and roc_auc of one sample of test under each of `SETTINGS`.

    Columns as `COLUMNS`: the corruption, its severity and level (see `CORRUPTIONS`); images and
    patients of the sample; counts and rates at the threshold; and of each metric the change from
    the images as they came: below 0 it fell. All intervals are two-sided, 95 %: Wilson's on images
    for rates, a bootstrap over patients for roc_auc and its change, the wider of that bootstrap and
    Tango's score for the changes of rates. The first row is the sample as it came. No row if
    `n_images` is 0.

    Args:
        predict: (n, side, side) uint8 images in [0, 255] -> (n,) P(pneumonia) in [0, 1].
        images: (n_test, side, side) uint8, possibly memory-mapped.
        test_rows: a row an image, in the same order, with label, kind and patient_id.
        threshold: operating threshold, as chosen on validation.
        n_images: size of the sample; all where there are no more; 0: no table.
        seed: of the sample, the corruptions and the resamples; at least 0.
        seen: hands the settings on, one by one, and may say how far it is.

    Raises:
        PipelineError: the sample lacks a class.
    """
    if n_images == 0:
        return pd.DataFrame(columns=list(COLUMNS))
    places = sample(test_rows["kind"].to_numpy(dtype=str), n_images, seed)
    chosen, rows = np.asarray(images[places]), test_rows.iloc[places]
    y_true, patients = rows["label"].to_numpy(np.int64), rows["patient_id"].to_numpy(str)
    n_pneumonia = int(y_true.sum())
    if not 0 < n_pneumonia < len(y_true):
        raise PipelineError(
            "robustness.n_images must bring normal and pneumonia images of test into the sample. "
            f"Received: {len(y_true) - n_pneumonia} normal, {n_pneumonia} pneumonia"
        )
    resampling = [seed, _STREAM, _RESAMPLES]
    weights = np.concatenate(list(patient_resamples(patients, y_true, N_BOOTSTRAP, resampling)))
    # The first row weighs each image once: the sample itself.
    weights = np.vstack([np.ones(len(y_true)), weights])
    clean = rounded(predict(chosen))
    clean_areas = weighted_curve(y_true, clean, weights).roc_auc()
    table: list[dict[str, Any]] = []
    for name, severity in seen(SETTINGS):
        y_prob, level = clean, 0.0
        if name != CLEAN:
            y_prob = rounded(predict(corrupted(chosen, name, severity, seed)))
            level = round(float(CORRUPTIONS[name].levels[severity - 1]), 6)
        c = counts(y_true, y_prob, threshold)
        row = {
            "corruption": name,
            "severity": severity,
            "level": level,
            "n_images": len(chosen),
            "n_patients": len(np.unique(patients)),
            **asdict(c),
        }
        for metric, label in (("recall", 1), ("specificity", 0)):
            n_hits, n_total = rates(c)[metric]
            of = y_true == label
            before, after = (((p >= threshold) == y_true)[of] for p in (clean, y_prob))
            low, high = loss_bounds(before, after, patients[of], N_BOOTSTRAP, resampling, 0.975)
            change = (int(after.sum()) - int(before.sum())) / n_total
            row |= with_interval(metric, n_hits / n_total, wilson_interval(n_hits, n_total))
            row |= with_interval(f"{metric}_change", change, (-high, -low))
        areas = weighted_curve(y_true, y_prob, weights).roc_auc()
        for metric, values in (("roc_auc", areas), ("roc_auc_change", areas - clean_areas)):
            row |= with_interval(metric, values[0], percentile_interval(values[1:]))
        table.append(row)
    return pd.DataFrame(table, columns=list(COLUMNS))


def sample(kinds: NDArray[np.str_], n_images: int, seed: int) -> NDArray[np.int64]:
    """(min(n, n_images),) places of a sample, ascending: of each kind its share, to within one.

    `kinds` is (n,) text, the kind of each image.
    """
    if n_images >= len(kinds):
        return np.arange(len(kinds))
    random = np.random.default_rng([seed, _STREAM, _SAMPLE])
    names, counted = np.unique(kinds, return_counts=True)
    shares = n_images * counted / len(kinds)
    n_of_kind = np.floor(shares).astype(int)
    # What rounding down left over goes to the largest remainders.
    remainders = np.argsort(n_of_kind - shares, kind="stable")
    n_of_kind[remainders[: n_images - n_of_kind.sum()]] += 1
    drawn = [
        random.choice(np.flatnonzero(kinds == name), n, replace=False)
        for name, n in zip(names, n_of_kind.tolist(), strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def fell(table: pd.DataFrame, metric: str) -> NDArray[np.bool_]:
    """(n_rows,) bool: whether the interval of the metric's change lies wholly below 0.

    About one comparison in forty says so by chance alone.
    """
    return (table[f"{metric}_change_high"] < 0).to_numpy(dtype=np.bool_)

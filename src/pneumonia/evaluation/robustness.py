"""How a classifier does on corrupted films, beside the very same films as they came."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
from pneumonia.store.params import check

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
# Films as they came first; a corruption without grades has one severity.
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
    "corruption",
    "severity",
    "level",
    "n_images",
    "n_patients",
    *("tn", "fp", "fn", "tp"),
    *(
        f"{metric}{what}{end}"
        for metric in METRICS
        for what in ("", "_change")
        for end in ("", "_low", "_high")
    ),
)


@dataclass(frozen=True)
class RobustnessParams:
    """Section `robustness` of params.yaml."""

    n_images: int  # test images, stratified by kind; 0 turns it off

    def __post_init__(self) -> None:
        """Check the range."""
        # With fewer the intervals span nearly everything.
        check(
            self.n_images == 0 or self.n_images >= 20,
            "n_images",
            "be 0 or at least 20",
            self.n_images,
        )


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
    the films as they came, on the same images: below 0 it fell. All intervals are two-sided, 95 %:
    Wilson's on images for rates, a bootstrap over patients for roc_auc and its change, the wider
    of that bootstrap and Tango's score for the changes of rates. A change whose `_high` is below 0
    is a fall beyond chance (`fell`). The first row is the sample as it came. No row if `n_images`
    is 0.

    Args:
        predict: (n, side, side) uint8 films in [0, 255] -> (n,) P(pneumonia) in [0, 1].
        images: (n_test, side, side) uint8, possibly memory-mapped.
        test_rows: a row an image, in the same order, with label, kind and patient_id.
        threshold: operating threshold, as chosen on validation.
        n_images: size of the sample; all where there are no more; 0: no table.
        seed: of the sample, the corruptions and the resamples; at least 0.
        seen: hands the settings on, one by one, and may tell how far it is.

    Raises:
        PipelineError: the sample lacks a class.
    """
    if n_images == 0:
        return pd.DataFrame(columns=list(COLUMNS))
    places = sample(test_rows["kind"].to_numpy(dtype=str), n_images, seed)
    films = np.asarray(images[places])
    y_true = test_rows["label"].to_numpy(dtype=np.int64)[places]
    patients = test_rows["patient_id"].to_numpy(dtype=str)[places]
    n_pneumonia = int(y_true.sum())
    if not 0 < n_pneumonia < len(y_true):
        raise PipelineError(
            "robustness.n_images must bring normal and pneumonia images of test into the sample. "
            f"Received: {len(y_true) - n_pneumonia} normal, {n_pneumonia} pneumonia"
        )
    resamples = [seed, _STREAM, _RESAMPLES]
    weights = np.concatenate(list(patient_resamples(patients, y_true, N_BOOTSTRAP, resamples)))
    of_class = {"recall": y_true == 1, "specificity": y_true == 0}

    clean = rounded(predict(films))
    clean_area, clean_areas = _areas(y_true, clean, weights)
    rows: list[dict[str, Any]] = []
    for name, severity in seen(SETTINGS):
        as_it_came = name == CLEAN
        y_prob = clean if as_it_came else rounded(predict(corrupted(films, name, severity, seed)))
        c = counts(y_true, y_prob, threshold)
        row = {
            "corruption": name,
            "severity": severity,
            "level": 0.0 if as_it_came else round(float(CORRUPTIONS[name].levels[severity - 1]), 6),
            "n_images": len(films),
            "n_patients": len(np.unique(patients)),
            **asdict(c),
        }
        rate_of = rates(c)
        for metric, chosen in of_class.items():
            n_hits, n_total = rate_of[metric]
            # Right is another verdict for each class; of one class, so is every image.
            before, after = ((p[chosen] >= threshold) == y_true[chosen] for p in (clean, y_prob))
            low, high = loss_bounds(before, after, patients[chosen], N_BOOTSTRAP, resamples, 0.975)
            change = (int(after.sum()) - int(before.sum())) / n_total
            row |= with_interval(metric, n_hits / n_total, wilson_interval(n_hits, n_total))
            row |= with_interval(f"{metric}_change", change, (-high, -low))
        area, areas = _areas(y_true, y_prob, weights)
        row |= with_interval("roc_auc", area, percentile_interval(areas))
        change_interval = percentile_interval(areas - clean_areas)
        row |= with_interval("roc_auc_change", area - clean_area, change_interval)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def sample(kinds: NDArray[np.str_], n_images: int, seed: int) -> NDArray[np.int64]:
    """Places of a sample, ascending: of each kind its share of the images, to within one.

    Args:
        kinds: (n,) text, the kind of each image.
        n_images: size of the sample; from n on it is everything.
        seed: of the draw, at least 0.

    Returns:
        (min(n, n_images),) int, each place once.
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


def _areas(
    y_true: NDArray[np.int_], y_prob: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """roc_auc of the sample, and (n,) of each weighting of its images."""
    once = weighted_curve(y_true, y_prob, np.ones((1, len(y_true)))).roc_auc()
    return float(once[0]), weighted_curve(y_true, y_prob, weights).roc_auc()

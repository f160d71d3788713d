"""How sure a metric is: Wilson's interval for a rate, resamples of patients for everything else."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from pneumonia.evaluation.predictions import SPLITS

Interval: TypeAlias = tuple[float, float]
Key = TypeVar("Key")

# Resamples held in memory at a time: 100 × 100,000 images are 80 MB.
_CHUNK = 100
# Stages that share the one seed of params.yaml draw from streams of their own.
_BOOTSTRAP_STREAM = 6


def wilson_interval(n_hits: int, n_total: int, confidence: float = 0.95) -> Interval:
    """Two-sided interval (low, high) in [0, 1] for the rate n_hits / n_total, by Wilson's score.

    The unit is the image: images of one patient are treated as independent, which makes the
    interval a little too narrow. The lower end at confidence 0.90 is the one-sided 95 % bound.

    Source: Wilson, Probable inference, the law of succession, and statistical inference,
    J. Am. Stat. Assoc. 22 (1927) 209–212.

    Raises:
        ValueError: not 0 <= n_hits <= n_total with n_total > 0.
    """
    ends = binomtest(n_hits, n_total).proportion_ci(confidence, method="wilson")
    return float(ends.low), float(ends.high)


def resampling_seed(seed: int, split: str) -> list[int]:
    """Seed of the resamples of one split: with it every metric has the very same patients."""
    return [seed, _BOOTSTRAP_STREAM, SPLITS.index(split)]


def patient_resamples(
    patient_ids: NDArray[np.str_], y_true: NDArray[np.int_], n_bootstrap: int, seed: list[int]
) -> Iterator[NDArray[np.float64]]:
    """Bootstrap resamples of patients, each with all their images, as weights of the images.

    As many patients are drawn, with replacement, as there are; a patient drawn twice gives each
    of their images the weight 2. A resample without both classes is drawn again, for no area is
    defined on it. The order of the images does not matter.

    Args:
        patient_ids: (n_images,) text.
        y_true: (n_images,) int; 1 = pneumonia, 0 = normal; both occur.
        n_bootstrap: number of resamples in all.
        seed: of the draws.

    Yields:
        (n, n_images) float64, whole numbers; the n of all chunks add up to n_bootstrap.
    """
    patients, patient_of_image = np.unique(patient_ids, return_inverse=True)
    n_patients = len(patients)
    random = np.random.default_rng(seed)
    n_missing = n_bootstrap
    while n_missing:
        drawn = random.integers(n_patients, size=(_CHUNK, n_patients))
        drawn += n_patients * np.arange(_CHUNK)[:, None]  # each resample counts in its own row
        times = np.bincount(drawn.ravel(), minlength=_CHUNK * n_patients)
        weights = times.reshape(_CHUNK, n_patients)[:, patient_of_image].astype(np.float64)
        n_pneumonia = weights @ y_true
        usable = (n_pneumonia > 0) & (n_pneumonia < weights.sum(axis=1))
        weights = weights[usable][:n_missing]
        n_missing -= len(weights)
        yield weights


def over_resamples(
    measure: Callable[[NDArray[np.float64]], Mapping[Key, NDArray[np.float64]]],
    rows: pd.DataFrame,
    n_bootstrap: int,
    seed: list[int],
) -> tuple[dict[Key, float], dict[Key, NDArray[np.float64]]]:
    """Each metric of one split, and its (n_bootstrap,) values over resamples of patients.

    `measure` makes (n,) values of each metric from (n, n_images) weights of the images; `rows` is
    one split, as `one_split` gives it; `n_bootstrap` and `seed` are of the resamples.
    """
    patients, y_true = rows["patient_id"].to_numpy(dtype=str), rows["label"].to_numpy()
    chunks = [measure(w) for w in patient_resamples(patients, y_true, n_bootstrap, seed)]
    once = measure(np.ones((1, len(rows))))
    return (
        {key: float(value[0]) for key, value in once.items()},
        {key: np.concatenate([chunk[key] for chunk in chunks]) for key in once},
    )


def percentile_interval(resampled: NDArray[np.float64]) -> Interval:
    """The middle 95 % (low, high) of a metric's values over resamples, shape (n_bootstrap,).

    A resample on which the metric is undefined (NaN) is left out. Where no resample can differ, as
    with a perfect ranking, the width is 0: that is the bootstrap's blindness, not certainty.

    Source: Efron, Bootstrap methods: another look at the jackknife, Ann. Stat. 7 (1979) 1–26.
    """
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def wider(a: Interval, b: Interval) -> Interval:
    """The least interval that holds both."""
    return min(a[0], b[0]), max(a[1], b[1])


def with_interval(name: str, value: float, interval: Interval) -> dict[str, float]:
    """The metric and the ends of its interval as columns name, name_low, name_high."""
    return {
        name: round(float(value), 6),
        f"{name}_low": round(interval[0], 6),
        f"{name}_high": round(interval[1], 6),
    }

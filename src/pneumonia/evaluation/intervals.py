"""How sure a figure is: Wilson's interval for a rate, resamples of patients for everything else."""

import math
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

# Resamples held in memory at a time: 100 × 100,000 images are 80 MB.
_CHUNK = 100


def wilson_interval(n_hits: int, n_total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval (low, high) in [0, 1] for the rate n_hits / n_total, by Wilson's score.

    The unit is the image: images of one patient are treated as independent, which makes the
    interval a little too narrow. The lower end at confidence 0.90 is the one-sided 95 % bound.

    Source: Wilson, Probable inference, the law of succession, and statistical inference,
    J. Am. Stat. Assoc. 22 (1927) 209–212.

    Raises:
        ValueError: not 0 <= n_hits <= n_total with n_total > 0.
    """
    if not 0 <= n_hits <= n_total or n_total == 0:
        raise ValueError(f"a rate needs 0 <= n_hits <= n_total > 0, not {n_hits} of {n_total}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = n_hits / n_total
    scale = 1 + z**2 / n_total
    middle = (rate + z**2 / (2 * n_total)) / scale
    half = z * math.sqrt(rate * (1 - rate) / n_total + z**2 / (4 * n_total**2)) / scale
    # At 0 and at 1 the end is the rate itself; in floating point it is a hair beside it.
    return min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half))


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
        (n, n_images) float64, whole numbers from 0; the n of all chunks add up to n_bootstrap.
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


def percentile_interval(resampled: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % (low, high) of a metric's values over resamples, shape (n_bootstrap,).

    Where no resample can differ, as with a perfect ranking, its width is 0: that is the
    bootstrap's blindness, not certainty.

    Source: Efron, Bootstrap methods: another look at the jackknife, Ann. Stat. 7 (1979) 1–26.
    """
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def with_interval(name: str, value: float, interval: tuple[float, float]) -> dict[str, float]:
    """The metric and the ends of its interval under the names that `dvc metrics diff` shows."""
    return {
        name: round(float(value), 6),
        f"{name}_low": round(interval[0], 6),
        f"{name}_high": round(interval[1], 6),
    }

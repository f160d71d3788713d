"""How much the candidate lost against the base: two models compared on the same images."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from pneumonia.evaluation.intervals import Interval

# Numbers held in memory at a time while resampling: 2 million of 8 bytes are 16 MB.
_CELLS = 2_000_000


def tango_interval(
    n_base_only: int, n_candidate_only: int, n_images: int, confidence: float
) -> Interval:
    """Two-sided interval (low, high) in [-1, 1] for the loss, by Tango's score.

    The loss is the rate of the base minus that of the candidate. It does not call a loss certain
    when no image tells the two apart: then the interval is ±z² / (n_images + z²). The unit is the
    image: images of one patient are treated as independent. The upper end at confidence 0.90 is
    the one-sided 95 % bound.

    Source: Tango, Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design, Stat. Med. 17 (1998) 891–908.

    Args:
        n_base_only: images that only the base called correctly.
        n_candidate_only: images that only the candidate called correctly.
        n_images: all images, also those that both called alike.
        confidence: of both ends together, in [0, 1).

    Raises:
        ValueError: counts that cannot be, or a confidence that is not a probability.
    """
    if min(n_base_only, n_candidate_only) < 0 or n_base_only + n_candidate_only > n_images:
        raise ValueError(f"{n_base_only} and {n_candidate_only} of {n_images} images cannot be")
    if n_images == 0:
        raise ValueError("a loss needs at least one image")
    if not 0 <= confidence < 1:
        raise ValueError(f"a confidence lies in [0, 1), not at {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    # The two ends mirror each other: what the candidate lost, the base won.
    return (
        -_tango_upper(n_candidate_only, n_base_only, n_images, z),
        _tango_upper(n_base_only, n_candidate_only, n_images, z),
    )


def _tango_upper(n_base_only: int, n_candidate_only: int, n_images: int, z: float) -> float:
    """The largest loss that the score test at ±z does not refuse."""
    measured = n_base_only - n_candidate_only
    # The score falls as the loss rises, so that halving finds where it crosses -z; also where
    # its variance is 0 at the measured loss, which a root finder would take for the crossing.
    kept, refused = measured / n_images, 1.0
    while kept < (middle := (kept + refused) / 2) < refused:
        spread = math.sqrt(n_images * _variance(middle, n_base_only, n_candidate_only, n_images))
        if n_images * middle - measured <= z * spread:
            kept = middle
        else:
            refused = middle
    return refused


def _variance(loss: float, n_base_only: int, n_candidate_only: int, n_images: int) -> float:
    """Variance of one image's difference, at the likeliest shares of images with that loss."""
    # The share that only the candidate has right is the larger root of a q² + b q + c.
    a = 2 * n_images
    b = (2 * n_images - n_base_only + n_candidate_only) * loss - n_base_only - n_candidate_only
    c = -n_candidate_only * loss * (1 - loss)
    root = math.sqrt(max(0.0, b**2 - 4 * a * c))
    # Two forms of one root: each is taken where it does not subtract what is nearly equal.
    candidate_only = (root - b) / (2 * a) if b <= 0 else -2 * c / (root + b)
    return max(0.0, 2 * candidate_only + loss * (1 - loss))


def mcnemar_p(n_base_only: int, n_candidate_only: int) -> float:
    """Exact two-sided p that both are right equally often; 1 when no image tells them apart.

    Arguments as in `tango_interval`; the unit is the image.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions
    or percentages, Psychometrika 12 (1947) 153–157; exact, by the binomial of one half.

    Raises:
        ValueError: a negative count.
    """
    if min(n_base_only, n_candidate_only) < 0:
        raise ValueError(f"counts begin at 0, not {n_base_only} and {n_candidate_only}")
    if n_base_only == n_candidate_only == 0:
        return 1.0
    return float(binomtest(n_base_only, n_base_only + n_candidate_only, 0.5).pvalue)


def loss_bounds(
    base_hits: NDArray[np.bool_],
    candidate_hits: NDArray[np.bool_],
    patient_ids: NDArray[np.str_],
    n_bootstrap: int,
    seed: list[int],
    confidence: float,
) -> Interval:
    """One-sided bounds (lower, upper) of the loss, each at `confidence`, the wider of two.

    The loss is the rate of the base minus that of the candidate. A bootstrap over patients sees
    that images of one patient go together, but is falsely certain where few images or patients
    tell the two models apart; Tango's score on images is the other way about. So the upper bound
    is the larger of the two, the lower the smaller. The order of the images does not matter.

    Args:
        base_hits: (n_images,) whether the base calls the image correctly; images of one class.
        candidate_hits: (n_images,) the same of the candidate.
        patient_ids: (n_images,) text.
        n_bootstrap: number of resamples.
        seed: of the draws.
        confidence: of each bound alone, in [0.5, 1).

    Raises:
        ValueError: no image, no resample, arrays of several lengths, or a confidence out of range.
    """
    if not len(base_hits) == len(candidate_hits) == len(patient_ids) > 0 or n_bootstrap < 1:
        raise ValueError(
            f"{len(base_hits)}, {len(candidate_hits)} and {len(patient_ids)} images and "
            f"{n_bootstrap} resamples: three times the same number, and at least 1 of each"
        )
    if not 0.5 <= confidence < 1:
        raise ValueError(f"a one-sided bound needs a confidence in [0.5, 1), not {confidence}")
    n_base_only = int((base_hits & ~candidate_hits).sum())
    n_candidate_only = int((candidate_hits & ~base_hits).sum())
    tango = tango_interval(n_base_only, n_candidate_only, len(base_hits), 2 * confidence - 1)
    lost = base_hits.astype(np.int64) - candidate_hits
    resampled = _resampled_losses(lost, patient_ids, n_bootstrap, seed)
    low, high = np.quantile(resampled, [1 - confidence, confidence])
    return min(tango[0], float(low)), max(tango[1], float(high))


def _resampled_losses(
    lost: NDArray[np.int64], patient_ids: NDArray[np.str_], n_bootstrap: int, seed: list[int]
) -> NDArray[np.float64]:
    """(n_bootstrap,) losses: as many patients drawn as there are, each with all their images."""
    # A patient counts by two sums alone, so patients with equal sums are drawn as one kind.
    _, patient_of_image = np.unique(patient_ids, return_inverse=True)
    sums = np.stack([np.bincount(patient_of_image, lost), np.bincount(patient_of_image)])
    kinds, n_of_kind = np.unique(sums, axis=1, return_counts=True)
    n_patients = n_of_kind.sum()
    random = np.random.default_rng(seed)
    losses = np.empty(n_bootstrap)
    at_a_time = max(1, _CELLS // len(n_of_kind))
    for start in range(0, n_bootstrap, at_a_time):
        part = losses[start : start + at_a_time]
        drawn = random.multinomial(n_patients, n_of_kind / n_patients, size=len(part))
        n_lost, n_images = kinds @ drawn.T
        part[:] = n_lost / n_images
    return losses

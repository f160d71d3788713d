"""Paired comparison: Tango's interval, McNemar's p, and the bounds that the gate goes by."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar

from pneumonia.evaluation import paired
from pneumonia.evaluation.paired import loss_bounds, mcnemar_p, tango_interval

Z_90 = NormalDist().inv_cdf(0.95)  # two-sided 90 %, or one-sided 95 %

COUNTS = st.integers(1, 60).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.just(n)).flatmap(
        lambda b_n: st.tuples(st.just(b_n[0]), st.integers(0, b_n[1] - b_n[0]), st.just(b_n[1]))
    )
)


def test_the_published_interval_and_p_of_a_study_before_and_after():
    # Airway hyper-responsiveness before and after stem cell transplantation, 21 children, 1 only
    # before and 7 only after: Fagerland, Lydersen, Laake, Stat. Med. 33 (2014) 2850–2875.
    assert tango_interval(1, 7, 21, 0.95) == pytest.approx((-0.517, -0.026), abs=0.0005)
    assert mcnemar_p(1, 7) == pytest.approx(0.070, abs=0.0005)


def score(loss, n_base_only, n_candidate_only, n_images):
    """Tango's statistic, its shares found by a search for the greatest likelihood."""
    n_alike = n_images - n_base_only - n_candidate_only

    def minus_log_likelihood(candidate_only):
        shares = (candidate_only + loss, candidate_only, 1 - 2 * candidate_only - loss)
        counts = (n_base_only, n_candidate_only, n_alike)
        return -sum(n * math.log(max(q, 1e-300)) for n, q in zip(counts, shares, strict=True) if n)

    found = minimize_scalar(
        minus_log_likelihood,
        bounds=(max(0.0, -loss), (1 - loss) / 2),
        method="bounded",
        options={"xatol": 1e-12},
    )
    variance = 2 * found.x + loss - loss**2
    return (n_base_only - n_candidate_only - n_images * loss) / math.sqrt(n_images * variance)


@pytest.mark.parametrize(
    "counts", [(4, 1, 390), (1, 4, 390), (0, 4, 390), (23, 55, 234), (30, 30, 60), (9, 0, 10)]
)
def test_the_ends_are_where_a_numerical_score_reaches_z(counts):
    measured = (counts[0] - counts[1]) / counts[2]
    low, high = tango_interval(*counts, 0.90)
    assert low == pytest.approx(
        brentq(lambda loss: score(loss, *counts) - Z_90, -1 + 1e-6, measured - 1e-6), abs=1e-5
    )
    assert high == pytest.approx(
        brentq(lambda loss: score(loss, *counts) + Z_90, measured + 1e-6, 1 - 1e-6), abs=1e-5
    )


def test_no_discordant_image_is_not_certainty():
    # 1.645² / (390 + 1.645²) = 2.706 / 392.706
    low, high = tango_interval(0, 0, 390, 0.90)
    assert high == pytest.approx(0.00689, abs=0.00001)
    assert (low, high) == pytest.approx((-(Z_90**2) / (390 + Z_90**2), Z_90**2 / (390 + Z_90**2)))


@pytest.mark.parametrize("n", [1, 10, 390])
def test_all_images_lost_or_all_won(n):
    nearest = (n - Z_90**2) / (n + Z_90**2)
    assert tango_interval(n, 0, n, 0.90) == pytest.approx((nearest, 1))
    assert tango_interval(0, n, n, 0.90) == pytest.approx((-1, -nearest))


@given(COUNTS, st.sampled_from([0.5, 0.9, 0.99]))
@example((0, 0, 1), 0.9)
@example((1, 59, 60), 0.9)
@settings(max_examples=80)
def test_the_interval_holds_the_loss_and_mirrors_that_of_the_other_side(counts, confidence):
    n_base_only, n_candidate_only, n_images = counts
    low, high = tango_interval(n_base_only, n_candidate_only, n_images, confidence)
    assert -1 <= low < (n_base_only - n_candidate_only) / n_images < high <= 1 or (
        n_images in (n_base_only, n_candidate_only)  # then one end is the loss itself, ±1
    )
    assert tango_interval(n_candidate_only, n_base_only, n_images, confidence) == (-high, -low)
    wider_low, wider_high = tango_interval(
        n_base_only, n_candidate_only, n_images, (1 + confidence) / 2
    )
    assert wider_low <= low
    assert high <= wider_high


@pytest.mark.parametrize(
    "counts", [(-1, 0, 10), (0, -1, 10), (6, 5, 10), (0, 0, 0)], ids=lambda counts: str(counts)
)
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="image"):
        tango_interval(*counts, 0.90)


@pytest.mark.parametrize("confidence", [-0.1, 1.0, math.nan])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        tango_interval(1, 1, 10, confidence)


@pytest.mark.parametrize(
    ("n_base_only", "n_candidate_only", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (4, 0, 2 / 16),  # heads four times of four, or tails
        (7, 1, 18 / 256),  # 1 + 8 of 256 sequences are so lopsided, on either side
    ],
)
def test_mcnemars_p_counts_sequences_of_coin_tosses(n_base_only, n_candidate_only, p):
    assert mcnemar_p(n_base_only, n_candidate_only) == pytest.approx(p)
    assert mcnemar_p(n_candidate_only, n_base_only) == pytest.approx(p)


@pytest.mark.parametrize("counts", [(-1, 0), (0, -1), (3, -1)])
def test_mcnemars_p_of_a_negative_count_is_refused(counts):
    with pytest.raises(ValueError, match="begin at 0"):
        mcnemar_p(*counts)


def calls(*patients):
    """Hits of both and patient ids, from (n_lost, n_won, n_alike) of each patient."""
    base, candidate, ids = [], [], []
    for number, (n_lost, n_won, n_alike) in enumerate(patients):
        base += [True] * n_lost + [False] * n_won + [True] * n_alike
        candidate += [False] * n_lost + [True] * n_won + [True] * n_alike
        ids += [f"person{number}"] * (n_lost + n_won + n_alike)
    return np.array(base), np.array(candidate), np.array(ids)


def test_a_patient_drawn_carries_all_their_images():
    # Ten patients, one with 100 images, all lost, nine with 50, all kept. How often the one is
    # drawn in ten draws is binomial: 0 times in 35 % of resamples, at most 2 in 93 %, at most 3 in
    # 99 %. So 5 % are at or below 0, and 95 % at or below 3 × 100 of 3 × 100 + 7 × 50 images.
    pair = calls((100, 0, 0), *[(0, 0, 50)] * 9)
    assert loss_bounds(*pair, 10_000, [1], 0.95) == pytest.approx((0, 300 / 650))
    won = (pair[1], pair[0], pair[2])
    assert loss_bounds(*won, 10_000, [1], 0.95) == pytest.approx((-300 / 650, 0))


def test_with_one_patient_the_images_decide():
    # Each resample is this patient again: no spread at all, were it not for Tango's score.
    assert loss_bounds(*calls((4, 1, 385)), 100, [1], 0.95) == tango_interval(4, 1, 390, 0.90)


def test_with_no_discordant_image_the_images_decide():
    pair = calls(*[(0, 0, 1)] * 390)
    assert loss_bounds(*pair, 100, [1], 0.95) == tango_interval(0, 0, 390, 0.90)


def test_losses_in_few_patients_are_less_sure_than_the_same_losses_in_many():
    spread = loss_bounds(*calls(*[(1, 0, 9)] * 40), 10_000, [1], 0.95)
    gathered = loss_bounds(*calls(*[(10, 0, 0)] * 4, *[(0, 0, 10)] * 36), 10_000, [1], 0.95)
    # Both lost 40 of 400 images. A binomial of 40 patients and one tenth has 95 % at or below 7.
    assert spread == tango_interval(40, 0, 400, 0.90)
    assert gathered == pytest.approx((0.025, 0.175))


def test_each_end_is_the_bound_at_the_confidence_asked_for():
    # Among 100 patients of ten images, half lost all theirs: the share drawn is binomial, of
    # standard deviation 5 points.
    pair = calls(*[(10, 0, 0)] * 50, *[(0, 0, 10)] * 50)
    for confidence, deviations in ((0.95, 1.645), (0.99, 2.326)):
        low, high = loss_bounds(*pair, 10_000, [1], confidence)
        assert low == pytest.approx(0.5 - 0.05 * deviations, abs=0.011)
        assert high == pytest.approx(0.5 + 0.05 * deviations, abs=0.011)


def test_the_order_of_the_images_and_the_names_of_the_patients_do_not_matter():
    base, candidate, ids = calls((9, 0, 1), (0, 8, 0), *[(1, 1, 4)] * 7, *[(0, 0, 2)] * 20)
    expected = loss_bounds(base, candidate, ids, 1000, [1], 0.95)
    assert expected[1] > tango_interval(16, 15, 100, 0.90)[1]  # the bootstrap decides
    order = np.random.default_rng(2).permutation(len(ids))
    renamed = np.array([name[::-1] for name in ids])  # another alphabetical order
    assert loss_bounds(base[order], candidate[order], ids[order], 1000, [1], 0.95) == expected
    assert loss_bounds(base, candidate, renamed, 1000, [1], 0.95) == expected


def test_the_seed_decides_the_draws(monkeypatch):
    # In 60 patients what is lost or won comes six images at a time, so that the patients decide.
    pair = calls(*[((6, 0, 1), (0, 6, 2), (0, 0, number))[number % 3] for number in range(1, 61)])
    first = loss_bounds(*pair, 500, [2017, 0], 0.95)
    assert loss_bounds(*pair, 500, [2017, 1], 0.95) != first
    monkeypatch.setattr(paired, "_CELLS", 100)  # few resamples at a time
    assert loss_bounds(*pair, 500, [2017, 0], 0.95) == first


@pytest.mark.parametrize(
    ("n_base", "n_candidate", "n_ids", "n_bootstrap", "confidence", "words"),
    [
        (3, 2, 3, 100, 0.95, "same number"),
        (3, 3, 2, 100, 0.95, "same number"),
        (0, 0, 0, 100, 0.95, "at least 1"),
        (3, 3, 3, 0, 0.95, "at least 1"),
        (3, 3, 3, 100, 0.4, "one-sided"),
        (3, 3, 3, 100, 1.0, "one-sided"),
    ],
)
def test_what_has_no_bounds_is_refused(n_base, n_candidate, n_ids, n_bootstrap, confidence, words):
    hits = np.ones(3, dtype=bool)
    ids = np.array(["a", "b", "c"])
    with pytest.raises(ValueError, match=words):
        loss_bounds(hits[:n_base], hits[:n_candidate], ids[:n_ids], n_bootstrap, [1], confidence)

"""Intervals: Wilson's for rates, a bootstrap over patients for the rest."""

import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumonia.evaluation.intervals import (
    over_resamples,
    patient_resamples,
    percentile_interval,
    wider,
    wilson_interval,
)


# The published table of what misses among the 390 pneumonia images of the test folder mean.
@pytest.mark.parametrize(
    ("n_missed", "low", "high", "one_sided_low"),
    [
        (4, 0.974, 0.996, 0.977),
        (8, 0.960, 0.990, 0.964),
        (12, 0.947, 0.982, 0.951),
        (19, 0.925, 0.969, 0.930),
        (39, 0.866, 0.926, 0.872),  # the seed paper
    ],
)
def test_wilson_intervals_of_the_test_folder(n_missed, low, high, one_sided_low):
    assert wilson_interval(390 - n_missed, 390) == pytest.approx((low, high), abs=0.0005)
    # The lower end of the two-sided 90 % interval is the one-sided 95 % bound.
    one_sided, _ = wilson_interval(390 - n_missed, 390, confidence=0.90)
    assert one_sided == pytest.approx(one_sided_low, abs=0.0005)


@given(
    st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([0.8, 0.9, 0.95, 0.99]),
)
@settings(max_examples=60, deadline=None)
def test_wilsons_interval_solves_its_equation_and_contains_the_rate(hits_of_total, confidence):
    n_hits, n_total = hits_of_total
    low, high = wilson_interval(n_hits, n_total, confidence)
    rate, z = n_hits / n_total, NormalDist().inv_cdf((1 + confidence) / 2)
    assert 0 <= low <= rate <= high <= 1
    for end in (low, high):
        # Where the rate lies z standard errors away, with the error at the end itself.
        distance = z * math.sqrt(end * (1 - end) / n_total)
        assert abs(rate - end) == pytest.approx(distance, abs=1e-9)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=40, deadline=None)
def test_wilson_is_wider_with_fewer_images(hits_of_total):
    n_hits, n_total = hits_of_total
    low, high = wilson_interval(n_hits, n_total)
    low_more, high_more = wilson_interval(4 * n_hits, 4 * n_total)
    assert high_more - low_more < high - low


def test_nothing_missed_is_not_certainty():
    low, high = wilson_interval(390, 390)
    assert high == 1
    assert low == pytest.approx(0.9902, abs=0.0001)  # 390 / (390 + 1.96²)


@pytest.mark.parametrize("hits_of_total", [(0, 0), (-1, 5), (6, 5)])
def test_a_rate_of_nothing_has_no_interval(hits_of_total):
    with pytest.raises(ValueError, match="must"):
        wilson_interval(*hits_of_total)


def resampled(patients, y_true, n_bootstrap=150, seed=(1, 2)):
    chunks = patient_resamples(np.array(patients), np.array(y_true), n_bootstrap, list(seed))
    return np.concatenate(list(chunks))


def test_a_patient_comes_with_all_their_images_or_with_none():
    #           a has three images, b one, c two
    weights = resampled(["a", "b", "a", "c", "a", "c"], [1, 0, 1, 0, 1, 0])
    assert weights.shape == (150, 6)
    a, b, c = weights[:, 0], weights[:, 1], weights[:, 3]
    assert (weights == np.stack([a, b, a, c, a, c], axis=1)).all()
    assert (a + b + c == 3).all()  # as many patients are drawn as there are


def test_a_resample_of_one_class_is_drawn_again():
    # Of two patients, one a class, half of all draws hold one of them twice.
    weights = resampled(["sick", "well"], [1, 0], n_bootstrap=500)
    assert (weights == 1).all()
    assert weights.shape == (500, 2)


def test_all_patients_are_drawn_equally_often():
    # 3,000 resamples of 20 patients: a mean weight of 1 with a standard error of about 0.018.
    weights = resampled(np.arange(20).astype(str), np.arange(20) % 2, n_bootstrap=3000)
    assert weights.mean(axis=0) == pytest.approx(np.ones(20), abs=0.08)
    assert weights.var(axis=0) == pytest.approx(np.full(20, 0.95), abs=0.15)  # binomial: 1 - 1/20


def test_resamples_repeat_with_the_seed_and_follow_the_images():
    patients, y_true = np.array(["a", "b", "b", "c", "d"]), np.array([1, 0, 0, 1, 0])
    weights = resampled(patients, y_true)
    assert (weights == resampled(patients, y_true)).all()
    assert (weights != resampled(patients, y_true, seed=(1, 3))).any()
    order = np.array([4, 2, 0, 1, 3])
    assert (weights[:, order] == resampled(patients[order], y_true[order])).all()


def test_percentile_interval_is_the_middle_95_of_100_and_forgets_what_is_undefined():
    # 0.025 and 0.975 of the way along 0, 1, … 200
    assert percentile_interval(np.arange(201.0)) == (5.0, 195.0)
    assert percentile_interval(np.r_[np.nan, np.arange(201.0), np.nan]) == (5.0, 195.0)


def test_the_wider_of_two_holds_both():
    assert wider((0.2, 0.6), (0.1, 0.5)) == (0.1, 0.6)


def test_over_resamples_measures_once_and_on_each_resample():
    rows = pd.DataFrame({"patient_id": list("aabc"), "label": [1, 1, 0, 0]})
    values, drawn = over_resamples(
        lambda weights: {"n": weights.sum(axis=1), "ill": weights[:, 0]}, rows, 150, [1, 2]
    )
    assert values == {"n": 4, "ill": 1}
    weights = resampled(rows["patient_id"], rows["label"])
    np.testing.assert_array_equal(drawn["n"], weights.sum(axis=1))
    np.testing.assert_array_equal(drawn["ill"], weights[:, 0])

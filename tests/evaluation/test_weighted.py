"""Metrics of many weightings at once are those of scikit-learn, one weighting at a time."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from made_predictions import Y_PROB, Y_TRUE
from pneumonia.evaluation.weighted import mean, predictive_values, weighted_curve

ONCE = np.ones((1, 8))
some_images = st.lists(
    st.tuples(
        st.booleans(), st.integers(0, 9), st.lists(st.integers(0, 3), min_size=3, max_size=3)
    ),
    min_size=2,
    max_size=30,
)


def arrays(images) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truths, probabilities, and those weightings in which both classes weigh."""
    y_true = np.array([int(sick) for sick, _, _ in images])
    y_prob = np.array([score / 10 for _, score, _ in images])
    weights = np.array([weight for _, _, weight in images]).T
    weights = weights[(weights @ y_true > 0) & (weights @ (1 - y_true) > 0)]
    assume(len(weights))
    return y_true, y_prob, weights


@given(some_images)
@settings(max_examples=60, deadline=None)
def test_areas_are_those_of_scikit_learn(images):
    y_true, y_prob, weights = arrays(images)
    curve = weighted_curve(y_true, y_prob, weights.astype(np.float64))
    for row, weight in enumerate(weights):
        for found, function in (
            (curve.roc_auc(), roc_auc_score),
            (curve.average_precision(), average_precision_score),
        ):
            assert found[row] == pytest.approx(function(y_true, y_prob, sample_weight=weight))


@given(some_images)
@settings(max_examples=60, deadline=None)
def test_points_are_those_of_images_repeated(images):
    y_true, y_prob, weights = arrays(images)
    curve = weighted_curve(y_true, y_prob, weights.astype(np.float64))
    for row, weight in enumerate(weights):
        sick = np.repeat(y_prob[y_true == 1], weight[y_true == 1])
        healthy = np.repeat(y_prob[y_true == 0], weight[y_true == 0])
        points = [((sick >= t).mean(), (healthy < t).mean()) for t in [*y_prob, 2]]
        for wanted in (0.9, 0.98):
            assert curve.specificity_at_recall(wanted)[row] == pytest.approx(
                max(specificity for recall, specificity in points if recall >= wanted)
            )
            assert curve.recall_at_specificity(wanted)[row] == pytest.approx(
                max(recall for recall, specificity in points if specificity >= wanted)
            )
        for threshold in (0.0, 0.25, 0.3, 1.0):
            tp, fp = curve.at(threshold)
            assert (tp[row], fp[row]) == ((sick >= threshold).sum(), (healthy >= threshold).sum())


def test_areas_counted_by_hand():
    curve = weighted_curve(Y_TRUE, Y_PROB, ONCE)
    # ROC-AUC: of 4 × 4 pairs only (0.6, 0.4) is the wrong way round: 15 of 16.
    # Average precision, from above: 1/1, 2/2, 3/3, then 0.4 comes fifth: 4/5. Mean 0.95.
    assert (curve.roc_auc()[0], curve.average_precision()[0]) == (0.9375, 0.95)


def test_a_recall_of_95_of_100_is_95_percent_and_of_94_is_not():
    # 100 pneumonia 0.901 … 1.000, one normal among them. In floating point 95 / 100 must do.
    y_true, y_prob = np.r_[np.ones(100, int), 0], np.r_[np.arange(901, 1001) / 1000, 0.9055]
    once = np.ones((1, 101))
    # Above the normal are 0.906 … 1.000: 95. Its specificity is kept.
    assert weighted_curve(y_true, y_prob, once).specificity_at_recall(0.95) == [1]
    y_prob[-1] = 0.9065  # 94 above it
    assert weighted_curve(y_true, y_prob, once).specificity_at_recall(0.95) == [0]


def test_90_of_100_normal_images_are_a_specificity_of_90_percent():
    # 100 normals 0.001 … 0.100 and one pneumonia that ten of them, or eleven, are above.
    y_true, y_prob = np.r_[np.zeros(100, int), 1], np.r_[np.arange(1, 101) / 1000, 0.0905]
    once = np.ones((1, 101))
    assert weighted_curve(y_true, y_prob, once).recall_at_specificity(0.9) == [1]
    y_prob[-1] = 0.0895
    assert weighted_curve(y_true, y_prob, once).recall_at_specificity(0.9) == [0]


def test_a_normal_image_on_top_leaves_no_recall_at_90_percent_specificity():
    # Two normals, one of them above all: only calling nobody keeps 90 % of them.
    curve = weighted_curve(np.array([0, 0, 1]), np.array([0.9, 0.1, 0.8]), np.ones((1, 3)))
    assert curve.recall_at_specificity(0.9) == [0]


def test_predictive_values_of_the_published_example():
    # Altman and Bland's liver scans: 231 of 258 abnormal livers and 54 of 86 normal ones called
    # rightly. In their own 75 % of abnormal livers 0.88 and 0.67; where 25 % are, 0.45 and 0.95.
    recall, specificity = np.array([231 / 258]), np.array([54 / 86])
    at = predictive_values(recall, specificity, 258 / 344)
    assert (at["npv"][0], at["ppv"][0]) == pytest.approx((54 / 81, 231 / 263))
    at = predictive_values(recall, specificity, 0.25)
    assert (at["npv"][0], at["ppv"][0]) == pytest.approx((0.95, 0.45), abs=0.005)


def test_a_mean_of_nothing_is_undefined():
    weights = np.array([[1.0, 3.0], [0.0, 0.0]])
    found = mean(np.array([0, 1]), weights)
    assert found[0] == 0.75
    assert np.isnan(found[1])

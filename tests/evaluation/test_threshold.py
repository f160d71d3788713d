"""Verdicts at a threshold, and the operating threshold: from validation, for a target recall."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from made_predictions import Y_PROB, Y_TRUE, both, eight, predictions, realistic
from pneumonia.errors import PipelineError
from pneumonia.evaluation.threshold import Counts, counts, operating_point, operating_threshold


@pytest.mark.parametrize(
    ("min_recall", "threshold"),
    [
        (1.00, 0.4),  # all four caught, at the price of the normal image scored 0.6
        (0.75, 0.7),  # three of four: the target is met exactly
        (0.76, 0.4),  # never below what was asked for
        (0.50, 0.8),  # two of four
        (0.01, 0.9),  # one of four is the least there is
    ],
)
def test_highest_threshold_that_reaches_the_recall(min_recall, threshold):
    assert operating_threshold(Y_TRUE, Y_PROB, min_recall) == threshold


def test_98_of_100_is_98_percent():
    # 0.98 as a float must not fail at 98 / 100: the third lowest pneumonia is still called.
    y_prob = np.concatenate([[0.5], np.arange(1, 101) / 1000])
    y_true = np.concatenate([[0], np.ones(100, dtype=int)])
    assert operating_threshold(y_true, y_prob, 0.98) == 0.003


def test_tied_images_pass_the_threshold_together():
    # Two of four are above 0.5; the third brings its twin, and the normal image beside them.
    y_true, y_prob = np.array([1, 1, 1, 1, 0, 0]), np.array([0.9, 0.8, 0.5, 0.5, 0.5, 0.2])
    assert operating_threshold(y_true, y_prob, 0.75) == 0.5
    assert counts(y_true, y_prob, 0.5) == Counts(tn=1, fp=1, fn=0, tp=4)


def test_when_all_images_look_the_same_all_are_called_pneumonia():
    y_prob = np.full(8, 0.3)
    assert operating_threshold(Y_TRUE, y_prob, 0.98) == 0.3
    assert counts(Y_TRUE, y_prob, 0.3) == Counts(tn=0, fp=4, fn=0, tp=4)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=40),
    st.floats(0.01, 1),
)
@settings(max_examples=80, deadline=None)
def test_the_threshold_reaches_the_target_and_no_higher_one_does(images, min_recall):
    y_true = np.array([int(sick) for sick, _ in images])
    y_prob = np.array([score / 20 for _, score in images])
    assume(0 < y_true.sum() < len(y_true))
    threshold = operating_threshold(y_true, y_prob, min_recall)

    def recall(t):
        return (y_prob[y_true == 1] >= t).mean()

    assert recall(threshold) >= min_recall
    assert all(recall(t) < min_recall for t in y_prob if t > threshold)


def test_counts_at_a_threshold():
    # At 0.6: normals 0.1, 0.2, 0.3 below and 0.6 on it; pneumonia 0.4 below, three above.
    assert counts(Y_TRUE, Y_PROB, 0.6) == Counts(tn=3, fp=1, fn=1, tp=3)


def test_the_operating_point_says_how_it_was_chosen_and_knows_validation_alone():
    point = operating_point(both(realistic(60)), 0.98, "own")
    assert point == {
        "schema": 2,
        "dataset": "own",
        "chosen_on": "validation",
        "target_recall": 0.98,
        "operating_threshold": 0.4,
        "tn": 3, "fp": 1, "fn": 0, "tp": 4,
    }  # fmt: skip
    assert operating_point(eight("validation"), 0.98, "own") == point


@pytest.mark.parametrize("label", [0, 1])
def test_a_threshold_needs_both_classes(label):
    validation = predictions("validation", [label] * 4, Y_PROB[:4])
    with pytest.raises(PipelineError, match="validation must hold normal and pneumonia images"):
        operating_point(validation, 0.98, "own")

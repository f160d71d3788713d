"""ROC and precision-recall: every point counted, no cell empty or infinite, areas in the legend."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from made_plots import lines_on
from made_predictions import both, predictions
from pneumonia.plots.curves import (
    precision_recall_png,
    precision_recall_table,
    roc_png,
    roc_table,
)


def of_test(table):
    return table[table["split"] == "test"].drop(columns="split")


FOUR = both(predictions("test", [0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8]))


def test_roc_counted_by_hand():
    table = roc_table(FOUR)
    assert list(table.columns) == ["split", "threshold", "false_positive_rate", "recall"]
    assert list(dict.fromkeys(table["split"])) == ["validation", "test"]
    assert of_test(table).to_numpy().tolist() == [
        [0.800001, 0.0, 0.0],  # above all: nothing called
        [0.8, 0.0, 0.5],  # one of two pneumonia
        [0.4, 0.5, 1.0],  # the other, and the normal image tied with it
        [0.1, 1.0, 1.0],
    ]


def test_roc_of_a_certain_model_has_no_infinity():
    # The point (0, 0) lies above a probability of 1, where no probability can be.
    table = roc_table(both(predictions("test", [0, 1], [0.0, 1.0])))
    assert of_test(table)["threshold"].tolist() == [1.000001, 1.0, 0.0]


def test_precision_recall_counted_by_hand():
    table = precision_recall_table(FOUR)
    assert list(table.columns) == ["split", "threshold", "recall", "precision"]
    assert of_test(table).to_numpy().tolist() == [
        [0.1, 1.0, 0.5],  # all four called, two rightly
        [0.4, 1.0, 0.666667],  # two of three
        [0.8, 0.5, 1.0],
    ]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), min_size=2, max_size=50))
@settings(max_examples=50, deadline=None)
def test_each_point_is_what_its_threshold_gives(images):
    y_true = np.array([int(sick) for sick, _ in images])
    y_prob = np.array([score / 1000 for _, score in images])
    assume(0 < y_true.sum() < len(y_true))
    table = both(predictions("test", y_true, y_prob))
    roc = of_test(roc_table(table))
    assert len(roc) == len(set(y_prob)) + 1
    for threshold, false_positive_rate, recall in roc.to_numpy():
        called = y_prob >= threshold
        assert recall == pytest.approx(called[y_true == 1].mean(), abs=1e-6)
        assert false_positive_rate == pytest.approx(called[y_true == 0].mean(), abs=1e-6)
    for threshold, recall, precision in of_test(precision_recall_table(table)).to_numpy():
        called = y_prob >= threshold
        assert recall == pytest.approx(called[y_true == 1].mean(), abs=1e-6)
        assert precision == pytest.approx(y_true[called].mean(), abs=1e-6)


def test_the_roc_shows_areas_intervals_and_the_operating_point(figures, of_phantoms):
    given = of_phantoms
    roc_png(roc_table(given.predictions), given.evaluate, given.intervals)
    lines = lines_on(figures[0])
    threshold = given.evaluate["operating_threshold"]
    for split in ("validation", "test"):
        assert f"{split}: AUC {given.intervals[split, 'none', 'all', 'roc_auc']}" in lines
        assert f"{split} at threshold {threshold:.6f}:" in lines
        assert f"recall {given.intervals[split, 'operating', 'all', 'recall']}" in lines
    points = [line.get_xydata() for line in figures[0].axes[0].lines]
    marks = {tuple(point[0]) for point in points if len(point) == 1}
    assert marks == {
        (1 - given.evaluate[split]["specificity"], given.evaluate[split]["recall"])
        for split in ("validation", "test")
    }


def test_precision_and_recall_show_the_prevalence_and_the_operating_point(figures, of_phantoms):
    given = of_phantoms
    table = precision_recall_table(given.predictions)
    precision_recall_png(table, given.evaluate, given.intervals)
    lines = lines_on(figures[0])
    assert "test: prevalence 0.667" in lines  # 60 of 90
    assert f"precision {given.intervals['test', 'operating', 'all', 'precision']}" in lines
    area = given.intervals["test", "none", "all", "average_precision"]
    assert f"test: average precision {area}" in lines

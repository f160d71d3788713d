"""Net benefit: counted by hand, beside treating all and treating none."""

import numpy as np
import pandas as pd
import pytest

from made_predictions import Y_PROB, Y_TRUE, eight, realistic
from pneumonia.evaluation.decision import decision_table, net_benefits
from pneumonia.evaluation.predictions import one_split
from pneumonia.evaluation.weighted import weighted_curve

SEED = [1, 2]


def at(y_true, y_prob, threshold) -> dict[str, float]:
    curve = weighted_curve(np.asarray(y_true), np.asarray(y_prob), np.ones((1, len(y_true))))
    return {name: float(value[0]) for name, value in net_benefits(curve, threshold).items()}


def table_of(predicted: pd.DataFrame, n_bootstrap: int = 40) -> pd.DataFrame:
    return decision_table(one_split(predicted, "test"), n_bootstrap, SEED)


def test_net_benefit_counted_by_hand():
    # At 0.2 an alarm costs a quarter of an ill child found. Of four normal images 0.2, 0.3 and 0.6
    # are called (0.2 is on the threshold): the model 4/8 - 3/8 × 1/4, all 4/8 - 4/8 × 1/4.
    assert at(Y_TRUE, Y_PROB, 0.2) == pytest.approx(
        {"model": 0.40625, "all": 0.375, "gain": 0.03125}
    )
    # At 0.1 every image is called, by the model too: 4/8 - 4/8 × 1/9.
    assert at(Y_TRUE, Y_PROB, 0.1) == pytest.approx({"model": 4 / 9, "all": 4 / 9, "gain": 0})


def test_where_treating_all_does_harm_the_gain_is_over_treating_none():
    # One ill of ten, called at 0.5 with one healthy: 1/10 - 1/10. Treating all: 1/10 - 9/10.
    y_true, y_prob = np.r_[1, np.zeros(9, int)], np.r_[0.9, 0.6, np.full(8, 0.1)]
    assert at(y_true, y_prob, 0.5) == pytest.approx({"model": 0, "all": -0.8, "gain": 0})


def test_the_table_holds_the_curve_from_1_to_50_percent_with_intervals():
    curve = table_of(eight())
    assert list(curve["threshold"]) == [percent / 100 for percent in range(1, 51)]
    for threshold, expected in ((0.2, [0.40625, 0.375, 0.03125]), (0.5, [0.25, 0, 0.25])):
        row = curve.set_index("threshold").loc[threshold]
        assert row[["model", "all", "gain"]].tolist() == expected
    for name in ("model", "all", "gain"):
        assert (curve[f"{name}_low"] <= curve[name]).all()
        assert (curve[name] <= curve[f"{name}_high"]).all()


def test_neither_copies_of_an_image_nor_the_order_of_rows_change_the_curve():
    once = table_of(realistic(100))
    pd.testing.assert_frame_equal(table_of(realistic(100, 9)), once, atol=2e-6)
    shuffled = realistic(100).sample(frac=1, random_state=4)
    pd.testing.assert_frame_equal(table_of(shuffled), once)

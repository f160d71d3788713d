"""Calibration: bins of equal numbers, distances counted by hand, intervals that know patients."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss

from made_predictions import Y_PROB, Y_TRUE, predictions, realistic
from pneumonia.evaluation.calibration import calibration_metrics, reliability_table
from pneumonia.evaluation.intervals import wilson_interval
from pneumonia.evaluation.predictions import one_split

SEED = [1, 2]


def table_of(predicted: pd.DataFrame, n_bootstrap: int = 40) -> pd.DataFrame:
    return reliability_table(one_split(predicted, "test"), n_bootstrap, SEED)


def once(y_true, y_prob) -> dict[str, float]:
    found = calibration_metrics(np.asarray(y_true), np.asarray(y_prob), np.ones((1, len(y_true))))
    return {name: float(value[0]) for name, value in found.items()}


def test_eight_images_counted_by_hand():
    # Squares .01 .04 .09 .36 .36 .09 .04 .01: together 1, of eight. Each image is a bin of its
    # own, at a distance of .1 .2 .3 .6 .6 .3 .2 .1: together 2.4. Both means are 1/2.
    assert once(Y_TRUE, Y_PROB) == pytest.approx(
        {"brier": 0.125, "calibration_error": 0.3, "calibration_in_the_large": 0}
    )
    # A tenth less everywhere: so much too timid.
    assert once(Y_TRUE, Y_PROB - 0.1)["calibration_in_the_large"] == pytest.approx(-0.1)


def test_brier_is_that_of_scikit_learn():
    table = realistic(300)
    expected = brier_score_loss(table["label"], table["probability"])
    assert once(table["label"], table["probability"])["brier"] == pytest.approx(expected)


def test_the_calibration_error_is_the_mean_distance_in_the_reliability_table():
    table = realistic(300)
    bins = table_of(table)
    distance = (bins["predicted"] - bins["observed"]).abs()
    assert once(table["label"], table["probability"])["calibration_error"] == pytest.approx(
        np.average(distance, weights=bins["n_images"]), abs=2e-6
    )


def test_bins_hold_as_many_images_as_can_be():
    bins = table_of(predictions("test", np.arange(42) % 2, np.arange(42) / 100))
    # Of 42 images 4 or 5 a bin; the first has 0.00 … 0.04, of them 0.01 and 0.03 ill.
    assert list(bins.columns) == ["bin", "n_images", "predicted", "observed", "low", "high"]
    assert bins["bin"].tolist() == list(range(1, 11))
    assert set(bins["n_images"]) == {4, 5}
    assert bins["n_images"].sum() == 42
    assert bins.loc[0, ["n_images", "predicted", "observed"]].tolist() == [5, 0.02, 0.4]
    assert bins["predicted"].is_monotonic_increasing


def test_equal_probabilities_are_in_one_bin_whatever_the_order_of_the_rows():
    bins = table_of(predictions("test", [0, 1, 1, 1], [0.6] * 4))
    assert bins[["n_images", "predicted", "observed"]].to_numpy().tolist() == [[4, 0.6, 0.75]]
    tied = realistic(200).round({"probability": 1})
    pd.testing.assert_frame_equal(table_of(tied), table_of(tied.sample(frac=1, random_state=3)))


def test_a_bin_that_is_all_ill_is_not_certain():
    bins = table_of(predictions("test", [0] * 10 + [1] * 10, np.arange(20) / 20))
    assert bins["observed"].iloc[-1] == bins["high"].iloc[-1] == 1
    assert bins["low"].iloc[-1] == pytest.approx(wilson_interval(2, 2)[0], abs=1e-6)


def test_a_bin_that_some_resamples_lack_leaves_no_hole():
    # About a third of the resamples have not the only child of a bin.
    bins = table_of(predictions("test", [0, 0, 1, 1, 1], [0.1, 0.8, 0.9, 0.9, 0.9]), 60)
    assert not bins.isna().any(axis=None)


def test_copies_of_an_image_do_not_make_us_surer():
    copied = realistic(100, 9)
    by_patient = table_of(copied, 100)
    by_image = table_of(copied.assign(patient_id=copied["name"]), 100)
    mixed = by_patient["observed"].between(0.1, 0.9)
    assert mixed.sum() >= 3
    width, blind = ((t["high"] - t["low"])[mixed] for t in (by_patient, by_image))
    assert (width > 1.9 * blind).all()  # about sqrt(9)

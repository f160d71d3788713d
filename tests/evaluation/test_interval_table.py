"""metrics/intervals.csv: metrics counted by hand, intervals over patients, nothing undefined."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from made_predictions import both, eight, predictions, realistic
from pneumonia.errors import PipelineError
from pneumonia.evaluation.interval_table import (
    COLUMNS,
    ILL_PATIENTS,
    IMAGES,
    PATIENTS,
    TEXT_COLUMNS,
    WIDER,
    interval_table,
    measured,
)
from pneumonia.evaluation.intervals import patient_resamples, resampling_seed, wilson_interval
from pneumonia.evaluation.predictions import as_printed
from pneumonia.store.files import read_table, write_table

# The eight images at an operating threshold of 0.4: all four ill are called, and the normal 0.6.
# A row: threshold, group, metric, value, hits of total.
EIGHT = [
    ("operating", "all", "recall", 1, "4/4", IMAGES),
    ("operating", "all", "specificity", 0.75, "3/4", IMAGES),
    ("operating", "all", "precision", 0.8, "4/5", IMAGES),
    ("operating", "all", "accuracy", 0.875, "7/8", IMAGES),
    ("operating", "all", "f1", 0.888889, "", PATIENTS),  # 8/9
    # At 0.5 one ill image, 0.4, is missed.
    ("half", "all", "recall", 0.75, "3/4", IMAGES),
    ("half", "all", "specificity", 0.75, "3/4", IMAGES),
    ("half", "all", "precision", 0.75, "3/4", IMAGES),
    ("half", "all", "accuracy", 0.75, "6/8", IMAGES),
    ("half", "all", "f1", 0.75, "", PATIENTS),
    ("operating", "bacterial", "recall", 1, "2/2", WIDER),
    ("operating", "viral", "recall", 1, "2/2", WIDER),
    ("operating", "normal", "specificity", 0.75, "3/4", WIDER),
    ("operating", "patients", "recall", 1, "3/3", ILL_PATIENTS),
    # Of 100, 5 ill: all 5 are called, and a quarter of 95. Of those called 5 in 28.75 are ill.
    ("operating", "prevalence_05", "npv", 1, "", WIDER),
    ("operating", "prevalence_05", "ppv", 0.173913, "", WIDER),
    ("operating", "prevalence_20", "npv", 1, "", WIDER),
    ("operating", "prevalence_20", "ppv", 0.5, "", WIDER),  # 20 of 40
    ("operating", "prevalence_50", "npv", 1, "", WIDER),
    ("operating", "prevalence_50", "ppv", 0.8, "", WIDER),  # 50 of 62.5
    # All four ill are called from 0.4 on: the normal 0.6 is, three of four are not.
    ("recall_95", "all", "specificity", 0.75, "3/4", WIDER),
    ("recall_98", "all", "specificity", 0.75, "3/4", WIDER),
    # Above 0.6 no normal is called: 0.7, 0.8 and 0.9 are, three of four.
    ("specificity_90", "all", "recall", 0.75, "3/4", WIDER),
    ("specificity_95", "all", "recall", 0.75, "3/4", WIDER),
    # From 0.1 on all are called: 4/8 - 4/8 × 1/9. From 0.2 on all but one: 4/8 - 3/8 × 1/4.
    ("0.10", "all", "net_benefit_model", 0.444444, "", PATIENTS),
    ("0.10", "all", "net_benefit_all", 0.444444, "", PATIENTS),
    ("0.10", "all", "net_benefit_gain", 0, "", PATIENTS),
    ("0.20", "all", "net_benefit_model", 0.40625, "", PATIENTS),
    ("0.20", "all", "net_benefit_all", 0.375, "", PATIENTS),
    ("0.20", "all", "net_benefit_gain", 0.03125, "", PATIENTS),
    # Counted in test_weighted.py and test_calibration.py.
    ("none", "all", "roc_auc", 0.9375, "", PATIENTS),
    ("none", "all", "average_precision", 0.95, "", PATIENTS),
    ("none", "all", "brier", 0.125, "", PATIENTS),
    ("none", "all", "calibration_error", 0.3, "", PATIENTS),
    ("none", "all", "calibration_in_the_large", 0, "", PATIENTS),
]


def of_test(test=None, threshold=0.5, n_bootstrap=100, seed=1):
    """Rows of test by (threshold, group, metric)."""
    table = interval_table(both(eight() if test is None else test), threshold, n_bootstrap, seed)
    return {key[1:]: row for key, row in measured(table).items() if key[0] == "test"}


def test_eight_images_counted_by_hand_in_both_splits():
    table = interval_table(both(eight()), 0.4, 200, 1)
    assert tuple(table.columns) == COLUMNS
    assert table["split"].tolist() == ["validation"] * len(EIGHT) + ["test"] * len(EIGHT)
    for split in ("validation", "test"):
        rows = table[table["split"] == split]
        found = [
            (*key, value, f"{n_hits}/{n_total}" if n_total else "", method)
            for *key, value, n_hits, n_total, method in rows[
                ["threshold", "group", "metric", "value", "n_hits", "n_total", "method"]
            ].itertuples(index=False)
        ]
        assert found == EIGHT


def test_on_file_numbers_are_in_fixed_notation_and_come_back_the_same(tmp_path):
    table = interval_table(both(eight()), 0.4, 100, 1)
    write_table(tmp_path / "intervals.csv", as_printed(table))
    lines = (tmp_path / "intervals.csv").read_text().splitlines()
    assert lines[0] == "split,threshold,group,metric,value,low,high,n_hits,n_total,method"
    # Wilson, 3 of 4.
    assert lines[2] == 'validation,operating,all,specificity,0.750000,0.300642,0.954413,3,4,"' + (
        'Wilson, images"'
    )
    back = read_table(tmp_path / "intervals.csv", TEXT_COLUMNS)
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert measured(back) == measured(table)


def test_a_metric_in_words_has_three_decimals():
    assert str(of_test(threshold=0.4)["operating", "all", "specificity"]) == "0.750 (0.301–0.954)"


# ---- intervals ----


def test_rates_of_images_have_wilsons_interval():
    rows = of_test(realistic(200))
    for threshold in ("operating", "half"):
        for metric in ("recall", "specificity", "precision", "accuracy"):
            row = rows[threshold, "all", metric]
            expected = wilson_interval(row.n_hits, row.n_total)
            assert (row.low, row.high) == pytest.approx(expected, abs=1e-6)


def test_other_intervals_are_percentiles_over_resamples_of_patients():
    test = realistic(60, n_a_patient=2)
    squares = (test["probability"] - test["label"]).to_numpy() ** 2
    patients, labels = test["patient_id"].to_numpy(dtype=str), test["label"].to_numpy()
    seed = resampling_seed(1, "test")
    weights = np.concatenate(list(patient_resamples(patients, labels, 120, seed)))
    rows = of_test(test, n_bootstrap=120)
    brier = rows["none", "all", "brier"]
    expected = np.quantile(weights @ squares / weights.sum(axis=1), [0.025, 0.975])
    assert (brier.low, brier.high) == pytest.approx(expected, abs=1e-6)
    called = (test["probability"] >= 0.5).to_numpy()
    f1 = [f1_score(labels, called, sample_weight=weight) for weight in weights]
    row = rows["half", "all", "f1"]
    assert (row.low, row.high) == pytest.approx(np.quantile(f1, [0.025, 0.975]), abs=1e-6)


@pytest.mark.parametrize("test", [eight(), realistic(40), realistic(400)], ids=len)
def test_every_metric_lies_in_its_interval(test):
    for key, row in of_test(test).items():
        signed = "in_the_large" in key[2] or "net_benefit" in key[2]
        assert -signed <= row.low <= row.value <= row.high <= 1, key


def test_intervals_are_wider_with_fewer_images():
    few, many = of_test(realistic(100)), of_test(realistic(1600))
    # A gain in net benefit is next to nothing where the threshold hardly tells two models apart.
    for key in (key for key in few if not key[2].startswith("net_benefit")):
        assert few[key].high - few[key].low > many[key].high - many[key].low, key


def test_copies_of_an_image_do_not_make_us_surer():
    # 100 patients with 9 copies each: as sure as of 100 images, not of 900.
    copied = realistic(100, n_a_patient=9)
    once, by_patient = of_test(realistic(100)), of_test(copied)
    by_image = of_test(copied.assign(patient_id=copied["name"]))
    for key, row in by_patient.items():
        width, alone, blind = (of.high - of.low for of in (row, once[key], by_image[key]))
        if row.method == PATIENTS:
            assert width == pytest.approx(alone, abs=2e-6), key  # the very same resamples
            assert width >= 2 * blind, key  # about sqrt(9)
        elif row.method == WIDER:
            assert width > 1.4 * blind, key  # a point of the curve moves by steps
    patients = by_patient["operating", "patients", "recall"]
    assert patients == once["operating", "patients", "recall"]  # 62 of 100 patients are ill


def test_a_patient_is_found_by_one_of_their_images():
    # Child e has two ill images, of which 0.4 is missed at 0.5; all three ill children are found.
    row = of_test()["operating", "patients", "recall"]
    assert (row.n_hits, row.n_total) == (3, 3)
    # At 0.75 both of e are missed: 0.4 and 0.7.
    row = of_test(threshold=0.75)["operating", "patients", "recall"]
    assert (row.n_hits, row.n_total) == (2, 3)
    # A normal image of the same child that is called does not find them.
    test = eight()
    test.loc[3, "patient_id"] = "test-e"  # the normal 0.6
    row = of_test(test.assign(probability=[0.1, 0.2, 0.3, 0.6, 0.4, 0.5, 0.8, 0.9]), 0.55)
    assert row["operating", "patients", "recall"].n_hits == 2


def test_nothing_missed_is_not_certainty():
    # 30 ill, all called, and 20 healthy of whom 10 are: no resample misses one.
    y_true = np.repeat([1, 0, 0], [30, 10, 10])
    rows = of_test(predictions("test", y_true, np.repeat([0.9, 0.8, 0.1], [30, 10, 10])))
    recall_low, _ = wilson_interval(30, 30)
    assert rows["operating", "viral", "recall"].low == pytest.approx(recall_low, abs=1e-6)
    # Among 80 healthy 40 are cleared, and among 20 ill those that Wilson leaves open.
    npv = rows["operating", "prevalence_20", "npv"]
    assert (npv.value, npv.high) == (1, 1)
    assert npv.low == pytest.approx(40 / (40 + 20 * (1 - recall_low)), abs=1e-6)
    assert rows["specificity_95", "all", "recall"].low == pytest.approx(recall_low, abs=1e-6)


def test_no_false_alarm_is_not_certainty():
    y_true = np.repeat([1, 1, 0], [10, 10, 30])
    rows = of_test(predictions("test", y_true, np.repeat([0.9, 0.2, 0.1], [10, 10, 30])))
    specificity_low, _ = wilson_interval(30, 30)
    ppv = rows["operating", "prevalence_50", "ppv"]
    assert ppv.value == 1
    assert ppv.low == pytest.approx(0.5 / (0.5 + 1 - specificity_low), abs=1e-6)
    assert rows["recall_95", "all", "specificity"].low == pytest.approx(specificity_low, abs=1e-6)


def test_the_interval_of_a_small_calibration_error_holds_it_and_is_not_below_0():
    # 50 of 200 ill at 0.25 and 150 of 200 at 0.75: no error at all, but some in each resample.
    y_true = np.repeat([1, 0, 1, 0], [50, 150, 150, 50])
    row = of_test(predictions("test", y_true, np.repeat([0.25, 0.75], 200)))
    error = row["none", "all", "calibration_error"]
    assert (error.low, error.value) == (0, 0)
    assert 0 < error.high < 0.05


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    table = both(realistic(150, n_a_patient=2))
    once = interval_table(table, 0.4, 100, 1)
    shuffled = table.sample(frac=1, random_state=4)
    pd.testing.assert_frame_equal(interval_table(shuffled, 0.4, 100, 1), once)
    other = interval_table(table, 0.4, 100, 2)
    assert other["value"].equals(once["value"])
    assert (other["low"] != once["low"]).any()


# ---- what cannot be measured ----


@pytest.mark.parametrize(
    ("threshold", "missing"),
    [
        (0.1, {"npv"}),  # every image is called pneumonia: none is called healthy
        (0.95, {"ppv", "precision"}),  # none is
    ],
)
def test_a_metric_of_a_verdict_that_never_falls_has_no_row(threshold, missing):
    all_metrics = {metric for place, _, metric in of_test(threshold=0.4) if place == "operating"}
    found = {metric for place, _, metric in of_test(threshold=threshold) if place == "operating"}
    assert all_metrics - found == missing


def test_a_model_that_never_reaches_one_half_is_measured_all_the_same():
    rows = of_test(eight().assign(probability=eight()["probability"] / 2), threshold=0.2)
    assert ("half", "all", "precision") not in rows
    assert rows["half", "all", "recall"].value == 0
    assert rows["operating", "all", "precision"].value == 0.8


def test_a_kind_that_does_not_occur_is_left_out_and_one_of_both_classes_has_two_rows():
    groups = {group for _, group, _ in of_test(eight()[lambda rows: rows["kind"] != "viral"])}
    assert {"bacterial", "normal"} <= groups
    assert "viral" not in groups
    rows = of_test(eight().assign(kind="x"))
    assert rows["operating", "x", "recall"].n_total == 4
    assert rows["operating", "x", "specificity"].n_total == 4


def test_resamples_without_the_one_cleared_image_leave_no_hole():
    # About a third of the resamples have not the only child who is called normal: no npv there;
    # nor the only child of the kind.
    kinds = ["normal"] * 2 + ["bacterial"] * 2 + ["viral"]
    test = predictions("test", [0, 0, 1, 1, 1], [0.1, 0.8, 0.9, 0.9, 0.9], kinds)
    table = interval_table(both(test), 0.5, 100, 1)
    assert not table[["value", "low", "high"]].isna().any(axis=None)
    assert measured(table)["test", "operating", "prevalence_50", "npv"].value == 1


@pytest.mark.parametrize("label", [0, 1])
def test_a_split_without_both_classes_is_refused(label):
    with pytest.raises(PipelineError, match=r"test must hold normal and pneumonia images"):
        of_test(eight()[lambda rows: rows["label"] == label])

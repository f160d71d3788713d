"""What a clinic asks: each figure counted by hand, each interval over patients, none undefined."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from pneumonia.errors import PipelineError
from pneumonia.evaluation.clinical import (
    clinical,
    curve_points,
    decision_table,
    net_benefits,
    predictive_values,
    reliability_table,
)
from pneumonia.evaluation.intervals import patient_resamples, wilson_interval

SEED = [1, 2]


def split_of(y_true, y_prob, kinds=None, patients=None) -> pd.DataFrame:
    y_true = np.asarray(y_true)
    numbers = [f"{number:05}" for number in range(len(y_true))]
    return pd.DataFrame(
        {
            "name": [f"test/{number}.jpeg" for number in numbers],
            "patient_id": [
                f"p{patient}" for patient in (numbers if patients is None else patients)
            ],
            "kind": np.array(["normal", "viral"])[y_true] if kinds is None else kinds,
            "label": y_true,
            "split": "test",
            "probability": np.asarray(y_prob, dtype=np.float64),
        }
    )


EIGHT = split_of(
    [0, 0, 0, 0, 1, 1, 1, 1],
    [0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9],
    ["normal"] * 4 + ["bacterial", "bacterial", "viral", "viral"],
    # The normals are of four children, the bacterial two of one, the viral two of two.
    ["a", "b", "c", "d", "e", "e", "f", "g"],
)


def measured(predictions=EIGHT, threshold=0.5, n_bootstrap=200, seed=SEED) -> dict:
    return clinical(predictions, threshold, n_bootstrap, seed)


def realistic(n_patients, n_a_patient=1, seed=0) -> pd.DataFrame:
    """An AUC of about 0.9; a patient's images are copies of each other."""
    random = np.random.default_rng(seed)
    y_true = (np.arange(n_patients) % 8 > 2).astype(int)
    y_prob = np.round(1 / (1 + np.exp(-random.normal(1.8 * y_true - 0.9, 1))), 6)
    return split_of(
        np.repeat(y_true, n_a_patient),
        np.repeat(y_prob, n_a_patient),
        patients=np.repeat(np.arange(n_patients), n_a_patient),
    )


def intervals(figures: dict, above: str = "") -> dict[str, tuple[float, float, float]]:
    """(low, value, high) of every figure that has an interval, by its dotted key."""
    found = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            found |= intervals(value, f"{above}{name}.")
        elif f"{name}_low" in figures:
            found[f"{above}{name}"] = (figures[f"{name}_low"], value, figures[f"{name}_high"])
    return found


def widths(figures: dict) -> dict[str, float]:
    return {key: high - low for key, (low, _, high) in intervals(figures).items()}


# ---- values ----


def test_every_kind_has_its_counts_and_its_rate():
    # At 0.5: of the bacterial 0.4 is missed, of the viral none; of the normal 0.6 is an alarm.
    counted = {
        kind: {key: value for key, value in of.items() if not key.endswith(("_low", "_high"))}
        for kind, of in measured()["by_kind"].items()
    }
    assert counted == {
        "bacterial": {"n_images": 2, "n_patients": 1, "fn": 1, "tp": 1, "recall": 0.5},
        "normal": {"n_images": 4, "n_patients": 4, "tn": 3, "fp": 1, "specificity": 0.75},
        "viral": {"n_images": 2, "n_patients": 2, "fn": 0, "tp": 2, "recall": 1},
    }


def test_an_image_on_the_threshold_is_called_pneumonia():
    assert measured(threshold=0.6)["by_kind"]["normal"]["fp"] == 1
    assert measured(threshold=0.600001)["by_kind"]["normal"]["fp"] == 0
    # Of four normal images 0.2, 0.3 and 0.6 are called at 0.2: 4/8 - 3/8 × 1/4.
    assert measured()["net_benefit_at_20"]["model"] == pytest.approx(13 / 32, abs=1e-6)


def test_a_kind_that_does_not_occur_is_left_out():
    assert set(measured(EIGHT[EIGHT["kind"] != "viral"])["by_kind"]) == {"bacterial", "normal"}


def test_a_kind_of_both_classes_has_a_recall_and_a_specificity():
    kind = measured(EIGHT.assign(kind="x"))["by_kind"]["x"]
    assert [kind[key] for key in ("n_images", "fn", "tp", "tn", "fp")] == [8, 1, 3, 3, 1]
    assert (kind["recall"], kind["specificity"]) == (0.75, 0.75)


def test_specificity_at_a_recall_and_recall_at_a_specificity():
    figures = measured()
    # All four pneumonia are called from 0.4 on: the normal 0.6 is, three of four are not.
    assert figures["at_recall_95"]["specificity"] == 0.75
    assert figures["at_recall_98"]["specificity"] == 0.75
    # Above 0.6 no normal is called: 0.7, 0.8 and 0.9 are, three of four.
    assert figures["at_specificity_90"]["recall"] == 0.75
    assert figures["at_specificity_95"]["recall"] == 0.75


def test_a_recall_of_95_of_100_is_95_percent_and_of_94_is_not():
    # 100 pneumonia 0.901 … 1.000, one normal among them. In floating point 95 / 100 must do.
    y_true, y_prob = np.r_[np.ones(100, int), 0], np.r_[np.arange(901, 1001) / 1000, 0.9055]
    once = np.ones((1, 101))
    # Above the normal are 0.906 … 1.000: 95. Its specificity is kept.
    assert curve_points(y_true, y_prob, once)["at_recall.95"] == [1]
    y_prob[-1] = 0.9065  # 94 above it
    assert curve_points(y_true, y_prob, once)["at_recall.95"] == [0]


def test_90_of_100_normal_images_are_a_specificity_of_90_percent():
    # 100 normals 0.001 … 0.100 and one pneumonia that ten of them, or eleven, are above.
    y_true, y_prob = np.r_[np.zeros(100, int), 1], np.r_[np.arange(1, 101) / 1000, 0.0905]
    once = np.ones((1, 101))
    assert curve_points(y_true, y_prob, once)["at_specificity.90"] == [1]
    y_prob[-1] = 0.0895
    assert curve_points(y_true, y_prob, once)["at_specificity.90"] == [0]


def test_a_normal_image_on_top_leaves_no_recall_at_90_percent_specificity():
    # Two normals, one of them above all: only calling nobody keeps 90 % of them.
    points = curve_points(np.array([0, 0, 1]), np.array([0.9, 0.1, 0.8]), np.ones((1, 3)))
    assert points["at_specificity.90"] == [0]


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 9), st.lists(st.integers(0, 3), min_size=3,
                                                               max_size=3)),
        min_size=2, max_size=30,
    )
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_points_of_weighted_curves_are_those_of_images_repeated(images):
    y_true = np.array([int(sick) for sick, _, _ in images])
    y_prob = np.array([score / 10 for _, score, _ in images])
    weights = np.array([weight for _, _, weight in images]).T
    weights = weights[(weights @ y_true > 0) & (weights @ (1 - y_true) > 0)]
    assume(len(weights))
    points = curve_points(y_true, y_prob, weights.astype(np.float64))
    for row, weight in enumerate(weights):
        sick = np.repeat(y_prob[y_true == 1], weight[y_true == 1])
        healthy = np.repeat(y_prob[y_true == 0], weight[y_true == 0])
        curve = [((sick >= t).mean(), (healthy < t).mean()) for t in [*y_prob, 2]]
        for key, values in points.items():
            name, percent = key.split(".")
            wanted = int(percent) / 100
            best = (
                max(specificity for recall, specificity in curve if recall >= wanted)
                if name == "at_recall"
                else max(recall for recall, specificity in curve if specificity >= wanted)
            )
            assert values[row] == pytest.approx(best)


def test_predictive_values_of_the_published_example():
    # Altman and Bland's liver scans: 231 of 258 abnormal livers and 54 of 86 normal ones called
    # rightly. In their own 75 % of abnormal livers 0.88 and 0.67; where 25 % are, 0.45 and 0.95.
    recall, specificity = np.array([231 / 258]), np.array([54 / 86])
    npv, ppv = predictive_values(recall, specificity, 258 / 344)
    assert (npv[0], ppv[0]) == pytest.approx((54 / 81, 231 / 263))
    npv, ppv = predictive_values(recall, specificity, 0.25)
    assert (npv[0], ppv[0]) == pytest.approx((0.95, 0.45), abs=0.005)


def test_predictive_values_at_the_prevalences_of_clinics():
    figures = measured()  # recall 3/4, specificity 3/4
    # 5 ill of 100: npv 71.25 of 72.5, ppv 3.75 of 27.5. 20: 60 of 65, 15 of 35. 50: 3/4 both.
    for percent, npv, ppv in (("05", 0.982759, 0.136364), ("20", 0.923077, 0.428571),
                              ("50", 0.75, 0.75)):  # fmt: skip
        at = figures[f"at_prevalence_{percent}"]
        assert (at["npv"], at["ppv"]) == (npv, ppv)


def test_brier_calibration_error_and_calibration_in_the_large():
    figures = measured()
    # Squares .01 .04 .09 .36 .36 .09 .04 .01: together 1, of eight. Each image is a bin of its
    # own, at a distance of .1 .2 .3 .6 .6 .3 .2 .1: together 2.4. Both means are 1/2.
    assert (figures["brier"], figures["calibration_error"]) == (0.125, 0.3)
    assert figures["calibration_in_the_large"] == 0
    # A tenth less everywhere: so much too timid.
    timid = EIGHT.assign(probability=EIGHT["probability"] - 0.1)
    assert measured(timid)["calibration_in_the_large"] == -0.1


def test_brier_is_that_of_scikit_learn():
    table = realistic(300)
    expected = brier_score_loss(table["label"], table["probability"])
    assert measured(table)["brier"] == pytest.approx(expected, abs=1e-6)


def test_the_calibration_error_is_the_mean_distance_in_the_reliability_table():
    table = realistic(300)
    bins = reliability_table(table, 40, SEED)
    distance = (bins["predicted"] - bins["observed"]).abs()
    assert measured(table)["calibration_error"] == pytest.approx(
        np.average(distance, weights=bins["n_images"]), abs=2e-6
    )


def test_bins_hold_as_many_images_as_can_be():
    y_true, y_prob = np.arange(42) % 2, np.arange(42) / 100
    bins = reliability_table(split_of(y_true, y_prob), 40, SEED)
    # Of 42 images 4 or 5 a bin; the first has 0.00 … 0.04, of them 0.01 and 0.03 ill.
    assert bins["bin"].tolist() == list(range(1, 11))
    assert set(bins["n_images"]) == {4, 5}
    assert bins["n_images"].sum() == 42
    assert bins.loc[0, ["n_images", "predicted", "observed"]].tolist() == [5, 0.02, 0.4]
    assert bins["predicted"].is_monotonic_increasing


def test_equal_probabilities_are_in_one_bin_whatever_the_order_of_the_rows():
    table = split_of([0, 1, 1, 1], [0.6] * 4)
    bins = reliability_table(table, 40, SEED)
    assert bins[["n_images", "predicted", "observed"]].values.tolist() == [[4, 0.6, 0.75]]
    tied = realistic(200).round({"probability": 1})
    shuffled = tied.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(
        reliability_table(tied, 40, SEED), reliability_table(shuffled, 40, SEED)
    )


def test_net_benefit_counted_by_hand():
    figures = measured()
    # At 0.2 an alarm costs a quarter of an ill child found: the model 4/8 - 3/8 × 1/4, all
    # 4/8 - 4/8 × 1/4. At 0.1 every image is called, by the model too: 4/8 - 4/8 × 1/9.
    assert [figures["net_benefit_at_20"][key] for key in ("model", "all", "gain")] == [
        0.40625, 0.375, 0.03125,
    ]  # fmt: skip
    assert [figures["net_benefit_at_10"][key] for key in ("model", "all", "gain")] == [
        0.444444, 0.444444, 0,
    ]  # fmt: skip


def test_where_calling_all_does_harm_the_gain_is_over_calling_none():
    # One ill of ten, called at 0.5 with one healthy: 1/10 - 1/10. Calling all: 1/10 - 9/10.
    y_true, y_prob = np.r_[1, np.zeros(9, int)], np.r_[0.9, 0.6, np.full(8, 0.1)]
    at = net_benefits(y_true, y_prob, np.ones((1, 10)), 0.5)
    assert {key: round(value[0], 6) for key, value in at.items()} == {
        "model": 0, "all": -0.8, "gain": 0,
    }  # fmt: skip


def test_the_decision_table_holds_the_curve_from_1_to_50_percent():
    curve = decision_table(EIGHT, 40, SEED)
    assert list(curve["threshold"]) == [percent / 100 for percent in range(1, 51)]
    assert (curve["net_benefit_none"] == 0).all()
    row = curve.set_index("threshold").loc[0.2]
    assert row[["net_benefit_model", "net_benefit_all", "net_benefit_gain"]].tolist() == [
        0.40625, 0.375, 0.03125,
    ]  # fmt: skip
    at_half = curve.set_index("threshold").loc[0.5]
    # 3/8 - 1/8 and 4/8 - 4/8.
    assert at_half[["net_benefit_model", "net_benefit_all"]].tolist() == [0.25, 0]
    for name in ("net_benefit_model", "net_benefit_gain"):
        assert (curve[f"{name}_low"] <= curve[name]).all()
        assert (curve[name] <= curve[f"{name}_high"]).all()


# ---- intervals ----


def test_intervals_are_percentiles_over_resamples_of_patients():
    table = realistic(60, n_a_patient=2)
    squares = (table["probability"] - table["label"]).to_numpy() ** 2
    patients, labels = table["patient_id"].to_numpy(dtype=str), table["label"].to_numpy()
    weights = np.concatenate(list(patient_resamples(patients, labels, 120, SEED)))
    means = weights @ squares / weights.sum(axis=1)
    low, _, high = intervals(measured(table, n_bootstrap=120))["brier"]
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-6)


def test_every_figure_lies_in_its_interval():
    for table in (EIGHT, realistic(40), realistic(400)):
        found = intervals(measured(table))
        # Two curves each of two points, 3 × npv and ppv, 3 of calibration, 2 × 3 net benefits.
        assert len(found) == table["kind"].nunique() + 2 + 2 + 6 + 3 + 6
        for key, (low, value, high) in found.items():
            assert low <= value <= high, key


def test_the_interval_of_a_small_calibration_error_holds_it_and_is_not_below_0():
    # 50 of 200 ill at 0.25 and 150 of 200 at 0.75: no error at all, but some in each resample.
    table = split_of(np.repeat([1, 0, 1, 0], [50, 150, 150, 50]), np.repeat([0.25, 0.75], 200))
    low, value, high = intervals(measured(table))["calibration_error"]
    assert (low, value) == (0, 0)
    assert 0 < high < 0.05


def test_copies_of_a_film_do_not_make_us_surer():
    # 100 patients with 9 copies each: as sure as of 100 images, not of 900.
    copied = realistic(100, n_a_patient=9)
    once, by_patient = widths(measured(realistic(100))), widths(measured(copied))
    by_image = widths(measured(copied.assign(patient_id=copied["name"])))
    over_patients_alone = {
        "brier", "calibration_error", "calibration_in_the_large",
        *(f"net_benefit_at_{t}.{name}" for t in (10, 20) for name in ("model", "all", "gain")),
    }  # fmt: skip
    assert over_patients_alone <= set(once)
    for key, width in by_patient.items():
        if key in over_patients_alone:
            assert width == pytest.approx(once[key], abs=2e-6), key  # the very same resamples
            assert width >= 2 * by_image[key], key  # about sqrt(9)
        assert width > 1.4 * by_image[key], key  # a point of the curve moves by steps


def test_copies_of_a_film_do_not_make_the_curves_surer():
    curve, curve_of_copies = (decision_table(realistic(100, n), 100, SEED) for n in (1, 9))
    pd.testing.assert_frame_equal(curve_of_copies, curve, atol=2e-6)
    copied = realistic(100, 9)
    by_patient, by_image = (
        reliability_table(table, 100, SEED)
        for table in (copied, copied.assign(patient_id=copied["name"]))
    )
    mixed = by_patient["observed"].between(0.1, 0.9)
    assert mixed.sum() >= 3
    width, blind = ((t["high"] - t["low"])[mixed] for t in (by_patient, by_image))
    assert (width > 1.9 * blind).all()  # about sqrt(9)


def test_nothing_missed_is_not_certainty():
    # 30 ill, all called, and 20 healthy of whom 10 are: no resample misses one.
    y_true = np.repeat([1, 0, 0], [30, 10, 10])
    figures = measured(split_of(y_true, np.repeat([0.9, 0.8, 0.1], [30, 10, 10])))
    recall_low, _ = wilson_interval(30, 30)
    assert figures["by_kind"]["viral"]["recall_low"] == pytest.approx(recall_low, abs=1e-6)
    # Among 80 healthy 40 are cleared, and among 20 ill those that Wilson leaves open.
    at = figures["at_prevalence_20"]
    assert (at["npv"], at["npv_high"]) == (1, 1)
    assert at["npv_low"] == pytest.approx(40 / (40 + 20 * (1 - recall_low)), abs=1e-6)
    assert figures["at_specificity_95"]["recall_low"] == pytest.approx(recall_low, abs=1e-6)


def test_no_false_alarm_is_not_certainty():
    y_true = np.repeat([1, 1, 0], [10, 10, 30])
    figures = measured(split_of(y_true, np.repeat([0.9, 0.2, 0.1], [10, 10, 30])))
    specificity_low, _ = wilson_interval(30, 30)
    assert figures["at_prevalence_50"]["ppv"] == 1
    assert figures["at_prevalence_50"]["ppv_low"] == pytest.approx(
        0.5 / (0.5 + 1 - specificity_low), abs=1e-6
    )
    assert figures["at_recall_95"]["specificity_low"] == pytest.approx(specificity_low, abs=1e-6)


def test_a_bin_that_is_all_ill_is_not_certain():
    bins = reliability_table(split_of([0] * 10 + [1] * 10, np.arange(20) / 20), 40, SEED)
    assert bins["observed"].iloc[-1] == bins["high"].iloc[-1] == 1
    assert bins["low"].iloc[-1] == pytest.approx(wilson_interval(2, 2)[0], abs=1e-6)


def test_resamples_without_the_one_cleared_film_leave_no_hole():
    # About a third of the resamples have not the only child who is called normal: no npv there;
    # nor the only child of the kind.
    table = split_of(
        [0, 0, 1, 1, 1], [0.1, 0.8, 0.9, 0.9, 0.9], ["normal"] * 2 + ["bacterial"] * 2 + ["viral"]
    )
    figures = measured(table)
    json.dumps(figures, allow_nan=False)
    assert figures["at_prevalence_50"]["npv"] == 1
    assert not reliability_table(table, 60, SEED).isna().any(axis=None)


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    table = realistic(150, n_a_patient=2)
    shuffled = table.sample(frac=1, random_state=4)
    assert measured(shuffled) == measured(table)
    other = measured(table, seed=[1, 3])
    assert other["brier"] == measured(table)["brier"]
    assert other["brier_low"] != measured(table)["brier_low"]
    pd.testing.assert_frame_equal(
        decision_table(shuffled, 40, SEED), decision_table(table, 40, SEED)
    )


def test_the_figures_are_strict_json_with_six_decimals_and_keys_without_dots():
    figures = measured(realistic(100))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert list(figures) == [
        "by_kind", "at_recall_95", "at_recall_98", "at_specificity_90", "at_specificity_95",
        "at_prevalence_05", "at_prevalence_20", "at_prevalence_50",
        "brier", "brier_low", "brier_high",
        "calibration_error", "calibration_error_low", "calibration_error_high",
        "calibration_in_the_large", "calibration_in_the_large_low",
        "calibration_in_the_large_high",
        "net_benefit_at_10", "net_benefit_at_20",
    ]  # fmt: skip
    for key, ends in intervals(figures).items():
        assert ends == tuple(round(end, 6) for end in ends), key


# ---- what cannot be measured ----


@pytest.mark.parametrize("table", [clinical, reliability_table, decision_table])
@pytest.mark.parametrize(
    ("images", "received"),
    [
        (EIGHT[EIGHT["label"] == 0], r"of test are undefined.* 4 normal, 0 pneumonia"),
        (EIGHT[EIGHT["label"] == 1], r"of test are undefined.* 0 normal, 4 pneumonia"),
        (EIGHT[:0], r"of an empty split are undefined.* 0 normal, 0 pneumonia"),
    ],
)
def test_a_split_without_both_classes_is_refused(table, images, received):
    arguments = (images, 0.5) if table is clinical else (images,)
    with pytest.raises(PipelineError, match=received):
        table(*arguments, 40, SEED)


@pytest.mark.parametrize(
    ("threshold", "defined"),
    [
        (0.1, {"ppv"}),  # every image is called pneumonia: nobody is told to be healthy
        (0.95, {"npv"}),  # none is
    ],
)
def test_a_predictive_value_of_a_verdict_that_never_falls_is_left_out(threshold, defined):
    found = measured(threshold=threshold)
    for percent in ("05", "20", "50"):
        assert {key[:3] for key in found[f"at_prevalence_{percent}"]} == defined

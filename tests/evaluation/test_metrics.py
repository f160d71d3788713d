"""Figures of a classifier: the threshold from validation, counts before rates, intervals on all."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from pneumonia.errors import PipelineError
from pneumonia.evaluation.metrics import (
    Counts,
    EvaluateParams,
    counts,
    evaluation,
    f1,
    metrics_table,
    operating_point,
    operating_threshold,
    rates,
    weighted_areas,
)
from pneumonia.store.params import as_section

PARAMS = EvaluateParams(target_recall=0.98, n_bootstrap=200)

#          normal ............  pneumonia .......
Y_TRUE = np.array([0, 0, 0, 0, 1, 1, 1, 1])
Y_PROB = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9])


def predictions(split, y_true, y_prob, patients=None) -> pd.DataFrame:
    y_true = np.asarray(y_true)
    numbers = [f"{number:05}" for number in range(len(y_true))]
    patients = numbers if patients is None else patients
    return pd.DataFrame(
        {
            "name": [f"{split}/{number}.jpeg" for number in numbers],
            "patient_id": [f"{split}-{patient}" for patient in patients],
            "kind": np.array(["normal", "bacterial"])[y_true],
            "label": y_true,
            "split": split,
            "probability": np.asarray(y_prob, dtype=np.float64),
        }
    )


def both(test: pd.DataFrame) -> pd.DataFrame:
    """`test` behind a validation split of eight images."""
    return pd.concat([predictions("validation", Y_TRUE, Y_PROB), test], ignore_index=True)


def realistic(n_images, n_a_patient=1, seed=0) -> pd.DataFrame:
    """Test images with an AUC of about 0.9; a patient's images are copies of each other."""
    random = np.random.default_rng(seed)
    y_true = (np.arange(n_images) % 8 > 2).astype(int)
    y_prob = np.round(1 / (1 + np.exp(-random.normal(1.8 * y_true - 0.9, 1))), 6)
    return predictions(
        "test",
        np.repeat(y_true, n_a_patient),
        np.repeat(y_prob, n_a_patient),
        np.repeat(np.arange(n_images), n_a_patient),
    )


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


@pytest.mark.parametrize("y_true", [np.zeros(4, dtype=int), np.ones(4, dtype=int)])
def test_a_threshold_needs_both_classes(y_true):
    with pytest.raises(PipelineError, match="undefined on validation: expected normal and pneumo"):
        operating_threshold(y_true, Y_PROB[:4], 0.98)


def test_counts_at_a_threshold():
    # At 0.6: normals 0.1, 0.2, 0.3 below and 0.6 on it; pneumonia 0.4 below, three above.
    assert counts(Y_TRUE, Y_PROB, 0.6) == Counts(tn=3, fp=1, fn=1, tp=3)


# The seed paper's confusion matrix and what it reports of it.
PAPER = Counts(tn=184, fp=50, fn=39, tp=351)
PAPER_RATES = {"accuracy": 0.857372, "precision": 0.875312, "recall": 0.9, "specificity": 0.786325}


def test_rates_of_the_paper():
    assert rates(PAPER) == {
        "accuracy": (535, 624),
        "precision": (351, 401),
        "recall": (351, 390),
        "specificity": (184, 234),
    }
    assert f1(PAPER) == pytest.approx(0.887484, abs=1e-6)  # 702 of 791


def test_the_paper_evaluated():
    y_true = np.repeat([0, 0, 1, 1], [184, 50, 39, 351])
    y_prob = np.repeat([0.2, 0.7, 0.3, 0.8], [184, 50, 39, 351])
    at_half = evaluation(both(predictions("test", y_true, y_prob)), PARAMS, 1, "own")["test"][
        "at_half"
    ]
    assert {name: at_half[name] for name in ("tn", "fp", "fn", "tp")} == {
        "tn": 184, "fp": 50, "fn": 39, "tp": 351,
    }  # fmt: skip
    assert {name: at_half[name] for name in PAPER_RATES} == PAPER_RATES
    assert (at_half["recall_low"], at_half["recall_high"]) == pytest.approx(
        (0.866, 0.926), abs=0.0005
    )


def test_an_image_on_the_threshold_is_pneumonia():
    test = predictions("test", Y_TRUE, np.where(Y_TRUE == 1, 0.5, 0.499999))
    at_half = evaluation(both(test), PARAMS, 1, "own")["test"]["at_half"]
    assert (at_half["tn"], at_half["tp"]) == (4, 4)
    assert (at_half["f1_low"], at_half["f1"], at_half["f1_high"]) == (1, 1, 1)


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 9), st.lists(st.integers(0, 3), min_size=3,
                                                               max_size=3)),
        min_size=2, max_size=30,
    )
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_weighted_areas_are_those_of_scikit_learn(images):
    y_true = np.array([int(sick) for sick, _, _ in images])
    y_prob = np.array([score / 10 for _, score, _ in images])
    weights = np.array([weight for _, _, weight in images], dtype=np.float64).T
    both_classes = (weights @ y_true > 0) & (weights @ (1 - y_true) > 0)
    assume(both_classes.any())
    weights = weights[both_classes]
    roc_auc, average_precision = weighted_areas(y_true, y_prob, weights)
    for row, weight in enumerate(weights):
        assert roc_auc[row] == pytest.approx(roc_auc_score(y_true, y_prob, sample_weight=weight))
        assert average_precision[row] == pytest.approx(
            average_precision_score(y_true, y_prob, sample_weight=weight)
        )


def test_areas_counted_by_hand():
    # ROC-AUC: of 4 × 4 pairs only (0.6, 0.4) is the wrong way round: 15 of 16.
    # Average precision, from above: 1/1, 2/2, 3/3, then 0.4 comes fifth: 4/5. Mean 0.95.
    test = evaluation(both(predictions("test", Y_TRUE, Y_PROB)), PARAMS, 1, "own")["test"]
    assert (test["roc_auc"], test["average_precision"]) == (0.9375, 0.95)


def test_equal_probabilities_rank_nothing():
    test = predictions("test", [0, 1, 1, 1], np.full(4, 0.6))
    measured = evaluation(both(test), PARAMS, 1, "own")["test"]
    assert (measured["roc_auc"], measured["roc_auc_low"], measured["roc_auc_high"]) == (0.5,) * 3
    assert measured["average_precision"] == 0.75  # the prevalence


def intervals(measured: dict) -> dict[str, tuple[float, float, float]]:
    """Every metric of nested metrics with the ends of its interval."""
    found = {}
    for name, value in measured.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": ends for inner, ends in intervals(value).items()}
        elif f"{name}_low" in measured:
            found[name] = (measured[f"{name}_low"], value, measured[f"{name}_high"])
    return found


def test_every_metric_lies_in_its_interval():
    ends = intervals(evaluation(both(realistic(300)), PARAMS, 1, "own"))
    # A split: areas, five at each of two thresholds; then clinical.py's: one a kind, four points of
    # the curve, two at each of three prevalences, three of calibration, three at two decisions.
    n_kinds = len([name for name in ends if ".by_kind." in name])
    assert len(ends) == n_kinds + 2 * (2 + 2 * 5 + 4 + 2 * 3 + 3 + 3 * 2)
    for name, (low, value, high) in ends.items():
        signed = "in_the_large" in name or "net_benefit" in name
        assert -signed <= low <= value <= high <= 1, name


def test_intervals_are_wider_with_fewer_images():
    few = intervals(evaluation(both(realistic(100)), PARAMS, 1, "own")["test"])
    many = intervals(evaluation(both(realistic(1600)), PARAMS, 1, "own")["test"])
    # A gain in net benefit is next to nothing where the threshold hardly tells two models apart.
    for name in (name for name in few if not name.startswith("net_benefit")):
        assert few[name][2] - few[name][0] > many[name][2] - many[name][0], name


def test_copies_of_a_film_do_not_make_us_surer():
    # 100 patients with 9 copies each: as sure as of 100 images, not of 900.
    once = intervals(evaluation(both(realistic(100)), PARAMS, 1, "own")["test"])
    copied = realistic(100, n_a_patient=9)
    by_patient = intervals(evaluation(both(copied), PARAMS, 1, "own")["test"])
    by_image = intervals(
        evaluation(both(copied.assign(patient_id=copied["name"])), PARAMS, 1, "own")["test"]
    )
    for name in ("roc_auc", "average_precision", "at_half.f1"):
        width, alone, blind = (
            ends[name][2] - ends[name][0] for ends in (by_patient, once, by_image)
        )
        assert width == pytest.approx(alone), name  # the very same resamples
        assert width > 2 * blind, name  # about sqrt(9)


def test_bootstrap_of_f1_is_that_of_scikit_learn():
    # With one patient an image and weights all 1, f1 is scikit-learn's.
    test = realistic(200)
    at_half = evaluation(both(test), PARAMS, 1, "own")["test"]["at_half"]
    expected = f1_score(test["label"], test["probability"] >= 0.5)
    assert at_half["f1"] == pytest.approx(expected, abs=1e-6)
    assert at_half["f1_low"] < expected < at_half["f1_high"]


def test_the_figures_are_strict_json_in_a_stable_order_with_six_decimals():
    evaluate = evaluation(both(realistic(100)), PARAMS, 3, "phantoms")
    text = json.dumps(evaluate, allow_nan=False)
    assert json.loads(text) == evaluate
    assert list(evaluate) == [
        "schema", "source", "seed", "n_bootstrap", "target_recall", "operating_threshold",
        "validation", "test",
    ]  # fmt: skip
    assert list(evaluate["test"]) == [
        "n_images", "n_patients",
        "roc_auc", "roc_auc_low", "roc_auc_high",
        "average_precision", "average_precision_low", "average_precision_high",
        "at_operating_threshold", "at_half",
        "by_kind", "at_recall_95", "at_recall_98", "at_specificity_90", "at_specificity_95",
        "at_prevalence_05", "at_prevalence_20", "at_prevalence_50",
        "brier", "brier_low", "brier_high",
        "calibration_error", "calibration_error_low", "calibration_error_high",
        "calibration_in_the_large", "calibration_in_the_large_low",
        "calibration_in_the_large_high",
        "net_benefit_at_10", "net_benefit_at_20",
    ]  # fmt: skip
    assert list(evaluate["test"]["at_half"])[:7] == [
        "tn", "fp", "fn", "tp", "accuracy", "accuracy_low", "accuracy_high",
    ]  # fmt: skip
    for low, value, high in intervals(evaluate).values():
        assert (low, value, high) == tuple(round(end, 6) for end in (low, value, high))


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    table = both(realistic(150, n_a_patient=2))
    evaluate = evaluation(table, PARAMS, 1, "own")
    assert evaluation(table.sample(frac=1, random_state=4), PARAMS, 1, "own") == evaluate
    other = evaluation(table, PARAMS, 2, "own")
    assert other["test"]["roc_auc"] == evaluate["test"]["roc_auc"]
    assert other["test"]["roc_auc_low"] != evaluate["test"]["roc_auc_low"]


def test_the_threshold_is_the_validations_whatever_test_holds():
    evaluate = evaluation(both(realistic(60)), PARAMS, 1, "own")
    flipped = realistic(60)
    flipped["probability"] = 1 - flipped["probability"]
    assert evaluate["operating_threshold"] == 0.4  # all four of Y_TRUE: 0.98 of four is four
    assert evaluation(both(flipped), PARAMS, 1, "own")["operating_threshold"] == 0.4


def test_the_operating_point_says_what_it_was_chosen_for_and_from():
    point = operating_point(predictions("validation", Y_TRUE, Y_PROB), PARAMS, "own")
    assert point == {
        "schema": 1,
        "source": "own",
        "chosen_on": "validation",
        "target_recall": 0.98,
        "operating_threshold": 0.4,
        "tn": 3, "fp": 1, "fn": 0, "tp": 4,
    }  # fmt: skip


def test_a_split_with_one_class_or_none_has_no_areas():
    healthy = predictions("test", np.zeros(5, dtype=int), np.full(5, 0.2))
    with pytest.raises(PipelineError, match=r"roc_auc is undefined on test.*5 normal, 0 pneumonia"):
        evaluation(both(healthy), PARAMS, 1, "own")
    with pytest.raises(PipelineError, match=r"roc_auc is undefined on test.*0 normal, 0 pneumonia"):
        evaluation(predictions("validation", Y_TRUE, Y_PROB), PARAMS, 1, "own")


def test_precision_of_no_verdict_stops_the_run():
    timid = predictions("test", Y_TRUE, Y_PROB / 2)
    with pytest.raises(PipelineError, match=r"precision is undefined on test at threshold 0\.5.*"
                                            r"highest is 0\.450000"):  # fmt: skip
        evaluation(both(timid), PARAMS, 1, "own")


@pytest.mark.parametrize(
    "values", [(0.0, 200), (1.01, 200), (-0.5, 200), (0.98, 39), (0.98, 100_001)]
)
def test_parameters_out_of_range_are_refused(values):
    with pytest.raises(PipelineError, match="must be in"):
        as_section(
            dict(zip(("target_recall", "n_bootstrap"), values, strict=True)),
            "evaluate",
            EvaluateParams,
        )


def test_the_table_says_phantom_and_fits_a_terminal():
    table = both(realistic(120))
    text = metrics_table(evaluation(table, PARAMS, 1, "phantoms"))
    assert "phantoms" in text.splitlines()[0]
    assert max(map(len, text.splitlines())) <= 78
    assert "test: 120 images of 120 patients" in text
    real = metrics_table(evaluation(table, PARAMS, 1, "chestxray2017-224"))
    assert "chestxray2017-224" in real.splitlines()[0]
    assert "phantom" not in real


def test_the_table_shows_what_was_measured():
    evaluate = evaluation(both(predictions("test", Y_TRUE, Y_PROB)), PARAMS, 1, "own")
    lines = metrics_table(evaluate).split("\n\ntest")[1].splitlines()
    # At 0.4 one normal of four (0.6) is called; at 0.5 one pneumonia of four (0.4) is missed too.
    assert " ".join(lines[-2].split()) == "pneumonia missed 0 of 4 1 of 4"
    assert " ".join(lines[-1].split()) == "false alarms 1 of 4 1 of 4"
    recall = next(line for line in lines if line.startswith("  recall"))
    assert recall.split()[1::2] == ["1.000", "0.750"]

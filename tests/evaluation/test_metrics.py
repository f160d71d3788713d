"""The headline metrics: counted by hand, 23 numbers, from the predictions table alone."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from made_predictions import Y_PROB, Y_TRUE, both, eight, predictions, realistic
from pneumonia.errors import PipelineError
from pneumonia.evaluation.metrics import (
    EvaluateParams,
    dataset_in_words,
    evaluation,
    f1,
    metrics_table,
    rates,
)
from pneumonia.evaluation.threshold import Counts
from pneumonia.store.params import as_section

# The seed paper's confusion matrix.
PAPER = Counts(tn=184, fp=50, fn=39, tp=351)


def test_rates_of_the_paper():
    assert rates(PAPER) == {
        "recall": (351, 390),
        "specificity": (184, 234),
        "precision": (351, 401),
        "accuracy": (535, 624),
    }
    assert f1(PAPER) == pytest.approx(0.887484, abs=1e-6)  # 702 of 791


def test_eight_images_counted_by_hand():
    # At 0.4 all four ill are called, and one normal of four: 0.6. F1 is 2 · 4 / (2 · 4 + 1).
    # ROC-AUC: of 4 × 4 pairs only (0.6, 0.4) is the wrong way round: 15 of 16.
    evaluate = evaluation(both(eight()), 0.98, "own")
    of_split = {
        "n_images": 8, "n_patients": 7, "missed": 0, "false_alarms": 1,
        "recall": 1.0, "specificity": 0.75, "precision": 0.8, "accuracy": 0.875,
        "f1": 0.888889, "roc_auc": 0.9375,
    }  # fmt: skip
    assert evaluate == {
        "schema": 2, "dataset": "own", "operating_threshold": 0.4,
        "test": of_split, "validation": of_split,
    }  # fmt: skip


def test_it_is_strict_json_of_23_leaves_in_a_stable_order_with_six_decimals():
    evaluate = evaluation(both(realistic(100)), 0.98, "phantoms")
    assert json.loads(json.dumps(evaluate, allow_nan=False)) == evaluate
    assert list(evaluate) == ["schema", "dataset", "operating_threshold", "test", "validation"]
    names = [
        "n_images", "n_patients", "missed", "false_alarms",
        "recall", "specificity", "precision", "accuracy", "f1", "roc_auc",
    ]  # fmt: skip
    assert list(evaluate["test"]) == list(evaluate["validation"]) == names
    for value in evaluate["test"].values():
        assert value == round(value, 6)
    # Each is a row of a bare `dvc metrics diff`; docs/metrics.md promises 24 at most.
    assert 3 + 2 * len(names) == 23


def test_f1_is_that_of_scikit_learn():
    test = realistic(200)
    evaluate = evaluation(both(test), 0.98, "own")
    expected = f1_score(test["label"], test["probability"] >= evaluate["operating_threshold"])
    assert evaluate["test"]["f1"] == pytest.approx(expected, abs=1e-6)


def test_an_image_on_the_threshold_is_pneumonia():
    test = predictions("test", Y_TRUE, np.where(Y_TRUE == 1, 0.4, 0.399999))
    measured = evaluation(both(test), 0.98, "own")["test"]
    assert (measured["missed"], measured["false_alarms"]) == (0, 0)


def test_equal_probabilities_rank_nothing():
    test = predictions("test", [0, 1, 1, 1], np.full(4, 0.6))
    assert evaluation(both(test), 0.98, "own")["test"]["roc_auc"] == 0.5


def test_the_order_of_the_rows_does_not_matter():
    table = both(realistic(150, n_a_patient=2))
    shuffled = table.sample(frac=1, random_state=4)
    assert evaluation(shuffled, 0.98, "own") == evaluation(table, 0.98, "own")


def test_the_threshold_is_validations_whatever_test_holds():
    flipped = realistic(60)
    flipped["probability"] = 1 - flipped["probability"]
    # All four of Y_TRUE: 0.98 of four is four.
    for test in (realistic(60), flipped):
        assert evaluation(both(test), 0.98, "own")["operating_threshold"] == 0.4


def test_a_split_with_one_class_or_none_has_no_metrics():
    healthy = predictions("test", np.zeros(5, dtype=int), np.full(5, 0.2))
    with pytest.raises(PipelineError, match=r"test must hold .* 5 normal, 0 pneumonia"):
        evaluation(both(healthy), 0.98, "own")
    with pytest.raises(PipelineError, match=r"test must hold .* 0 normal, 0 pneumonia"):
        evaluation(eight("validation"), 0.98, "own")


def test_precision_of_no_verdict_stops_the_run():
    timid = predictions("test", Y_TRUE, Y_PROB / 3)
    with pytest.raises(PipelineError, match=r"precision is undefined on test at threshold 0\.4.*"
                                            r"highest is 0\.300000"):  # fmt: skip
        evaluation(both(timid), 0.98, "own")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target_recall", 0.0),
        ("target_recall", 1.01),
        ("n_bootstrap", 39),
        ("n_bootstrap", 100_001),
    ],
)
def test_parameters_out_of_range_are_refused(key, value):
    section = {"target_recall": 0.98, "n_bootstrap": 200} | {key: value}
    with pytest.raises(PipelineError, match=key):
        as_section(section, "params.yaml: evaluate", EvaluateParams)


def test_the_terminals_table_says_phantom_and_shows_what_was_measured():
    text = metrics_table(evaluation(both(eight()), 0.98, "phantoms"))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "phantoms (drawn, no patients)" in lines[0]
    assert {"test validation", "false_alarms 1 1", "recall 1.000 1.000", "f1 0.889 0.889"} <= (
        set(lines)
    )
    assert max(map(len, text.splitlines())) <= 78
    assert dataset_in_words("chestxray2017-224") == "dataset chestxray2017-224"

"""Tables behind the curves: every point counted, no cell empty or infinite."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pneumonia.errors import PipelineError
from pneumonia.plots.tables import (
    HISTORY_FILES,
    confusion_table,
    history_table,
    plot_tables,
    precision_recall_table,
    roc_table,
)

Y_TRUE = np.array([0, 1, 0, 1])
Y_PROB = np.array([0.1, 0.4, 0.4, 0.8])


def test_roc_counted_by_hand():
    assert roc_table(Y_TRUE, Y_PROB).to_numpy().tolist() == [
        [0.800001, 0.0, 0.0],  # above all: nothing called
        [0.8, 0.0, 0.5],  # one of two pneumonia
        [0.4, 0.5, 1.0],  # the other, and the normal image tied with it
        [0.1, 1.0, 1.0],
    ]


def test_roc_of_a_certain_model_has_no_infinity():
    # The point (0, 0) lies above a probability of 1, where no probability can be.
    table = roc_table(np.array([0, 1]), np.array([0.0, 1.0]))
    assert table["threshold"].tolist() == [1.000001, 1.0, 0.0]


def test_precision_recall_counted_by_hand():
    assert precision_recall_table(Y_TRUE, Y_PROB).to_numpy().tolist() == [
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
    roc = roc_table(y_true, y_prob)
    assert len(roc) == len(set(y_prob)) + 1
    for threshold, false_positive_rate, recall in roc.to_numpy():
        y_pred = y_prob >= threshold
        assert recall == pytest.approx(y_pred[y_true == 1].mean(), abs=1e-6)
        assert false_positive_rate == pytest.approx(y_pred[y_true == 0].mean(), abs=1e-6)
    for threshold, recall, precision in precision_recall_table(y_true, y_prob).to_numpy():
        y_pred = y_prob >= threshold
        assert recall == pytest.approx(y_pred[y_true == 1].mean(), abs=1e-6)
        assert precision == pytest.approx(y_true[y_pred].mean(), abs=1e-6)


def test_confusion_is_a_row_an_image():
    table = confusion_table(Y_TRUE, Y_PROB, 0.4)
    assert table.to_numpy().tolist() == [
        ["normal", "normal"],
        ["pneumonia", "pneumonia"],
        ["normal", "pneumonia"],
        ["pneumonia", "pneumonia"],
    ]


def dvclive(n_epochs: int) -> dict[str, pd.DataFrame]:
    """Tables as DVCLive writes them; the value is the column's number and the step."""
    return {
        path: pd.DataFrame({"step": np.arange(n_epochs), column: number + np.arange(n_epochs) / 10})
        for number, (path, column) in enumerate(HISTORY_FILES.values())
    }


def test_history_is_a_row_an_epoch_counted_from_one():
    table = history_table(dvclive(2), "metrics/finetune")
    assert list(table.columns) == [
        "epoch", "train_loss", "validation_loss", "train_accuracy", "validation_accuracy",
        "validation_roc_auc",
    ]  # fmt: skip
    assert table.to_numpy().tolist() == [[1, 0, 1, 2, 3, 4], [2, 0.1, 1.1, 2.1, 3.1, 4.1]]


def test_a_phase_of_no_epochs_has_an_empty_history_with_all_columns():
    assert list(history_table({}, "x").columns) == list(history_table(dvclive(1), "x").columns)
    assert history_table({}, "x").empty


def test_curves_that_are_missing_or_tell_of_other_epochs_are_refused():
    curves = dvclive(3)
    del curves["eval/roc_auc.tsv"]
    with pytest.raises(PipelineError, match=r"metrics/x: curves are missing: eval/roc_auc\.tsv"):
        history_table(curves, "metrics/x")
    curves = dvclive(3) | {"eval/loss.tsv": dvclive(4)["eval/loss.tsv"]}
    with pytest.raises(PipelineError, match=r"eval/loss\.tsv: expected steps 0 to 2"):
        history_table(curves, "metrics/x")
    curves["eval/loss.tsv"] = dvclive(3)["eval/loss.tsv"].drop(columns="loss")
    with pytest.raises(PipelineError, match=r"eval/loss\.tsv: expected the columns step, loss"):
        history_table(curves, "metrics/x")


def test_a_split_has_tables_of_its_own_and_confusion_is_of_test():
    predictions = pd.DataFrame(
        {
            "label": [0, 1, 1, 0, 1],
            "split": ["validation", "validation", "test", "test", "test"],
            "probability": [0.2, 0.7, 0.9, 0.8, 0.6],
        }
    )
    tables = plot_tables(predictions, 0.7, {"finetune": history_table({}, "x")})
    assert sorted(tables) == [
        "confusion_test.csv", "history_finetune.csv",
        "precision_recall_test.csv", "precision_recall_validation.csv",
        "roc_test.csv", "roc_validation.csv",
    ]  # fmt: skip
    assert tables["confusion_test.csv"]["predicted"].tolist() == [
        "pneumonia",
        "pneumonia",
        "normal",
    ]
    assert tables["roc_validation.csv"]["threshold"].tolist() == [0.700001, 0.7, 0.2]

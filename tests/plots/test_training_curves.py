"""Training by epoch: DVCLive's curves as one table, and one epoch or none drawn as such."""

import numpy as np
import pandas as pd
import pytest

from made_plots import lines_on
from pneumonia.errors import PipelineError
from pneumonia.plots.training_curves import HISTORY_FILES, accuracy_loss_png, history_table


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


def test_curves_that_are_missing_or_have_other_epochs_are_refused():
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


def test_one_epoch_is_a_marker_and_none_is_said_in_words(figures, of_phantoms):
    histories = {
        "train_frozen": history_table({}, "x"),
        "finetune": history_table(dvclive(1), "x"),
    }
    accuracy_loss_png(histories, of_phantoms.evaluate)
    assert "0 epochs: the model was" in lines_on(figures[0])
    accuracy = figures[0].axes[2]
    assert accuracy.get_title() == "finetune: accuracy"
    for line in accuracy.lines:
        assert len(line.get_xdata()) == 1
        assert line.get_marker() not in ("", "None", None)
    low, high = accuracy.get_xlim()
    assert low < 1 < high

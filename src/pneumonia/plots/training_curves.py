"""Training by epoch: a table and a PNG from DVCLive's curves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pneumonia.errors import PipelineError
from pneumonia.plots.drawing import GREY, VERMILLION, as_png, new_figure, plain

# DVCLive's files, by the column that each becomes; DVCLive calls validation `eval`.
HISTORY_FILES = {
    "train_loss": ("train/loss.tsv", "loss"),
    "validation_loss": ("eval/loss.tsv", "loss"),
    "train_accuracy": ("train/accuracy.tsv", "accuracy"),
    "validation_accuracy": ("eval/accuracy.tsv", "accuracy"),
    "validation_roc_auc": ("eval/roc_auc.tsv", "roc_auc"),
}
_STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": GREY, "marker": "o"},
    "validation": {"color": VERMILLION, "marker": "s"},
}


def history_table(curves: Mapping[str, pd.DataFrame], where: str) -> pd.DataFrame:
    """One row an epoch, from 1: `epoch` and the columns of `HISTORY_FILES`.

    Args:
        curves: DVCLive's tables (step from 0, and the metric) by their path, as in
            `HISTORY_FILES`; none at all after a phase of 0 epochs.
        where: the phase's folder, for the error.

    Raises:
        PipelineError: tables or columns are missing, or their epochs differ.
    """
    if not curves:
        return pd.DataFrame({name: [] for name in ("epoch", *HISTORY_FILES)})
    missing = sorted({path for path, _ in HISTORY_FILES.values()} - set(curves))
    if missing:
        raise PipelineError(
            f"{where}: curves are missing: {', '.join(missing)}. Received: {', '.join(curves)}"
        )
    columns: dict[str, NDArray[np.float64]] = {}
    n_epochs = len(curves[HISTORY_FILES["train_loss"][0]])
    for name, (path, column) in HISTORY_FILES.items():
        table = curves[path]
        if list(table.columns) != ["step", column]:
            raise PipelineError(
                f"{where}/{path}: expected the columns step, {column}. "
                f"Received: {', '.join(table.columns)}"
            )
        if not np.array_equal(table["step"], np.arange(n_epochs)):
            raise PipelineError(
                f"{where}/{path}: expected steps 0 to {n_epochs - 1}, one a row. "
                f"Received: {', '.join(map(str, table['step']))}"
            )
        columns[name] = table[column].to_numpy(np.float64)
    return pd.DataFrame({"epoch": np.arange(n_epochs) + 1, **columns}).round(6)


def accuracy_loss_png(histories: Mapping[str, pd.DataFrame], evaluate: Mapping[str, Any]) -> bytes:
    """Accuracy and loss by epoch, a row for each phase (the paper's figures 4 and 5).

    `histories` has the `history_table` of each phase.
    """
    figure = new_figure(
        height=2.8 * len(histories) + 0.6,
        title=f"Accuracy and loss by epoch: train, and validation "
        f"({evaluate['validation']['n_images']:,} images)",
        dataset=evaluate["dataset"],
    )
    grid = figure.subplots(len(histories), 2, squeeze=False)
    for row, (phase, history) in zip(grid, histories.items(), strict=True):
        for axes, metric in zip(row, ("accuracy", "loss"), strict=True):
            axes.set_title(f"{phase}: {metric}", fontsize=10)
            if history.empty:
                axes.text(
                    0.5, 0.5, "0 epochs: the model was\nhanded on unchanged",
                    ha="center", va="center", transform=axes.transAxes, color=GREY,
                )  # fmt: skip
                axes.set_xticks([])
                axes.set_yticks([])
                continue
            for split, style in _STYLES.items():
                values = history[f"{split}_{metric}"]
                axes.plot(history["epoch"], values, **style, markersize=4, label=split)
            axes.set_xlabel("epoch")
            axes.set_ylabel(metric)
            axes.xaxis.get_major_locator().set_params(integer=True)
            # One epoch is a marker, not an axis of no width.
            axes.set_xlim(0.5, max(history["epoch"].max(), 2) + 0.5)
            plain(axes)
            axes.legend(frameon=False)
    return as_png(figure)

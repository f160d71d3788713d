"""Tables that DVC draws and that the pictures are made from. No cell is empty or infinite."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from pneumonia.errors import PipelineError
from pneumonia.evaluation.predictions import SPLITS

CLASSES = ("normal", "pneumonia")
# DVCLive's files, by the column that each becomes; DVCLive calls validation `eval`.
HISTORY_FILES = {
    "train_loss": ("train/loss.tsv", "loss"),
    "validation_loss": ("eval/loss.tsv", "loss"),
    "train_accuracy": ("train/accuracy.tsv", "accuracy"),
    "validation_accuracy": ("eval/accuracy.tsv", "accuracy"),
    "validation_roc_auc": ("eval/roc_auc.tsv", "roc_auc"),
}
# The least step between two probabilities of six decimals.
_STEP = 1e-6


def plot_tables(
    predictions: pd.DataFrame, threshold: float, histories: Mapping[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """All tables by file name. A split has files of its own: DVC draws one line a file.

    Args:
        predictions: the predictions table, both splits.
        threshold: of the confusion table's verdicts, which is of test.
        histories: phase -> `history_table`.
    """
    tables = {f"history_{phase}.csv": history for phase, history in histories.items()}
    for split in SPLITS:
        part = predictions[predictions["split"] == split]
        y_true, y_prob = part["label"].to_numpy(), part["probability"].to_numpy()
        tables[f"roc_{split}.csv"] = roc_table(y_true, y_prob)
        tables[f"precision_recall_{split}.csv"] = precision_recall_table(y_true, y_prob)
        if split == "test":
            tables["confusion_test.csv"] = confusion_table(y_true, y_prob, threshold)
    return tables


def roc_table(y_true: NDArray[np.int_], y_prob: NDArray[np.float64]) -> pd.DataFrame:
    """Every point of the ROC curve: threshold, false_positive_rate, recall; threshold falling.

    The curve begins at (0, 0), where no image is called pneumonia. scikit-learn gives that point
    the threshold infinity, which neither JSON nor Vega reads; here it is the least number of six
    decimals above all probabilities, which says the same.

    Args:
        y_true: (n_images,) int; 1 = pneumonia, 0 = normal; both occur.
        y_prob: (n_images,) float in [0, 1], rounded to six decimals.
    """
    false_positive_rate, recall, thresholds = roc_curve(y_true, y_prob, drop_intermediate=False)
    thresholds = np.concatenate([[y_prob.max() + _STEP], thresholds[1:]])
    return pd.DataFrame(
        {"threshold": thresholds, "false_positive_rate": false_positive_rate, "recall": recall}
    ).round(6)


def precision_recall_table(y_true: NDArray[np.int_], y_prob: NDArray[np.float64]) -> pd.DataFrame:
    """Every point of the precision-recall curve: threshold, recall, precision; threshold rising.

    Arguments as in `roc_table`. Left out is scikit-learn's end at recall 0, precision 1, which no
    threshold gives.
    """
    precision, recall, thresholds = precision_recall_curve(y_true, y_prob)
    return pd.DataFrame(
        {"threshold": thresholds, "recall": recall[:-1], "precision": precision[:-1]}
    ).round(6)


def confusion_table(
    y_true: NDArray[np.int_], y_prob: NDArray[np.float64], threshold: float
) -> pd.DataFrame:
    """Columns actual and predicted, `normal` or `pneumonia`, one row an image, in their order."""
    names = np.array(CLASSES)
    return pd.DataFrame({"actual": names[y_true], "predicted": names[(y_prob >= threshold) * 1]})


def history_table(curves: Mapping[str, pd.DataFrame], where: str) -> pd.DataFrame:
    """One row an epoch, from 1: `epoch` and the columns of `HISTORY_FILES`.

    Args:
        curves: DVCLive's tables (step from 0, and the metric) by their path, as in
            `HISTORY_FILES`; none at all after a phase of 0 epochs.
        where: the phase's folder, for the error.

    Raises:
        PipelineError: tables or columns are missing, or they tell of different epochs.
    """
    if not curves:
        return pd.DataFrame({name: [] for name in ("epoch", *HISTORY_FILES)})
    missing = sorted({path for path, _ in HISTORY_FILES.values()} - set(curves))
    if missing:
        raise PipelineError(
            f"{where}: curves are missing: {', '.join(missing)}. Received: {', '.join(curves)}"
        )
    for path, column in HISTORY_FILES.values():
        if list(curves[path].columns) != ["step", column]:
            raise PipelineError(
                f"{where}/{path}: expected the columns step, {column}. "
                f"Received: {', '.join(curves[path].columns)}"
            )
    columns: dict[str, NDArray[np.float64]] = {}
    steps = curves[HISTORY_FILES["train_loss"][0]]["step"].to_numpy()
    for name, (path, column) in HISTORY_FILES.items():
        table = curves[path]
        if not np.array_equal(table["step"], np.arange(len(steps))):
            raise PipelineError(
                f"{where}/{path}: expected steps 0 to {len(steps) - 1}, one a row. "
                f"Received: {', '.join(map(str, table['step']))}"
            )
        columns[name] = table[column].to_numpy(np.float64)
    return pd.DataFrame({"epoch": steps + 1, **columns}).round(6)

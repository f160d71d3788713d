"""Pictures of the evaluation as PNG bytes: the same input, the same bytes, and no network needed.

Each names its split, its number of images and its source.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pneumonia.evaluation.metrics import HALF, shown
from pneumonia.plots.drawing import COLOURS, GREY, LINES, MARKERS, as_png, new_figure, plain
from pneumonia.plots.tables import CLASSES, precision_recall_table, roc_table

# Errors first. Outcome -> heading, and whether (truth, verdict) are pneumonia.
OUTCOMES = {
    "false_negative": ("Missed", (1, 0)),
    "false_positive": ("False alarm", (0, 1)),
    "true_positive": ("Caught", (1, 1)),
    "true_negative": ("Cleared", (0, 0)),
}
N_SAMPLES = 3  # films an outcome


def pictures(
    predictions: pd.DataFrame,
    evaluate: Mapping[str, Any],
    histories: Mapping[str, pd.DataFrame],
    films: pd.DataFrame,
    images: NDArray[np.uint8] | None,
) -> dict[str, bytes]:
    """All pictures by file name.

    Args:
        predictions: the predictions table.
        evaluate: content of metrics/evaluate.json.
        histories: phase -> `curves.history_table`.
        films: as `sample_films` gives them.
        images: as `samples_png` takes them.
    """
    return {
        "accuracy_loss.png": accuracy_loss_png(histories, evaluate),
        "roc.png": roc_png(predictions, evaluate),
        "precision_recall.png": precision_recall_png(predictions, evaluate),
        "confusion.png": confusion_png(evaluate),
        "samples.png": samples_png(films, images, evaluate),
    }


def accuracy_loss_png(histories: Mapping[str, pd.DataFrame], evaluate: Mapping[str, Any]) -> bytes:
    """Accuracy and loss by epoch, a row for each phase (the paper's figures 4 and 5).

    Args:
        histories: phase -> `curves.history_table`.
        evaluate: content of metrics/evaluate.json.
    """
    figure = new_figure(
        height=2.8 * len(histories) + 0.6,
        title=f"Accuracy and loss by epoch: train, and validation "
        f"({evaluate['validation']['n_images']:,} images)",
        source=evaluate["source"],
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
            for split in ("train", "validation"):
                axes.plot(
                    history["epoch"], history[f"{split}_{metric}"], label=split,
                    color=COLOURS[split], marker=MARKERS[split], markersize=4,
                )  # fmt: skip
            axes.set_xlabel("epoch")
            axes.set_ylabel(metric)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_xlim(0.5, max(history["epoch"].max(), 2) + 0.5)
            plain(axes)
            axes.legend(frameon=False)
    return as_png(figure)


def roc_png(predictions: pd.DataFrame, evaluate: Mapping[str, Any]) -> bytes:
    """ROC curves with areas, intervals and the operating point (the paper's figure 6).

    Args:
        predictions: the predictions table.
        evaluate: content of metrics/evaluate.json.
    """
    figure = new_figure(height=5.6, title=f"ROC\n{_both(evaluate)}", source=evaluate["source"])
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="chance: AUC 0.5")
    for split, y_true, y_prob in _splits(predictions):
        table = roc_table(y_true, y_prob)
        axes.plot(
            table["false_positive_rate"], table["recall"], color=COLOURS[split],
            linestyle=LINES[split], label=f"{split}: AUC {shown(evaluate[split], 'roc_auc')}",
        )  # fmt: skip
        point = evaluate[split]["at_operating_threshold"]
        place = (1 - point["specificity"], point["recall"])
        _operating_point(axes, place, split, evaluate, ("recall", "specificity"))
    axes.set_xlabel("false positive rate (1 − specificity)")
    axes.set_ylabel("recall (sensitivity)")
    axes.set_aspect("equal")
    return _finished_curve(figure, axes, "lower right")


def precision_recall_png(predictions: pd.DataFrame, evaluate: Mapping[str, Any]) -> bytes:
    """Precision-recall curves with average precision, prevalence and the operating point.

    Arguments as in `roc_png`.
    """
    figure = new_figure(
        height=5.6, title=f"Precision and recall\n{_both(evaluate)}", source=evaluate["source"]
    )
    axes = figure.subplots()
    for split, y_true, y_prob in _splits(predictions):
        table = precision_recall_table(y_true, y_prob)
        axes.plot(
            table["recall"], table["precision"], color=COLOURS[split],
            linestyle=LINES[split],
            label=f"{split}: average precision {shown(evaluate[split], 'average_precision')}",
        )  # fmt: skip
        axes.axhline(
            y_true.mean(), color=COLOURS[split], linestyle=":", linewidth=1,
            label=f"{split}: prevalence {y_true.mean():.3f}",
        )  # fmt: skip
        point = evaluate[split]["at_operating_threshold"]
        place = (point["recall"], point["precision"])
        _operating_point(axes, place, split, evaluate, ("recall", "precision"))
    axes.set_xlabel("recall (sensitivity)")
    axes.set_ylabel("precision (positive predictive value)")
    axes.set_aspect("equal")
    return _finished_curve(figure, axes, "lower left")


def confusion_png(evaluate: Mapping[str, Any]) -> bytes:
    """Counts on test at the operating threshold and at 0.5, darker for a larger share of a row.

    Args:
        evaluate: content of metrics/evaluate.json.
    """
    test = evaluate["test"]
    figure = new_figure(
        height=4.2,
        title=f"Confusion matrix, test: {test['n_images']:,} images of "
        f"{test['n_patients']:,} patients",
        source=evaluate["source"],
    )
    settings = (
        (f"operating threshold {evaluate['operating_threshold']:.6f}", "at_operating_threshold"),
        (f"threshold {HALF}", "at_half"),
    )
    for axes, (title, key) in zip(figure.subplots(1, 2), settings, strict=True):
        at = test[key]
        matrix = np.array([[at["tn"], at["fp"]], [at["fn"], at["tp"]]])
        share = matrix / matrix.sum(axis=1, keepdims=True)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row in range(2):
            for column in range(2):
                axes.text(
                    column, row, f"{matrix[row, column]:,}\n{share[row, column]:.1%}",
                    ha="center", va="center", fontsize=13,
                    color="white" if share[row, column] > 0.5 else "black",
                )  # fmt: skip
        axes.set_xticks([0, 1], CLASSES)
        axes.set_yticks([0, 1], CLASSES, rotation=90, va="center")
        axes.set_xlabel("verdict")
        axes.set_ylabel("truth")
        axes.tick_params(length=0)
        axes.set_title(title, fontsize=10)
    return as_png(figure)


def sample_films(test: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Rows of the predictions table, chosen by rule, with a column `outcome` of `OUTCOMES`.

    Of each outcome the films of lowest, middle and highest probability (all, where there are no
    more than three; names settle ties): no choice of what looks well.

    Args:
        test: predictions of the test split.
        threshold: of the verdicts.
    """
    chosen = []
    for outcome, (_, (truth, verdict)) in OUTCOMES.items():
        films = test[(test["label"] == truth) & ((test["probability"] >= threshold) == verdict)]
        films = films.sort_values(["probability", "name"])
        places = np.linspace(0, len(films) - 1, min(N_SAMPLES, len(films))).astype(int)
        chosen.append(films.iloc[places].assign(outcome=outcome))
    return pd.concat(chosen, ignore_index=True)


def samples_png(
    films: pd.DataFrame,
    images: NDArray[np.uint8] | None,
    evaluate: Mapping[str, Any],
) -> bytes:
    """Test films with probability, verdict and truth, a column an outcome (the paper's figure 7).

    Args:
        films: as `sample_films` gives them.
        images: (n_films, height, width) uint8 in [0, 255], in the order of `films`; None: the
            source is not public, and the picture says so in place of films.
        evaluate: content of metrics/evaluate.json.
    """
    test = evaluate["test"]
    title = f"Sample predictions, {{n}} of the {test['n_images']:,} test images"
    if images is None:
        figure = new_figure(height=2.2, title=title.format(n="none"), source=evaluate["source"])
        figure.text(
            0.5, 0.4,
            "The source is not marked public:\nits films are shown in no picture that Git keeps.",
            ha="center", va="center", fontsize=12,
        )  # fmt: skip
        return as_png(figure)
    threshold = evaluate["operating_threshold"]
    figure = new_figure(
        height=7.3,
        title=title.format(n=len(films))
        + f" at threshold {threshold:.6f}\n"
        + "(lowest, middle and highest probability of each outcome)",
        source=evaluate["source"],
    )
    at = test["at_operating_threshold"]
    n_films = dict(zip(OUTCOMES, (at["fn"], at["fp"], at["tp"], at["tn"]), strict=True))
    grid = figure.subplots(N_SAMPLES, len(OUTCOMES))
    for axes in grid.flat:
        axes.axis("off")
    for column, (outcome, (heading, (truth, verdict))) in enumerate(OUTCOMES.items()):
        top = grid[0, column]
        top.set_title(
            f"{heading}: {n_films[outcome]:,}\n"
            f"truth {CLASSES[truth]},\nverdict {CLASSES[verdict]}",
            fontsize=10, fontweight="bold" if truth != verdict else "normal",
        )  # fmt: skip
        if not n_films[outcome]:
            top.text(0.5, 0.5, "none", ha="center", va="center", color=GREY)
        places = np.flatnonzero(films["outcome"] == outcome)
        for axes, place in zip(grid[:, column], places, strict=False):  # fewer films than places
            film = films.iloc[place]
            axes.imshow(images[place], cmap="gray", vmin=0, vmax=255)
            axes.text(
                0.5, -0.03, f"P = {film['probability']:.6f}\n{film['kind']}",
                ha="center", va="top", transform=axes.transAxes, fontsize=9,
            )  # fmt: skip
    return as_png(figure)


def _both(evaluate: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{split}: {evaluate[split]['n_images']:,} images of "
        f"{evaluate[split]['n_patients']:,} patients"
        for split in LINES
    )


def _splits(
    predictions: pd.DataFrame,
) -> list[tuple[str, NDArray[np.int_], NDArray[np.float64]]]:
    """Split, truths and probabilities, validation first."""
    parts = {split: predictions[predictions["split"] == split] for split in LINES}
    return [
        (split, part["label"].to_numpy(), part["probability"].to_numpy())
        for split, part in parts.items()
    ]


def _operating_point(
    axes: Axes,
    place: tuple[float, float],
    split: str,
    evaluate: Mapping[str, Any],
    names: tuple[str, ...],
) -> None:
    """A mark on the curve at `place` (x, y), and in the legend the metrics `names` there."""
    measured = evaluate[split]["at_operating_threshold"]
    axes.plot(
        *place, color=COLOURS[split], marker=MARKERS[split], markersize=9,
        markeredgecolor="black", linestyle="none",
        label="\n".join(
            [f"{split} at threshold {evaluate['operating_threshold']:.6f}:"]
            + [f"{name} {shown(measured, name)}" for name in names]
        ),
    )  # fmt: skip


def _finished_curve(
    figure: Figure, axes: Axes, place: Literal["lower left", "lower right"]
) -> bytes:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    plain(axes)
    axes.legend(
        loc=place, fontsize=9, title="95 % intervals", alignment="left",
        framealpha=1, edgecolor="none",
    )  # fmt: skip
    return as_png(figure)

"""ROC and precision-recall: tables for DVC, and PNGs with areas and the operating point.

No cell of a table is empty or infinite.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from pneumonia.evaluation.interval_table import Intervals
from pneumonia.evaluation.predictions import SPLITS
from pneumonia.plots.drawing import BLUE, GREY, VERMILLION, as_png, n_images, new_figure, plain

_COLOURS = {"validation": VERMILLION, "test": BLUE}
# So that they differ in black and white too.
_LINES = {"validation": "--", "test": "-"}
_MARKERS = {"validation": "s", "test": "o"}
# The least step between two probabilities of six decimals.
_STEP = 1e-6


def roc_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Every point of the ROC curves: split, threshold (falling), false_positive_rate, recall.

    A curve begins at (0, 0), where no image is called pneumonia. scikit-learn gives that point
    the threshold infinity, which neither JSON nor Vega reads; here it is the least number of six
    decimals above all probabilities, which says the same.
    """
    curves = []
    for split in SPLITS:
        rows = predictions[predictions["split"] == split]
        false_positive_rate, recall, thresholds = roc_curve(
            rows["label"], rows["probability"], drop_intermediate=False
        )
        thresholds[0] = rows["probability"].max() + _STEP
        curves.append(
            pd.DataFrame(
                {
                    "split": split,
                    "threshold": thresholds,
                    "false_positive_rate": false_positive_rate,
                    "recall": recall,
                }
            )
        )
    return pd.concat(curves, ignore_index=True).round(6)


def precision_recall_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Every point of the precision-recall curves: split, threshold (rising), recall, precision.

    scikit-learn's end at recall 0, precision 1 is left out: no threshold gives it.
    """
    curves = []
    for split in SPLITS:
        rows = predictions[predictions["split"] == split]
        precision, recall, thresholds = precision_recall_curve(rows["label"], rows["probability"])
        columns = {"threshold": thresholds, "recall": recall[:-1], "precision": precision[:-1]}
        curves.append(pd.DataFrame({"split": split, **columns}))
    return pd.concat(curves, ignore_index=True).round(6)


def roc_png(table: pd.DataFrame, evaluate: Mapping[str, Any], intervals: Intervals) -> bytes:
    """The curves of `roc_table` with areas and the operating point (the paper's figure 6)."""
    figure, axes = _square("ROC", evaluate)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="chance: AUC 0.5")
    for split in SPLITS:
        rows, at = table[table["split"] == split], evaluate[split]
        area = intervals[split, "none", "all", "roc_auc"]
        axes.plot(
            rows["false_positive_rate"], rows["recall"], color=_COLOURS[split],
            linestyle=_LINES[split], label=f"{split}: AUC {area}",
        )  # fmt: skip
        place = (1 - at["specificity"], at["recall"])
        _operating_point(axes, place, split, ("recall", "specificity"), evaluate, intervals)
    axes.set_xlabel("false positive rate (1 − specificity)")
    axes.set_ylabel("recall (sensitivity)")
    return _finished(figure, axes)


def precision_recall_png(
    table: pd.DataFrame, evaluate: Mapping[str, Any], intervals: Intervals
) -> bytes:
    """The curves of `precision_recall_table` with areas, prevalence and the operating point."""
    figure, axes = _square("Precision and recall", evaluate)
    for split in SPLITS:
        rows, at = table[table["split"] == split], evaluate[split]
        area = intervals[split, "none", "all", "average_precision"]
        axes.plot(
            rows["recall"], rows["precision"], color=_COLOURS[split], linestyle=_LINES[split],
            label=f"{split}: average precision {area}",
        )  # fmt: skip
        # The lowest threshold calls every image, so that precision is the prevalence there.
        prevalence = rows["precision"].iloc[0]
        axes.axhline(
            prevalence, color=_COLOURS[split], linestyle=":", linewidth=1,
            label=f"{split}: prevalence {prevalence:.3f}",
        )  # fmt: skip
        place = (at["recall"], at["precision"])
        _operating_point(axes, place, split, ("recall", "precision"), evaluate, intervals)
    axes.set_xlabel("recall (sensitivity)")
    axes.set_ylabel("precision (positive predictive value)")
    return _finished(figure, axes)


def _square(title: str, evaluate: Mapping[str, Any]) -> tuple[Figure, Axes]:
    title = f"{title}\n{n_images(evaluate, *SPLITS)}"
    figure = new_figure(height=5.6, title=title, dataset=evaluate["dataset"])
    axes = figure.subplots()
    axes.set_aspect("equal")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    return figure, axes


def _operating_point(
    axes: Axes,
    place: tuple[float, float],
    split: str,
    metrics: tuple[str, ...],
    evaluate: Mapping[str, Any],
    intervals: Intervals,
) -> None:
    """A mark on the curve at `place` (x, y), and in the legend the metrics there."""
    lines = [f"{split} at threshold {evaluate['operating_threshold']:.6f}:"]
    lines += [f"{name} {intervals[split, 'operating', 'all', name]}" for name in metrics]
    axes.plot(
        *place, color=_COLOURS[split], marker=_MARKERS[split], markersize=9,
        markeredgecolor="black", linestyle="none", label="\n".join(lines),
    )  # fmt: skip


def _finished(figure: Figure, axes: Axes) -> bytes:
    plain(axes)
    axes.legend(
        loc="lower right" if axes.get_xlabel().startswith("false") else "lower left",
        fontsize=9, title="95 % intervals", alignment="left", framealpha=1, edgecolor="none",
    )  # fmt: skip
    return as_png(figure)

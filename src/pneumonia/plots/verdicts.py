"""Verdicts at the operating threshold: right and wrong, by class, by kind and by prevalence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pneumonia.evaluation.interval_table import PREVALENCES, Intervals, Measured
from pneumonia.evaluation.metrics import HALF
from pneumonia.plots.drawing import (
    BLUE,
    CLASSES,
    VERMILLION,
    as_png,
    n_images,
    new_figure,
    plain,
)


def confusion_table(predictions: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Columns actual and predicted, `normal` or `pneumonia`: a row a test image, in their order."""
    test = predictions[predictions["split"] == "test"]
    names, called = np.array(CLASSES), test["probability"].to_numpy() >= threshold
    return pd.DataFrame({"actual": names[test["label"]], "predicted": names[called.astype(int)]})


def confusion_png(evaluate: Mapping[str, Any], intervals: Intervals) -> bytes:
    """Counts on test at the operating threshold and at 0.5, darker for a larger share of a row."""
    figure = new_figure(
        height=4.2,
        title=f"Confusion matrix, {n_images(evaluate, 'test')}",
        dataset=evaluate["dataset"],
    )
    settings = {
        "operating": f"operating threshold {evaluate['operating_threshold']:.6f}",
        "half": f"threshold {HALF}",
    }
    for axes, (threshold, title) in zip(figure.subplots(1, 2), settings.items(), strict=True):
        cleared, caught = (
            intervals["test", threshold, "all", metric] for metric in ("specificity", "recall")
        )
        n_cleared, n_caught = cleared.n_hits or 0, caught.n_hits or 0
        matrix = np.array(
            [
                [n_cleared, (cleared.n_total or 0) - n_cleared],
                [(caught.n_total or 0) - n_caught, n_caught],
            ]
        )
        share = matrix / matrix.sum(axis=1, keepdims=True)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), n in np.ndenumerate(matrix):
            axes.text(
                column, row, f"{n:,}\n{share[row, column]:.1%}",
                ha="center", va="center", fontsize=13,
                color="white" if share[row, column] > 0.5 else "black",
            )  # fmt: skip
        axes.set_xticks([0, 1], CLASSES)
        axes.set_yticks([0, 1], CLASSES, rotation=90, va="center")
        axes.set_xlabel("predicted")
        axes.set_ylabel("actual")
        axes.tick_params(length=0)
        axes.set_title(title, fontsize=10)
    return as_png(figure)


def kinds_png(
    predictions: pd.DataFrame, evaluate: Mapping[str, Any], intervals: Intervals
) -> bytes:
    """Recall by kind and by patient, and specificity; below, npv and ppv by prevalence; of test."""
    figure = new_figure(
        height=6.3,
        title=f"At the operating threshold {evaluate['operating_threshold']:.6f}, 95 % intervals\n"
        f"{n_images(evaluate, 'test')}",
        dataset=evaluate["dataset"],
    )
    top, bottom = figure.subplots(2, 1)
    test = predictions[predictions["split"] == "test"]
    n_patients = test.groupby("kind")["patient_id"].nunique()
    colours = {"recall": BLUE, "specificity": VERMILLION}
    rows = []
    for (split, threshold, group, metric), found in intervals.items():
        if (split, threshold) != ("test", "operating") or metric not in colours or group == "all":
            continue
        counted = f"{found.n_hits:,} of {found.n_total:,}"
        if group == "patients":
            label = f"recall, patients\n{counted} ill patients"
        else:
            label = f"{metric}, {group}\n{counted} images, {n_patients[group]:,} patients"
        rows.append((label, found, colours[metric], "o"))
    _draw_intervals(top, rows)
    top.set_title(
        "Share called correctly, by kind (of ill patients: with an image called pneumonia)",
        fontsize=10,
    )
    rows = []
    for metric, colour in (("npv", BLUE), ("ppv", VERMILLION)):
        for percent in PREVALENCES:
            # It has no row where all images are called alike.
            key = ("test", "operating", f"prevalence_{percent:02}", metric)
            if key in intervals:
                rows.append((f"{metric}, {percent} % ill", intervals[key], colour, "s"))
    _draw_intervals(bottom, rows)
    bottom.set_title(
        "Correct among those called normal (npv), and among those called pneumonia (ppv),\n"
        "by the share of all who are ill: computed, not observed",
        fontsize=10,
    )
    return as_png(figure)


def _draw_intervals(axes: Axes, rows: Sequence[tuple[str, Measured, str, str]]) -> None:
    """Values with their intervals, the first on top, and in words beside them.

    Args:
        axes: where.
        rows: label, metric, colour, marker.
    """
    for place, (_, found, colour, marker) in enumerate(rows):
        axes.errorbar(
            found.value, place, xerr=[[found.value - found.low], [found.high - found.value]],
            color=colour, marker=marker, markersize=6, elinewidth=1.8, capsize=4,
        )  # fmt: skip
        # Three decimals would round an npv of 0.9997 to certainty.
        words = f"{found.value:.4f} ({found.low:.4f}–{found.high:.4f})"
        axes.text(1.03, place, words, va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.02)
    plain(axes)

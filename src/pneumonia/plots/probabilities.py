"""The probabilities themselves: are they reliable, and is it worth acting on them?"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from pneumonia.evaluation.interval_table import Intervals
from pneumonia.plots.drawing import BLUE, GREY, VERMILLION, as_png, n_images, new_figure, plain

_LEGEND = {"fontsize": 9, "framealpha": 1, "edgecolor": "none"}
# Prefix of the columns of `decision_table` -> name of the strategy.
_STRATEGIES = {"model": "model", "all": "treat all", "none": "treat none"}


def reliability_png(
    table: pd.DataFrame, evaluate: Mapping[str, Any], intervals: Intervals
) -> bytes:
    """Predicted probability against the observed share of pneumonia, a point a bin of test.

    The table is `calibration.reliability_table`'s.
    """
    figure = new_figure(
        height=5.8,
        title=f"Reliability\n{n_images(evaluate, 'test')}",
        dataset=evaluate["dataset"],
    )
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="as often as predicted")
    fewest, most = table["n_images"].min(), table["n_images"].max()
    number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    axes.errorbar(
        table["predicted"], table["observed"],
        yerr=[table["observed"] - table["low"], table["high"] - table["observed"]],
        color=BLUE, marker="o", markersize=5, linewidth=1, elinewidth=1.2, capsize=3,
        label=f"{len(table)} bins of {number} images, 95 % intervals",
    )  # fmt: skip
    words = {
        "Brier score": "brier",
        "calibration error": "calibration_error",
        "in the large": "calibration_in_the_large",
    }
    lines = [f"{label} {intervals['test', 'none', 'all', key]}" for label, key in words.items()]
    axes.text(
        0.97, 0.04, "\n".join(lines), ha="right", va="bottom", fontsize=9, transform=axes.transAxes
    )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.set_xlabel("mean predicted probability of pneumonia")
    axes.set_ylabel("observed share of pneumonia")
    plain(axes)
    axes.legend(loc="upper left", **_LEGEND)
    return as_png(figure)


def strategies_table(table: pd.DataFrame) -> pd.DataFrame:
    """The decision curve, a row a threshold and strategy: its net benefit and 95 % interval.

    Columns threshold, strategy (model, treat all, treat none), net_benefit, low, high; from
    `decision.decision_table`.
    """
    table = table.assign(none=0.0, none_low=0.0, none_high=0.0)
    columns = ["threshold", "net_benefit", "low", "high"]
    curves = []
    for prefix, strategy in _STRATEGIES.items():
        curve = table[["threshold", prefix, f"{prefix}_low", f"{prefix}_high"]].set_axis(
            columns, axis=1
        )
        curve.insert(1, "strategy", strategy)
        curves.append(curve)
    return pd.concat(curves, ignore_index=True)


def decision_png(table: pd.DataFrame, evaluate: Mapping[str, Any], intervals: Intervals) -> bytes:
    """Net benefit of the model, of treating all and of treating none; and the model's gain.

    The table is `decision.decision_table`'s of test.
    """
    n_pneumonia = intervals["test", "operating", "all", "recall"].n_total or 0
    prevalence = n_pneumonia / evaluate["test"]["n_images"]
    figure = new_figure(
        height=6.6,
        title=f"Decision curve at the prevalence of this test split, {prevalence:.1%}\n"
        f"{n_images(evaluate, 'test')}",
        dataset=evaluate["dataset"],
    )
    top, bottom = figure.subplots(2, 1, sharex=True)
    x = table["threshold"]
    _band(top, table, "model", "the model")
    top.plot(x, table["all"], color=VERMILLION, linestyle="--", label="treat all")
    top.axhline(0, color=GREY, linestyle=":", label="treat none")
    top.set_ylabel("net benefit\n(true positives an image)")
    top.legend(loc="center left", **_LEGEND)
    _band(bottom, table, "gain", "the model, less the better of all and none")
    bottom.axhline(0, color=GREY, linestyle=":")
    bottom.set_ylabel("gain\n(true positives an image)")
    bottom.set_xlabel("threshold probability: called pneumonia from here on")
    bottom.legend(loc="upper left", **_LEGEND)
    bottom.set_xlim(0, x.max())
    bottom.xaxis.set_major_formatter(PercentFormatter(1))
    for axes in (top, bottom):
        plain(axes)
    return as_png(figure)


def _band(axes: Axes, table: pd.DataFrame, name: str, label: str) -> None:
    axes.fill_between(
        table["threshold"], table[f"{name}_low"], table[f"{name}_high"],
        color=BLUE, alpha=0.2, linewidth=0, label="95 % interval",
    )  # fmt: skip
    axes.plot(table["threshold"], table[name], color=BLUE, label=label)

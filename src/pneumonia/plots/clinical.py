"""Pictures of the clinical figures of the test split, as PNG bytes in the house style."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from pneumonia.evaluation.clinical import PREVALENCES
from pneumonia.evaluation.metrics import shown
from pneumonia.plots.drawing import BLUE, GREY, VERMILLION, as_png, new_figure, plain

_LEGEND = {"fontsize": 9, "framealpha": 1, "edgecolor": "none"}


def clinical_pictures(
    reliability: pd.DataFrame, decision: pd.DataFrame, evaluate: Mapping[str, Any]
) -> dict[str, bytes]:
    """All pictures by file name.

    Args:
        reliability: `clinical.reliability_table` of test.
        decision: `clinical.decision_table` of test.
        evaluate: content of metrics/evaluate.json, the clinical figures of test in it.
    """
    return {
        "kinds.png": kinds_png(evaluate),
        "reliability.png": reliability_png(reliability, evaluate),
        "decision.png": decision_png(decision, evaluate),
    }


def kinds_png(evaluate: Mapping[str, Any]) -> bytes:
    """Recall by kind and specificity at the operating threshold; below, npv and ppv by prevalence.

    Args:
        evaluate: content of metrics/evaluate.json, the clinical figures of test in it.
    """
    test = evaluate["test"]
    figure = new_figure(
        height=5.9,
        title=f"At the operating threshold {evaluate['operating_threshold']:.6f}, 95 % intervals\n"
        f"{_test(test)}",
        source=evaluate["source"],
    )
    top, bottom = figure.subplots(2, 1)
    rows = [
        (
            f"{name}, {kind}\n{of[right]:,} of {of[right] + of[wrong]:,} images, "
            f"{of['n_patients']:,} patients",
            of, name, colour, "o",
        )
        # Pneumonia first: the model is made to find it.
        for name, right, wrong, colour in (
            ("recall", "tp", "fn", BLUE), ("specificity", "tn", "fp", VERMILLION),
        )
        for kind, of in test["by_kind"].items()
        if name in of
    ]  # fmt: skip
    _intervals(top, rows)
    top.set_title("Share called rightly, by kind", fontsize=10)

    _intervals(
        bottom,
        [
            (
                f"{name}, {percent} % ill",
                test[f"at_prevalence_{percent:02}"], name,
                BLUE if name == "npv" else VERMILLION, "s",
            )
            for name in ("npv", "ppv")
            for percent in PREVALENCES
            if name in test[f"at_prevalence_{percent:02}"]  # undefined where all are called alike
        ],
    )  # fmt: skip
    bottom.set_title(
        "Right among those called normal (npv), and among those called pneumonia (ppv),\n"
        "where so many of all are ill: computed, not observed",
        fontsize=10,
    )
    return as_png(figure)


def reliability_png(table: pd.DataFrame, evaluate: Mapping[str, Any]) -> bytes:
    """Predicted probability against the observed share of pneumonia, a point a bin.

    Args:
        table: `clinical.reliability_table` of test.
        evaluate: content of metrics/evaluate.json, the clinical figures of test in it.
    """
    test = evaluate["test"]
    figure = new_figure(height=5.8, title=f"Reliability\n{_test(test)}", source=evaluate["source"])
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
    axes.text(
        0.97, 0.04,
        f"Brier score {shown(test, 'brier')}\n"
        f"calibration error {shown(test, 'calibration_error')}\n"
        f"in the large {shown(test, 'calibration_in_the_large')}",
        ha="right", va="bottom", fontsize=9, transform=axes.transAxes,
    )  # fmt: skip
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.set_xlabel("mean predicted probability of pneumonia")
    axes.set_ylabel("observed share of pneumonia")
    plain(axes)
    axes.legend(loc="upper left", **_LEGEND)
    return as_png(figure)


def decision_png(table: pd.DataFrame, evaluate: Mapping[str, Any]) -> bytes:
    """Net benefit of the model, of calling all and of calling none; and the model's gain.

    Args:
        table: `clinical.decision_table` of test.
        evaluate: content of metrics/evaluate.json, the clinical figures of test in it.
    """
    test = evaluate["test"]
    at = test["at_operating_threshold"]
    n_pneumonia = at["fn"] + at["tp"]
    figure = new_figure(
        height=6.6,
        title=f"Decision curve at the prevalence of this test split, "
        f"{n_pneumonia / test['n_images']:.1%}\n{_test(test)}",
        source=evaluate["source"],
    )
    top, bottom = figure.subplots(2, 1, sharex=True)
    x = table["threshold"]
    _band(top, table, "net_benefit_model", "the model")
    top.plot(x, table["net_benefit_all"], color=VERMILLION, linestyle="--", label="call all")
    top.plot(x, table["net_benefit_none"], color=GREY, linestyle=":", label="call none")
    top.set_ylabel("net benefit\n(true positives an image)")
    top.legend(loc="center left", **_LEGEND)
    _band(bottom, table, "net_benefit_gain", "the model, less the better of all and none")
    bottom.axhline(0, color=GREY, linestyle=":")
    bottom.set_ylabel("gain\n(true positives an image)")
    bottom.set_xlabel("threshold probability: called pneumonia from here on")
    bottom.legend(loc="upper left", **_LEGEND)
    bottom.set_xlim(0, table["threshold"].max())
    bottom.xaxis.set_major_formatter(PercentFormatter(1))
    for axes in (top, bottom):
        plain(axes)
    return as_png(figure)


def _test(test: Mapping[str, Any]) -> str:
    return f"test: {test['n_images']:,} images of {test['n_patients']:,} patients"


def _intervals(axes: Axes, rows: Sequence[tuple[str, Mapping[str, Any], str, str, str]]) -> None:
    """A row a figure, from above: its label, its point and interval, and both as numbers.

    Args:
        axes: where to.
        rows: label, what holds the figure, its name there, colour, marker.
    """
    for place, (_, measured, name, colour, marker) in enumerate(rows):
        value, low, high = (measured[f"{name}{end}"] for end in ("", "_low", "_high"))
        axes.errorbar(
            value, place, xerr=[[value - low], [high - value]],
            color=colour, marker=marker, markersize=6, elinewidth=1.8, capsize=4,
        )  # fmt: skip
        # Three decimals would round an npv of 0.9997 to certainty.
        axes.text(
            1.03, place, f"{value:.4f} ({low:.4f}–{high:.4f})", va="center", fontsize=9
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.02)
    plain(axes)


def _band(axes: Axes, table: pd.DataFrame, name: str, label: str) -> None:
    x = table["threshold"]
    axes.fill_between(
        x, table[f"{name}_low"], table[f"{name}_high"], color=BLUE, alpha=0.2, linewidth=0,
        label="95 % interval",
    )  # fmt: skip
    axes.plot(x, table[name], color=BLUE, label=label)

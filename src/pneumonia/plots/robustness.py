"""What corruptions of radiographs do to a classifier, and what they look like, as PNG bytes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pneumonia.evaluation.corruptions import CORRUPTIONS, Corruption, corrupted
from pneumonia.evaluation.robustness import CLEAN, METRICS, SEVERITIES, fell
from pneumonia.plots.drawing import (
    BLACK,
    BLUE,
    GREY,
    VERMILLION,
    as_png,
    message_png,
    new_figure,
    plain,
)

_STYLES: dict[str, dict[str, Any]] = {
    "recall": {"color": BLUE, "linestyle": "-", "marker": "o"},
    "specificity": {"color": VERMILLION, "linestyle": "--", "marker": "s"},
    "roc_auc": {"color": BLACK, "linestyle": ":", "marker": "D"},
}
_WORDS = {"recall": "recall", "specificity": "specificity", "roc_auc": "AUC"}
_N_COLUMNS = 4
_N_GREYS = 24  # more make the file large, and none of them is seen at this size


def robustness_png(table: pd.DataFrame, n_test: int, point: Mapping[str, Any]) -> bytes:
    """Recall, specificity and AUC by severity, a panel a corruption, from `robustness`' table.

    `n_test` is the number of test images, of which the table has a sample.
    """
    title, dataset = "Robustness, test", point["dataset"]
    if table.empty:
        words = "Turned off: robustness.n_images is 0."
        return message_png(f"{title}: 0 images", dataset, words)
    clean = table[table["corruption"] == CLEAN]
    of = clean.iloc[0]
    figure = new_figure(
        height=8.2,
        title=f"{title}: {of['n_images']:,} of {n_test:,} images "
        f"({of['tp'] + of['fn']:,} pneumonia, {of['tn'] + of['fp']:,} normal), "
        f"{of['n_patients']:,} patients\n"
        f"threshold {point['operating_threshold']:.6f}; bands: 95 % intervals; "
        "left end: not corrupted",
        dataset=dataset,
    )
    n_rows = -(-len(CORRUPTIONS) // _N_COLUMNS)
    grid = figure.subplots(n_rows, _N_COLUMNS, sharey=True)
    for axes in grid.flat[len(CORRUPTIONS) :]:
        axes.axis("off")
    for axes, (name, corruption) in zip(grid.flat, CORRUPTIONS.items(), strict=False):
        rows = pd.concat([clean, table[table["corruption"] == name]], ignore_index=True)
        _panel(axes, rows, corruption)
    for axes in grid[:, 0]:
        axes.set_ylabel("on the sample")
    _legend(figure)
    return as_png(figure)


def corruptions_png(image: NDArray[np.uint8], dataset: str, seed: int) -> bytes:
    """One image under each corruption at each of `SEVERITIES`, and as it came.

    Args:
        image: (side, side) uint8 in [0, 255]; of a public dataset, or a phantom.
        dataset: its name.
        seed: of the corruptions.
    """
    n_rows = -(-len(CORRUPTIONS) // 2)
    n_severities = len(SEVERITIES)
    figure = new_figure(
        height=1.42 * n_rows + 0.7,
        title=f"One image under each corruption, severities {', '.join(map(str, SEVERITIES))}",
        dataset=dataset,
    )
    grid = figure.subplots(n_rows, 2 * n_severities)
    for axes in grid.flat:
        axes.axis("off")
    for number, (name, corruption) in enumerate(CORRUPTIONS.items()):
        column, row = divmod(number, n_rows)
        cells = grid[row, column * n_severities : (column + 1) * n_severities]
        shown = [severity for severity in SEVERITIES if severity <= len(corruption.levels)]
        for axes, severity in zip(cells, shown, strict=False):  # some have fewer severities
            pixels = corrupted(image[None], name, severity, seed)[0]
            level = _level(corruption.levels[severity - 1])
            _draw_image(axes, pixels, f"{severity}: {level}" if len(shown) > 1 else "on")
        cells[0].text(
            -0.06, 0.5, corruption.label, rotation=90, fontsize=9,
            ha="right", va="center", transform=cells[0].transAxes,
        )  # fmt: skip
        if len(shown) < n_severities:
            _draw_image(cells[-1], image, "as it came")
    return as_png(figure)


def _panel(axes: Axes, rows: pd.DataFrame, corruption: Corruption) -> None:
    """Curves of one corruption; `rows` starts with the images as they came."""
    places = np.arange(len(rows))  # even steps: the levels themselves have no common scale
    for metric in METRICS:
        style = _STYLES[metric]
        axes.fill_between(
            places, rows[f"{metric}_low"], rows[f"{metric}_high"],
            color=style["color"], alpha=0.13, linewidth=0,
        )  # fmt: skip
        axes.plot(places, rows[metric], **style, markersize=0, linewidth=1.3)
        for beyond_chance, face in ((False, "white"), (True, style["color"])):
            chosen = fell(rows, metric) == beyond_chance
            axes.plot(
                places[chosen], rows[metric][chosen], linestyle="none", marker=style["marker"],
                color=style["color"], markerfacecolor=face, markersize=4.5,
            )  # fmt: skip
    axes.set_title(corruption.label, fontsize=10)
    levels = ["none", *(_level(level) for level in rows["level"][1:])]
    axes.set_xticks(places, levels if len(corruption.levels) > 1 else ["off", "on"], fontsize=9)
    axes.set_xlim(-0.08 * places[-1], 1.08 * places[-1])
    axes.set_xlabel(corruption.unit, fontsize=9)
    axes.set_ylim(-0.03, 1.03)
    plain(axes)


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], **_STYLES[metric], markerfacecolor="white", label=_WORDS[metric])
        for metric in METRICS
    ]
    for words, face in (("fell beyond chance", GREY), ("did not", "white")):
        handles.append(
            Line2D(
                [], [], linestyle="none", marker="o", color=GREY, markerfacecolor=face, label=words
            )
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=10)


def _draw_image(axes: Axes, image: NDArray[np.uint8], words: str) -> None:
    step = 256 // _N_GREYS
    greys = image // step * step + step // 2
    axes.imshow(greys, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(words, fontsize=9, pad=2)


def _level(level: float) -> str:
    """The level in two digits, which tell the levels apart: 0.08, 1.3, 25."""
    return f"{level:.2g}"

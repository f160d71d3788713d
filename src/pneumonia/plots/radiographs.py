"""A few radiographs of test, chosen by rule: what the model said about them, and where it looks.

Everywhere `test` has a row a test image, with name, kind, probability, and outcome, one of
`OUTCOMES`. In the same order are `images`, (n_images, height, width) uint8 in [0, 255], and `maps`,
(n_images, map_height, map_width) float32 in logits. Where the dataset is not public, `images` is
None, and the plot says so in place of radiographs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pneumonia.evaluation.activation_maps import OPACITY, overlay
from pneumonia.evaluation.map_study import CAUGHT, CLEARED, FALSE_ALARM, MISSED, OUTCOMES
from pneumonia.plots.drawing import (
    BLUE,
    CLASSES,
    GREY,
    MANY_COLOURS,
    VERMILLION,
    as_png,
    message_png,
    new_figure,
)

N_SAMPLES = 3  # radiographs an outcome
# Of each outcome: a word for it, and whether truth and verdict are pneumonia.
WORDS = {
    MISSED: ("Missed", (1, 0)),
    FALSE_ALARM: ("False alarm", (0, 1)),
    CAUGHT: ("Caught", (1, 1)),
    CLEARED: ("Cleared", (0, 0)),
}
_WITHHELD = "The dataset is not public:\nno plot that Git keeps shows its radiographs."


def sample_places(test: pd.DataFrame) -> list[NDArray[np.int64]]:
    """Of each of `OUTCOMES` the rows of `test` that are shown, none to three.

    They are those of lowest, middle and highest probability (names settle ties): no choice of what
    looks well.
    """
    order = test.reset_index(drop=True).sort_values(["probability", "name"])
    found = []
    for outcome in OUTCOMES:
        places = order.index[order["outcome"] == outcome].to_numpy()
        steps = np.linspace(0, len(places) - 1, min(N_SAMPLES, len(places)))
        found.append(places[steps.astype(int)])
    return found


def middle_places(test: pd.DataFrame) -> NDArray[np.int64]:
    """(n_shown,) int: one row of each outcome that occurs, the middle one of `sample_places`."""
    return np.array([of[len(of) // 2] for of in sample_places(test) if len(of)], dtype=np.int64)


def samples_png(
    test: pd.DataFrame, images: NDArray[np.uint8] | None, point: Mapping[str, Any]
) -> bytes:
    """Radiographs with probability, verdict and truth, a row an outcome (the paper's figure 7)."""
    title = f"Sample predictions at threshold {point['operating_threshold']:.6f}"
    if images is None:
        return message_png(title, point["dataset"], _WITHHELD)
    shown = [_grey(images[place]) for place in np.concatenate(sample_places(test))]
    return as_png(_outcomes_figure(title, test, shown, point["dataset"])[0])


def activation_maps_png(
    test: pd.DataFrame,
    images: NDArray[np.uint8] | None,
    maps: NDArray[np.float32],
    point: Mapping[str, Any],
) -> bytes:
    """The same radiographs, each beside its class activation map.

    All maps share one scale, so that a weak one looks weak.
    """
    title = f"Class activation maps, {maps.shape[1]} × {maps.shape[2]} places a map"
    if images is None:
        return message_png(title, point["dataset"], _WITHHELD)
    places = np.concatenate(sample_places(test))
    # Maps of zeros have no colour to scale.
    limit = float(np.abs(maps[places]).max()) or 1.0
    shown = []
    for place in places:
        image = images[place]
        gap = np.full((len(image), max(1, len(image) // 40), 3), 255, np.uint8)
        mapped = overlay(image, maps[place], limit)
        shown.append(np.concatenate([_grey(image), gap, mapped], axis=1))
    figure, grid = _outcomes_figure(title, test, shown, point["dataset"])
    _draw_scale(figure, grid, limit)
    return as_png(figure, MANY_COLOURS)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: the image as it is, in grey."""
    return np.repeat(image[..., None], 3, axis=2)


def _outcomes_figure(
    title: str, test: pd.DataFrame, shown: Sequence[NDArray[np.uint8]], dataset: str
) -> tuple[Figure, NDArray[np.object_]]:
    """Images with probability and kind, a row an outcome with its number of test images."""
    figure = new_figure(
        height=7.2,
        title=f"{title}\n{len(shown)} of the {len(test):,} test images: "
        "lowest, middle and highest probability of each outcome",
        dataset=dataset,
    )
    grid = figure.subplots(len(OUTCOMES), N_SAMPLES)
    for axes in grid.flat:
        axes.axis("off")
    left = iter(shown)
    for line, outcome, places in zip(grid, OUTCOMES, sample_places(test), strict=True):
        word, (truth, verdict) = WORDS[outcome]
        line[0].text(
            -0.04, 0.5,
            f"{word}: {(test['outcome'] == outcome).sum():,}\n"
            f"truth {CLASSES[truth]},\nverdict {CLASSES[verdict]}",
            ha="right", va="center", transform=line[0].transAxes, fontsize=9,
            fontweight="bold" if truth != verdict else "normal",
        )  # fmt: skip
        if not len(places):
            line[0].text(0.5, 0.5, "none", ha="center", va="center", color=GREY)
        rows = test.iloc[places].to_dict("records")
        for axes, row in zip(line, rows, strict=False):  # there may be fewer
            axes.imshow(next(left))
            axes.text(
                0.5, -0.03, f"P = {row['probability']:.6f}, {row['kind']}",
                ha="center", va="top", transform=axes.transAxes, fontsize=9,
            )  # fmt: skip
    return figure, grid


def _draw_scale(figure: Figure, grid: NDArray[np.object_], limit: float) -> None:
    """The scale of `overlay` on a middle grey, under all panels."""
    middle = np.full(3, 0.5)
    ends = [(1 - OPACITY) * middle + OPACITY * np.array(to_rgb(c)) for c in (BLUE, VERMILLION)]
    colours = LinearSegmentedColormap.from_list("map", [ends[0], middle, ends[1]])
    bar = figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), colours), ax=grid.ravel().tolist(),
        location="bottom", aspect=50, fraction=0.03, pad=0.02,
    )  # fmt: skip
    bar.set_label("towards normal  ←  logits that a place adds  →  towards pneumonia")

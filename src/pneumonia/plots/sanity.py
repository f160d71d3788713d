"""Do the activation maps depend on the trained weights? Maps beside those of random weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pneumonia.evaluation.activation_maps import overlay
from pneumonia.evaluation.map_study import N_DRAWS, SIMILARITIES, MapStudy
from pneumonia.plots.drawing import BLUE, GREY, MANY_COLOURS, as_png, new_figure, plain
from pneumonia.plots.radiographs import WORDS

# Of `SIMILARITIES`.
_LABELS = ("head random", "head and\nbackbone random", "another image,\ntrained model", "chance")


def sanity_png(
    test: pd.DataFrame,
    images: NDArray[np.uint8] | None,
    study: MapStudy,
    places: NDArray[np.int64],
    point: Mapping[str, Any],
) -> bytes:
    """Maps of the trained model beside those of random weights, and how alike they are.

    A map of random weights has no unit and no zero: each map is shown less its mean, by its own
    largest magnitude.

    Arguments as in `radiographs`; `study` is `map_study`'s for `places`, the rows that are shown.
    """
    sanity = study.table[study.table["study"] == "sanity"].set_index("group")
    title = (
        "Do the maps depend on the trained weights?\n"
        f"{sanity['n_images'].iloc[0]:,} of the {len(test):,} test images, "
        f"{N_DRAWS} random heads, one random backbone"
    )
    dataset = point["dataset"]
    if images is None:
        figure = new_figure(3.6, f"{title} (radiographs are not public)", dataset)
        _draw_similarities(figure.subplots(), sanity)
        return as_png(figure)
    maps = {
        "trained": study.maps[places],
        "head\nrandom": study.head,
        "head and backbone\nrandom": study.backbone,
    }
    figure = new_figure(1.75 * len(places) + 4.2, title, dataset)
    heights = (1.75 * len(places) + 0.7, 2.9)
    upper, lower = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    upper.supxlabel("maps: vermillion above the map's own mean, blue below", fontsize=9)
    grid = upper.subplots(len(places), len(maps) + 1, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, name in zip(grid[0], ("radiograph", *maps), strict=True):
        axes.set_title(name, fontsize=10)
    for number, (line, place) in enumerate(zip(grid, places, strict=True)):
        image, row = images[place], test.iloc[place]
        line[0].imshow(image, cmap="gray", vmin=0, vmax=255)
        line[0].text(
            -0.08, 0.5, f"{WORDS[row['outcome']][0]}\nP = {row['probability']:.3f}",
            ha="right", va="center", transform=line[0].transAxes, fontsize=9,
        )  # fmt: skip
        for axes, of_images in zip(line[1:], maps.values(), strict=True):
            axes.imshow(overlay(image, of_images[number] - of_images[number].mean()))
    _draw_similarities(lower.subplots(), sanity)
    return as_png(figure, MANY_COLOURS)


def _draw_similarities(axes: Axes, sanity: pd.DataFrame) -> None:
    """Median and quartiles of each similarity, the first on top."""
    quartiles = sanity.loc[list(SIMILARITIES), ["median", "q1", "q3"]].to_numpy(np.float64)
    for place, (median, q1, q3) in enumerate(quartiles):
        colour = GREY if SIMILARITIES[place] == "chance" else BLUE
        axes.barh(place, q3 - q1, left=q1, height=0.5, color=colour, alpha=0.35)
        axes.plot([median] * 2, [place - 0.25, place + 0.25], color="black", linewidth=2)
        axes.text(
            1.02, place, f"{median:.2f} ({q1:.2f} to {q3:.2f})",
            va="center", fontsize=9, transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.set_yticks(range(len(_LABELS)), list(_LABELS))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(
        "rank correlation with the trained model's map, without its sign\n"
        "(median and quartiles; 1: the same order of places)"
    )
    plain(axes)

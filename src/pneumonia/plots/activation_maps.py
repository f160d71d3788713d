"""Pictures of where the model looks, as PNG bytes: the same input, the same bytes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pneumonia.evaluation.activation_maps import OPACITY, SIMILARITIES, overlay
from pneumonia.plots.drawing import ALL_COLOURS, BLUE, GREY, VERMILLION, as_png, new_figure, plain
from pneumonia.plots.headline import N_SAMPLES, OUTCOMES
from pneumonia.plots.tables import CLASSES

# Key of `maps.SIMILARITIES` -> what its row of the chart is called.
_WORDS = dict(
    zip(
        SIMILARITIES,
        ("head random", "head and\nbackbone random", "another film,\ntrained model", "chance"),
        strict=True,
    )
)


def gallery_png(
    films: pd.DataFrame,
    images: NDArray[np.uint8] | None,
    maps: NDArray[np.float32],
    evaluate: Mapping[str, Any],
) -> bytes:
    """Film and map with probability and truth, a row an outcome (in the manner of figure 7).

    All maps share one scale, so that a weak one looks weak.

    Args:
        films: as `figures.sample_films` gives them.
        images: (n_films, height, width) uint8 in [0, 255], in the order of `films`; None: the
            source is not public, and the picture says so in place of films.
        maps: (n_films, map_height, map_width) float32, in logits, in the same order.
        evaluate: content of metrics/evaluate.json.
    """
    test = evaluate["test"]
    n_shown = "none" if images is None else len(films)
    title = f"Class activation maps, {n_shown} of the {test['n_images']:,} test images"
    if images is None:
        return _withheld(title, evaluate["source"])
    figure = new_figure(
        height=7.2,
        title=f"{title}, {maps.shape[1]} × {maps.shape[2]} places a map\n"
        "(lowest, middle and highest probability of each outcome)",
        source=evaluate["source"],
    )
    limit = _limit(maps)
    at = test["at_operating_threshold"]
    n_films = dict(zip(OUTCOMES, (at["fn"], at["fp"], at["tp"], at["tn"]), strict=True))
    grid = figure.subplots(len(OUTCOMES), N_SAMPLES)
    for axes in grid.flat:
        axes.axis("off")
    for row, (outcome, (heading, (truth, verdict))) in zip(grid, OUTCOMES.items(), strict=True):
        row[0].text(
            -0.04, 0.5, f"{heading}: {n_films[outcome]:,}\n"
            f"truth {CLASSES[truth]},\nverdict {CLASSES[verdict]}",
            ha="right", va="center", transform=row[0].transAxes, fontsize=9,
            fontweight="bold" if truth != verdict else "normal",
        )  # fmt: skip
        if not n_films[outcome]:
            row[0].text(0.5, 0.5, "none", ha="center", va="center", color=GREY)
        places = np.flatnonzero(films["outcome"] == outcome)
        for axes, place in zip(row, places, strict=False):  # fewer films than places
            film = films.iloc[place]
            axes.imshow(_side_by_side(images[place], overlay(images[place], maps[place], limit)))
            axes.text(
                0.5, -0.03, f"P = {film['probability']:.6f}, {film['kind']}",
                ha="center", va="top", transform=axes.transAxes, fontsize=9,
            )  # fmt: skip
    _scale(figure, grid, limit)
    return as_png(figure, ALL_COLOURS)


def sanity_png(
    films: pd.DataFrame,
    images: NDArray[np.uint8] | None,
    maps: Mapping[str, NDArray[np.float32]],
    sanity: Mapping[str, Any],
    evaluate: Mapping[str, Any],
) -> bytes:
    """Maps of the trained model beside those of random weights, and how alike they are.

    Args:
        films: a few of `figures.sample_films`, all of which are shown.
        images: (n_films, height, width) uint8 in [0, 255], in the order of `films`; None: the
            source is not public, and the chart stands alone.
        maps: heading of a column -> (n_films, map_height, map_width) float32, in that order.
            What random weights give has no unit and no zero: each map is shown less its mean,
            by its own largest magnitude.
        sanity: `sanity` of metrics/maps.json.
        evaluate: content of metrics/evaluate.json.
    """
    title = (
        f"Do the maps depend on the trained weights? {sanity['n_images']:,} of the "
        f"{evaluate['test']['n_images']:,} test images,\n"
        f"{sanity['n_draws']} random heads, one random backbone"
    )
    source = evaluate["source"]
    if images is None:
        figure = new_figure(height=3.6, title=f"{title} (films are not public)", source=source)
        _similarities(figure.subplots(), sanity)
        return as_png(figure)
    n_columns = len(maps) + 1
    figure = new_figure(height=1.75 * len(films) + 4.2, title=title, source=source)
    parts = figure.subfigures(2, 1, height_ratios=(1.75 * len(films) + 0.7, 2.9), squeeze=False)
    upper, lower = parts[:, 0]
    upper.supxlabel("maps: vermillion above the map's own mean, blue below", fontsize=9)
    grid = upper.subplots(len(films), n_columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, heading in zip(grid[0], ("film", *maps), strict=True):
        axes.set_title(heading, fontsize=10)
    for place, row in enumerate(grid):
        film = films.iloc[place]
        _film(row[0], images[place])
        row[0].text(
            -0.08, 0.5, f"{OUTCOMES[film['outcome']][0]}\nP = {film['probability']:.3f}",
            ha="right", va="center", transform=row[0].transAxes, fontsize=9,
        )  # fmt: skip
        for axes, shown in zip(row[1:], maps.values(), strict=True):
            axes.imshow(overlay(images[place], shown[place] - shown[place].mean()))
    _similarities(lower.subplots(), sanity)
    return as_png(figure, ALL_COLOURS)


def _withheld(title: str, source: str) -> bytes:
    figure = new_figure(height=2.2, title=title, source=source)
    figure.text(
        0.5, 0.4,
        "The source is not marked public:\nits films are shown in no picture that Git keeps.",
        ha="center", va="center", fontsize=12,
    )  # fmt: skip
    return as_png(figure)


def _side_by_side(film: NDArray[np.uint8], mapped: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: a grey film, a narrow white gap, and the film under its map."""
    gap = np.full((len(film), max(1, len(film) // 40), 3), 255, np.uint8)
    return np.concatenate([np.repeat(film[..., None], 3, axis=2), gap, mapped], axis=1)


def _film(axes: Axes, image: NDArray[np.uint8]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)


def _limit(maps: NDArray[np.float32]) -> float:
    """Largest magnitude of all maps, in logits; 1 where all are zero, for any will do."""
    return float(np.abs(maps).max()) or 1.0


def _scale(figure: Figure, grid: NDArray[np.object_], limit: float) -> None:
    """The scale of `overlay` on a middle grey, under all panels."""
    middle = np.full(3, 0.5)
    ends = [
        (1 - OPACITY) * middle + OPACITY * np.array(_rgb(colour)) for colour in (BLUE, VERMILLION)
    ]
    colours = LinearSegmentedColormap.from_list("map", [ends[0], middle, ends[1]])
    bar = figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), colours), ax=grid.ravel().tolist(),
        location="bottom", aspect=50, fraction=0.03, pad=0.02,
    )  # fmt: skip
    bar.set_label(
        "towards normal  ←  logits that a place adds (their mean is the film's)  →  "
        "towards pneumonia"
    )


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _similarities(axes: Axes, sanity: Mapping[str, Any]) -> None:
    """Median and quartiles of each similarity, the first on top."""
    for place, key in enumerate(SIMILARITIES):
        found = sanity[key]
        axes.barh(
            place, found["q3"] - found["q1"], left=found["q1"], height=0.5,
            color=GREY if key == "chance" else BLUE, alpha=0.35,
        )  # fmt: skip
        axes.plot([found["median"]] * 2, [place - 0.25, place + 0.25], color="black", linewidth=2)
        axes.text(
            1.02, place, f"{found['median']:.2f} ({found['q1']:.2f} to {found['q3']:.2f})",
            va="center", fontsize=9, transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.set_yticks(range(len(SIMILARITIES)), list(_WORDS.values()))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(
        "rank correlation with the trained model's map, without its sign\n"
        "(median and quartiles; 1: the same order of places)"
    )
    plain(axes)

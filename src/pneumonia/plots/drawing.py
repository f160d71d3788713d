"""The house style: colours, sizes, headings, and PNG bytes that are the same every time.

Plots are drawn without pyplot, which keeps global state. A change in this module draws the plots
of `examine` again as well; the other modules belong to one of the two stages.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pneumonia.evaluation.metrics import dataset_in_words

CLASSES = ("normal", "pneumonia")
# Okabe and Ito's colours, which colour-blind readers tell apart: https://jfly.uni-koeln.de/color/
BLUE, VERMILLION, GREY, BLACK = "#0072B2", "#D55E00", "#767676", "#000000"
# 8 inches at 100 dots are 800 pixels: a README shows them one to one.
DOTS_PER_INCH = 100
# A palette makes the files a third as large. 128 colours also keep one that few pixels have;
# colours that fade over a radiograph need more.
N_COLOURS, MANY_COLOURS = 128, 192


def new_figure(height: float, title: str, dataset: str) -> Figure:
    """An empty figure of README width whose heading ends in the dataset.

    Args:
        height: in inches; the width is 8.
        title: what is shown, of which split, and how many images.
        dataset: its name.
    """
    figure = Figure(figsize=(8, height), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(f"{title}\n{dataset_in_words(dataset)}", fontsize=11)
    return figure


def n_images(evaluate: Mapping[str, Any], *splits: str) -> str:
    """How much was measured, for a heading: test: 624 images of 428 patients."""
    return "; ".join(
        f"{split}: {evaluate[split]['n_images']:,} images of "
        f"{evaluate[split]['n_patients']:,} patients"
        for split in splits
    )


def message_png(title: str, dataset: str, words: str) -> bytes:
    """A plot that has nothing to show and says why."""
    figure = new_figure(height=2.2, title=title, dataset=dataset)
    figure.text(0.5, 0.4, words, ha="center", va="center", fontsize=12)
    return as_png(figure)


def as_png(figure: Figure, n_colours: int = N_COLOURS) -> bytes:
    """The figure's pixels as PNG with a palette, without a date or a program's name."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib leaves both untyped
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    image = Image.fromarray(pixels).convert("RGB")
    image = image.quantize(n_colours, dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def plain(axes: Axes) -> None:
    """Give a plot its light grid, and take away the frame's upper and right side."""
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

"""The house style of the pictures: colours, sizes, and PNG bytes that are the same every time.

Figures are drawn without pyplot, which keeps global state.
"""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pneumonia.evaluation.metrics import source_in_words

# Okabe and Ito's colours, told apart by colour-blind readers: https://jfly.uni-koeln.de/color/
BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#767676"
COLOURS = {"train": GREY, "validation": VERMILLION, "test": BLUE}
# And told apart in black and white.
LINES = {"validation": "--", "test": "-"}
MARKERS = {"train": "o", "validation": "s", "test": "o"}
# 8 inches at 100 dots are 800 pixels: a README shows them one to one.
DOTS_PER_INCH = 100
# A palette makes the files a third as large; 64 colours hold greys and the edges of letters, and
# colours that fade over a film need all that a palette can have.
N_COLOURS, ALL_COLOURS = 64, 256


def new_figure(height: float, title: str, source: str) -> Figure:
    """An empty figure of README width whose heading ends in the source.

    Args:
        height: in inches; the width is 8.
        title: what is shown, of which split, and how many images.
        source: name of the data source.
    """
    figure = Figure(figsize=(8, height), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(f"{title}\n{source_in_words(source)}", fontsize=11)
    return figure


def as_png(figure: Figure, n_colours: int = N_COLOURS) -> bytes:
    """The figure's pixels as PNG with a palette, without a date or a program's name."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib leaves both untyped
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels).convert("RGB")
    picture = picture.quantize(n_colours, dither=Image.Dither.NONE)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def plain(axes: Axes) -> None:
    """Give a chart its light grid, and take away the frame's upper and right side."""
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

"""Warnings about images whose probability is doubtful: rules with measured thresholds.

A warning changes neither the probability nor the verdict. All constants come from the 4,710
training images of the paper's split of ChestXRay2017 (`chestxray2017-224`).
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumonia.data.images import FORMATS

# The mean of the training images, each shrunk to 8 × 8 and standardised to mean 0 and standard
# deviation 1; in hundredths. Dark: the corners and the lungs. Bright: the spine and the belly.
TYPICAL = np.array(
    [
        [-106, -50, 5, 78, 78, 5, -53, -114],
        [-105, 9, 28, 69, 70, 31, 5, -108],
        [-135, 20, -15, 69, 82, -1, 18, -136],
        [-156, 4, -32, 93, 118, 13, 7, -158],
        [-163, -22, -26, 111, 137, 52, -11, -167],
        [-166, -42, -18, 109, 139, 69, -28, -172],
        [-161, 13, 82, 138, 143, 90, -8, -172],
        [-145, 88, 147, 164, 157, 124, 60, -159],
    ]
)
# Correlation with the typical image, however turned: 99.6 % of the training images reach it.
LEAST_LIKENESS = 0.5
# Standard deviation of the 8 × 8 thumbnail, in grey levels. The flattest training image has 12.9.
LEAST_CONTRAST = 8.0
# Distance between the colour channels, in grey levels. All training images have 0.
MOST_COLOUR = 5.0
# Statistics of the 64 × 64 thumbnail: 99.8 % of the training images lie in each range.
TRAINING_RANGES = {
    "mean grey": (67.0, 185.0),  # grey levels
    "contrast": (25.0, 82.0),  # standard deviation, in grey levels
    "share of white": (0.0, 0.025),  # of the places at 247 or above
    "fine detail": (4.4, 14.0),  # mean difference between neighbouring places, in grey levels
}

_SIDE, _STATISTICS_SIDE = 8, 64
_WHITE = 247


def warnings_of(image: Image.Image, image_size: int, colour: float = 0.0) -> dict[str, str]:
    """Reasons to doubt the probability of an image: a sentence by code; empty if there are none.

    Codes: `tiny`, `blank`, `not_chest`, `inverted`, `rotated`, `far`. After `blank` and `not_chest`
    no other rule is tried.

    Args:
        image: mode L, of any size, as `images.decode` returns it.
        image_size: pixels a side that the network sees.
        colour: of the file, from `colour_of`; 0 for files without colour.
    """
    found = {}
    if min(image.size) < image_size:
        found["tiny"] = (
            f"{image.width} × {image.height} pixels; the network sees {image_size} a side"
        )
    grey = _thumbnail(image, _SIDE)
    if grey.std() < LEAST_CONTRAST:
        return found | {"blank": "nearly one grey all over"}
    if colour > MOST_COLOUR:
        return found | {"not_chest": "in colour; no training image is"}
    likeness, turned, inverted = best_likeness(grey)
    if likeness < LEAST_LIKENESS:
        return found | {
            "not_chest": "unlike a frontal chest radiograph, however turned: likeness "
            f"{likeness:.2f}; of training images at least {LEAST_LIKENESS:g}"
        }
    if inverted:
        found["inverted"] = "looks like a negative: air bright, bone dark"
    if turned:
        found["rotated"] = f"looks turned by {turned}° (anticlockwise)"
    if inverted or turned:  # which would explain the rest
        return found
    far = []
    for name, value in statistics(image).items():
        low, high = TRAINING_RANGES[name]
        if not low <= value <= high:
            far.append(f"{name} {value:.3g}, of training images {low:g} to {high:g}")
    return found | ({"far": "; ".join(far)} if far else {})


def best_likeness(thumbnail: NDArray[np.float64]) -> tuple[float, int, bool]:
    """How a thumbnail must be turned to be most like the typical image.

    Args:
        thumbnail: (8, 8) float, greys in any unit; not all equal.

    Returns:
        The highest correlation, in [0, 1], of the thumbnail with the typical image in its eight
        forms; by how many degrees that form is turned anticlockwise; whether it is a negative.
    """
    standard = (thumbnail - thumbnail.mean()) / thumbnail.std()
    by_turns = [float((standard * np.rot90(TYPICAL / 100, k)).mean()) for k in range(4)]
    turns = int(np.argmax(np.abs(by_turns)))  # the correlation of a negative is below 0
    return abs(by_turns[turns]), 90 * turns, by_turns[turns] < 0


def statistics(image: Image.Image) -> dict[str, float]:
    """The statistics of `TRAINING_RANGES` of an image in mode L."""
    grey = _thumbnail(image, _STATISTICS_SIDE)
    steps = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
    return {
        "mean grey": float(grey.mean()),
        "contrast": float(grey.std()),
        "share of white": float((grey >= _WHITE).mean()),
        "fine detail": float(np.mean(steps)),
    }


def colour_of(data: bytes) -> float:
    """Mean distance between the highest and the lowest colour channel, in [0, 255].

    Args:
        data: a JPEG or PNG that `images.decode` has read.
    """
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.mode not in ("P", "PA", "RGB", "RGBA", "CMYK"):
        return 0.0
    image.draft("RGB", (_STATISTICS_SIDE, _STATISTICS_SIDE))  # a JPEG is decoded at a fraction
    small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    channels = np.asarray(small, np.float64)
    return float((channels.max(axis=2) - channels.min(axis=2)).mean())


def _thumbnail(image: Image.Image, side: int) -> NDArray[np.float64]:
    """(side, side) float in [0, 255]: the mean grey of each of the image's tiles."""
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float64)

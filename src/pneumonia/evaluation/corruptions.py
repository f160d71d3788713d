"""Graded corruptions of films: what noise, poor exposure and careless handling do to them.

Where a scale follows ImageNet-C (Hendrycks and Dietterich, Benchmarking neural network robustness
to common corruptions and perturbations, ICLR 2019), its five numbers are those of the authors'
program, https://github.com/hendrycks/robustness, which works on 224 pixels a side; what it counts
in pixels is here a share of the side. The numbers of rotation, shift and occlusion are our own:
ImageNet-C has none of them.

Noise is of the pixels that the network sees. A scanner's noise is of far smaller pixels, and most
of it is gone when a film is made small.
"""

import io
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

# (n_films, side, side) uint8 in [0, 255]; black = 0.
Films: TypeAlias = NDArray[np.uint8]
# The same shape, any numeric type and range; rounded and clipped to [0, 255] afterwards.
Corrupted: TypeAlias = NDArray[Any]

# Films in memory as float32 at a time.
_CHUNK = 64
# Stages share one seed; no two draws are one another's continuation.
_STREAM = 9


class Corruption(NamedTuple):
    """One way to spoil a film."""

    label: str  # for pictures and documents
    unit: str  # what the levels count
    levels: tuple[float, ...]  # of severity 1, 2 …
    apply: Callable[[Films, float, np.random.Generator], Corrupted]  # films, level, draws


def corrupted(films: Films, name: str, severity: int, seed: int) -> Films:
    """The films under one corruption.

    All severities of a corruption share their draws (noise, direction, place), so that they differ
    in strength alone. The same seed gives the same pixels.

    Args:
        films: (n_films, side, side) uint8 in [0, 255]; not changed.
        name: a key of `CORRUPTIONS`.
        severity: 0 (the films as they are) to the number of the corruption's levels.
        seed: of the draws, at least 0.

    Returns:
        (n_films, side, side) uint8 in [0, 255].

    Raises:
        ValueError: the corruption has no such severity.
    """
    corruption = CORRUPTIONS[name]
    if not 0 <= severity <= len(corruption.levels):
        raise ValueError(f"{name} has severities 0 to {len(corruption.levels)}, not {severity}")
    if severity == 0:
        return films.copy()
    level = corruption.levels[severity - 1]
    random = np.random.default_rng([seed, _STREAM, list(CORRUPTIONS).index(name)])
    result = np.empty_like(films)
    for start in range(0, len(films), _CHUNK):
        chunk = films[start : start + _CHUNK]
        pixels = corruption.apply(chunk, level, random)
        result[start : start + _CHUNK] = np.clip(np.rint(pixels), 0, 255)
    return result


def _gaussian_noise(films: Films, level: float, random: np.random.Generator) -> Corrupted:
    return films + 255 * level * random.standard_normal(films.shape, dtype=np.float32)


def _speckle_noise(films: Films, level: float, random: np.random.Generator) -> Corrupted:
    return films * (1 + level * random.standard_normal(films.shape, dtype=np.float32))


def _blur(films: Films, level: float, _: np.random.Generator) -> Corrupted:
    sigma = level / 100 * films.shape[-1]
    # As in the source: four standard deviations wide, the film's edge repeated.
    blurred: Corrupted = gaussian_filter(
        films.astype(np.float32), (0, sigma, sigma), mode="nearest", truncate=4
    )
    return blurred


def _low_contrast(films: Films, level: float, _: np.random.Generator) -> Corrupted:
    mean = films.mean(axis=(1, 2), keepdims=True)
    nearer: Corrupted = mean + level * (films - mean)
    return nearer


def _over_exposure(films: Films, level: float, _: np.random.Generator) -> Corrupted:
    return films - 255 * level


def _under_exposure(films: Films, level: float, _: np.random.Generator) -> Corrupted:
    return films + 255 * level


def _jpeg(films: Films, level: float, _: np.random.Generator) -> Corrupted:
    def saved(film: Films) -> Films:
        file = io.BytesIO()
        Image.fromarray(film).save(file, "JPEG", quality=int(level))
        return np.asarray(Image.open(file))

    return np.stack([saved(film) for film in films])


def _rotation(films: Films, level: float, random: np.random.Generator) -> Corrupted:
    angles = level * random.choice((-1, 1), size=len(films))
    return np.stack(
        [
            np.asarray(Image.fromarray(film).rotate(angle, Image.Resampling.BILINEAR, fillcolor=0))
            for film, angle in zip(films, angles.tolist(), strict=True)
        ]
    )


def _shift(films: Films, level: float, random: np.random.Generator) -> Corrupted:
    side = films.shape[-1]
    pixels = round(level * side)
    padded = np.pad(films, ((0, 0), (pixels, pixels), (pixels, pixels)))
    # 0 shows the film moved towards the end of the axis, 2 × pixels towards its start.
    starts = 2 * pixels * random.integers(2, size=(len(films), 2))
    return np.stack(
        [
            film[top : top + side, left : left + side]
            for film, (top, left) in zip(padded, starts.tolist(), strict=True)
        ]
    )


def _occlusion(films: Films, level: float, random: np.random.Generator) -> Corrupted:
    side = films.shape[-1]
    width = round(level * side)
    corners = (random.random((len(films), 2)) * (side - width + 1)).astype(int)
    covered = films.copy()
    for film, (top, left) in zip(covered, corners.tolist(), strict=True):
        film[top : top + width, left : left + width] = 0
    return covered


def _inverted(films: Films, _level: float, _: np.random.Generator) -> Corrupted:
    return 255 - films


def _low_resolution(films: Films, level: float, _: np.random.Generator) -> Corrupted:
    side = films.shape[-1]
    few = int(level * side)  # cut off, not rounded, as in the source
    box = Image.Resampling.BOX
    return np.stack(
        [
            np.asarray(Image.fromarray(film).resize((few, few), box).resize((side, side), box))
            for film in films
        ]
    )


# A name's place in this order is part of its draws: new ones go to the end.
CORRUPTIONS = {
    # ImageNet-C, gaussian_noise and speckle_noise: standard deviation; speckle's grows with the
    # brightness of the pixel.
    "gaussian_noise": Corruption(
        "Gaussian noise", "SD, share of range", (0.08, 0.12, 0.18, 0.26, 0.38), _gaussian_noise
    ),
    "speckle_noise": Corruption(
        "Speckle noise", "SD, share of pixel", (0.15, 0.2, 0.35, 0.45, 0.6), _speckle_noise
    ),
    # ImageNet-C, gaussian_blur: standard deviations of 1, 2, 3, 4 and 6 of 224 pixels.
    "blur": Corruption(
        "Blur", "SD, % of side", tuple(100 * pixels / 224 for pixels in (1, 2, 3, 4, 6)), _blur
    ),
    # ImageNet-C, contrast: distance of each pixel from the film's mean.
    "low_contrast": Corruption(
        "Low contrast", "share kept", (0.4, 0.3, 0.2, 0.1, 0.05), _low_contrast
    ),
    # ImageNet-C, brightness: added to each pixel. More light blackens a radiograph, so that
    # over-exposure takes away what the source adds; that side of the scale is our own.
    "over_exposure": Corruption(
        "Over-exposure", "darker, share of range", (0.1, 0.2, 0.3, 0.4, 0.5), _over_exposure
    ),
    "under_exposure": Corruption(
        "Under-exposure", "brighter, share of range", (0.1, 0.2, 0.3, 0.4, 0.5), _under_exposure
    ),
    # ImageNet-C, jpeg_compression.
    "jpeg": Corruption("JPEG", "quality", (25, 18, 15, 10, 7), _jpeg),
    # Our own, up to the widest that the study's paper trained with, 40° and 20 %; either way.
    "rotation": Corruption("Rotation", "degrees", (5, 10, 20, 30, 40), _rotation),
    "shift": Corruption("Shift", "share of side, both axes", (0.04, 0.08, 0.12, 0.16, 0.2), _shift),
    # Our own: a black square anywhere on the film, up to a quarter of its area.
    "occlusion": Corruption(
        "Occlusion", "square, share of side", (0.1, 0.2, 0.3, 0.4, 0.5), _occlusion
    ),
    # Black bones on white, as MONOCHROME1 is read without care: it has no grades.
    "inverted": Corruption("Inverted grey scale", "off or on", (1,), _inverted),
    # ImageNet-C, pixelate.
    "low_resolution": Corruption(
        "Low resolution", "pixels, share of side", (0.6, 0.5, 0.4, 0.3, 0.25), _low_resolution
    ),
}

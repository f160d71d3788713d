"""Graded corruptions of images: noise, poor exposure, careless handling.

Where a scale follows ImageNet-C (Hendrycks and Dietterich, Benchmarking neural network robustness
to common corruptions and perturbations, ICLR 2019), its five numbers are those of the authors'
program, https://github.com/hendrycks/robustness, which works on 224 pixels a side; what it counts
in pixels is here a share of the side. The numbers of rotation, shift and occlusion are our own:
ImageNet-C has none of them.

Noise is of the pixels that the network sees. A scanner's noise is of far smaller pixels, and most
of it is gone when a radiograph is made small.
"""

import io
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

# (n_images, side, side) uint8 in [0, 255]; black = 0.
Images: TypeAlias = NDArray[np.uint8]
# The same shape, any numeric type and range; rounded and clipped to [0, 255] afterwards.
Corrupted: TypeAlias = NDArray[Any]

# Images in memory as float32 at a time.
_CHUNK = 64
# Stages share one seed; no two draws are one another's continuation.
_STREAM = 9


class Corruption(NamedTuple):
    """One way to spoil an image."""

    label: str  # for plots and documents
    unit: str  # what the levels count
    levels: tuple[float, ...]  # of severity 1, 2 …
    apply: Callable[[Images, float, np.random.Generator], Corrupted]  # images, level, draws


def corrupted(images: Images, name: str, severity: int, seed: int) -> Images:
    """(n_images, side, side) uint8: the images under one corruption.

    All severities of a corruption share their draws (noise, direction, place), so that they differ
    in strength alone. The same seed gives the same pixels.

    Args:
        images: (n_images, side, side) uint8 in [0, 255]; not changed.
        name: a key of `CORRUPTIONS`.
        severity: 0 (the images as they are) to the number of the corruption's levels.
        seed: of the draws, at least 0.

    Raises:
        ValueError: the corruption has no such severity.
    """
    corruption = CORRUPTIONS[name]
    if not 0 <= severity <= len(corruption.levels):
        raise ValueError(f"{name} has severities 0 to {len(corruption.levels)}, not {severity}")
    if severity == 0:
        return images.copy()
    level = corruption.levels[severity - 1]
    random = np.random.default_rng([seed, _STREAM, list(CORRUPTIONS).index(name)])
    result = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        pixels = corruption.apply(images[start : start + _CHUNK], level, random)
        result[start : start + _CHUNK] = np.clip(np.rint(pixels), 0, 255)
    return result


def _normal(images: Images, random: np.random.Generator) -> Corrupted:
    return random.standard_normal(images.shape, dtype=np.float32)


def _low_contrast(images: Images, level: float, _: np.random.Generator) -> Corrupted:
    mean = images.mean(axis=(1, 2), keepdims=True)
    return np.asarray(mean + level * (images - mean))


def _blur(images: Images, level: float, _: np.random.Generator) -> Corrupted:
    sigma = level / 100 * images.shape[-1]
    # As in the source: four standard deviations wide, the edge repeated.
    sigmas = (0, sigma, sigma)
    return np.asarray(
        gaussian_filter(images.astype(np.float32), sigmas, mode="nearest", truncate=4)
    )


def _jpeg(images: Images, level: float, _: np.random.Generator) -> Corrupted:
    def saved(image: Images) -> Images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(level))
        return np.asarray(Image.open(file))

    return np.stack([saved(image) for image in images])


def _rotation(images: Images, level: float, random: np.random.Generator) -> Corrupted:
    angles = (level * random.choice((-1, 1), size=len(images))).tolist()
    bilinear = Image.Resampling.BILINEAR
    rotated = [
        Image.fromarray(image).rotate(angle, bilinear, fillcolor=0)
        for image, angle in zip(images, angles, strict=True)
    ]
    return np.stack([np.asarray(image) for image in rotated])


def _shift(images: Images, level: float, random: np.random.Generator) -> Corrupted:
    side = images.shape[-1]
    pixels = round(level * side)
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels)))
    # 0 shows the image moved towards the end of the axis, 2 × pixels towards its start.
    starts = (2 * pixels * random.integers(2, size=(len(images), 2))).tolist()
    return np.stack(
        [
            image[top : top + side, left : left + side]
            for image, (top, left) in zip(padded, starts, strict=True)
        ]
    )


def _occlusion(images: Images, level: float, random: np.random.Generator) -> Corrupted:
    side = images.shape[-1]
    width = round(level * side)
    corners = (random.random((len(images), 2)) * (side - width + 1)).astype(int).tolist()
    covered = images.copy()
    for image, (top, left) in zip(covered, corners, strict=True):
        image[top : top + width, left : left + width] = 0
    return covered


def _low_resolution(images: Images, level: float, _: np.random.Generator) -> Corrupted:
    side, box = images.shape[-1], Image.Resampling.BOX
    few = int(level * side)  # cut off, not rounded, as in the source
    small = [Image.fromarray(image).resize((few, few), box) for image in images]
    return np.stack([np.asarray(image.resize((side, side), box)) for image in small])


# A name's place in this order is part of its draws: new ones go to the end.
# Of ImageNet-C: gaussian_noise and speckle_noise (standard deviation; speckle's grows with the
# brightness of the pixel), gaussian_blur (1, 2, 3, 4 and 6 of 224 pixels), contrast (distance of
# each pixel from the mean), brightness, jpeg_compression and pixelate. More light blackens a
# radiograph, so over-exposure takes away what brightness adds; that side of the scale is our own.
# Our own: rotation and shift up to the widest that the study's paper trained with, 40° and 20 %,
# either way; a black square up to a quarter of the area; black bones on white, as MONOCHROME1 is
# read without care, which has no grades.
CORRUPTIONS = {
    "gaussian_noise": Corruption(
        "Gaussian noise", "SD, share of range", (0.08, 0.12, 0.18, 0.26, 0.38),
        lambda images, level, random: images + 255 * level * _normal(images, random),
    ),
    "speckle_noise": Corruption(
        "Speckle noise", "SD, share of pixel", (0.15, 0.2, 0.35, 0.45, 0.6),
        lambda images, level, random: images * (1 + level * _normal(images, random)),
    ),
    "blur": Corruption(
        "Blur", "SD, % of side", tuple(100 * pixels / 224 for pixels in (1, 2, 3, 4, 6)), _blur
    ),
    "low_contrast": Corruption(
        "Low contrast", "share kept", (0.4, 0.3, 0.2, 0.1, 0.05), _low_contrast
    ),
    "over_exposure": Corruption(
        "Over-exposure", "darker, share of range", (0.1, 0.2, 0.3, 0.4, 0.5),
        lambda images, level, _: images - 255 * level,
    ),
    "under_exposure": Corruption(
        "Under-exposure", "brighter, share of range", (0.1, 0.2, 0.3, 0.4, 0.5),
        lambda images, level, _: images + 255 * level,
    ),
    "jpeg": Corruption("JPEG", "quality", (25, 18, 15, 10, 7), _jpeg),
    "rotation": Corruption("Rotation", "degrees", (5, 10, 20, 30, 40), _rotation),
    "shift": Corruption("Shift", "share of side, both axes", (0.04, 0.08, 0.12, 0.16, 0.2), _shift),
    "occlusion": Corruption(
        "Occlusion", "square, share of side", (0.1, 0.2, 0.3, 0.4, 0.5), _occlusion
    ),
    "inverted": Corruption(
        "Inverted grey scale", "off or on", (1,), lambda images, _level, _: 255 - images
    ),
    "low_resolution": Corruption(
        "Low resolution", "pixels, share of side", (0.6, 0.5, 0.4, 0.3, 0.25), _low_resolution
    ),
}  # fmt: skip

"""Augmentation of training images: one composed affine transform, then gamma, contrast, brightness.

The random numbers are drawn by NumPy on the host, as a function of (seed, epoch, step), and enter
the model as inputs. The pixels are transformed on the device, inside the training graph. So a
resumed training sees what an undisturbed one sees, on every backend.

Keras is imported inside the function that needs it: checking parameters starts no TensorFlow.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pneumonia.store.params import check


@dataclass(frozen=True)
class AugmentationParams:
    """Ranges of the random changes; each image draws its own."""

    rotation_degrees: float  # from -r to r
    shift: float  # fraction of the side, either way, each axis
    shear_degrees: float  # either way
    zoom_min: float  # side of the part that is seen, as a fraction: below 1 magnifies
    zoom_max: float
    aspect: float  # width to height from 1 / (1 + a) to 1 + a
    crop_area_min: float  # crop-and-zoom: least share of the area kept
    flip: bool  # left and right, one image in two
    fill: Literal["constant", "nearest", "reflect"]  # beyond the film; constant is black
    gamma: float  # exponent from 1 / (1 + g) to 1 + g
    brightness: float  # fraction of the full range, either way
    contrast: float  # factor from 1 - c to 1 + c

    def __post_init__(self) -> None:
        check(0 <= self.rotation_degrees <= 180, "rotation_degrees", "be in [0, 180]",
              self.rotation_degrees)  # fmt: skip
        check(0 <= self.shift <= 1, "shift", "be in [0, 1]", self.shift)
        check(0 <= self.shear_degrees < 90, "shear_degrees", "be in [0, 90)", self.shear_degrees)
        check(0 < self.zoom_min <= self.zoom_max, "zoom_min",
              f"be above 0 and at most zoom_max ({self.zoom_max})", self.zoom_min)  # fmt: skip
        check(self.zoom_max <= 10, "zoom_max", "be at most 10", self.zoom_max)
        check(0 <= self.aspect <= 3, "aspect", "be in [0, 3]", self.aspect)
        check(0 < self.crop_area_min <= 1, "crop_area_min", "be in (0, 1]", self.crop_area_min)
        check(0 <= self.gamma <= 3, "gamma", "be in [0, 3]", self.gamma)
        check(0 <= self.brightness <= 1, "brightness", "be in [0, 1]", self.brightness)
        check(0 <= self.contrast <= 1, "contrast", "be in [0, 1]", self.contrast)


def draw_affine(
    n_images: int, image_size: int, params: AugmentationParams, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Affine transforms drawn from the ranges, one an image.

    Returns:
        (n_images, 8) float32 [a0, a1, a2, b0, b1, b2, 0, 0]: the pixel at (x, y) of the result is
        read at (a0 x + a1 y + a2, b0 x + b1 y + b2) of the radiograph, in pixels. It rotates,
        shears, zooms and flips about the middle of the image, then shifts.
    """

    def either_way(limit: float) -> NDArray[np.float64]:
        return rng.uniform(-limit, limit, n_images)

    # All numbers are drawn whatever the ranges: turning one change off leaves the others as drawn.
    angle = np.deg2rad(either_way(params.rotation_degrees))
    shear = np.tan(np.deg2rad(either_way(params.shear_degrees)))
    zoom = rng.uniform(params.zoom_min, params.zoom_max, n_images)
    stretch = np.exp(either_way(math.log1p(params.aspect)) / 2)
    mirror = np.where(rng.random(n_images) < (0.5 if params.flip else 0.0), -1.0, 1.0)
    shift_x, shift_y = either_way(params.shift), either_way(params.shift)
    # Crop-and-zoom: a part of the film, anywhere on it (Szegedy et al. 2015, arXiv:1409.4842).
    crop_side = np.sqrt(rng.uniform(params.crop_area_min, 1.0, n_images))
    crop_x = either_way(0.5) * (1 - crop_side)
    crop_y = either_way(0.5) * (1 - crop_side)

    width = mirror * zoom * crop_side * stretch
    height = zoom * crop_side / stretch
    # rotation @ shear along x @ diag(width, height)
    cos, sin = np.cos(angle), np.sin(angle)
    a0, a1 = cos * width, (cos * shear - sin) * height
    b0, b1 = sin * width, (sin * shear + cos) * height
    middle = (image_size - 1) / 2
    a2 = middle - (a0 + a1) * middle + (shift_x + crop_x) * image_size
    b2 = middle - (b0 + b1) * middle + (shift_y + crop_y) * image_size
    nil = np.zeros(n_images)
    return np.stack([a0, a1, a2, b0, b1, b2, nil, nil], axis=1).astype(np.float32)


def draw_tone(
    n_images: int, params: AugmentationParams, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Changes of tone drawn from the ranges, one an image.

    Returns:
        (n_images, 3) float32: the exponent of gamma, the factor of contrast about the middle grey,
        and the brightness added, as a fraction of the full range.
    """
    gamma = np.exp(rng.uniform(-1, 1, n_images) * math.log1p(params.gamma))
    contrast = 1 + rng.uniform(-1, 1, n_images) * params.contrast
    brightness = rng.uniform(-1, 1, n_images) * params.brightness
    return np.stack([gamma, contrast, brightness], axis=1).astype(np.float32)


def augmented(images: Any, affine: Any, tone: Any, fill: str) -> Any:
    """The radiographs after their affine transform (bilinear), gamma, contrast and brightness.

    Args:
        images: (n, height, width, 1) tensor in [0, 255].
        affine: (n, 8) as `draw_affine` returns.
        tone: (n, 3) as `draw_tone` returns.
        fill: what lies beyond the film: "constant" (black), "nearest" or "reflect".

    Returns:
        (n, height, width, 1) float32 tensor in [0, 255].
    """
    from keras import ops

    moved = ops.image.affine_transform(
        ops.cast(images, "float32"),
        affine,
        interpolation="bilinear",
        fill_mode=fill,
        fill_value=0,
        data_format="channels_last",
    )
    gamma, contrast, brightness = (tone[:, i, None, None, None] for i in range(3))
    # The lower bound keeps the gradient-free power defined; it is far below one grey level.
    toned = ops.power(ops.clip(moved / 255.0, 1e-6, 1.0), gamma)
    return 255.0 * ops.clip((toned - 0.5) * contrast + 0.5 + brightness, 0.0, 1.0)

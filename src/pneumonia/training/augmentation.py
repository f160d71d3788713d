"""Augmentation of training images: one affine transform, then changes of tone, blur and noise.

The random numbers are drawn by NumPy on the host, as a function of (seed, epoch, step), and enter
the model as inputs. The pixels are transformed on the device, inside the training graph. So a
resumed training sees what an undisturbed one sees, on every backend.

Keras is imported inside the function that needs it: checking parameters starts no TensorFlow.
"""

import math
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pneumonia.store.params import Section, require


class AugmentationParams(Section):
    """Ranges of the random changes; each image draws its own."""

    rotation_degrees: float = Field(ge=0, le=180, description="from -r to r")
    shift: float = Field(ge=0, le=1, description="fraction of the side, either way, each axis")
    shear_degrees: float = Field(ge=0, lt=90, description="either way")
    zoom_min: float = Field(
        gt=0, le=10, description="side of the part that is seen, as a fraction: below 1 magnifies"
    )
    zoom_max: float = Field(gt=0, le=10)
    aspect: float = Field(ge=0, le=3, description="width to height from 1 / (1 + a) to 1 + a")
    crop_area_min: float = Field(
        gt=0, le=1, description="least share of the area that a crop keeps"
    )
    crop_area_max: float = Field(gt=0, le=1, description="largest share; 1 and 1 crop nothing")
    crop_aspect: float = Field(ge=1, le=4, description="of a crop, from 1 / a (tall) to a (wide)")
    flip: bool = Field(description="left and right, one image in two")
    fill: Literal["constant", "nearest", "reflect"] = Field(
        description="beyond the radiograph; constant is black"
    )
    gamma: float = Field(ge=0, le=3, description="exponent from 1 / (1 + g) to 1 + g")
    brightness: float = Field(ge=0, le=1, description="fraction of the full range, either way")
    contrast: float = Field(ge=0, le=1, description="factor from 1 - c to 1 + c")
    noise: float = Field(ge=0, le=1, description="standard deviation up to this share of the range")
    blur: float = Field(
        ge=0, le=5, description="Gaussian, standard deviation up to this, in pixels"
    )

    @model_validator(mode="after")
    def _ranges_have_an_order(self) -> Self:
        require(self.zoom_min <= self.zoom_max, "zoom_min",
                f"be at most zoom_max ({self.zoom_max})", self.zoom_min)  # fmt: skip
        require(self.crop_area_min <= self.crop_area_max, "crop_area_min",
                f"be at most crop_area_max ({self.crop_area_max})",
                self.crop_area_min)  # fmt: skip
        return self


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
    # A part of the radiograph, anywhere on it (Szegedy et al. 2015, arXiv:1409.4842). Its aspect
    # has a stream of its own: the numbers drawn from `rng` stay what they were without it.
    crop_side = np.sqrt(rng.uniform(params.crop_area_min, params.crop_area_max, n_images))
    (of_aspects,) = rng.spawn(1)
    limit = math.log(params.crop_aspect)
    # Both sides must fit: neither may become longer than the radiograph's.
    longest = -np.log(crop_side)
    tall_or_wide = np.clip(of_aspects.uniform(-limit, limit, n_images) / 2, -longest, longest)
    crop_width, crop_height = crop_side * np.exp(tall_or_wide), crop_side * np.exp(-tall_or_wide)
    crop_x = either_way(0.5) * (1 - crop_width)
    crop_y = either_way(0.5) * (1 - crop_height)

    width = mirror * zoom * crop_width * stretch
    height = zoom * crop_height / stretch
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


def draw_noise(
    n_images: int, image_size: int, params: AugmentationParams, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(n_images, image_size, image_size, 1) float32; grey levels to add to each pixel."""
    deviation = 255 * rng.uniform(0, params.noise, (n_images, 1, 1, 1)).astype(np.float32)
    shape = (n_images, image_size, image_size, 1)
    return deviation * rng.standard_normal(shape, dtype=np.float32)


def draw_blur(
    n_images: int, params: AugmentationParams, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(n_images, 1) float32; the standard deviation of each image's Gaussian blur, in pixels."""
    return rng.uniform(0, params.blur, (n_images, 1)).astype(np.float32)


def augmented(images: Any, affine: Any, tone: Any, fill: str) -> Any:
    """The radiographs after their affine transform (bilinear), gamma, contrast and brightness.

    Args:
        images: (n, height, width, 1) tensor in [0, 255].
        affine: (n, 8) as `draw_affine` returns.
        tone: (n, 3) as `draw_tone` returns.
        fill: what lies beyond the radiograph: "constant" (black), "nearest" or "reflect".

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


def blurred(images: Any, deviation: Any, most: float) -> Any:
    """The images under a Gaussian of each one's own width, mirrored at their edges.

    Args:
        images: (n, height, width, 1) float32 tensor.
        deviation: (n, 1) as `draw_blur` returns.
        most: the largest deviation that can be; the Gaussian ends at three of it.

    Returns:
        (n, height, width, 1) float32 tensor.
    """
    from keras import ops

    reach = math.ceil(3 * most)
    steps = np.arange(-reach, reach + 1, dtype=np.float32)[None]
    weights = ops.exp(-0.5 * ops.square(ops.divide(steps, ops.maximum(deviation, 1e-3))))
    weights = weights / ops.sum(weights, axis=1, keepdims=True)
    size = images.shape[1]
    for axis in (1, 2):
        around = [(reach, reach) if axis == side else (0, 0) for side in range(4)]
        padded = ops.pad(images, around, mode="symmetric")
        parts = [
            padded[:, k : k + size] if axis == 1 else padded[:, :, k : k + size]
            for k in range(2 * reach + 1)
        ]
        images = sum(weights[:, k, None, None, None] * part for k, part in enumerate(parts))
    return images

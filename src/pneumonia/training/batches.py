"""Training batches over memory-mapped pixels, each a function of (seed, epoch, step) alone."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pneumonia.store.arrays import Split
from pneumonia.training.augmentation import (
    AugmentationParams,
    draw_affine,
    draw_blur,
    draw_noise,
    draw_tone,
)

# Streams of random numbers that must not be one another's continuation.
_ORDER, _CHANGES = 0, 1


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """One epoch of a split in random order, with the random numbers of its augmentation.

    The last batch is filled up with the epoch's first images: a batch of another size would have
    kernels built again for it, which on a CPU costs as much as many batches.

    Each item is `(inputs, labels, weights)`: inputs `radiograph` (n, height, width, 1) uint8,
    `affine` (n, 8), `tone` (n, 3) and, where there are such, `blur` (n, 1) and `noise` (n, height,
    width, 1) float32; labels (n, 1) float32; weights (n,) float32.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        class_weights: tuple[float, float],
        augmentation: AugmentationParams,
        seed: int,
        epoch: int,
    ) -> None:
        super().__init__()
        self._split, self._labels = split, split.labels
        self._batch_size, self._class_weights = batch_size, np.asarray(class_weights, np.float32)
        self._augmentation, self._seed, self._epoch = augmentation, seed, epoch
        rng = np.random.default_rng([seed, epoch, _ORDER])
        order = rng.permutation(len(self._labels))
        self._n_batches = -(-len(order) // batch_size)
        self._order = np.resize(order, self._n_batches * batch_size)  # from the front again

    def __len__(self) -> int:
        return self._n_batches

    def __getitem__(
        self, step: int
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32], NDArray[np.float32]]:
        rows = self._order[step * self._batch_size : (step + 1) * self._batch_size]
        rng = np.random.default_rng([self._seed, self._epoch, _CHANGES, step])
        inputs: dict[str, NDArray[Any]] = {
            "radiograph": self._split.images[rows][..., None],
            "affine": draw_affine(len(rows), self._split.image_size, self._augmentation, rng),
            "tone": draw_tone(len(rows), self._augmentation, rng),
        }
        # Both after all others, and only where they are asked for: an input costs memory and time.
        if self._augmentation.blur:
            inputs["blur"] = draw_blur(len(rows), self._augmentation, rng)
        if self._augmentation.noise:
            size = self._split.image_size
            (of_noise,) = rng.spawn(1)
            inputs["noise"] = draw_noise(len(rows), size, self._augmentation, of_noise)
        labels = self._labels[rows]
        return inputs, labels[:, None].astype(np.float32), self._class_weights[labels]

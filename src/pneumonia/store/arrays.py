"""A split as `preprocess` wrote it: pixels in a memory-mapped array, and a row an image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pneumonia.errors import PipelineError
from pneumonia.store.files import read_table

IMAGES = "images.npy"
INDEX = "index.csv"


@dataclass(frozen=True)
class Split:
    """The radiographs of one split.

    Attributes:
        images: (n_images, height, width) uint8 greyscale in [0, 255]; memory-mapped, read-only.
        index: a row an image, in the same order: name, label, kind, patient_id and more.
    """

    images: NDArray[np.uint8]
    index: pd.DataFrame

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n_images,) int; 1 = pneumonia, 0 = normal."""
        return self.index["label"].to_numpy(dtype=np.int64)

    @property
    def image_size(self) -> int:
        """Pixels a side; the images are square."""
        return int(self.images.shape[1])


def open_split(folder: Path) -> Split:
    """The split in `folder`, without reading its pixels.

    Raises:
        PipelineError: a file is missing or broken, the two disagree, or a class is missing.
    """
    index = read_table(folder / INDEX, text=("name", "kind", "patient_id"))
    try:
        images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PipelineError(
            f"{folder / IMAGES}: expected an array that can be read. Received: {error}"
        ) from error
    square = images.ndim == 3 and images.shape[1] == images.shape[2]
    if images.dtype != np.uint8 or not square or len(images) != len(index):
        raise PipelineError(
            f"{folder}: {INDEX} has {len(index)} rows, so {IMAGES} must be uint8 of shape "
            f"({len(index)}, side, side). Received: {images.dtype} {images.shape}"
        )
    if set(index["label"]) != {0, 1}:
        raise PipelineError(
            f"{folder / INDEX}: both labels, 0 (normal) and 1 (pneumonia), must occur, and no "
            f"other. Received: {sorted(set(index['label']))}"
        )
    return Split(images, index)

"""Classifiers on disk: canonical `.keras` files, and the probabilities that come out of one.

Keras is started inside the function that needs it.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumonia.errors import PipelineError
from pneumonia.quiet import start_keras
from pneumonia.store.files import replacing

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip entry can have


def save_classifier(classifier: Any, path: Path) -> None:
    """Write a `.keras` file whose bytes depend on the architecture and the weights alone.

    Keras writes the date, zip times, and memory addresses (`shared_object_id`), so two equal
    trainings would give different files, and DVC different hashes.
    """
    with replacing(path) as partial:
        classifier.save(partial)
        with zipfile.ZipFile(partial) as archive:
            members = {name: archive.read(name) for name in sorted(archive.namelist())}
        metadata = json.loads(members["metadata.json"])
        metadata.pop("date_saved", None)
        members["metadata.json"] = json.dumps(metadata, sort_keys=True).encode()
        config = json.loads(members["config.json"])
        _renumber_shared_objects(config, {})
        members["config.json"] = json.dumps(config, sort_keys=True).encode()
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)


def _renumber_shared_objects(node: Any, numbers: dict[int, int]) -> None:
    """Replace memory addresses by 0, 1, 2 … in order of appearance, equal ones by equal numbers."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "shared_object_id":
                node[key] = numbers.setdefault(value, len(numbers))
            else:
                _renumber_shared_objects(value, numbers)
    elif isinstance(node, list):
        for value in node:
            _renumber_shared_objects(value, numbers)


def load_classifier(path: Path) -> Any:
    """The classifier in a `.keras` file, in safe mode: no code of the file is run.

    Returns:
        A Keras model. Input: (n, height, width, 1) in [0, 255]. Output: (n, 1) float32 in [0, 1].

    Raises:
        PipelineError: the file is missing, broken, or no classifier of this pipeline.
    """
    keras = start_keras()
    try:
        classifier = keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:300]
        raise PipelineError(
            f"{path}: expected a Keras model that can be read. Received: {reason}"
        ) from error
    shape = getattr(classifier, "input_shape", None)
    one_channel = isinstance(shape, tuple) and len(shape) == 4 and shape[-1] == 1
    if not one_channel or classifier.output_shape != (None, 1):
        raise PipelineError(
            f"{path}: expected a model from (n, height, width, 1) to (n, 1). "
            f"Received: {shape} to {getattr(classifier, 'output_shape', None)}"
        )
    return classifier


def predict_probabilities(
    classifier: Any, images: NDArray[np.uint8], batch_size: int = 64
) -> NDArray[np.float64]:
    """P(pneumonia) of each radiograph.

    Args:
        classifier: as `load_classifier` returns.
        images: (n_images, height, width) uint8 in [0, 255], possibly memory-mapped.
        batch_size: images in memory at a time.

    Returns:
        (n_images,) float64 in [0, 1].
    """
    probabilities = np.empty(len(images))
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size], dtype=np.float32)[..., None]
        n_images = len(batch)
        if n_images < batch_size:
            # A batch of another size would compile the graph a second time.
            batch = np.pad(batch, ((0, batch_size - n_images), (0, 0), (0, 0), (0, 0)))
        y_prob = np.asarray(classifier.predict_on_batch(batch), dtype=np.float64)
        probabilities[start : start + n_images] = y_prob[:n_images, 0]
    return probabilities

"""Where the model looks: class activation maps.

A map is as coarse as the backbone's last feature map (a 32nd of the image's side), and each of its
places sees a part of the image far larger than itself. No lung masks exist here: nothing in this
module can say that the model looks at the lungs, only where on the image its evidence is summed.

Keras is imported inside the functions that need it.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumonia.errors import PipelineError

# Okabe and Ito's vermillion and blue (`drawing` has them as text; it would bring matplotlib here).
TOWARDS_PNEUMONIA, TOWARDS_NORMAL = (213, 94, 0), (0, 114, 178)
OPACITY = 0.6  # of the strongest colour: the image stays visible beneath it


def activation_maps(
    classifier: Any, images: NDArray[np.uint8], batch_size: int = 64
) -> NDArray[np.float32]:
    """Class activation map of each radiograph: what each place adds to the logit of pneumonia.

    The last feature map's channels, weighted by the dense unit's weights, and its bias at every
    place (Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016). The mean
    of a map is the logit, so the sigmoid of the mean is P(pneumonia). After global average pooling
    and one dense unit, Grad-CAM without its final ReLU (Selvaraju et al., ICCV 2017) is the same
    map up to a factor and the bias; no gradients are needed.

    Args:
        classifier: as `load_classifier` returns.
        images: (n_images, height, width) uint8 in [0, 255], possibly memory-mapped.
        batch_size: images in memory at a time.

    Returns:
        (n_images, map_height, map_width) float32, in logits; above 0 is towards pneumonia.

    Raises:
        PipelineError: the classifier does not end in global average pooling and one dense unit.
    """
    kernel, bias = _layer(classifier, "pneumonia").get_weights()
    features = feature_model(classifier)
    maps: NDArray[np.float32] = weighted_features(features, kernel, images, batch_size)[0] + bias[0]
    return maps


# The same model again while batches of one classifier come in: a new one compiles a new graph. It
# shares the classifier's layers, so it is never behind its weights.
@lru_cache(maxsize=1)
def feature_model(classifier: Any) -> Any:
    """The model from pixels to the last feature map, (n, map_height, map_width, n_channels)."""
    import keras

    return keras.Model(classifier.inputs[0], _layer(classifier, "pooled").input)


def weighted_features(
    features: Any, heads: NDArray[np.float32], images: NDArray[np.uint8], batch_size: int
) -> NDArray[np.float32]:
    """(n_heads, n_images, map_height, map_width) float32: features by (n_channels, n_heads) heads.

    Each batch keeps its maps alone: the features of a test set would take a hundred times more.
    """
    maps = []
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size], dtype=np.float32)[..., None]
        n_images = len(batch)
        if n_images < batch_size:
            # A batch of another size would compile the graph a second time.
            batch = np.pad(batch, ((0, batch_size - n_images), (0, 0), (0, 0), (0, 0)))
        found = np.asarray(features.predict_on_batch(batch), dtype=np.float32)[:n_images]
        maps.append(np.moveaxis(found @ heads, -1, 0))
    return np.concatenate(maps, axis=1)


def overlay(
    image: NDArray[np.uint8], activation: NDArray[np.float32], limit: float | None = None
) -> NDArray[np.uint8]:
    """The image in grey with its map over it: vermillion towards pneumonia, blue towards normal.

    The map is enlarged bilinearly. A place at 0 keeps the image's grey; colour grows in proportion
    to the logits, to `OPACITY` at `limit` and beyond. The two colours are Okabe and Ito's,
    which colour-blind readers tell apart.

    Args:
        image: (height, width) uint8 in [0, 255].
        activation: (map_height, map_width) float32, in logits, of `activation_maps`.
        limit: logits at full colour, above 0; the same for all images that are to be compared.
            None: the largest magnitude in this map, and no two images can be compared.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    height, width = image.shape
    small = Image.fromarray(activation.astype(np.float32))
    enlarged = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    full = float(np.abs(activation).max()) if limit is None else limit
    # A map of zeros has no colour to scale.
    share = enlarged / full if full else np.zeros_like(enlarged)
    opacity = (OPACITY * np.clip(np.abs(share), 0, 1))[..., None]
    colour = np.where(share[..., None] > 0, TOWARDS_PNEUMONIA, TOWARDS_NORMAL)
    mixed = (1 - opacity) * image[..., None] + opacity * colour
    return np.rint(mixed).astype(np.uint8)


def _layer(classifier: Any, name: str) -> Any:
    found = {layer.name: layer for layer in classifier.layers}
    if name not in found:
        raise PipelineError(
            "activation maps need a classifier that this pipeline built, with a layer named "
            f"{name}. Received: {', '.join(found)}"
        )
    return found[name]

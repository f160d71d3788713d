"""Classifiers of a few layers, as the pipeline builds them, for tests of the activation maps."""

import numpy as np


def small_classifier(keras, backbone_layers, weight=0.01, bias=0.5, side=4):
    """A classifier with this backbone; its dense unit gives each channel the same weight."""
    shape = (side, side, 3)
    backbone = keras.Sequential([keras.Input(shape), *backbone_layers])
    pixels = keras.Input((side, side, 1), name="radiograph")
    x = keras.layers.Concatenate(name="grey_to_rgb")([pixels, pixels, pixels])
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(backbone(x))
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    unit = keras.layers.Dense(1, activation="sigmoid", name="pneumonia")
    classifier = keras.Model(pixels, unit(x), name="classifier")
    n_channels = backbone.output_shape[-1]
    unit.set_weights([np.full((n_channels, 1), weight / n_channels), np.array([bias])])
    return classifier


# Quadrants of means 10, 20, 30 and 40, from two greys each.
QUADRANTS = np.kron([[10, 20], [30, 40]], np.ones((2, 2))).astype(np.uint8)
QUADRANTS += np.tile(np.array([[5, 0], [0, 5]], np.uint8), (2, 2))
QUADRANTS -= np.tile(np.array([[0, 5], [5, 0]], np.uint8), (2, 2))


def averaging(keras):
    """Its features are the means of the four quadrants, in three equal channels."""
    return small_classifier(keras, [keras.layers.AveragePooling2D(2)])


def convolving(keras):
    """All kinds of weights that the backbones have."""
    layers = keras.layers
    return small_classifier(
        keras,
        [
            layers.Conv2D(200, 3, padding="same"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            layers.Activation("relu"),
        ],
        side=8,
    )


def noise(n: int, side: int, seed: int = 3) -> np.ndarray:
    """Images of even noise."""
    return np.random.default_rng(seed).integers(0, 256, (n, side, side), dtype=np.uint8)

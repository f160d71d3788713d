"""Where the model looks: maps that add up to the model's own logit."""

from itertools import pairwise

import numpy as np
import pytest

import small_classifiers
from pneumonia.errors import PipelineError
from pneumonia.evaluation import activation_maps as maps
from pneumonia.training.network import ModelParams, build_classifier
from small_classifiers import QUADRANTS, noise, small_classifier


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@pytest.fixture
def averaging(keras):
    return small_classifiers.averaging(keras)


@pytest.fixture(scope="module")
def convolving(keras):
    return small_classifiers.convolving(keras)


def test_a_map_is_the_weighted_features_and_the_bias_at_every_place(averaging):
    found = maps.activation_maps(averaging, QUADRANTS[None])
    # 0.01 × the quadrant's mean, and the bias 0.5
    np.testing.assert_allclose(found, [[[0.6, 0.7], [0.8, 0.9]]], rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("backbone", "pixel_divisor"), [("mobilenet_v2", 255.0), ("efficientnet_v2_s", 1.0)]
)
def test_the_sigmoid_of_a_maps_mean_is_the_classifiers_own_probability(
    keras, backbone, pixel_divisor
):
    classifier = build_classifier(
        ModelParams(backbone=backbone, weights="none", dropout=0.2, pixel_divisor=pixel_divisor), 64
    )
    unit = classifier.get_layer("pneumonia")
    images = noise(3, 64) // np.array([1, 3, 9], np.uint8)[:, None, None]
    pixels = images[..., None].astype(np.float32)
    pooled = keras.Model(classifier.inputs[0], classifier.get_layer("pooled").output)
    # Untrained features are tiny: a head that takes them to logits of up to 2 beside the bias.
    kernel = np.random.default_rng(1).normal(0, 1, (1280, 1))
    kernel *= 2 / np.abs(np.asarray(pooled(pixels, training=False)) @ kernel).max()
    unit.set_weights([kernel, np.array([-0.7])])
    own = np.asarray(classifier(pixels, training=False))[:, 0]

    found = maps.activation_maps(classifier, images, batch_size=3)

    assert found.shape == (3, 2, 2)
    np.testing.assert_allclose(1 / (1 + np.exp(-found.mean(axis=(1, 2)))), own, atol=1e-4)
    assert abs(own - 1 / (1 + np.exp(0.7))).max() > 0.05  # more than the bias alone


def test_the_size_of_a_batch_changes_no_map(convolving):
    images = noise(5, 8)
    whole = maps.activation_maps(convolving, images, batch_size=5)
    np.testing.assert_allclose(
        maps.activation_maps(convolving, images, batch_size=2), whole, atol=1e-5
    )
    assert whole.shape == (5, 8, 8)


def test_maps_follow_the_classifier_that_is_given_and_its_weights_of_now(averaging, keras):
    other = small_classifier(keras, [keras.layers.AveragePooling2D(2)], bias=-1.0)
    image = QUADRANTS[None]
    corner = [maps.activation_maps(one, image)[0, 0, 0] for one in (averaging, other, averaging)]
    np.testing.assert_allclose(corner, [0.6, -0.9, 0.6], rtol=1e-5)
    averaging.get_layer("pneumonia").set_weights([np.zeros((3, 1)), np.array([2.0])])
    np.testing.assert_allclose(maps.activation_maps(averaging, image), 2.0)


def test_features_are_of_the_weights_of_now(keras):
    layer = keras.layers.Conv2D(1, 1, use_bias=False)
    classifier = small_classifier(keras, [layer], weight=1.0, bias=0.0)
    for weight in (1.0, 3.0):
        layer.set_weights([np.full((1, 1, 3, 1), weight / 3)])
        found = maps.activation_maps(classifier, QUADRANTS[None])
        np.testing.assert_allclose(found[0], weight * QUADRANTS, rtol=1e-5)


def test_a_model_of_another_make_is_refused_by_name(keras):
    pixels = keras.Input((4, 4, 1))
    y = keras.layers.Dense(1, name="other")(keras.layers.Flatten(name="flat")(pixels))
    with pytest.raises(PipelineError, match=r"named (pooled|pneumonia)\. Received: .*flat, other"):
        maps.activation_maps(keras.Model(pixels, y), QUADRANTS[None])


def test_the_image_stays_grey_where_its_map_is_zero():
    image = noise(1, 9)[0]
    found = maps.overlay(image, np.zeros((3, 3), np.float32))
    np.testing.assert_array_equal(found, np.repeat(image[..., None], 3, axis=2))
    assert found.dtype == np.uint8


def test_colours_grow_with_the_logits_to_the_limit():
    image = np.full((1, 1), 100, np.uint8)
    # Grey 100 under 0.6 of (213, 94, 0): 0.4 · 100 + 0.6 · 213 = 167.8 …; half of it 0.3.
    for logits, limit, colour in (
        (4, 4, (168, 96, 40)),
        (8, 4, (168, 96, 40)),
        (2, 4, (134, 98, 70)),
        (2, None, (168, 96, 40)),
        (-4, 4, (40, 108, 147)),  # of (0, 114, 178)
        (-2, None, (40, 108, 147)),
    ):
        found = maps.overlay(image, np.full((1, 1), logits, np.float32), limit)
        assert tuple(found[0, 0]) == colour


def test_an_overlay_puts_each_place_where_it_is_and_changes_smoothly():
    image = np.full((40, 60), 128, np.uint8)
    activation = np.array([[3, -3], [0, 0]], np.float32)
    found = maps.overlay(image, activation).astype(int)
    assert found.shape == (40, 60, 3)
    redness = found[..., 0] - found[..., 2]
    assert redness[0, 0] > 50
    assert redness[0, -1] < -50
    np.testing.assert_array_equal(redness[-1], 0)
    assert all(a >= b for a, b in pairwise(redness[0]))
    assert -np.diff(redness[0]).min() < 15  # no step as of nearest neighbours

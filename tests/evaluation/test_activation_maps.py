"""Where the model looks: maps that add up to the model's own logit."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from pneumonia.errors import PipelineError
from pneumonia.evaluation import activation_maps as maps
from pneumonia.plots import headline as figures
from pneumonia.training.network import ModelParams, build_classifier


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


def small_classifier(keras, backbone_layers, weight=0.01, bias=0.5, side=4):
    """A classifier as the pipeline builds them, with a backbone of a few layers."""
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


@pytest.fixture
def averaging(keras):
    """Its features are the means of the four quadrants, in three equal channels."""
    return small_classifier(keras, [keras.layers.AveragePooling2D(2)])


@pytest.fixture(scope="module")
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


def films(n: int, side: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side), dtype=np.uint8)


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
    images = films(3, 64) // np.array([1, 3, 9], np.uint8)[:, None, None]
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
    images = films(5, 8)
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


def test_randomising_leaves_the_classifier_as_it_is(convolving):
    before = [w.copy() for w in convolving.get_weights()]
    for what in ("head", "backbone"):
        maps.randomised_maps(convolving, films(2, 8), what, seed=1, n_draws=2)
    for old, new in zip(before, convolving.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_random_weights_are_of_the_seed_alone_and_as_before_training(convolving):
    trained = [np.full_like(w, 7) for w in convolving.get_weights()]
    before = convolving.get_weights()
    try:
        convolving.set_weights(trained)
        one, same, other = (maps.randomised(convolving, seed) for seed in (1, 1, 2))
    finally:
        convolving.set_weights(before)
    for a, b in zip(one.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.get_weights()[0], other.get_weights()[0])
    drawn = {(w.path.split("/")[-2].split("_")[0], w.name): np.asarray(w) for w in one.weights}
    # Deviation 1 / sqrt(fan-in): 3 × 3 × 3 channels; 3 × 3 of one channel. 5,400 and 1,800 draws.
    assert drawn["conv2d", "kernel"].std() == pytest.approx(27**-0.5, rel=0.05)
    assert drawn["depthwise", "kernel"].std() == pytest.approx(9**-0.5, rel=0.08)
    for name, value in (("gamma", 1), ("beta", 0), ("moving_mean", 0), ("moving_variance", 1)):
        assert (drawn["batch", name] == value).all()


def test_a_random_head_keeps_the_features_and_a_random_backbone_does_not(averaging, convolving):
    # Three equal channels: any head gives the quadrants' order, or its reverse.
    image = QUADRANTS[None]
    head = maps.randomised_maps(averaging, image, "head", seed=4, n_draws=12)
    assert head.shape == (12, 1, 2, 2)
    trained = maps.activation_maps(averaging, image)
    signs = [maps.similarity(trained, drawn)[0] for drawn in head]
    np.testing.assert_allclose(np.abs(signs), 1)
    assert len(set(np.sign(signs))) == 2  # twelve heads, not one twelve times

    images = films(2, 8)
    head = maps.randomised_maps(convolving, images, "head", seed=4, n_draws=2)
    both = maps.randomised_maps(convolving, images, "backbone", seed=4, n_draws=2)
    # The heads are the same, the features are not.
    assert np.abs(maps.similarity(head[0], both[0])).max() < 0.9
    again = maps.randomised_maps(convolving, images, "backbone", seed=4, n_draws=2)
    np.testing.assert_array_equal(both, again)


def test_similarity_is_spearmans_rank_correlation():
    a = np.array([[[1, 2], [3, 4]]] * 4, float)
    b = np.array([[[10, 20], [30, 99]], [[4, 3], [2, 1]], [[2, 1], [4, 3]], [[1, 1], [2, 2]]])
    # The same order; the reverse; 1 − 6 · 4 / (4 · 15); ties.
    expected = [1, -1, 0.6, spearmanr([1, 2, 3, 4], [1, 1, 2, 2]).statistic]
    np.testing.assert_allclose(maps.similarity(a, b), expected)


def test_a_constant_map_is_like_none_and_never_nan():
    even = np.ones((1, 2, 2))
    np.testing.assert_array_equal(maps.similarity(even, even), [0])
    np.testing.assert_array_equal(maps.similarity(even, np.arange(4.0).reshape(1, 2, 2)), [0])


def test_similarities_forget_the_sign_and_compare_each_pair_of_films():
    up = np.arange(4.0).reshape(2, 2)
    trained = np.stack([up, -up, up[::-1]]).astype(np.float32)
    found = maps.similarities(trained, -trained[None], np.stack([trained, 0 * trained]))
    assert tuple(found) == maps.SIMILARITIES
    np.testing.assert_allclose(found["head_randomised"], [1, 1, 1])
    np.testing.assert_allclose(found["backbone_randomised"], [1, 1, 1, 0, 0, 0])
    # Films 1 and 2 are reverses. Film 3 swaps the rows, 2 3 0 1: 1 − 6 · 16 / (4 · 15) = −0.6.
    np.testing.assert_allclose(found["another_film"], [1, 0.6, 0.6])
    # Four places, 24 orders: 13 of them have at least 0.4 either way, 9 no more than 0.2.
    assert np.median(found["chance"]) == pytest.approx(0.4)


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_an_even_map_has_the_borders_share_of_the_area(side):
    found = maps.border_shares(np.full((1, side, side), 2.0, np.float32))
    # 1 − (3/4)²
    np.testing.assert_allclose(found, [0.4375])
    assert maps.even_border_share() == 0.4375


def test_border_shares_count_what_pushes_towards_pneumonia_by_area():
    inside, corner, side, mixed = (np.zeros((4, 4), np.float32) for _ in range(4))
    inside[1:3, 1:3] = 5
    corner[0, 3] = 1  # (1/8)² of its (1/4)² is inner: a quarter
    side[3, 1] = 1  # half of it is inner
    mixed[0, 3], mixed[1, 1], mixed[0, 0] = 1, 3, -9  # 0.75 of 1 in 4; negative places do not count
    found = maps.border_shares(np.stack([inside, corner, side, mixed]))
    np.testing.assert_allclose(found, [0, 0.75, 0.5, 0.1875], atol=1e-12)


def test_a_map_without_a_positive_place_has_no_border_share():
    none, some = np.full((2, 2), -1.0), np.array([[1.0, -1], [-1, -1]])
    assert len(maps.border_shares(np.stack([none, some, none]).astype(np.float32))) == 1


def test_outcomes_are_those_of_the_sample_films():
    test = pd.DataFrame(
        {
            "name": list("abcd"),
            "label": [1, 0, 1, 0],
            "probability": [0.2, 0.5, 0.5, 0.4999],
        }
    )
    chosen = figures.sample_films(test, 0.5).set_index("name")["outcome"]
    found = maps.outcomes(test["label"].to_numpy(), test["probability"].to_numpy(), 0.5)
    assert dict(zip(test["name"], found, strict=True)) == chosen.to_dict()
    assert set(maps.OUTCOMES) == set(figures.OUTCOMES)


def test_the_sanity_sample_holds_each_kind_in_its_share():
    kinds = np.array(["viral", "normal", "normal", "bacterial"] * 10)
    places = maps.sanity_places(kinds, 8)
    assert sorted(kinds[places]) == ["bacterial"] * 2 + ["normal"] * 4 + ["viral"] * 2
    assert len(set(places)) == 8
    assert sorted(maps.sanity_places(kinds, 99)) == list(range(40))


def made_summary() -> dict:
    trained = np.array([[[1, 2], [3, 4]], [[-1, -2], [-3, -4]], [[4, 3], [2, 1]]], np.float32)
    head = np.stack([trained[:2], 0 * trained[:2]])
    randomised = {"head": head, "backbone": head[:, ::-1]}
    alike = dict.fromkeys(maps.SIMILARITIES, np.array([0.1, 0.2, 0.3, 0.4, 0.9]))
    outcome = np.array(["true_positive", "true_negative", "true_positive"])
    return maps.summary(trained, outcome, alike, randomised, "phantoms", 7)


def test_the_summary_has_counts_medians_and_quartiles():
    found = made_summary()
    assert (found["n_images"], found["map_height"], found["map_width"]) == (3, 2, 2)
    assert (found["source"], found["seed"]) == ("phantoms", 7)
    sanity = found["sanity"]
    assert (sanity["n_images"], sanity["n_draws"]) == (2, 2)
    # The second head's two maps are constant.
    assert (sanity["n_constant_head"], sanity["n_constant_backbone"]) == (2, 2)
    for key in maps.SIMILARITIES:  # the second, third and fourth of five
        assert sanity[key] == {"median": 0.3, "q1": 0.2, "q3": 0.4}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_an_outcome_without_a_positive_place_has_counts_alone():
    border = made_summary()["border"]
    assert border["true_negative"] == {"n_images": 1, "n_with_positive_place": 0}
    # A 2 × 2 map's places all have the same share of border.
    assert border["true_positive"]["median"] == 0.4375
    assert border["true_positive"]["n_with_positive_place"] == 2
    assert "false_positive" not in border  # none occurred


def test_the_film_stays_grey_where_its_map_is_zero():
    film = films(1, 9)[0]
    found = maps.overlay(film, np.zeros((3, 3), np.float32))
    np.testing.assert_array_equal(found, np.repeat(film[..., None], 3, axis=2))
    assert found.dtype == np.uint8


def test_colours_grow_with_the_logits_to_the_limit():
    film = np.full((1, 1), 100, np.uint8)
    # Grey 100 under 0.6 of (213, 94, 0): 0.4 · 100 + 0.6 · 213 = 167.8 …; half of it 0.3.
    for logits, limit, colour in (
        (4, 4, (168, 96, 40)),
        (8, 4, (168, 96, 40)),
        (2, 4, (134, 98, 70)),
        (2, None, (168, 96, 40)),
        (-4, 4, (40, 108, 147)),  # of (0, 114, 178)
        (-2, None, (40, 108, 147)),
    ):
        found = maps.overlay(film, np.full((1, 1), logits, np.float32), limit)
        assert tuple(found[0, 0]) == colour


def test_an_overlay_puts_each_place_where_it_is_and_changes_smoothly():
    film = np.full((40, 60), 128, np.uint8)
    activation = np.array([[3, -3], [0, 0]], np.float32)
    found = maps.overlay(film, activation).astype(int)
    assert found.shape == (40, 60, 3)
    redness = found[..., 0] - found[..., 2]
    assert redness[0, 0] > 50
    assert redness[0, -1] < -50
    np.testing.assert_array_equal(redness[-1], 0)
    assert all(a >= b for a, b in pairwise(redness[0]))
    assert -np.diff(redness[0]).min() < 15  # no step as of nearest neighbours

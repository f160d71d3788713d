"""The classifier: pixels in, one probability out, and BatchNorm as the weights demand."""

import numpy as np
import pytest

from pneumonia.errors import PipelineError
from pneumonia.store.params import as_section
from pneumonia.training.network import (
    ModelParams,
    backbone_of,
    build_classifier,
    freeze_backbone,
    load_pretrained,
    unfreeze_backbone,
)

MOBILENET = ModelParams(backbone="mobilenet_v2", weights="none", dropout=0.0, pixel_divisor=1.0)
PRETRAINED = MOBILENET.model_copy(update={"weights": "imagenet"})


@pytest.fixture(scope="module")
def films():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1)).astype(np.float32)


def random_classifier(params, seed=0):
    import keras

    keras.utils.set_random_seed(seed)
    return build_classifier(params, 32)


def seen_by_backbone(params):
    """What the backbone receives for a film that is black on the left and white on the right."""
    import keras

    classifier = random_classifier(params)
    film = np.zeros((1, 32, 32, 1), np.float32)
    film[:, :, 16:] = 255
    backbone = backbone_of(classifier)
    before = keras.Model(classifier.input, classifier.layers[-5].output)
    assert classifier.layers[-4] is backbone
    return np.asarray(before(film))[0]


def test_mobilenet_sees_minus_one_to_one_in_three_equal_channels():
    pixels = seen_by_backbone(MOBILENET)
    assert pixels.shape == (32, 32, 3)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()
    # 0 / 127.5 - 1 and 255 / 127.5 - 1
    np.testing.assert_allclose(np.unique(pixels), [-1, 1], atol=1e-6)


def test_efficientnet_sees_the_pixels_as_they_are_because_it_rescales_inside():
    efficientnet = MOBILENET.model_copy(update={"backbone": "efficientnet_v2_s"})
    assert np.unique(seen_by_backbone(efficientnet)).tolist() == [0, 255]


def test_the_papers_pixels_reach_mobilenet_with_one_255th_of_the_contrast():
    pixels = seen_by_backbone(MOBILENET.model_copy(update={"pixel_divisor": 255.0}))
    # 0 / 255 / 127.5 - 1 and 255 / 255 / 127.5 - 1
    np.testing.assert_allclose(np.unique(pixels), [-1, 1 / 127.5 - 1], atol=1e-6)


def test_one_probability_an_image(films):
    y_prob = np.asarray(random_classifier(MOBILENET)(films))
    assert y_prob.shape == (4, 1)
    assert ((y_prob > 0) & (y_prob < 1)).all()


def test_mixed_precision_still_gives_float32_probabilities_and_leaves_keras_as_it_was(films):
    import keras

    network = build_classifier(MOBILENET, 32, "mixed_bfloat16")
    assert backbone_of(network).get_layer("Conv1").compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(network(films).dtype) == "float32"
    assert keras.config.dtype_policy().name == "float32"


def statistics(classifier):
    """All moving means of BatchNorm, one after the other."""
    values = [w for w in classifier.weights if w.path.endswith("moving_mean")]
    assert len(values) == 52  # MobileNetV2 has 52 convolutions, each with its BatchNorm
    return np.concatenate([np.asarray(w).ravel() for w in values])


def fitted_once(classifier, films):
    """The statistics before and after one step of `fit`, behind a wrapper as in training."""
    import keras

    trainer = keras.Model(classifier.input, classifier(classifier.input))
    trainer.compile(optimizer="adam", loss="binary_crossentropy")
    before = statistics(classifier)
    trainer.fit(films, np.array([0, 1, 0, 1]), verbose=0)
    return before, statistics(classifier)


@pytest.mark.parametrize("frozen", [True, False])
def test_with_pretrained_weights_batchnorm_keeps_its_statistics_in_both_phases(films, frozen):
    """It did not: Keras 3 overrides `backbone(x, training=False)` by `training=True` in `fit`."""
    classifier = random_classifier(PRETRAINED)
    if frozen:
        freeze_backbone(classifier)
    else:
        unfreeze_backbone(classifier, PRETRAINED)
    before, after = fitted_once(classifier, films)
    assert (before == after).all()


def test_from_random_weights_batchnorm_trains_when_the_backbone_does(films):
    classifier = random_classifier(MOBILENET)
    unfreeze_backbone(classifier, MOBILENET)
    before, after = fitted_once(classifier, films)
    assert (before != after).mean() > 0.9


def test_a_frozen_backbone_leaves_only_the_dense_unit_to_train():
    classifier = random_classifier(MOBILENET)
    freeze_backbone(classifier)
    assert [w.path for w in classifier.trainable_weights] == ["pneumonia/kernel", "pneumonia/bias"]


@pytest.mark.parametrize(
    ("params", "n_trained"),
    [
        # 52 kernels, a scale and an offset for each, the dense unit's kernel and bias
        (MOBILENET, 52 * 3 + 2),
        (PRETRAINED, 52 + 2),
    ],
)
def test_an_unfrozen_backbone_trains_its_kernels_and_from_random_weights_its_batchnorm(
    params, n_trained
):
    classifier = random_classifier(params)
    freeze_backbone(classifier)
    unfreeze_backbone(classifier, params)
    assert len(classifier.trainable_weights) == n_trained


def test_weights_of_a_file_become_those_of_the_backbone(tmp_path, films):
    giver, taker = random_classifier(PRETRAINED, seed=1), random_classifier(PRETRAINED, seed=2)
    path = tmp_path / "own.weights.h5"
    backbone_of(giver).save_weights(path)
    load_pretrained(taker, path)
    for given, taken in zip(
        backbone_of(giver).get_weights(), backbone_of(taker).get_weights(), strict=True
    ):
        assert (given == taken).all()


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_another_network_or_a_broken_file_are_one_line(tmp_path):
    classifier = random_classifier(PRETRAINED)
    other = tmp_path / "other.weights.h5"
    efficientnet = MOBILENET.model_copy(update={"backbone": "efficientnet_v2_s"})
    backbone_of(build_classifier(efficientnet, 32)).save_weights(other)
    broken = tmp_path / "broken.weights.h5"
    broken.write_bytes(other.read_bytes()[:1000])
    for path in (other, broken, tmp_path / "missing.weights.h5"):
        with pytest.raises(PipelineError) as error:
            load_pretrained(classifier, path)
        assert str(error.value).startswith(f"{path}: expected weights of the backbone")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"backbone": "efficientnet_v2_s", "weights": "mobilenet_v2_imagenet_folded"},
            "weights must be one of none, imagenet for backbone efficientnet_v2_s. "
            "Received: 'mobilenet_v2_imagenet_folded'",
        ),
        (
            {"weights": "imgenet"},
            "weights must be one of none, imagenet, mobilenet_v2_imagenet_folded "
            "for backbone mobilenet_v2. Received: 'imgenet'",
        ),
        ({"dropout": 1.0}, "dropout must be in [0, 1). Received: 1.0"),
        ({"pixel_divisor": 0.0}, "pixel_divisor must be in (0, 65535]. Received: 0.0"),
    ],
)
def test_a_combination_that_cannot_work_is_refused(change, sentence):
    with pytest.raises(PipelineError) as error:
        as_section(MOBILENET.model_dump() | change, "model", ModelParams)
    assert str(error.value) == f"model.{sentence}"

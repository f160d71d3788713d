"""Classifiers on disk: the same bytes for the same weights, and nothing but a model is loaded."""

import hashlib
import json
import zipfile

import numpy as np
import pytest

from pneumonia.errors import PipelineError
from pneumonia.training.model_files import load_classifier, predict_probabilities, save_classifier
from pneumonia.training.network import ModelParams, build_classifier

PARAMS = ModelParams(backbone="mobilenet_v2", weights="none", dropout=0.2, pixel_divisor=1.0)


def new_classifier():
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(3)
    return build_classifier(PARAMS, 32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "a.keras"
    save_classifier(new_classifier(), path)
    return path


def test_the_same_weights_give_the_same_bytes(saved, tmp_path):
    # Built again: another memory, another second, and a layer built in between.
    save_classifier(new_classifier(), tmp_path / "b.keras")
    assert (
        hashlib.sha256(saved.read_bytes()).digest()
        == hashlib.sha256((tmp_path / "b.keras").read_bytes()).digest()
    )


def test_nothing_in_the_file_tells_when_or_where_in_memory(saved):
    with zipfile.ZipFile(saved) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert "date_saved" not in json.loads(archive.read("metadata.json"))
        config = archive.read("config.json").decode()
    assert "140" + "0" * 9 not in config  # what addresses look like
    ids = [
        int(part.split(",")[0].split("}")[0]) for part in config.split('"shared_object_id": ')[1:]
    ]
    assert set(ids) == set(range(len(set(ids))))


def test_a_loaded_classifier_gives_the_probabilities_of_the_saved_one(saved):
    films = np.random.default_rng(0).integers(0, 256, (5, 32, 32)).astype(np.uint8)
    np.testing.assert_array_equal(
        predict_probabilities(load_classifier(saved), films),
        predict_probabilities(new_classifier(), films),
    )


def test_the_last_batch_and_the_batch_size_do_not_show_in_the_probabilities(saved):
    classifier = load_classifier(saved)
    films = np.random.default_rng(0).integers(0, 256, (5, 32, 32)).astype(np.uint8)
    one_by_one = predict_probabilities(classifier, films, batch_size=1)
    assert one_by_one.shape == (5,)
    for batch_size in (2, 5, 64):
        np.testing.assert_allclose(
            predict_probabilities(classifier, films, batch_size), one_by_one, atol=1e-6
        )


def without_member(path, member):
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if name != member}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in kept.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_text("<html>not here</html>"),
        lambda path: without_member(path, "config.json"),
        lambda path: without_member(path, "model.weights.h5"),
    ],
)
def test_a_file_that_is_no_model_is_refused_in_one_line(saved, tmp_path, damage):
    path = tmp_path / "c.keras"
    path.write_bytes(saved.read_bytes())
    damage(path)
    with pytest.raises(PipelineError) as error:
        load_classifier(path)
    assert str(error.value).startswith(f"{path}: expected a Keras model that can be read")
    assert "\n" not in str(error.value)


def test_a_model_of_another_purpose_is_refused(tmp_path):
    import keras

    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "d.keras")
    with pytest.raises(PipelineError, match=r"expected a model from \(n, height, width, 1\)"):
        load_classifier(tmp_path / "d.keras")


def test_code_in_a_file_is_not_run(tmp_path):
    import keras

    code = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Lambda(lambda x: x)])
    code.save(tmp_path / "e.keras")
    with pytest.raises(PipelineError, match="expected a Keras model that can be read"):
        load_classifier(tmp_path / "e.keras")

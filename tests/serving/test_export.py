"""Exports: the Keras probabilities in each runtime, a true contract, whole or not at all."""

import dataclasses
import hashlib
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pneumonia.data.images import PreprocessParams, decode, resized
from pneumonia.errors import PipelineError
from pneumonia.serving import export as module
from pneumonia.serving.export import CARD, CONTRACT, FORMATS, export, summary
from pneumonia.training.model_files import load_classifier, predict_probabilities, save_classifier
from pneumonia.training.network import ModelParams, backbone_of, build_classifier

SIDE = 32
THRESHOLD = 0.118511
MOBILENET = ModelParams(backbone="mobilenet_v2", weights="none", dropout=0.2, pixel_divisor=1.0)
DOCS = Path(__file__).parents[2] / "docs/deployment.md"


def a_run(folder, classifier):
    """The files of a run: model, threshold, parameters, and the card that names them."""
    save_classifier(classifier, folder / "finetune.keras")
    point = {
        "schema": 2,
        "dataset": "phantoms",
        "target_recall": 0.98,
        "operating_threshold": THRESHOLD,
    }
    (folder / "operating_point.json").write_text(json.dumps(point))
    (folder / "params.yaml").write_text(
        f"preprocess: {{image_size: {SIDE}, resampling: bilinear, fit: squash}}\n"
    )
    md5 = hashlib.md5((folder / "finetune.keras").read_bytes()).hexdigest()
    (folder / CARD).write_text(f"Of the model {md5}: recall 0.987 at {THRESHOLD} – measured\n")
    return SimpleNamespace(
        model=folder / "finetune.keras",
        operating_point=folder / "operating_point.json",
        params_file=folder / "params.yaml",
        card=folder / CARD,
    )


def exported(run, name, folder):
    return export(**vars(run), format=name, folder=folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """MobileNetV2's first three blocks behind the pipeline's own door, as if trained.

    They have all its kinds of layers, and are converted in a fraction of the time. BatchNorm's
    statistics are such that probabilities differ from image to image.
    """
    import keras

    keras.utils.set_random_seed(3)
    whole = build_classifier(MOBILENET, SIDE)
    backbone = backbone_of(whole)
    blocks = keras.Model(backbone.input, backbone.get_layer("block_2_add").output)
    x = blocks(whole.get_layer("mobilenet_pixels").output)
    x = keras.layers.GlobalAveragePooling2D()(x)
    y = keras.layers.Dense(1, activation="sigmoid", name="pneumonia")(x)
    classifier = keras.Model(whole.input, y)
    rng = np.random.default_rng(3)
    for layer in blocks.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            shift = rng.normal(0, 0.1, (3, *mean.shape))
            layer.set_weights([gamma + shift[0], beta + shift[1], mean + shift[2], variance / 10])
    return a_run(tmp_path_factory.mktemp("run"), classifier)


@pytest.fixture(scope="module")
def folders(run, tmp_path_factory):
    """The three exports of it."""
    folder = tmp_path_factory.mktemp("exports")
    return {name: exported(run, name, folder / name) for name in FORMATS}


def probabilities(name, path, images):
    """What a program without this repository does."""
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        return session.run(["probability"], {"radiograph": images})[0]
    import tensorflow as tf

    if name == "savedmodel":
        model = tf.saved_model.load(str(path))  # kept: its function lets go of the variables
        return model.serve(images)["probability"].numpy()
    with pytest.warns(UserWarning, match="tf.lite.Interpreter is deprecated"):
        interpreter = tf.lite.Interpreter(str(path))
    return interpreter.get_signature_runner()(radiograph=images)["probability"]


@pytest.mark.parametrize("name", FORMATS)
def test_each_exported_file_gives_the_keras_probabilities_in_its_own_runtime(name, run, folders):
    pixels = np.random.default_rng(0).integers(0, 256, (7, SIDE, SIDE)).astype(np.uint8)
    # From dark to bright, so that the seven are not all alike.
    pixels = (pixels * np.linspace(0.1, 1, 7)[:, None, None]).astype(np.uint8)
    expected = predict_probabilities(load_classifier(run.model), pixels)
    assert np.ptp(expected) > 0.2
    images = pixels[..., None].astype(np.float32)
    for n in (1, 3, 7):
        received = probabilities(name, folders[name] / FORMATS[name].file, images[:n])
        assert received.shape == (n, 1)
        assert received.dtype == np.float32
        np.testing.assert_allclose(received[:, 0], expected[:n], atol=1e-5)


def blocks():
    """Python of docs/deployment.md by heading."""
    found = re.findall(
        r"^### ([^\n]+)\n(?:(?!^##).)*?```python\n(.*?)```", DOCS.read_text(), re.S | re.M
    )
    return dict(found)


@pytest.mark.parametrize("name", FORMATS)
def test_the_code_of_the_page_gives_the_pipelines_probability_of_a_jpeg(
    name, run, folders, tmp_path, monkeypatch
):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((300, 240)).save(tmp_path / "radiograph.jpeg")
    (expected,) = predict_probabilities(
        load_classifier(run.model),
        resized(
            decode((tmp_path / "radiograph.jpeg").read_bytes()),
            PreprocessParams(image_size=SIDE, resampling="bilinear", fit="squash"),
        )[None],
    )
    folder = folders[name]
    (folder / "radiograph.jpeg").write_bytes((tmp_path / "radiograph.jpeg").read_bytes())
    monkeypatch.chdir(folder)
    code, values = blocks(), {}
    heading = {"onnx": "ONNX", "savedmodel": "SavedModel", "tflite": "TFLite"}[name]
    for part in ("From a radiograph to an array", heading, "The verdict"):
        exec(code[part], values)
    (folder / "radiograph.jpeg").unlink()
    assert values["probability"] == pytest.approx(expected, abs=1e-5)
    assert values["verdict"] == ("pneumonia" if expected >= THRESHOLD else "normal")


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_holds_the_model_its_contract_and_its_card_and_nothing_else(name, run, folders):
    folder = folders[name]
    assert {path.name for path in folder.iterdir()} == {FORMATS[name].file, CONTRACT, CARD}
    assert (folder / CARD).read_bytes() == run.card.read_bytes()
    files = json.loads((folder / CONTRACT).read_text())["files"]
    written = [path for path in folder.rglob("*") if path.is_file() and path.name != CONTRACT]
    assert files == {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in written
    }


@pytest.mark.parametrize("name", FORMATS)
def test_the_contract_describes_input_output_and_model(name, run, folders):
    contract = json.loads((folders[name] / CONTRACT).read_text())
    assert contract["format"] == name
    assert contract["input"]["name"] == "radiograph"
    assert contract["input"]["shape"] == ["n", SIDE, SIDE, 1]
    assert contract["input"]["range"] == [0, 255]
    assert contract["output"]["shape"] == ["n", 1]
    assert contract["preprocess"]["image_size"] == SIDE
    assert contract["preprocess"]["fit"] == "squash"
    assert contract["decision"]["operating_threshold"] == THRESHOLD
    assert contract["decision"]["target_recall"] == 0.98
    assert contract["model"]["dataset"] == "phantoms"
    model = run.model.read_bytes()
    assert contract["model"]["md5"] == hashlib.md5(model).hexdigest()
    assert contract["model"]["sha256"] == hashlib.sha256(model).hexdigest()
    assert contract["check"]["largest_difference"] <= 1e-5
    assert contract["notice"] == "Research software. Not for diagnosis."


def test_the_onnx_file_names_its_input_and_output_for_any_number_of_images(folders):
    import onnxruntime

    session = onnxruntime.InferenceSession(folders["onnx"] / "model.onnx")
    (given,), (found,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, given.type) == (
        "radiograph",
        ["n", 32, 32, 1],
        "tensor(float)",
    )
    assert (found.name, found.shape) == ("probability", ["n", 1])


# --- What is refused: on a network small enough to load at once, and a format that writes a stub


def by_mean_grey():
    """A classifier of one dense unit of weight 0.02 on the pooled image."""
    import keras

    pixels = keras.Input((SIDE, SIDE, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(pixels)
    unit = keras.layers.Dense(1, activation="sigmoid")
    classifier = keras.Model(pixels, unit(pooled))
    unit.set_weights([np.array([[0.02]]), np.array([-2.0])])
    return classifier


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("small"), by_mean_grey())


@pytest.fixture
def stub(monkeypatch):
    """stub(): the format `onnx` writes "a model", whose runtime computes the unit by hand."""

    def replace(off=0.0, write=lambda module, path: path.write_bytes(b"a model"), **changes):
        def run(images):
            return 1 / (1 + np.exp(2 - 0.02 * images.mean(axis=(1, 2, 3), dtype=float))) + off

        into = module._Format("model.onnx", write, lambda path: run, (), "numpy")
        monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(into, **changes))

    replace()
    return replace


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def refused(run, folder, name="onnx"):
    with pytest.raises(PipelineError) as error:
        exported(run, name, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("off", [2e-4, -2e-4, float("nan")])
def test_a_model_that_differs_is_an_error_and_nothing_is_left_behind(off, small, stub, tmp_path):
    stub(off=off)
    assert "must give the Keras model's probabilities within 0.0001" in refused(
        small, tmp_path / "new"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_difference_within_the_tolerance_is_reported(small, stub, tmp_path):
    stub(off=5e-5)
    folder = exported(small, "onnx", tmp_path / "new")
    check = json.loads((folder / CONTRACT).read_text())["check"]
    assert check["largest_difference"] == pytest.approx(5e-5, abs=1e-6)
    assert check["n_images"] == 6
    assert "within 5e-05 of the Keras model" in summary(folder)


def test_a_model_that_takes_one_number_of_images_only_is_refused(small, stub, tmp_path):
    right = FORMATS["onnx"].open(None)
    stub(open=lambda path: lambda images: right(images) if len(images) == 6 else np.array([np.nan]))
    refused(small, tmp_path / "new")


def test_a_failed_export_leaves_the_earlier_one_as_it_was(small, stub, tmp_path):
    folder = exported(small, "onnx", tmp_path / "e")
    before = contents(folder)
    stub(off=1.0)
    refused(small, folder)
    assert contents(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


def test_an_earlier_export_is_replaced_by_one_of_another_format(small, stub, tmp_path):
    folder = exported(small, "onnx", tmp_path / "e")
    FORMATS["tflite"], kept = (
        dataclasses.replace(FORMATS["onnx"], file="other.file"),
        FORMATS["tflite"],
    )
    try:
        exported(small, "tflite", folder)
    finally:
        FORMATS["tflite"] = kept
    assert {path.name for path in folder.iterdir()} == {"other.file", CONTRACT, CARD}


def test_an_empty_folder_is_accepted(small, stub, tmp_path):
    (tmp_path / "e").mkdir()
    assert (exported(small, "onnx", tmp_path / "e") / CONTRACT).is_file()


def add_notes(folder):
    (folder / "notes.txt").write_text("mine")


def edit_the_card(folder):
    (folder / CARD).write_text("my own words")


def remove_the_model(folder):
    (folder / "model.onnx").unlink()


def another_makers_contract(folder):
    contract = json.loads((folder / CONTRACT).read_text()) | {"made_by": "hand"}
    (folder / CONTRACT).write_text(json.dumps(contract))


def no_contract(folder):
    (folder / CONTRACT).unlink()


def a_file(folder):
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("a file")


@pytest.mark.parametrize(
    "change",
    [add_notes, edit_the_card, remove_the_model, another_makers_contract, no_contract, a_file],
)
def test_only_an_export_as_it_was_written_is_ever_overwritten(change, small, stub, tmp_path):
    folder = exported(small, "onnx", tmp_path / "e")
    change(folder)
    before = folder.read_bytes() if folder.is_file() else contents(folder)
    assert refused(small, folder).endswith("something else, which is left as it is")
    assert (folder.read_bytes() if folder.is_file() else contents(folder)) == before


def test_a_folder_that_cannot_be_written_is_one_line(small, stub, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused(small, tmp_path / "file/e")
    assert message.startswith(f"{tmp_path}/file/e: the export cannot be written there.")


def test_the_card_of_another_model_or_threshold_is_refused(small, run, stub, tmp_path):
    other = SimpleNamespace(**{**vars(small), "card": run.card})
    assert "which names its md5" in refused(other, tmp_path / "e")
    point = json.loads(small.operating_point.read_text()) | {"operating_threshold": 0.25}
    (tmp_path / "point.json").write_text(json.dumps(point))
    other = SimpleNamespace(**{**vars(small), "operating_point": tmp_path / "point.json"})
    assert "which names its operating threshold 0.25" in refused(other, tmp_path / "e")
    other = SimpleNamespace(**{**vars(small), "card": tmp_path / "none.md"})
    assert "expected a model card" in refused(other, tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_another_backend_is_one_line(small, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert refused(small, tmp_path / "e", "savedmodel").endswith(
        "with KERAS_BACKEND=tensorflow. Received: jax"
    )


def test_a_package_that_is_missing_is_named(small, stub, tmp_path):
    stub(needs=("numpy", "no_such_converter"))
    assert refused(small, tmp_path / "e") == (
        "onnx needs the packages no_such_converter: install them"
    )


def test_without_its_runtime_a_model_is_written_and_reported_as_not_run(small, stub, tmp_path):
    stub(off=1.0, runtime="no_such_runtime")
    folder = exported(small, "onnx", tmp_path / "e")
    assert json.loads((folder / CONTRACT).read_text())["check"] is None
    assert "not run: no_such_runtime is not installed" in summary(folder)


def chatter(module, path):
    os.write(1, b"C++ on standard output\n")
    os.write(2, b"C++ on standard error\n")
    print("Python", file=sys.__stderr__)
    path.write_bytes(b"a model")


def test_converters_print_nothing(small, stub, tmp_path, capfd):
    stub(write=chatter)
    exported(small, "onnx", tmp_path / "e")
    os.write(2, b"heard again\n")
    assert capfd.readouterr() == ("", "heard again\n")


def test_a_bug_prints_the_converters_output(small, stub, tmp_path, capfd):
    def broken(module, path):
        chatter(module, path)
        raise AssertionError("in the converter")

    stub(write=broken)
    with pytest.raises(AssertionError, match="in the converter"):
        exported(small, "onnx", tmp_path / "e")
    assert "C++ on standard error" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_padding_is_described_in_the_contract(small, stub, tmp_path):
    (tmp_path / "params.yaml").write_text(
        f"preprocess: {{image_size: {SIDE}, resampling: lanczos, fit: pad}}\n"
    )
    padded = SimpleNamespace(**{**vars(small), "params_file": tmp_path / "params.yaml"})
    contract = json.loads((exported(padded, "onnx", tmp_path / "e") / CONTRACT).read_text())
    assert contract["preprocess"]["steps"][3] == (
        "resize with Pillow's lanczos resampling so that the longer side has 32 pixels and the "
        "shorter one its proportion; centre on a black square of 32 by 32"
    )

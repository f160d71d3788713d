"""Confirmation: only what the locked model gives on the locked images passes."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.local import LocalFileSystem

from pneumonia.errors import PipelineError
from pneumonia.evaluation.metrics import EvaluateParams, evaluation
from pneumonia.evaluation.predictions import as_printed
from pneumonia.gate import confirm
from pneumonia.gate.confirm import confirmed

# The model is the mean grey over 255: 51 is a probability of 0.2, 102 of 0.4 …
#          normal, normal, bacterial, viral
GREYS = {"validation": [51, 153, 102, 204], "test": [51, 102, 153, 204]}
LABELS = [0, 0, 1, 1]
KINDS = ["normal", "normal", "bacterial", "viral"]


@pytest.fixture
def model(monkeypatch):
    """A stand-in for Keras: what is added to each probability; and the models that were loaded."""

    class Model:
        added = 0.0
        loaded: list[Path] = []  # noqa: RUF012 - a fresh class in each test

    monkeypatch.setattr(confirm, "load_classifier", Model.loaded.append)
    monkeypatch.setattr(
        confirm,
        "predict_probabilities",
        lambda classifier, images: images.mean(axis=(1, 2)) / 255 + Model.added,
    )
    return Model


@pytest.fixture
def root(tmp_path, model):
    """A candidate whose record is sound: eight images, all that DVC restores, and the lock."""
    root = tmp_path / "candidate"
    for split, greys in GREYS.items():
        folder = root / "data/processed" / split
        folder.mkdir(parents=True)
        # In the data the last film comes first: the record is sorted by name.
        order = [3, 0, 1, 2]
        images = np.tile(np.array(greys, np.uint8)[:, None, None], (1, 2, 2))
        np.save(folder / "images.npy", images[order])
        index(split).iloc[order].to_csv(folder / "index.csv", index=False)
    (root / "models").mkdir()
    (root / "models/finetune.keras").write_bytes(b"weights")
    write_params(root, "phantoms")
    record(root, true_predictions())
    return root


def index(split: str) -> pd.DataFrame:
    names = [f"{split}/film{n}.jpeg" for n in range(4)]
    # Text, though it looks like numbers: 000 to 003 and 010 to 013.
    patients = [f"{'01' if split == 'test' else '00'}{n}" for n in range(4)]
    return pd.DataFrame({"name": names, "label": LABELS, "kind": KINDS, "patient_id": patients})


def write_params(root: Path, source: str) -> None:
    params = {"fetch": {"source": source, "archive": None, "sha256": None}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def true_predictions() -> pd.DataFrame:
    """What evaluate would have written."""
    parts = [
        index(split).assign(split=split, probability=np.array(greys) / 255)
        for split, greys in GREYS.items()
    ]
    return pd.concat(parts, ignore_index=True)[
        ["name", "patient_id", "kind", "label", "split", "probability"]
    ]


def record(root: Path, predictions: pd.DataFrame) -> None:
    """Write a record that is whole in itself: predictions, the metrics from them, and the lock."""
    (root / "metrics").mkdir(exist_ok=True)
    as_printed(predictions).to_csv(root / "metrics/predictions.csv", index=False)
    # The highest threshold that reaches a recall of 1 on validation is 0.4.
    metrics = evaluation(
        predictions, EvaluateParams(target_recall=1.0, n_bootstrap=40), seed=1, source="phantoms"
    )
    assert metrics["operating_threshold"] == pytest.approx(0.4, abs=1e-3)
    (root / "metrics/evaluate.json").write_text(json.dumps(metrics))
    lock(root)


def dvc_md5(path: Path) -> str:
    """The hash of a file or folder, by DVC's own code."""
    local = LocalFileSystem()
    return build(HashFileDB(local, str(path.parent / "odb")), str(path), local, "md5",
                 dry_run=True)[2].hash_info.value  # fmt: skip


def lock(root: Path) -> None:
    """The dvc.lock of these very files."""

    def entries(*paths: str) -> list[dict]:
        return [{"path": path, "hash": "md5", "md5": dvc_md5(root / path)} for path in paths]

    data = ("data/processed/validation", "data/processed/test")
    stages = {
        "preprocess": {"outs": entries(*data)},
        "finetune": {"deps": entries(data[0]), "outs": entries("models/finetune.keras")},
        "evaluate": {
            "deps": entries("models/finetune.keras", *data),
            "outs": entries("metrics/evaluate.json", "metrics/predictions.csv"),
        },
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def refused(root: Path, reason: str) -> None:
    with pytest.raises(PipelineError, match=reason) as caught:
        confirmed(root)
    assert "\n" not in str(caught.value)


def test_a_sound_record_is_confirmed_with_its_model_and_its_images(root, model):
    text = confirmed(root)
    assert f"models/finetune.keras, md5 {hashlib.md5(b'weights').hexdigest()}" in text
    assert "8 images of validation and test; largest difference 0.000000" in text
    assert text.endswith("Verdicts at the recorded threshold 0.400000: all the same.")
    assert model.loaded == [root / "models/finetune.keras"]


def test_confirmation_writes_nothing(root):
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    confirmed(root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


# ---- invented figures, each in a record that is whole in itself ----


def test_one_invented_probability_is_caught(root):
    invented = true_predictions()
    invented.loc[invented["name"] == "test/film1.jpeg", "probability"] = 0.1  # no false alarm
    record(root, invented)
    refused(
        root,
        r"metrics/predictions\.csv: .* other probabilities for 1 of 8 images, at most 0\.300000 .*"
        r"The first is test/film1\.jpeg: recorded 0\.100000, now 0\.400000",
    )


def test_probabilities_of_two_images_exchanged_are_caught(root):
    invented = true_predictions()
    invented.loc[[5, 6], "probability"] = [153 / 255, 102 / 255]  # test film 1 and film 2
    record(root, invented)
    refused(root, "for 2 of 8 images, at most 0.200000 away")


def test_an_image_left_out_is_caught(root):
    record(root, true_predictions().drop(index=5))
    refused(root, r"1 are missing; they stand in these, the first test/film1\.jpeg")


def test_an_image_that_is_not_in_the_data_is_caught(root):
    more = true_predictions().loc[[7]].assign(name="test/film9.jpeg", patient_id="019")
    record(root, pd.concat([true_predictions(), more], ignore_index=True))
    refused(root, r"1 stand there and not in these, the first test/film9\.jpeg")


def test_an_image_recorded_twice_is_caught(root):
    path = root / "metrics/predictions.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    lock(root)
    refused(root, "an image must occur once")


@pytest.mark.parametrize(
    ("row", "column", "invented", "true"),
    [
        (5, "label", 1, 0),  # a false alarm made a hit
        (5, "kind", "viral", "normal"),
        (6, "patient_id", "010", "012"),
        (7, "split", "validation", "test"),
    ],
)
def test_a_changed_fact_about_an_image_is_caught(root, row, column, invented, true):
    table = true_predictions()
    name = table.loc[row, "name"]
    table.loc[row, column] = invented
    if column == "split":  # no patient in both splits
        table.loc[row, "patient_id"] = "003"
    record(root, table)
    refused(
        root,
        rf"{column} of 1 images is not .* The first is {name}: recorded {invented}, .* {true}$",
    )


# ---- files that are not those of the lock, or not there ----


@pytest.mark.parametrize(
    "path",
    [
        "models/finetune.keras",
        "data/processed/validation/images.npy",
        "data/processed/test/index.csv",
        "metrics/predictions.csv",
        "metrics/evaluate.json",
    ],
)
def test_a_swapped_file_is_caught_before_anything_is_loaded(root, model, path):
    file = root / path
    file.write_bytes(file.read_bytes() + b"\n")
    locked = path if path.count("/") == 1 else path.rpartition("/")[0]
    refused(root, rf"{locked}: expected the md5 in dvc\.lock, \S+\. Received: [0-9a-f]{{32}}")
    assert model.loaded == []


def test_a_further_file_in_a_folder_of_the_data_is_caught(root):
    (root / "data/processed/test/more").mkdir()
    (root / "data/processed/test/more/film.npy").write_bytes(b"")
    refused(root, r"data/processed/test: expected the md5")


@pytest.mark.parametrize("path", ["models/finetune.keras", "data/processed/test"])
def test_what_was_not_pulled_is_named_with_the_command_that_brings_it(root, model, path):
    (root / path).rename(root / "elsewhere")
    refused(
        root,
        rf"{path}: .*No such file or directory.*`dvc pull models/finetune\.keras "
        r"data/processed/validation data/processed/test`",
    )
    assert model.loaded == []


def test_a_folder_has_dvcs_own_hash(tmp_path):
    folder = tmp_path / "folder"
    # Sorted by the whole path: "a-b" before "a/c", and "B" before "a".
    for name in ("a/c", "a-b", "B", "sub/é", "sub/deep/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    assert confirm._md5(folder) == dvc_md5(folder)


def test_stages_that_disagree_on_the_model_are_caught(root):
    """The lock says of another model that finetune made it."""
    locked = yaml.safe_load((root / "dvc.lock").read_text())
    locked["stages"]["finetune"]["outs"][0]["md5"] = "0" * 32
    (root / "dvc.lock").write_text(yaml.safe_dump(locked))
    refused(root, r"dvc\.lock: expected one md5 of models/finetune\.keras.* Received: 0{32}, ")


def test_a_lock_without_the_model_is_caught(root):
    locked = yaml.safe_load((root / "dvc.lock").read_text())
    del locked["stages"]["finetune"]
    del locked["stages"]["evaluate"]["deps"]
    (root / "dvc.lock").write_text(yaml.safe_dump(locked))
    refused(root, r"dvc\.lock: expected one md5 of models/finetune\.keras.* Received: none")


@pytest.mark.parametrize("text", ["schema: '2.0'", "stages: []", "stages: {a: {outs: [b]}}"])
def test_a_lock_that_is_none_is_one_clear_error(root, text):
    (root / "dvc.lock").write_text(text)
    refused(root, r"dvc\.lock: expected DVC's lock")


def test_a_folder_that_is_no_checkout_is_one_clear_error(tmp_path):
    refused(tmp_path, r"dvc\.lock: expected YAML that can be read")


# ---- another processor ----


def test_what_another_processor_rounds_otherwise_is_confirmed_with_the_largest_difference(
    root, model
):
    # Upwards, so that no image falls below the threshold; one image of each split the most.
    model.added = np.array([0.00001, 0.000099, 0, 0.00001])
    text = confirmed(root)
    assert "largest difference 0.000099, accepted 0.0001" in text
    assert "all the same" in text


@pytest.mark.parametrize("added", [0.000101, -0.000101])
def test_more_than_the_tolerance_is_refused_either_way(root, model, added):
    model.added = added
    refused(root, r"for 8 of 8 images, at most 0\.000101 away; accepted: 0\.0001")


def test_verdicts_that_differ_within_the_tolerance_are_told(root, model):
    # Validation film 2 and test film 1 have 0.4, the threshold itself: both fall below it.
    model.added = -0.00005
    assert "threshold 0.400000: 2 differ, all within 0.0001 of it." in confirmed(root)


def test_a_diverged_model_is_refused(root, model):
    model.added = float("nan")
    refused(root, "validation: 4 of 4 images have no probability")


# ---- films that are not public ----


def test_under_the_same_key_films_that_are_not_public_are_confirmed(root, monkeypatch):
    write_params(root, "own")
    refused(root, "PNEUMONIA_KEY")
    monkeypatch.setenv("PNEUMONIA_KEY", "a key of this test alone")
    refused(root, "8 stand there and not in these")  # the record has the names themselves

    table = confirm._predicted(root)
    assert not table["name"].str.contains("film").any()
    record(root, table)
    assert "8 images" in confirmed(root)

    monkeypatch.setenv("PNEUMONIA_KEY", "another key of this test")
    refused(root, "PNEUMONIA_KEY must be the key of the recorded run")


@pytest.mark.parametrize("threshold", [None, "0.4", 1.5])
def test_a_record_without_a_threshold_is_one_clear_error(root, threshold):
    (root / "metrics/evaluate.json").write_text(json.dumps({"operating_threshold": threshold}))
    lock(root)
    refused(root, r"evaluate\.json: operating_threshold must be in \[0, 1\]")

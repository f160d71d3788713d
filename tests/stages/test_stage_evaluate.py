"""Stage evaluate: threshold from validation, test once, and one table from which all follows."""

import csv
import json

import numpy as np
import pytest

from evaluated_root import declared, mean_grey, write_params, write_root, written
from pneumonia.errors import PipelineError
from pneumonia.evaluation.metrics import evaluation
from pneumonia.evaluation.predictions import TEXT_COLUMNS
from pneumonia.store.files import read_json, read_table
from stages import evaluate


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "load_classifier", lambda path: "mean grey")
    monkeypatch.setattr(evaluate, "predict_probabilities", mean_grey)
    return write_root(tmp_path / "root")


def test_it_writes_what_dvc_yaml_declares_and_nothing_else(root):
    evaluate.main(root)
    assert sorted(written(root)) == declared("evaluate")


def test_everything_in_evaluate_json_follows_from_predictions_csv(root):
    evaluate.main(root)
    predictions = read_table(root / "metrics/predictions.csv", text=TEXT_COLUMNS)
    found = read_json(root / "metrics/evaluate.json")  # strict: NaN and Infinity are refused
    assert evaluation(predictions, 0.9, "phantoms") == found
    assert found["dataset"] == "phantoms"
    assert (found["validation"]["n_images"], found["test"]["n_images"]) == (48, 60)


def test_predictions_are_a_row_an_image_validation_first_then_by_name(root):
    evaluate.main(root)
    rows = list(csv.reader((root / "metrics/predictions.csv").open()))
    assert rows[0] == ["name", "patient_id", "kind", "label", "split", "probability"]
    assert [row[4] for row in rows[1:]] == ["validation"] * 48 + ["test"] * 60
    for part in (rows[1:49], rows[49:]):
        assert [row[0] for row in part] == sorted(row[0] for row in part)
    assert rows[49] == [
        "test/image000.jpeg", "testchild0-0", "normal", "0", "test", "0.200000",
    ]  # fmt: skip


def test_test_is_opened_once_and_after_the_threshold_is_stored(root, monkeypatch):
    opened = []
    open_split = evaluate.open_split

    def watching(folder):
        opened.append((folder.name, (root / "models/operating_point.json").exists()))
        return open_split(folder)

    monkeypatch.setattr(evaluate, "open_split", watching)
    evaluate.main(root)
    assert opened == [("validation", False), ("test", True)]


def test_nothing_about_test_changes_the_operating_point(root):
    evaluate.main(root)
    before = (root / "models/operating_point.json").read_bytes()
    images = root / "data/processed/test/images.npy"
    np.save(images, 255 - np.load(images))
    evaluate.main(root)
    assert (root / "models/operating_point.json").read_bytes() == before
    found = read_json(root / "metrics/evaluate.json")
    assert found["test"]["roc_auc"] < 0.5  # it was seen, where it should be
    assert found["operating_threshold"] == json.loads(before)["operating_threshold"]


def test_the_operating_point_reaches_its_target_on_validation(root):
    evaluate.main(root)
    point = read_json(root / "models/operating_point.json")
    assert point["tp"] / (point["tp"] + point["fn"]) >= 0.9
    assert point["tp"] + point["fn"] == 32  # two of three of 48
    assert point["chosen_on"] == "validation"


def test_a_second_run_gives_the_same_bytes(root):
    evaluate.main(root)
    once = written(root)
    for path in once:
        (root / path).unlink()
    evaluate.main(root)
    assert written(root) == once


def test_radiographs_that_are_not_public_leave_no_name(root, monkeypatch):
    write_params(root, "own")
    monkeypatch.setenv("PNEUMONIA_KEY", "a key of this test alone")
    evaluate.main(root)
    for path, data in written(root).items():
        assert b"image0" not in data, path
        assert b"child" not in data, path
    predictions = read_table(root / "metrics/predictions.csv", text=TEXT_COLUMNS)
    # A patient's images still belong together: 48 and 60 images, two a patient.
    assert predictions.groupby("split")["patient_id"].nunique().to_dict() == {
        "validation": 24, "test": 30,
    }  # fmt: skip


def test_without_a_key_radiographs_that_are_not_public_are_not_evaluated(root, monkeypatch):
    write_params(root, "own")
    monkeypatch.delenv("PNEUMONIA_KEY", raising=False)
    with pytest.raises(PipelineError, match="PNEUMONIA_KEY"):
        evaluate.main(root)
    assert written(root) == {}


def test_a_diverged_model_leaves_no_metrics(root, monkeypatch):
    def nothing(classifier, images):
        return np.full(len(images), np.nan)

    monkeypatch.setattr(evaluate, "predict_probabilities", nothing)
    with pytest.raises(PipelineError, match="validation: 48 of 48 images have no probability"):
        evaluate.main(root)
    assert written(root) == {}


def test_the_last_words_are_the_table_and_name_the_phantoms(root, caplog):
    with caplog.at_level("INFO", logger="evaluate"):
        evaluate.main(root)
    assert "phantoms" in caplog.messages[-1]
    assert any(line.split() == ["n_images", "60", "48"] for line in caplog.messages[-1].split("\n"))
    assert any("validation: 48 images" in message for message in caplog.messages)

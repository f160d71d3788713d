"""Stage evaluate: threshold from validation, test once, and one table from which all follows."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pneumonia.errors import PipelineError
from pneumonia.evaluation.metrics import EvaluateParams, evaluation
from pneumonia.evaluation.predictions import TEXT_COLUMNS
from pneumonia.plots import clinical as clinical_figures
from pneumonia.plots import headline as figures
from pneumonia.plots import robustness as robustness_figures
from pneumonia.store.files import read_json, read_table
from pneumonia.store.yaml12 import load_yaml
from stages import evaluate

DVC_YAML = Path(__file__).parents[2] / "dvc.yaml"
N_IMAGES = {"validation": 48, "test": 60}
N_TRAIN = 30
PICTURES = ("accuracy_loss.png", "roc.png", "precision_recall.png", "confusion.png", "samples.png")
MAPS = ("maps.png", "maps_sanity.png")
CURVES = ("train/loss", "train/accuracy", "eval/loss", "eval/accuracy", "eval/roc_auc")


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """All that evaluate reads; the model is the mean grey, brighter for pneumonia."""
    root = tmp_path / "root"
    random = np.random.default_rng(3)
    for split, n_images in {**N_IMAGES, "train": N_TRAIN}.items():
        folder = root / "data/processed" / split
        folder.mkdir(parents=True)
        number = np.arange(n_images)
        label = (number % 3 > 0).astype(int)
        # Overlapping on purpose: both kinds of error occur.
        grey = np.clip(random.normal(105 + 45 * label, 30), 0, 255).astype(np.uint8)
        grey[0] = 51  # a probability of 0.2, to be written as 0.200000
        np.save(folder / "images.npy", np.tile(grey[:, None, None], (1, 8, 8)))
        pd.DataFrame(
            {
                "name": [f"{split}/film{n:03}.jpeg" for n in number],
                "label": label,
                "kind": np.array(["normal", "bacterial", "viral"])[number % 3],
                "patient_id": [f"{split}child{n // 6}-{n % 3}" for n in number],
                "width": 8,
                "height": 8,
                "mode": "L",
            }
        ).to_csv(folder / "index.csv", index=False)
    for phase, n_epochs in (("train_frozen", 2), ("finetune", 4)):
        for curve in CURVES:
            file = root / f"metrics/{phase}/plots/metrics/{curve}.tsv"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = "".join(f"{step}\t{0.5 + step / 10}\n" for step in range(n_epochs))
            file.write_text(f"step\t{file.stem}\n{rows}")
    write_params(root, "phantoms")
    monkeypatch.setattr(evaluate, "load_classifier", lambda path: "mean grey")
    monkeypatch.setattr(
        evaluate,
        "predict_probabilities",
        lambda classifier, images: images.mean(axis=(1, 2)) / 255,
    )
    # There is no network to look into; tests/test_map_study.py does.
    monkeypatch.setattr(
        evaluate,
        "map_study",
        lambda *given: ({"n_films": len(given[3])}, dict.fromkeys(MAPS, repr(given[4]).encode())),
    )
    # Drawing takes longer than all the rest; two tests have it done.
    monkeypatch.setattr(
        evaluate, "pictures", lambda *given: dict.fromkeys(PICTURES, repr(given[-1]).encode())
    )
    monkeypatch.setattr(evaluate, "clinical_pictures", lambda *given: {})
    monkeypatch.setattr(evaluate, "robustness_png", lambda *given: b"")
    return root


@pytest.fixture
def drawing(root, monkeypatch) -> None:
    """Pictures are drawn after all."""
    monkeypatch.setattr(evaluate, "pictures", figures.pictures)
    monkeypatch.setattr(evaluate, "clinical_pictures", clinical_figures.clinical_pictures)
    monkeypatch.setattr(evaluate, "robustness_png", robustness_figures.robustness_png)


def write_params(root: Path, source: str, target_recall: float = 0.9) -> None:
    params = {
        "seed": 7,
        "fetch": {"source": source, "archive": None, "sha256": None},
        "evaluate": {"target_recall": target_recall, "n_bootstrap": 100},
        "robustness": {"n_images": 20},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def written(root: Path) -> dict[str, bytes]:
    """Every file under the root that is no input, by its path."""
    return {
        path: file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file()
        and not (path := file.relative_to(root).as_posix()).startswith(
            ("data/", "params.yaml", "metrics/train_frozen/", "metrics/finetune/")
        )
    }


def test_it_writes_what_dvc_yaml_declares_and_nothing_else(root, drawing):
    evaluate.main(root)
    stage = load_yaml(DVC_YAML)["stages"]["evaluate"]
    entries = stage["outs"] + stage["metrics"] + stage["plots"]
    declared = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    assert sorted(written(root)) == sorted(declared)


def test_everything_in_evaluate_json_follows_from_predictions_csv(root):
    evaluate.main(root)
    predictions = read_table(root / "metrics/predictions.csv", text=TEXT_COLUMNS)
    recorded = read_json(root / "metrics/evaluate.json")  # strict: NaN and Infinity are refused
    params = EvaluateParams(
        target_recall=recorded["target_recall"], n_bootstrap=recorded["n_bootstrap"]
    )
    assert evaluation(predictions, params, recorded["seed"], recorded["source"]) == recorded
    assert recorded["source"] == "phantoms"
    assert {split: recorded[split]["n_images"] for split in N_IMAGES} == N_IMAGES


def test_predictions_are_a_row_an_image_validation_first_then_by_name(root):
    evaluate.main(root)
    rows = list(csv.reader((root / "metrics/predictions.csv").open()))
    assert rows[0] == ["name", "patient_id", "kind", "label", "split", "probability"]
    assert [row[4] for row in rows[1:]] == ["validation"] * 48 + ["test"] * 60
    for part in (rows[1:49], rows[49:]):
        assert [row[0] for row in part] == sorted(row[0] for row in part)
    assert rows[49] == [
        "test/film000.jpeg", "testchild0-0", "normal", "0", "test", "0.200000",
    ]  # fmt: skip


def test_test_is_opened_once_and_after_the_threshold_is_stored(root, monkeypatch):
    opened = []
    open_split = evaluate.open_split

    def watching(folder):
        opened.append((folder.name, (root / "models/operating_point.json").exists()))
        return open_split(folder)

    monkeypatch.setattr(evaluate, "open_split", watching)
    evaluate.main(root)
    assert opened == [("validation", False), ("test", True), ("train", True)]


def test_nothing_about_test_changes_the_operating_point(root):
    evaluate.main(root)
    before = (root / "models/operating_point.json").read_bytes()
    images = root / "data/processed/test/images.npy"
    np.save(images, 255 - np.load(images))
    evaluate.main(root)
    assert (root / "models/operating_point.json").read_bytes() == before
    recorded = read_json(root / "metrics/evaluate.json")
    assert recorded["test"]["roc_auc"] < 0.5  # it was seen, where it should be
    assert recorded["operating_threshold"] == json.loads(before)["operating_threshold"]


def test_the_operating_point_reaches_its_target_on_validation(root):
    evaluate.main(root)
    point = read_json(root / "models/operating_point.json")
    assert point["tp"] / (point["tp"] + point["fn"]) >= 0.9
    assert point["tp"] + point["fn"] == 32  # two of three of 48
    assert point["chosen_on"] == "validation"


def test_the_model_beside_the_shortcuts_is_the_model_of_evaluate_json(root):
    evaluate.main(root)
    beside = read_json(root / "metrics/shortcuts.json")
    assert beside["n_train_images"] == N_TRAIN
    recorded = read_json(root / "metrics/evaluate.json")["test"]
    # Interval and all: the resamples are the same patients.
    for name in ("roc_auc", "roc_auc_low", "roc_auc_high"):
        assert beside["model"][name] == recorded[name]


def test_corruptions_are_tried_on_a_sample_and_can_be_turned_off(root):
    evaluate.main(root)
    table = read_table(root / "metrics/robustness.csv")
    assert set(table["n_images"]) == {20}
    assert table["corruption"][0] == "none"
    params = (root / "params.yaml").read_text().replace("n_images: 20", "n_images: 0")
    (root / "params.yaml").write_text(params)
    evaluate.main(root)
    assert len((root / "metrics/robustness.csv").read_text().splitlines()) == 1


def test_a_second_run_gives_the_same_bytes(root, drawing):
    evaluate.main(root)
    once = written(root)
    for path in once:
        (root / path).unlink()
    evaluate.main(root)
    assert written(root) == once


def test_tables_have_no_empty_and_no_infinite_cell(root):
    evaluate.main(root)
    tables = sorted((root / "plots/evaluate").glob("*.csv"))
    assert len(tables) == 9
    tables.append(root / "metrics/robustness.csv")
    for table in tables:
        cells = [cell for row in csv.reader(table.open()) for cell in row]
        assert not {"", "inf", "-inf", "nan", "Infinity"} & set(cells), table.name
    histories = (read_table(root / f"plots/evaluate/history_{phase}.csv")
                 for phase in ("train_frozen", "finetune"))  # fmt: skip
    assert [len(history) for history in histories] == [2, 4]


def test_a_phase_of_no_epochs_leaves_a_heading(root):
    shutil.rmtree(root / "metrics/train_frozen/plots/metrics/train")
    shutil.rmtree(root / "metrics/train_frozen/plots/metrics/eval")
    evaluate.main(root)
    text = (root / "plots/evaluate/history_train_frozen.csv").read_text()
    assert text == (
        "epoch,train_loss,validation_loss,train_accuracy,validation_accuracy,validation_roc_auc\n"
    )


def test_films_that_are_not_public_leave_no_name_and_no_picture(root, monkeypatch):
    write_params(root, "own")
    monkeypatch.setenv("PNEUMONIA_KEY", "a key of this test alone")
    evaluate.main(root)
    for path, data in written(root).items():
        assert b"film0" not in data, path
        assert b"child" not in data, path
    # The films given to the pictures, by the stand-ins above: none.
    assert (root / "plots/evaluate/samples.png").read_bytes() == b"None"
    assert (root / "plots/evaluate/maps.png").read_bytes() == b"None"
    predictions = read_table(root / "metrics/predictions.csv", text=TEXT_COLUMNS)
    # A patient's images still belong together: 48 and 60 images, two a patient.
    assert predictions.groupby("split")["patient_id"].nunique().to_dict() == {
        "validation": 24, "test": 30,
    }  # fmt: skip


def test_films_that_are_public_are_shown_as_they_are(root):
    # Rows in another order than by name, which is the order of the predictions.
    folder = root / "data/processed/test"
    np.save(folder / "images.npy", np.load(folder / "images.npy")[::-1])
    pd.read_csv(folder / "index.csv")[::-1].to_csv(folder / "index.csv", index=False)
    evaluate.main(root)
    predictions = read_table(root / "metrics/predictions.csv", text=TEXT_COLUMNS)
    test = predictions[predictions["split"] == "test"]
    films = figures.sample_films(
        test, read_json(root / "metrics/evaluate.json")["operating_threshold"]
    )
    # The model is the mean grey, so each film's grey is its probability.
    expected = np.array([np.full((8, 8), round(p * 255), np.uint8) for p in films["probability"]])
    assert (root / "plots/evaluate/samples.png").read_bytes() == repr(expected).encode()


def test_without_a_key_films_that_are_not_public_are_not_evaluated(root, monkeypatch):
    write_params(root, "own")
    monkeypatch.delenv("PNEUMONIA_KEY", raising=False)
    with pytest.raises(PipelineError, match="PNEUMONIA_KEY"):
        evaluate.main(root)
    assert written(root) == {}


def test_a_diverged_model_leaves_no_figures(root, monkeypatch):
    monkeypatch.setattr(
        evaluate,
        "predict_probabilities",
        lambda classifier, images: np.full(len(images), np.nan),
    )
    with pytest.raises(PipelineError, match="validation: 48 of 48 images have no probability"):
        evaluate.main(root)
    assert written(root) == {}


def test_an_undefined_metric_leaves_no_figures(root, monkeypatch):
    monkeypatch.setattr(
        evaluate,
        "predict_probabilities",
        lambda classifier, images: images.mean(axis=(1, 2)) / 1000,
    )
    with pytest.raises(PipelineError, match="precision is undefined on validation"):
        evaluate.main(root)
    assert list(written(root)) == ["models/operating_point.json"]


def test_the_last_words_are_the_table_and_name_the_phantoms(root, caplog):
    with caplog.at_level("INFO", logger="evaluate"):
        evaluate.main(root)
    assert "phantoms" in caplog.messages[-1]
    assert "test: 60 images of 30 patients" in caplog.messages[-1]
    assert any("validation: 48 images" in message for message in caplog.messages)

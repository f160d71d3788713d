"""Stage examine: what the pixels say, of the very images and probabilities of the predictions."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluated_root import declared, mean_grey, write_params, write_root, written
from pneumonia.errors import PipelineError
from pneumonia.evaluation import interval_table, map_study, predictions, shortcuts
from pneumonia.store.files import read_json, read_table
from stages import evaluate, examine

OF_EVALUATE = ("models/", "metrics/evaluate.json", "metrics/predictions.csv")


def maps_of(classifier: object, images: np.ndarray) -> np.ndarray:
    """(n, 2, 2): there is no network to look into; tests/evaluation/test_map_study.py does."""
    grey = images.mean(axis=(1, 2)).astype(np.float32)
    return (grey[:, None, None] - 120) * np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture
def stages_run(monkeypatch) -> None:
    for stage in (evaluate, examine):
        monkeypatch.setattr(stage, "load_classifier", lambda path: "mean grey")
        monkeypatch.setattr(stage, "predict_probabilities", mean_grey)
    monkeypatch.setattr(map_study, "activation_maps", maps_of)
    monkeypatch.setattr(
        map_study,
        "randomised_maps",
        lambda classifier, images, what, seed: np.stack([maps_of(classifier, images)] * 3),
    )
    monkeypatch.setattr(shortcuts, "N_BOOTSTRAP", 100)  # as many as in params.yaml


@pytest.fixture
def root(tmp_path, stages_run) -> Path:
    root = write_root(tmp_path / "root")
    evaluate.main(root)
    return root


def examined(root: Path) -> dict[str, bytes]:
    return {path: data for path, data in written(root).items() if not path.startswith(OF_EVALUATE)}


def test_it_writes_what_dvc_yaml_declares_and_a_second_run_the_same_bytes(root):
    shutil.rmtree(root / "data/processed/validation")  # which it does not read
    examine.main(root)
    once = examined(root)
    assert sorted(once) == declared("examine")
    for path in once:
        (root / path).unlink()
    examine.main(root)
    assert examined(root) == once


def test_the_model_beside_the_shortcuts_is_the_model_of_the_predictions(root, figures):
    examine.main(root)
    table = read_table(root / "metrics/shortcuts.csv", shortcuts.TEXT_COLUMNS)
    area = table[(table["classifier"] == "model") & (table["metric"] == "roc_auc")].iloc[0]
    rows = read_table(root / "metrics/predictions.csv", predictions.TEXT_COLUMNS)
    threshold = read_json(root / "metrics/evaluate.json")["operating_threshold"]
    intervals = interval_table.measured(interval_table.interval_table(rows, threshold, 100, 7))
    # Interval and all: the resamples are the same patients.
    expected = intervals["test", "none", "all", "roc_auc"]
    assert (area["value"], area["low"], area["high"]) == (
        expected.value, expected.low, expected.high,
    )  # fmt: skip


def test_corruptions_are_tried_on_a_sample_and_can_be_turned_off(root, figures):
    examine.main(root)
    table = read_table(root / "metrics/robustness.csv")
    assert set(table["n_images"]) == {20}
    assert table["corruption"][0] == "none"
    # Fixed notation, whole counts.
    assert (
        (root / "metrics/robustness.csv")
        .read_text()
        .splitlines()[1]
        .startswith("none,0,0.000000,20,")
    )
    write_params(root, "phantoms", n_images=0)
    examine.main(root)
    assert len((root / "metrics/robustness.csv").read_text().splitlines()) == 1


def test_the_tables_of_numbers_have_no_empty_number(root, figures):
    examine.main(root)
    for name, text in (
        ("shortcuts", shortcuts.TEXT_COLUMNS),
        ("activation_maps", ("study", "group", "note")),
    ):
        table = read_table(root / f"metrics/{name}.csv", text)
        numbers = table.drop(columns=list(text))
        assert len(numbers)
        assert all(dtype.kind in "if" for dtype in numbers.dtypes), name
        assert not numbers.isna().any(axis=None)


def shown(root: Path, monkeypatch) -> tuple[pd.DataFrame, np.ndarray | None]:
    """The rows and images that the samples are drawn from."""
    given = []
    monkeypatch.setattr(examine, "samples_png", lambda *of: given.append(of) or b"")
    for name in ("activation_maps_png", "sanity_png", "robustness_png"):
        monkeypatch.setattr(examine, name, lambda *of: b"")
    examine.main(root)
    test, images, point = given[0]
    assert point == read_json(root / "models/operating_point.json")
    return test, images


def test_images_and_predictions_belong_together_whatever_the_order_of_the_rows(root, monkeypatch):
    folder = root / "data/processed/test"
    np.save(folder / "images.npy", np.load(folder / "images.npy")[::-1])
    pd.read_csv(folder / "index.csv")[::-1].to_csv(folder / "index.csv", index=False)
    test, images = shown(root, monkeypatch)
    # The model is the mean grey, so each image's grey is its probability.
    assert images is not None
    np.testing.assert_allclose(test["probability"], images.mean(axis=(1, 2)) / 255, atol=1e-6)
    called = (
        test["probability"]
        >= read_json(root / "models/operating_point.json")["operating_threshold"]
    )
    missed = (test["outcome"] == "false_negative").tolist()
    assert missed == (~called & (test["label"] == 1)).tolist()


def test_radiographs_that_are_not_public_leave_no_name_and_no_plot(
    tmp_path, stages_run, monkeypatch
):
    root = write_root(tmp_path / "root")
    write_params(root, "own")
    monkeypatch.setenv("PNEUMONIA_KEY", "a key of this test alone")
    evaluate.main(root)
    test, images = shown(root, monkeypatch)
    assert images is None
    assert len(test) == 60
    for path, data in written(root).items():
        assert b"image0" not in data, path
        assert b"child" not in data, path


def test_predictions_of_other_images_are_one_line_and_leave_nothing(root):
    table = root / "metrics/predictions.csv"
    table.write_text(table.read_text().replace("test/image007", "test/other"))
    with pytest.raises(PipelineError, match=r"different runs.*test/image007"):
        examine.main(root)
    assert examined(root) == {}

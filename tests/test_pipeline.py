"""The whole pipeline, really run by `dvc repro` on phantoms small enough for seconds.

Slow for a test: four times TensorFlow starts in each of two runs from nothing.
"""

import filecmp
import json
import resource
from pathlib import Path

import pytest

from pneumonia.evaluation.interval_table import TEXT_COLUMNS, measured
from pneumonia.store.files import read_json, read_table
from pneumonia.store.yaml12 import load_yaml
from tiny_repository import STAGES, copy_of_the_repository, dvc, hashes, ran

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A repository in which `dvc repro` ran once, and what was said."""
    folder = copy_of_the_repository(tmp_path_factory.mktemp("first"))
    return folder, dvc(folder, "repro")


@pytest.fixture(scope="module")
def hashes_of_first(first):
    """md5 of its outputs, before any test changes code or parameters."""
    return hashes(first[0])


def test_dvc_repro_runs_all_stages_and_leaves_what_dvc_yaml_declares(first, hashes_of_first):
    folder, said = first
    assert ran(said) == STAGES
    for stage in load_yaml(folder / "dvc.yaml")["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            for entry in stage.get(kind, []):
                path = folder / (entry if isinstance(entry, str) else next(iter(entry)))
                assert path.exists(), path
    assert not list(folder.rglob(".partial-*"))


def test_the_metrics_follow_from_the_predictions_and_are_called_phantom(first):
    folder, said = first
    assert "phantoms (drawn, no patients)" in said
    evaluate = read_json(folder / "metrics/evaluate.json")
    predictions = read_table(folder / "metrics/predictions.csv")
    threshold = evaluate["operating_threshold"]
    for split in ("validation", "test"):
        rows = predictions[predictions["split"] == split]
        assert len(rows) == evaluate[split]["n_images"] > 0
        called, sick = rows["probability"] >= threshold, rows["label"] == 1
        assert evaluate[split]["missed"] == (~called & sick).sum()
        assert evaluate[split]["false_alarms"] == (called & ~sick).sum()
    point = read_json(folder / "models/operating_point.json")
    assert point["operating_threshold"] == threshold
    intervals = measured(read_table(folder / "metrics/intervals.csv", TEXT_COLUMNS))
    recall = intervals["test", "operating", "all", "recall"]
    assert recall.value == evaluate["test"]["recall"]


def test_dvc_metrics_are_two_small_files(first):
    folder, _ = first

    def leaves(value) -> int:
        return sum(map(leaves, value.values())) if isinstance(value, dict) else 1

    shown = json.loads(dvc(folder, "metrics", "show", "--json"))[""]["data"]
    assert {path: leaves(of["data"]) for path, of in shown.items()} == {
        "metrics/evaluate.json": 23,
        "metrics/finetune.json": 3,
    }


def test_a_second_repro_does_nothing_and_says_so_within_five_seconds(first):
    folder, _ = first
    before = (folder / "dvc.lock").read_bytes()
    # In processor time: what else the machine does is not the question.
    started = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = dvc(folder, "repro")
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime
    assert ran(said) == []
    assert "Data and pipelines are up to date." in said
    assert (folder / "dvc.lock").read_bytes() == before
    assert took < 5


def test_code_that_has_run_leaves_no_trace_in_what_dvc_hashes(first, monkeypatch):
    # A folder in `deps` would else hold bytecode, and its stage would run again every time. Where
    # Python may write none, this would prove nothing.
    folder, _ = first
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    assert ran(dvc(folder, "repro", "-s", "-f", "plot")) == ["plot"]
    assert list((folder / "src/pneumonia/plots/__pycache__").glob("*.pyc"))
    assert json.loads(dvc(folder, "status", "--json")) == {}


def test_lost_results_come_back_without_a_run(first, tmp_path):
    folder, _ = first
    names = (
        "metrics/evaluate.json", "metrics/predictions.csv", "metrics/intervals.csv",
        "metrics/shortcuts.csv", "plots/roc.png", "models/finetune.keras",
    )  # fmt: skip
    for name in names:
        (folder / name).rename(tmp_path / Path(name).name)
    assert ran(dvc(folder, "repro")) == []
    for name in names:
        assert filecmp.cmp(folder / name, tmp_path / Path(name).name, shallow=False)


def test_a_line_of_another_colour_runs_plot_alone(first):
    folder, _ = first
    before = hashes(folder)
    curves = folder / "src/pneumonia/plots/curves.py"
    restyled = curves.read_text().replace('"test": BLUE', '"test": GREY')
    assert restyled != curves.read_text()
    curves.write_text(restyled)
    assert ran(dvc(folder, "repro")) == ["plot"]
    changed = {path for path, md5 in hashes(folder).items() if before[path] != md5}
    assert changed == {"plots/roc.png", "plots/precision_recall.png"}


@pytest.mark.parametrize(
    ("change", "stage"),
    [
        (("n_bootstrap: 50", "n_bootstrap: 51"), "plot"),
        (("target_recall: 0.98", "target_recall: 0.97"), "evaluate"),
    ],
)
def test_each_parameter_of_evaluate_makes_one_stage_stale(first, change, stage):
    folder, _ = first
    params = folder / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace(*change))
    try:
        assert params.read_text() != before
        assert set(json.loads(dvc(folder, "status", "--json"))) == {stage}
    finally:
        params.write_text(before)


def test_two_runs_from_nothing_give_the_same_bytes(hashes_of_first, tmp_path):
    again = copy_of_the_repository(tmp_path)
    assert ran(dvc(again, "repro")) == STAGES  # another cache: nothing came from the first run
    assert hashes(again) == hashes_of_first
    assert any(path.endswith(".keras") for path in hashes_of_first)

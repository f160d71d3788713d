"""The whole pipeline, really run by `dvc repro` on phantoms small enough for seconds.

Slow for a test: three times TensorFlow starts in each of two runs from nothing.
"""

import filecmp
import resource
from pathlib import Path

import pandas as pd
import pytest

from pneumonia.evaluation.metrics import metrics_table
from pneumonia.store.files import read_json
from pneumonia.store.yaml12 import load_yaml
from tiny_repository import STAGES, copy_of_the_repository, dvc, hashes, ran

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A repository in which `dvc repro` ran once, and what was said."""
    folder = copy_of_the_repository(tmp_path_factory.mktemp("first"))
    return folder, dvc(folder, "repro")


def test_dvc_repro_runs_all_six_stages_and_leaves_what_dvc_yaml_declares(first):
    folder, said = first
    assert ran(said) == STAGES
    for stage in load_yaml(folder / "dvc.yaml")["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            for entry in stage.get(kind, []):
                path = folder / (entry if isinstance(entry, str) else next(iter(entry)))
                assert path.exists(), path
    assert not list(folder.rglob(".partial-*"))


def test_the_figures_follow_from_the_predictions_and_are_called_phantom(first):
    folder, _ = first
    evaluate = read_json(folder / "metrics/evaluate.json")
    predictions = pd.read_csv(folder / "metrics/predictions.csv")
    assert "phantom" in metrics_table(evaluate).lower()
    for split in ("validation", "test"):
        rows = predictions[predictions["split"] == split]
        assert len(rows) == evaluate[split]["n_images"] > 0
        for key, threshold in (
            ("at_half", 0.5),
            ("at_operating_threshold", evaluate["operating_threshold"]),
        ):
            called, sick = rows["probability"] >= threshold, rows["label"] == 1
            found = {
                "tn": (~called & ~sick).sum(), "fp": (called & ~sick).sum(),
                "fn": (~called & sick).sum(), "tp": (called & sick).sum(),
            }  # fmt: skip
            assert {name: evaluate[split][key][name] for name in found} == found
    point = read_json(folder / "models/operating_point.json")
    assert point["operating_threshold"] == evaluate["operating_threshold"]


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


def test_lost_results_come_back_without_a_run(first, tmp_path):
    folder, _ = first
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("metrics/evaluate.json", "metrics/predictions.csv", "models/finetune.keras"):
        (folder / name).rename(kept / Path(name).name)
    said = dvc(folder, "repro")
    assert ran(said) == []
    for name in ("metrics/evaluate.json", "metrics/predictions.csv", "models/finetune.keras"):
        assert filecmp.cmp(folder / name, kept / Path(name).name, shallow=False)


def test_a_comment_in_evaluates_code_runs_evaluate_alone_and_changes_no_figure(first):
    folder, _ = first
    before = hashes(folder)
    with (folder / "src/pneumonia/plots/headline.py").open("a") as code:
        code.write("# a comment\n")
    assert ran(dvc(folder, "repro")) == ["evaluate"]
    assert hashes(folder) == before


def test_two_runs_from_nothing_give_the_same_bytes(first, tmp_path):
    folder, _ = first
    again = copy_of_the_repository(tmp_path)
    assert ran(dvc(again, "repro")) == STAGES  # another cache: nothing came from the first run
    assert hashes(again) == hashes(folder)
    assert any(path.endswith(".keras") for path in hashes(again))

"""What `dvc metrics diff` and `dvc exp show` print fits a screen, and begins with what matters.

Two commits of metrics as `evaluate` and `finetune` write them, in a repository without training.
"""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from made_predictions import realistic
from pneumonia.evaluation.metrics import evaluation
from pneumonia.git import git
from pneumonia.store.files import write_json
from tiny_repository import ROOT, dvc

METRICS = ("metrics/finetune.json", "metrics/evaluate.json")
# 100 columns, 35 lines: half a screen.
WIDE, LONG = 100, 35


def leaves(value: object) -> int:
    return sum(map(leaves, value.values())) if isinstance(value, dict) else 1


def write_baseline(folder: Path, seed: int) -> None:
    """Metrics of a model; with another seed every one of them differs that can."""
    validation = realistic(200, seed=seed + 1, split="validation")
    table = pd.concat([validation, realistic(300, seed=seed)], ignore_index=True)
    evaluate = evaluation(table, 0.85 + seed / 20, "chestxray2017-224")
    write_json(folder / "metrics/evaluate.json", evaluate)
    finetune = {"epoch": 7 + seed, "loss": 0.203123 + seed, "roc_auc": 0.981437 - seed / 50}
    write_json(folder / "metrics/finetune.json", finetune)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """The metrics that dvc.yaml declares, committed twice."""
    folder = tmp_path_factory.mktemp("repository")
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    stages = {
        name: {
            "cmd": "true",
            "deps": ["params.yaml"],
            "metrics": [{path: {"cache": False}} for path in names(stage.get("metrics", []))],
        }
        for name, stage in declared.items()
        if "metrics" in stage
    }
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "someone")
    git(folder, "config", "user.email", "someone@host.example")
    dvc(folder, "init", "-q")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    for seed in (1, 2):
        (folder / "params.yaml").write_text(f"seed: {seed}\n")
        write_baseline(folder, seed)
        dvc(folder, "commit", "-q", "-f")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", f"baseline {seed}")
    return folder


def names(entries: list) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_dvc_knows_two_files_of_metrics_and_26_numbers(repository):
    # That a file is declared as a metric, and no other is, has been taken from dvc.yaml.
    shown = json.loads(dvc(repository, "metrics", "show", "--json"))[""]["data"]
    numbers = {path: leaves(of["data"]) for path, of in shown.items()}
    assert numbers == {"metrics/finetune.json": 3, "metrics/evaluate.json": 23}


def test_a_bare_metrics_diff_fits_half_a_screen(repository):
    lines = dvc(repository, "metrics", "diff", "HEAD~1").splitlines()
    # Every metric that can differ does: 3, and of 23 all but schema, dataset and four numbers of
    # images and patients.
    assert len(lines) == 1 + 3 + 17
    assert len(lines) <= LONG
    assert max(map(len, lines)) <= WIDE


def test_recall_on_test_is_among_the_first_twelve_rows_in_every_order_of_the_files(repository):
    # DVC prints keys in the order of the alphabet, and files in one that differs from run to run.
    rows = [line.split()[:2] for line in dvc(repository, "metrics", "diff", "HEAD~1").splitlines()]
    assert rows.pop(0) == ["Path", "Metric"]
    of_file = {path: [metric for file, metric in rows if file == path] for path in METRICS}
    assert of_file["metrics/evaluate.json"] == sorted(of_file["metrics/evaluate.json"])
    place = of_file["metrics/evaluate.json"].index("test.recall") + 1
    assert place + len(of_file["metrics/finetune.json"]) <= 12


def test_exp_show_has_recall_and_specificity_within_160_columns(repository):
    # Beside a name of sixteen letters; DVC's own have fewer.
    dvc(repository, "exp", "save", "-n", "imagenet-dropout")
    said = dvc(repository, "exp", "show", "--only-changed", "-n", "2")
    head = next(line for line in said.splitlines() if "Experiment" in line)
    # The three numbers of `finetune` come first, as the stages do.
    assert head.index("roc_auc") < head.index("test.recall") < head.index("test.specificity")
    assert head.index("test.specificity") + len("test.specificity") <= 160

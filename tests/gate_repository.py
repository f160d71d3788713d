"""A Git repository with a record that the gate accepts, without any training.

Test has 100 pneumonia images (60 bacterial, 40 viral) and 60 normal ones, two of a patient each
time. Every image is called rightly (probability 0.9 or 0.1) but those that are named.
"""

import hashlib
from pathlib import Path

import pandas as pd
import yaml

from pneumonia.evaluation.metrics import EvaluateParams, evaluation
from pneumonia.evaluation.predictions import as_printed
from pneumonia.git import git
from pneumonia.store.files import write_json, write_table, write_text

N_TEST = {"normal": 60, "bacterial": 60, "viral": 40}
N_VALIDATION = {"normal": 10, "bacterial": 6, "viral": 4}
POLICY = """\
schema: 1
confidence: 0.95
floors: {recall: 0.9, specificity: 0.8}
margins: {recall: 0.05, specificity: 0.1, recall_bacterial: 0.1, recall_viral: 0.1}
min_images_of_a_kind: 50
n_bootstrap: 1000
seed: 1
waivers: []
"""


def name_of(kind: str, number: int, split: str = "test") -> str:
    """The name of the image `number` of a kind, from 0."""
    folder = "NORMAL" if kind == "normal" else "PNEUMONIA"
    return f"{split}/{folder}/{kind}{number:03}.jpeg"


def predictions(missed: dict[str, int], n_test: dict[str, int] | None = None) -> pd.DataFrame:
    """The table in which the first `missed[kind]` test images of each kind are called wrongly."""
    rows = []
    for split, numbers in (("validation", N_VALIDATION), ("test", n_test or N_TEST)):
        for kind, n_images in numbers.items():
            for number in range(n_images):
                label = int(kind != "normal")
                wrong = split == "test" and number < missed.get(kind, 0)
                rows.append(
                    {
                        "name": name_of(kind, number, split),
                        "patient_id": f"{split}-{kind}-{number // 2}",
                        "kind": kind,
                        "label": label,
                        "split": split,
                        "probability": 0.9 if label != wrong else 0.1,
                    }
                )
    return pd.DataFrame(rows)


def write_record(
    root: Path, table: pd.DataFrame, source: str = "chestxray2017-224", **evaluate: object
) -> None:
    """Write params.yaml, metrics and a dvc.lock that belong to the predictions.

    `evaluate` replaces values of metrics/evaluate.json, as a hand would.
    """
    params = EvaluateParams(target_recall=0.9, n_bootstrap=40)
    write_text(
        root / "params.yaml",
        yaml.safe_dump({"seed": 7, "fetch": {"source": source}, "evaluate": vars(params)}),
    )
    write_table(root / "metrics/predictions.csv", as_printed(table))
    write_json(root / "metrics/evaluate.json", evaluation(table, params, 7, source) | evaluate)
    relock(root)


def relock(root: Path) -> None:
    """Make dvc.lock name the metrics and predictions that are there."""
    paths = ("metrics/evaluate.json", "metrics/predictions.csv")
    outs = [
        {"path": path, "hash": "md5", "md5": hashlib.md5((root / path).read_bytes()).hexdigest()}
        for path in paths
    ]
    write_text(
        root / "dvc.lock",
        yaml.safe_dump({"schema": "2.0", "stages": {"evaluate": {"cmd": "x", "outs": outs}}}),
    )


def commit(root: Path, message: str = "record") -> str:
    """Commit all and give the hash."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", message)
    return git(root, "rev-parse", "HEAD").strip()


def new_repository(root: Path, missed: dict[str, int] | None = None, policy: str = POLICY) -> Path:
    """A repository whose branch main has a policy and, unless None is missed, a record."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "someone")
    git(root, "config", "user.email", "someone@host.example")
    (root / "recipes").mkdir()
    for name in ("dvc.yaml", "recipes/none.yaml"):
        write_text(root / name, "{}\n")
    write_text(root / "gate.yaml", policy)
    write_text(root / "params.yaml", "{}\n")
    if missed is not None:
        write_record(root, predictions(missed))
    commit(root, "start")
    return root

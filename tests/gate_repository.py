"""A Git repository with a baseline that the gate accepts, without any training.

Test has 100 pneumonia images (60 bacterial, 40 viral) and 60 normal ones, two of a patient each
time. Every image is called rightly (probability 0.9 or 0.1) but those that are named.
"""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from sklearn.metrics import roc_auc_score

from pneumonia.evaluation.interval_table import interval_table
from pneumonia.evaluation.metrics import evaluation
from pneumonia.evaluation.predictions import as_printed
from pneumonia.git import git
from pneumonia.store.files import write_json, write_table, write_text

SEED, TARGET_RECALL, N_BOOTSTRAP = 7, 0.9, 40
# Of each schema, the stage of dvc.lock that writes a file.
FILES = {
    1: {"metrics/evaluate.json": "evaluate", "metrics/predictions.csv": "evaluate"},
    2: {
        "metrics/evaluate.json": "evaluate",
        "metrics/predictions.csv": "evaluate",
        "metrics/intervals.csv": "plot",
    },
}
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
    root: Path,
    table: pd.DataFrame,
    dataset: str = "chestxray2017-224",
    schema: int = 2,
    **evaluate: object,
) -> None:
    """Write params.yaml, metrics and a dvc.lock that belong to the predictions.

    `evaluate` replaces values of metrics/evaluate.json, as a hand would.
    """
    params = {
        "seed": SEED,
        "fetch": {"source": dataset},
        "evaluate": {"target_recall": TARGET_RECALL, "n_bootstrap": N_BOOTSTRAP},
    }
    write_text(root / "params.yaml", yaml.safe_dump(params))
    write_table(root / "metrics/predictions.csv", as_printed(table))
    (root / "metrics/intervals.csv").unlink(missing_ok=True)
    if schema == 1:
        metrics = schema_1(table, dataset)
    else:
        metrics = evaluation(table, TARGET_RECALL, dataset)
        intervals = interval_table(table, metrics["operating_threshold"], N_BOOTSTRAP, SEED)
        write_table(root / "metrics/intervals.csv", as_printed(intervals))
    write_json(root / "metrics/evaluate.json", metrics | evaluate)
    relock(root)


def schema_1(table: pd.DataFrame, dataset: str) -> dict[str, Any]:
    """The metrics/evaluate.json of before; in these tables 0.9 is the operating threshold."""

    def at(rows: pd.DataFrame, threshold: float) -> dict[str, float]:
        called, ill = rows["probability"] >= threshold, rows["label"] == 1
        tp, fp, fn, tn = (
            int((called & ill).sum()), int((called & ~ill).sum()),
            int((~called & ill).sum()), int((~called & ~ill).sum()),
        )  # fmt: skip
        return {
            "tn": tn, "fp": fp, "fn": fn, "tp": tp,
            "accuracy": round((tn + tp) / len(rows), 6), "accuracy_low": 0.123456,
            "precision": round(tp / (tp + fp), 6),
            "recall": round(tp / (tp + fn), 6), "recall_low": 0.123456,
            "specificity": round(tn / (tn + fp), 6),
            "f1": round(2 * tp / (2 * tp + fp + fn), 6),
        }  # fmt: skip

    def measured(rows: pd.DataFrame) -> dict[str, Any]:
        return {
            "n_images": len(rows),
            "n_patients": int(rows["patient_id"].nunique()),
            "roc_auc": round(float(roc_auc_score(rows["label"], rows["probability"])), 6),
            "roc_auc_low": 0.123456,
            "at_operating_threshold": at(rows, 0.9),
            "at_half": at(rows, 0.5),
            "brier": 0.123456,
        }

    return {
        "schema": 1, "source": dataset, "seed": SEED, "n_bootstrap": N_BOOTSTRAP,
        "target_recall": TARGET_RECALL, "operating_threshold": 0.9,
        **{split: measured(table[table["split"] == split]) for split in ("validation", "test")},
    }  # fmt: skip


def relock(root: Path) -> None:
    """Make dvc.lock name the metrics, predictions and intervals that are there."""
    schema = 2 if (root / "metrics/intervals.csv").exists() else 1
    stages: dict[str, dict[str, Any]] = {}
    for path, stage in FILES[schema].items():
        md5 = hashlib.md5((root / path).read_bytes()).hexdigest()
        outs = stages.setdefault(stage, {"cmd": "x", "outs": []})["outs"]
        outs.append({"path": path, "hash": "md5", "md5": md5})
    if schema == 2:
        stages["plot"]["deps"] = [dict(out) for out in stages["evaluate"]["outs"]]
    write_text(root / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": stages}))


def commit(root: Path, message: str = "baseline") -> str:
    """Commit all and give the hash."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", message)
    return git(root, "rev-parse", "HEAD").strip()


def new_repository(root: Path, missed: dict[str, int] | None = None, policy: str = POLICY) -> Path:
    """A repository whose branch main has a policy and, unless None is missed, a baseline."""
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

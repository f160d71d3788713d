"""The files of a run for tests of documents: a repository without any training, with plots."""

import atexit
import io
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from gate_repository import commit, new_repository, predictions, write_record
from pneumonia.evaluation.predictions import as_printed
from pneumonia.evaluation.shortcuts import COLUMNS as SHORTCUT_COLUMNS
from pneumonia.store.files import write_bytes, write_table, write_text
from pneumonia.store.yaml12 import load_yaml

ROOT = Path(__file__).parents[1]
# Plots that stages `plot` and `examine` write, by their place below plots/.
PLOTS = (
    "accuracy_loss.png", "confusion.png", "roc.png", "precision_recall.png", "kinds.png",
    "reliability.png", "decision.png", "examine/samples.png", "examine/robustness.png",
    "examine/activation_maps.png", "examine/activation_maps_sanity.png",
)  # fmt: skip
# The lower loss is the first epoch's.
HISTORY = {
    "epoch": [1, 2],
    "train_loss": [0.7, 0.5],
    "validation_loss": [0.6, 0.8],
    "train_accuracy": [0.6, 0.8],
    "validation_accuracy": [0.75, 0.7],
    "validation_roc_auc": [0.8, 0.9],
}
EARLIER = "date,revision,source,recipe,n_looks,recall,specificity,predictions,note\n"
OUTPUTS = {"models/finetune.keras": "finetune", "data/raw/radiographs.zip": "fetch"}


def png(width: int = 800, height: int = 400) -> bytes:
    """A plot as wide as those of the stages, a bar at each end so that a cut is seen."""
    pixels = np.full((height, width), 255, np.uint8)
    pixels[:, :20] = pixels[:, -20:] = 0
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def with_ends(name: str, value: float) -> dict[str, float]:
    return {name: value, f"{name}_low": value - 0.1, f"{name}_high": value + 0.1}


def robustness_rows() -> pd.DataFrame:
    """The sample as it came, and two severities of one corruption; the second makes recall fall."""
    rows = []
    for corruption, severity, change in (("none", 0, -0.9), ("blur", 1, 0.0), ("blur", 3, -0.2)):
        row = {"corruption": corruption, "severity": severity, "level": 0.5}
        row |= {"n_images": 30, "n_patients": 17}
        for metric in ("recall", "specificity", "roc_auc"):
            moved = change if metric == "recall" else 0.0
            value = 0.8 + (moved if severity else 0)
            row |= with_ends(metric, value) | with_ends(f"{metric}_change", moved)
        rows.append(row)
    return pd.DataFrame(rows)


def shortcut_rows(note: str = "") -> pd.DataFrame:
    """The model, a thumbnail and file metadata; metadata carry nothing where a note says so."""
    rows = []
    for classifier, area in (("model", 0.9), ("thumbnail", 0.6), ("metadata", 0.5)):
        metrics = {"roc_auc": area, "accuracy": 0.7, "recall": 0.6, "specificity": 0.8}
        if classifier != "model":
            metrics["roc_auc_behind"] = 0.9 - area
        if note and classifier == "metadata":
            metrics = {"n_file_kinds": 1.0}
        rows += [
            (classifier, "none", name, value, value - 0.1, value + 0.1, "", "", note)
            for name, value in metrics.items()
        ]
    return pd.DataFrame(rows, columns=list(SHORTCUT_COLUMNS))


def map_rows() -> pd.DataFrame:
    rows = [
        ("sanity", "head_randomised", 23, 0.25, 0.125, 0.5, "20 random heads"),
        ("sanity", "chance", 23, 0.125, 0.0, 0.25, "10,000 pairs"),
        ("border", "true_positive", 95, 0.375, 0.25, 0.5, "of 97 images"),
    ]
    columns = ("study", "group", "n_images", "median", "q1", "q3", "note")
    return pd.DataFrame(rows, columns=list(columns))


def write_run(
    root: Path,
    dataset: str = "chestxray2017-224",
    *,
    whole: bool = True,
    missed: dict[str, int] | None = None,
    before: dict[str, int] | None = None,
    **sections: object,
) -> Path:
    """A committed repository with a run: of test 3 bacterial images missed, 2 false alarms.

    `whole` writes every file that the documents show; else only metrics/evaluate.json and
    parameters are there. `before` is a baseline that is committed first. `sections` replace those
    of params.yaml.
    """
    wrong = missed or {"bacterial": 3, "normal": 2}
    made = _made(dataset, whole, tuple(wrong.items()), before and tuple(before.items()))
    shutil.copytree(made, root)
    if sections:
        params = load_yaml(root / "params.yaml") | sections
        write_text(root / "params.yaml", yaml.safe_dump(params, sort_keys=False))
        commit(root, "other parameters")
    return root


@cache
def _made(
    dataset: str,
    whole: bool,
    missed: tuple[tuple[str, int], ...],
    before: tuple[tuple[str, int], ...] | None,
) -> Path:
    """The repository of `write_run`, made once, as it takes a second."""
    folder = Path(tempfile.mkdtemp(prefix="pneumonia-run-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    root = new_repository(folder / "run", before and dict(before))
    write_record(root, predictions(dict(missed)), dataset)
    params = load_yaml(ROOT / "params.yaml") | load_yaml(root / "params.yaml")
    write_text(root / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    lock = load_yaml(root / "dvc.lock")
    for path, stage in OUTPUTS.items():
        lock["stages"][stage] = {"outs": [{"path": path, "md5": f"md5-of-{stage}", "size": 1234}]}
    write_text(root / "dvc.lock", yaml.safe_dump(lock))
    if whole:
        for name in PLOTS:
            write_bytes(root / "plots" / name, png())
        for phase in ("train_frozen", "finetune"):
            write_table(root / f"plots/history_{phase}.csv", pd.DataFrame(HISTORY))
        write_table(root / "metrics/robustness.csv", robustness_rows())
        note = "every file is 224×224 L"
        write_table(root / "metrics/shortcuts.csv", as_printed(shortcut_rows(note)))
        write_table(root / "metrics/activation_maps.csv", as_printed(map_rows()))
        write_text(root / "docs/earlier_looks.csv", EARLIER)
    else:
        for path in ("dvc.lock", "metrics/predictions.csv", "metrics/intervals.csv"):
            (root / path).unlink()
    commit(root, "a run")
    return root

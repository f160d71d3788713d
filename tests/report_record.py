"""The files of a run for tests of the report: a repository without any training, with pictures."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from gate_repository import commit, new_repository, predictions, write_record
from pneumonia.documents.report import KNOWN_PICTURES, PICTURES
from pneumonia.store.files import write_bytes, write_json, write_table, write_text
from pneumonia.store.yaml12 import load_yaml

ROOT = Path(__file__).parents[1]
HISTORY = {
    "epoch": [1, 2],
    "train_loss": [0.7, 0.5],
    "validation_loss": [0.6, 0.8],
    "train_accuracy": [0.6, 0.8],
    "validation_accuracy": [0.75, 0.7],
    "validation_roc_auc": [0.8, 0.9],
}
EARLIER = "date,revision,source,recipe,n_looks,recall,specificity,predictions,note\n"


def png(width: int = 800, height: int = 400) -> bytes:
    """A picture as wide as those of stage evaluate, a bar at each end so that a cut is seen."""
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
    for corruption, severity, change in (("none", 0, 0.0), ("blur", 1, 0.0), ("blur", 3, -0.2)):
        row = {"corruption": corruption, "severity": severity, "level": 0.5}
        row |= {"n_images": 30, "n_patients": 17}
        for metric in ("recall", "specificity", "roc_auc"):
            moved = change if metric == "recall" else 0.0
            row |= with_ends(metric, 0.8 + moved) | with_ends(f"{metric}_change", moved)
        rows.append(row)
    return pd.DataFrame(rows)


def maps_numbers() -> dict:
    likeness = {"median": 0.25, "q1": 0.125, "q3": 0.5}
    return {
        "n_images": 160,
        "border": {
            "even_share": 0.4375,
            "false_negative": {"n_images": 5},
            "true_positive": {"n_images": 95, "median": 0.375},
        },
        "sanity": {"n_images": 23, "head_randomised": likeness, "chance": likeness},
    }


def write_run(
    root: Path, source: str = "chestxray2017-224", *, whole: bool = True, **settings: object
) -> Path:
    """A committed repository with a run: of test 3 bacterial films missed, 2 false alarms.

    `whole` writes every file that the report shows; else only figures and settings are there.
    `settings` replace sections of params.yaml.
    """
    new_repository(root)
    write_record(root, predictions({"bacterial": 3, "normal": 2}), source)
    params = load_yaml(ROOT / "params.yaml") | load_yaml(root / "params.yaml") | settings
    write_text(root / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    if whole:
        for name in KNOWN_PICTURES:
            write_bytes(root / PICTURES / name, png())
        for phase in ("train_frozen", "finetune"):
            write_table(root / PICTURES / f"history_{phase}.csv", pd.DataFrame(HISTORY))
        write_table(root / "metrics/robustness.csv", robustness_rows())
        write_json(root / "metrics/maps.json", maps_numbers())
        at_half = with_ends("accuracy", 0.7) | with_ends("recall", 0.6)
        area = with_ends("roc_auc", 0.5)
        part = area | {"at_half": at_half | with_ends("specificity", 0.8)}
        write_json(
            root / "metrics/shortcuts.json",
            {
                "n_test_images": 160,
                "n_test_patients": 80,
                "model": part,
                "thumbnail": part | with_ends("roc_auc_behind", 0.3),
                "metadata": {"carries_nothing": "every film is 224×224 L"},
            },
        )
        write_text(root / "docs/earlier_looks.csv", EARLIER)
    else:
        (root / "dvc.lock").unlink()
        (root / "metrics/predictions.csv").unlink()
    commit(root, "a run")
    return root

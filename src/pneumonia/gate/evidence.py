"""What a revision says of its model, read from Git and held against itself.

Figures count as evidence only where they follow from the predictions beside them, and where the
revision's dvc.lock names these very files. No model and no image is needed.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pneumonia.data.datasets import is_public
from pneumonia.errors import PipelineError
from pneumonia.evaluation.clinical import KEYS as CLINICAL
from pneumonia.evaluation.metrics import SCHEMA, EvaluateParams, evaluation
from pneumonia.evaluation.predictions import SPLITS, TEXT_COLUMNS, checked
from pneumonia.git import file_at
from pneumonia.store.files import read_json, read_table
from pneumonia.store.params import as_section, load_section
from pneumonia.store.yaml12 import load_yaml

METRICS = Path("metrics/evaluate.json")
PREDICTIONS = Path("metrics/predictions.csv")
LOCK = Path("dvc.lock")
PARAMS = Path("params.yaml")

# Six decimals are kept; another processor may add up in another order and round the last one so.
_TOLERANCE = 2e-6


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a sound record of one evaluation."""

    name: str  # as a person reads it: base 1a2b3c4
    source: str
    target_recall: float
    operating_threshold: float
    test: pd.DataFrame  # the test rows of metrics/predictions.csv and `called`, bool; by name


def evidence(root: Path, revision: str | None, name: str) -> Side | None:
    """The record at a commit, or in the working tree (None); None where there is none yet.

    Args:
        root: top of the checkout.
        revision: full hash of a commit.
        name: starts every error.

    Raises:
        PipelineError: a file is missing or cannot be read, holds something else than it must, or
            figures, predictions, parameters and dvc.lock do not belong together.
    """
    files = {path: file_at(root, revision, path) for path in (METRICS, PREDICTIONS, LOCK, PARAMS)}
    if files[METRICS] is None and files[PREDICTIONS] is None:
        return None
    missing = [str(path) for path, data in files.items() if data is None]
    if missing:
        raise PipelineError(
            f"{name}: expected {', '.join(map(str, files))}, which belong together. "
            f"Received: no {', '.join(missing)}"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path, data in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(data or b"")
        try:
            return _side(folder, name)
        except PipelineError as error:
            raise PipelineError(f"{name}: {str(error).replace(f'{folder}/', '')}") from error


def _side(folder: Path, name: str) -> Side:
    """The record whose four files lie in `folder`."""
    recorded = read_json(folder / METRICS)
    if not isinstance(recorded, dict) or recorded.get("schema") != SCHEMA:
        received = recorded.get("schema") if isinstance(recorded, dict) else recorded
        raise PipelineError(
            f"{METRICS}: expected schema {SCHEMA}, which this version of the gate reads. "
            f"Received: {received!r}"
        )
    missing = [key for key in ("source", "seed", "target_recall", "n_bootstrap")
               if key not in recorded]  # fmt: skip
    if missing:
        raise PipelineError(f"{METRICS}: {', '.join(missing)} missing")
    source = as_section(recorded["source"], f"{METRICS}: source", str)
    seed = as_section(recorded["seed"], f"{METRICS}: seed", int)
    params = as_section(
        {key: recorded[key] for key in ("target_recall", "n_bootstrap")},
        str(METRICS),
        EvaluateParams,
    )
    _compare_with_params(folder / PARAMS, source, seed, params)

    predictions = checked(read_table(folder / PREDICTIONS, TEXT_COLUMNS))
    _refuse_names_that_are_not_public(predictions, source)
    derived = evaluation(predictions, params, seed, source)
    for split in SPLITS:
        figures = recorded.get(split)
        if isinstance(figures, dict) and not CLINICAL & set(figures):
            # A record from before these were measured. The rules do not ask for them.
            derived[split] = {k: v for k, v in derived[split].items() if k not in CLINICAL}
    for key, here, there in _differences(recorded, derived):
        raise PipelineError(
            f"{METRICS}: {key} does not follow from {PREDICTIONS}, which gives {there!r}. "
            f"Received: {here!r}; figures are made by `dvc repro` and never by hand"
        )
    _compare_with_lock(folder)

    threshold = float(derived["operating_threshold"])
    test = predictions[predictions["split"] == "test"].sort_values("name", ignore_index=True)
    return Side(
        name=name,
        source=source,
        target_recall=params.target_recall,
        operating_threshold=threshold,
        test=test.assign(called=test["probability"] >= threshold),
    )


def _compare_with_params(path: Path, source: str, seed: int, params: EvaluateParams) -> None:
    """See that the figures were made with the parameters beside them."""
    for key, in_metrics in (
        ("fetch.source", source),
        ("seed", seed),
        ("evaluate.target_recall", params.target_recall),
        ("evaluate.n_bootstrap", params.n_bootstrap),
    ):
        in_params = load_section(path, key, type(in_metrics))
        if in_params != in_metrics:
            raise PipelineError(
                f"{METRICS} and {PARAMS} are of different runs: {key} is {in_metrics!r} in the "
                f"one and {in_params!r} in the other. Run `dvc repro` and commit both"
            )


def _refuse_names_that_are_not_public(predictions: pd.DataFrame, source: str) -> None:
    """See that films of such a source appear as keyed hashes alone."""
    if is_public(source):
        return
    for column in ("name", "patient_id"):
        bare = [text for text in predictions[column] if not re.fullmatch("[0-9a-f]{16}", text)]
        if bare:  # not shown: the line would repeat the leak
            raise PipelineError(
                f"{PREDICTIONS}: source {source} is not public, so every {column} must be a keyed "
                f"hash of 16 digits. Received: {len(bare)} that are not"
            )


def _differences(
    recorded: Any, derived: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, recorded, derived) of each figure that is not what was derived.

    Keys that only the record has are left alone: a later version may measure more.
    """
    for key, there in derived.items():
        here = recorded.get(key) if isinstance(recorded, dict) else None
        dotted = f"{above}{key}"
        if isinstance(there, Mapping):
            yield from _differences(here, there, f"{dotted}.")
        elif isinstance(there, float) and isinstance(here, int | float):
            if not abs(here - there) <= _TOLERANCE:
                yield dotted, here, there
        elif type(here) is not type(there) or here != there:
            yield dotted, here, there


def _compare_with_lock(folder: Path) -> None:
    """See that dvc.lock names metrics and predictions by the md5 that they have."""
    outs: Any = load_yaml(folder / LOCK)
    for key in ("stages", "evaluate", "outs"):
        outs = outs.get(key, {}) if isinstance(outs, dict) else {}
    locked = {
        out.get("path"): out.get("md5")
        for out in (outs if isinstance(outs, list) else [])
        if isinstance(out, dict)
    }
    for path in (METRICS, PREDICTIONS):
        # DVC's content hash, not a safeguard of its own: usedforsecurity says so to the machines
        # that allow md5 for nothing else.
        md5 = hashlib.md5((folder / path).read_bytes(), usedforsecurity=False).hexdigest()
        if locked.get(str(path)) != md5:
            raise PipelineError(
                f"{LOCK} and {path} are of different runs: the lock says md5 "
                f"{locked.get(str(path))}, the file has {md5}. Run `dvc repro` and commit both"
            )


def refuse_another_test_set(base: Side, candidate: Side) -> None:
    """See that both sides were measured on the same test images with the same labels.

    Raises:
        PipelineError: they were not; says how many images differ, and the first.
    """
    if base.source != candidate.source and "phantoms" in (base.source, candidate.source):
        raise PipelineError(
            f"the test set changed: the base was measured on {base.source}, the candidate on "
            f"{candidate.source}. Phantoms and films are never compared"
        )
    columns = ["name", "patient_id", "kind", "label"]
    # As text: where an image is missing on one side, its label would make all others 1.0.
    both = (
        base.test[columns]
        .astype(str)
        .merge(
            candidate.test[columns].astype(str),
            on="name",
            how="outer",
            indicator=True,
            suffixes=("", "_candidate"),
        )
    )
    changed = both["_merge"] != "both"
    for column in columns[1:]:
        changed |= both[column] != both[f"{column}_candidate"]
    if changed.any():
        row = both[changed].iloc[0]
        where = {
            "left_only": "only in the base",
            "right_only": "only in the candidate",
            "both": "with another label, kind or patient",
        }
        raise PipelineError(
            f"the test set changed: expected the same images and labels on both sides. Received: "
            f"{int(changed.sum())} that differ, the first is {row['name']}, "
            f"{where[str(row['_merge'])]}. A new test set is a new baseline: --new-baseline"
        )

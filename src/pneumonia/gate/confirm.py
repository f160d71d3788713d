"""Confirmation: the locked model is evaluated again and must give the recorded probabilities.

So figures cannot be invented. Nothing of the candidate's own code is run: its folder is data.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from pneumonia.data.datasets import is_public
from pneumonia.data.privacy import KEY, key_from_environment
from pneumonia.errors import PipelineError
from pneumonia.evaluation.predictions import SPLITS, TEXT_COLUMNS, checked, split_predictions
from pneumonia.store.arrays import open_split
from pneumonia.store.files import read_json, read_table
from pneumonia.store.params import load_section
from pneumonia.store.yaml12 import load_yaml
from pneumonia.training.model_files import load_classifier, predict_probabilities

LOCK = Path("dvc.lock")
PARAMS = Path("params.yaml")
MODEL = Path("models/finetune.keras")
DATA = {split: Path("data/processed") / split for split in SPLITS}
METRICS = Path("metrics/evaluate.json")
PREDICTIONS = Path("metrics/predictions.csv")
FILES = (MODEL, *DATA.values(), METRICS, PREDICTIONS)

# Another processor adds in another order. On the first recorded state other instructions and
# another library of kernels moved a probability by at most 1e-6. TensorFloat-32, in which NVIDIA's
# GPUs multiply by default, is not that: rounding the weights so moved one by 0.0016. But 11 images
# of test lie within 0.003 of the threshold, and one within 0.0001. So it stays narrow, and a GPU's
# record is confirmed on a GPU.
TOLERANCE = 1e-4


def confirmed(candidate: Path) -> str:
    """What was confirmed, in lines, after the candidate's model has predicted every image again.

    Args:
        candidate: a checkout with what its dvc.lock names of the model and of validation and test
            (`dvc pull` brings them). It is only read.

    Raises:
        PipelineError: a file is missing or is not the one in dvc.lock; or an image, what is known
            of it, or its probability is not what metrics/predictions.csv says.
    """
    locked = _locked(candidate / LOCK)
    md5s = {path: _md5(candidate / path) for path in FILES}
    for path, md5 in md5s.items():
        if md5 != locked[path]:
            raise PipelineError(
                f"{candidate / path}: expected the md5 in dvc.lock, {locked[path]}. Received: {md5}"
            )
    recorded = checked(read_table(candidate / PREDICTIONS, text=TEXT_COLUMNS))
    threshold = _threshold(candidate / METRICS)
    again = _predicted(candidate)
    recorded, again = recorded.set_index("name"), again.set_index("name")
    _refuse_other_films(recorded, again, candidate / PREDICTIONS)

    again = again.loc[recorded.index]
    y_prob, y_again = recorded["probability"].to_numpy(), again["probability"].to_numpy()
    difference = np.abs(y_prob - y_again)
    differing = np.flatnonzero(difference > TOLERANCE)
    if len(differing):
        first = differing[0]
        raise PipelineError(
            f"{candidate / PREDICTIONS}: {MODEL} gives other probabilities for {len(differing)} of "
            f"{len(recorded)} images, at most {difference.max():.6f} away; accepted: {TOLERANCE}. "
            f"The first is {recorded.index[first]}: recorded {y_prob[first]:.6f}, now "
            f"{y_again[first]:.6f}. A record made on another kind of processor is confirmed there"
        )
    n_other = int(((y_prob >= threshold) != (y_again >= threshold)).sum())
    return "\n".join(
        [
            f"Confirmed: {MODEL}, md5 {md5s[MODEL]}, gives the recorded probabilities.",
            f"{len(recorded)} images of {' and '.join(DATA)}; largest difference "
            f"{difference.max():.6f}, accepted {TOLERANCE}.",
            f"Verdicts at the recorded threshold {threshold:.6f}: "
            + (f"{n_other} differ, all within {TOLERANCE} of it." if n_other else "all the same."),
        ]
    )


def _predicted(candidate: Path) -> pd.DataFrame:
    """The predictions table of both splits, from the model and the arrays."""
    source = load_section(candidate / PARAMS, "fetch.source", str)
    key = None if is_public(source) else key_from_environment()
    classifier = load_classifier(candidate / MODEL)
    parts = []
    for split, folder in DATA.items():
        films = open_split(candidate / folder)
        y_prob = predict_probabilities(classifier, films.images)
        parts.append(split_predictions(films.index, y_prob, split, key))
    return checked(pd.concat(parts, ignore_index=True))


def _refuse_other_films(recorded: pd.DataFrame, again: pd.DataFrame, path: Path) -> None:
    """See that both tables, by name, have the same images and tell the same of each.

    Raises:
        PipelineError: they do not.
    """
    for names, wrong in (
        (recorded.index.difference(again.index), "stand there and not in"),
        (again.index.difference(recorded.index), "are missing; they stand in"),
    ):
        if len(names):
            raise PipelineError(
                f"{path}: expected the images of {' and '.join(map(str, DATA.values()))}. "
                f"Received: {len(names)} {wrong} these, the first {names[0]}; "
                f"where names are keyed hashes, {KEY} must be the key of the recorded run"
            )
    for column in ("split", "patient_id", "kind", "label"):
        told, true = recorded[column], again[column].loc[recorded.index]
        names = recorded.index[told.to_numpy() != true.to_numpy()]
        if len(names):
            raise PipelineError(
                f"{path}: {column} of {len(names)} images is not that of the data. The first is "
                f"{names[0]}: recorded {told[names[0]]}, in the data {true[names[0]]}"
            )


def _threshold(path: Path) -> float:
    """The operating threshold that evaluate.json records."""
    evaluate = read_json(path)
    threshold = evaluate.get("operating_threshold") if isinstance(evaluate, dict) else None
    if not isinstance(threshold, float | int) or not 0 <= threshold <= 1:
        raise PipelineError(
            f"{path}: operating_threshold must be in [0, 1]. Received: {threshold!r}"
        )
    return float(threshold)


def _locked(path: Path) -> dict[Path, str]:
    """The md5 that a dvc.lock has of each path that confirmation needs.

    Raises:
        PipelineError: the file is missing or broken, a path is not in it, or two stages disagree
            on one: then what was evaluated is not what was trained or prepared.
    """
    lock = load_yaml(path)
    found: dict[Path, set[str]] = {wanted: set() for wanted in FILES}
    try:
        for stage in lock["stages"].values():
            for entry in (*stage.get("deps", ()), *stage.get("outs", ())):
                if Path(entry["path"]) in found:
                    found[Path(entry["path"])].add(str(entry["md5"]))
    except (AttributeError, KeyError, TypeError) as error:
        raise PipelineError(
            f"{path}: expected DVC's lock: stages, each with the path and md5 of what it reads and "
            f"writes. Received: {error!r}"
        ) from error
    for wanted, md5s in found.items():
        if len(md5s) != 1:
            raise PipelineError(
                f"{path}: expected one md5 of {wanted}, the same wherever it is named. "
                f"Received: {', '.join(sorted(md5s)) or 'none'}"
            )
    return {wanted: md5s.pop() for wanted, md5s in found.items()}


def _md5(path: Path) -> str:
    """The md5 of a file, or of a folder as DVC writes it: of the sorted list of its files' md5s.

    Raises:
        PipelineError: the file or folder is missing.
    """
    if path.is_dir():
        files = {
            file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()
        }
        listed = [{"md5": _md5(files[name]), "relpath": name} for name in sorted(files)]
        return hashlib.md5(json.dumps(listed).encode()).hexdigest() + ".dir"
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise PipelineError(
            f"{path}: expected the file that dvc.lock names. Received: {error.strerror}. "
            f"`dvc pull {' '.join(map(str, (MODEL, *DATA.values())))}` there brings what DVC keeps"
        ) from error

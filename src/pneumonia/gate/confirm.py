"""Confirmation: the locked model is evaluated again and must give the recorded probabilities.

So metrics cannot be invented. The candidate's own code does not run: its folder is data.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from pneumonia.data.datasets import is_public
from pneumonia.data.privacy import KEY, key_from_environment
from pneumonia.errors import PipelineError
from pneumonia.evaluation.predictions import SPLITS, checked, split_predictions
from pneumonia.gate.evidence import (
    LOCK,
    METRICS,
    PREDICTIONS,
    evidence,
    locked_md5s,
    refuse_other_images,
)
from pneumonia.store.arrays import open_split
from pneumonia.store.yaml12 import load_yaml
from pneumonia.training.model_files import load_classifier, predict_probabilities

MODEL = Path("models/finetune.keras")
DATA = {split: Path("data/processed") / split for split in SPLITS}
FILES = (MODEL, *DATA.values())

# Another processor adds in another order. On the first baseline other instructions and another
# library of kernels moved a probability by at most 1e-6. TensorFloat-32, in which NVIDIA's GPUs
# multiply by default, is not that: rounding the weights so moved one by 0.0016. But 11 images of
# test lie within 0.003 of the threshold, and one within 0.0001. So the tolerance stays narrow, and
# a run on a GPU is confirmed on a GPU.
TOLERANCE = 1e-4


def confirmed(candidate: Path) -> str:
    """What was confirmed, in lines, after the candidate's model has predicted every image again.

    Args:
        candidate: a checkout with the model, validation and test that its dvc.lock names
            (`dvc pull` brings them). It is only read.

    Raises:
        PipelineError: the evidence is not sound; a file is missing or is not the one in dvc.lock;
            or an image, its label, kind, patient or split, or its probability is not what
            metrics/predictions.csv says.
    """
    side = evidence(candidate, None, str(candidate))
    if side is None:
        raise PipelineError(f"{candidate}: expected {METRICS} and {PREDICTIONS}. Received: neither")
    locked = locked_md5s(load_yaml(candidate / LOCK), FILES)
    for path, md5s in locked.items():
        if len(md5s) != 1:
            raise PipelineError(
                f"{candidate / LOCK}: expected one md5 of {path}, the same wherever it is named. "
                f"Received: {', '.join(sorted(md5s)) or 'none'}"
            )
        md5 = _md5(candidate / path)
        if {md5} != md5s:
            raise PipelineError(
                f"{candidate / path}: expected the md5 in dvc.lock, {min(md5s)}. Received: {md5}"
            )
    recorded, threshold = side.predictions, side.metrics["operating_threshold"]
    again = _predicted(candidate, side.dataset)
    try:
        refuse_other_images({str(PREDICTIONS): recorded, "the data": again})
    except PipelineError as error:
        raise PipelineError(
            f"{candidate}: {error}. Where names are keyed hashes, {KEY} must be the key of the "
            "recorded run"
        ) from error

    names = recorded["name"]
    y_prob = recorded["probability"].to_numpy()
    y_again = again.set_index("name").loc[names, "probability"].to_numpy()
    difference = np.abs(y_prob - y_again)
    differing = np.flatnonzero(difference > TOLERANCE)
    if len(differing):
        first = differing[0]
        raise PipelineError(
            f"{candidate / PREDICTIONS}: {MODEL} gives other probabilities for {len(differing)} of "
            f"{len(recorded)} images, at most {difference.max():.6f} away; accepted: {TOLERANCE}. "
            f"The first is {names[first]}: recorded {y_prob[first]:.6f}, now "
            f"{y_again[first]:.6f}. A run on another kind of processor is confirmed there"
        )
    n_other = int(((y_prob >= threshold) != (y_again >= threshold)).sum())
    calls = f"{n_other} differ, all within {TOLERANCE} of it." if n_other else "all the same."
    return (
        f"Confirmed: {MODEL}, md5 {min(locked[MODEL])}, gives the recorded probabilities.\n"
        f"{len(recorded)} images of {' and '.join(DATA)}; largest difference "
        f"{difference.max():.6f}, accepted {TOLERANCE}.\n"
        f"Calls at the recorded threshold {threshold:.6f}: {calls}"
    )


def _predicted(candidate: Path, dataset: str) -> pd.DataFrame:
    """The predictions table of both splits, from the model and the arrays."""
    key = None if is_public(dataset) else key_from_environment()
    classifier = load_classifier(candidate / MODEL)
    parts = []
    for split, folder in DATA.items():
        arrays = open_split(candidate / folder)
        y_prob = predict_probabilities(classifier, arrays.images)
        parts.append(split_predictions(arrays.index, y_prob, split, key))
    return checked(pd.concat(parts, ignore_index=True))


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

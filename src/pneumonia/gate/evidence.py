"""One side of a comparison: a baseline or a candidate, read from Git and held against itself.

A metric counts as evidence only where it matches the predictions beside it, and where the dvc.lock
of the same revision names these very files. Neither the model nor an image is needed.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pneumonia.data.datasets import is_public
from pneumonia.errors import PipelineError
from pneumonia.evaluation.interval_table import KEY as INTERVAL_KEY
from pneumonia.evaluation.interval_table import TEXT_COLUMNS as INTERVAL_TEXT
from pneumonia.evaluation.interval_table import interval_table
from pneumonia.evaluation.metrics import HALF, EvaluateParams, evaluation, f1, rates
from pneumonia.evaluation.predictions import SPLITS, TEXT_COLUMNS, checked
from pneumonia.evaluation.threshold import SCHEMA, counts
from pneumonia.git import file_at
from pneumonia.store.files import read_table
from pneumonia.store.params import Seed, as_section, load_section, short
from pneumonia.store.yaml12 import load_yaml

METRICS = Path("metrics/evaluate.json")
PREDICTIONS = Path("metrics/predictions.csv")
INTERVALS = Path("metrics/intervals.csv")
LOCK = Path("dvc.lock")
PARAMS = Path("params.yaml")

# Six decimals are kept; another processor may add up in another order and round the last one so.
_TOLERANCE = 2e-6
_NOTHING = "nothing"


@dataclass(frozen=True)
class Side:
    """The sound evidence of one evaluation."""

    dataset: str
    target_recall: float
    metrics: Mapping[str, Any]  # as schema 2 of metrics/evaluate.json, whichever the file has
    predictions_md5: str  # as in dvc.lock
    predictions: pd.DataFrame  # metrics/predictions.csv and `called` (bool: pneumonia); by name

    @property
    def test(self) -> pd.DataFrame:
        """The predictions of the test images."""
        return self.predictions[self.predictions["split"] == "test"].reset_index(drop=True)


def evidence(root: Path, revision: str | None, name: str, *, is_base: bool = False) -> Side | None:
    """The evidence at a commit, or in the working tree (None); None where there is none yet.

    Args:
        root: top of the checkout.
        revision: full hash of a commit.
        name: starts every error.
        is_base: it is compared with, and may lack metrics that came later.

    Raises:
        PipelineError: a file is missing or cannot be read or holds something else than it must; or
            metrics, predictions, parameters and dvc.lock do not belong together. One line.
    """
    paths = (METRICS, PREDICTIONS, LOCK, PARAMS, INTERVALS)
    files = {path: data for path in paths if (data := file_at(root, revision, path)) is not None}
    if METRICS not in files and PREDICTIONS not in files:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path, data in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(data)
        try:
            return _side(folder, is_base)
        except PipelineError as error:
            said = str(error).replace(f"{folder}/", "")
            raise PipelineError(" ".join(f"{name}: {said}".split())) from error


def _side(folder: Path, is_base: bool) -> Side:
    """The evidence whose files lie in this folder."""
    _refuse_missing(folder, METRICS, PREDICTIONS, LOCK, PARAMS)
    recorded = parse_metrics((folder / METRICS).read_bytes())
    schema = recorded.get("schema") if isinstance(recorded, dict) else recorded
    if type(schema) is not int or schema not in (1, SCHEMA):
        raise PipelineError(
            f"{METRICS}: expected schema 1 or {SCHEMA}, which this version of the gate reads. "
            f"Received: {short(schema)}"
        )
    params = folder / PARAMS
    dataset, seed = load_section(params, "fetch.source", str), load_section(params, "seed", Seed)
    used = {key: load_section(params, f"evaluate.{key}", kind)
            for key, kind in (("target_recall", float), ("n_bootstrap", int))}  # fmt: skip
    evaluate = as_section(used, f"{PARAMS}: evaluate", EvaluateParams)
    predictions = _predictions(folder / PREDICTIONS, dataset)
    metrics = evaluation(predictions, evaluate.target_recall, dataset)
    threshold = metrics["operating_threshold"]
    held = [METRICS, PREDICTIONS]
    if schema == SCHEMA:
        held.append(INTERVALS)
        _refuse_missing(folder, *held)
        _refuse_differences(recorded, metrics, PREDICTIONS, exact=True)
        _refuse_other_intervals(
            read_table(folder / INTERVALS, INTERVAL_TEXT),
            interval_table(predictions, threshold, evaluate.n_bootstrap, seed),
            is_base,
        )
    else:
        _refuse_differences(recorded, {"source": dataset, "seed": seed, **used}, PARAMS)
        _refuse_differences(recorded, _schema_1(predictions, metrics), PREDICTIONS)

    md5s = locked_md5s(load_yaml(folder / LOCK), held)
    for path in held:
        # DVC's content hash, not a safeguard of its own: usedforsecurity says so to the machines
        # that allow md5 for nothing else.
        md5 = hashlib.md5((folder / path).read_bytes(), usedforsecurity=False).hexdigest()
        if md5s[path] != {md5}:
            raise PipelineError(
                f"{LOCK} and {path} are of different runs: the lock says md5 "
                f"{', '.join(sorted(md5s[path])) or 'none'}, the file has {md5}. "
                "Run `dvc repro` and commit both"
            )
    predictions = predictions.sort_values("name", ignore_index=True)
    return Side(
        dataset=dataset,
        target_recall=evaluate.target_recall,
        metrics=metrics,
        predictions_md5=md5s[PREDICTIONS].pop(),
        predictions=predictions.assign(called=predictions["probability"] >= threshold),
    )


def parse_metrics(data: bytes) -> Any:
    """The value in the bytes of a metrics/evaluate.json, whoever wrote it.

    Raises:
        PipelineError: it is not strict JSON (no NaN, no Infinity), or is nested too deeply.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise PipelineError(
            f"{METRICS}: expected a JSON file that can be read. Received: {error}"
        ) from error


def _refuse_missing(folder: Path, *paths: Path) -> None:
    missing = [str(path) for path in paths if not (folder / path).exists()]
    if missing:
        raise PipelineError(
            f"expected {', '.join(map(str, paths))}, which belong together. "
            f"Received: no {', '.join(missing)}"
        )


def _predictions(path: Path, dataset: str) -> pd.DataFrame:
    """The predictions table, whole and sound; of a private dataset, with keyed hashes as names."""
    table = read_table(path, TEXT_COLUMNS)
    for column in () if is_public(dataset) else ("name", "patient_id"):
        bare = [cell for cell in table[column] if not re.fullmatch("[0-9a-f]{16}", cell)]
        if bare:  # not shown: the line would repeat the leak
            raise PipelineError(
                f"{PREDICTIONS}: dataset {dataset} is not public, so every {column} must be a "
                f"keyed hash of 16 digits. Received: {len(bare)} that are not"
            )
    return checked(table)


def _refuse_other_intervals(recorded: pd.DataFrame, derived: pd.DataFrame, is_base: bool) -> None:
    """See that metrics/intervals.csv has the rows that follow from the predictions.

    A change may add metrics: rows that this code does not know pass, and so does a base from before
    this code knew them. A candidate that lacks a row is refused.
    """

    def alike(here: object, there: object) -> bool:
        if isinstance(here, float) and isinstance(there, float):
            return abs(here - there) <= _TOLERANCE
        return here == there

    def shown(row: list[object]) -> str:
        return ", ".join(map(str, row))

    if list(recorded.columns) != list(derived.columns):
        raise PipelineError(
            f"{INTERVALS}, line 1: expected the columns {shown(list(derived.columns))}. "
            f"Received: {short(shown(list(recorded.columns)))}"
        )
    known = {tuple(row[: len(INTERVAL_KEY)]): row for row in derived.to_numpy().tolist()}
    seen = set()
    for number, row in enumerate(recorded.to_numpy().tolist(), 2):
        key = tuple(row[: len(INTERVAL_KEY)])
        true = known.get(key, row)
        if key in seen or not all(map(alike, row, true)):
            raise PipelineError(
                f"{INTERVALS}, line {number}: does not match {PREDICTIONS}, which gives "
                f"{'this row once' if key in seen else shown(true)}. Received: {short(shown(row))}"
            )
        seen.add(key)
    missing = [] if is_base else [row for key, row in known.items() if key not in seen]
    if missing:
        raise PipelineError(
            f"{INTERVALS}: does not match {PREDICTIONS}, which gives the row {shown(missing[0])}. "
            "Received: no such row"
        )


def _schema_1(predictions: pd.DataFrame, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an evaluate.json of schema 1 that the gate and the ledger use.

    Left out are the intervals, and whatever else that schema measured.
    """
    thresholds = {"at_operating_threshold": metrics["operating_threshold"], "at_half": HALF}
    derived: dict[str, Any] = {"operating_threshold": metrics["operating_threshold"]}
    for split in SPLITS:
        rows = predictions[predictions["split"] == split]
        measured = {name: metrics[split][name] for name in ("n_images", "n_patients", "roc_auc")}
        for key, threshold in thresholds.items():
            c = counts(rows["label"].to_numpy(), rows["probability"].to_numpy(), threshold)
            shares = {name: part / whole for name, (part, whole) in rates(c).items() if whole}
            floats = {name: round(value, 6) for name, value in {**shares, "f1": f1(c)}.items()}
            measured[key] = {**asdict(c), **floats}
        derived[split] = measured
    return derived


def _refuse_differences(
    recorded: Any, derived: Mapping[str, Any], of: Path, *, exact: bool = False
) -> None:
    """See that metrics/evaluate.json says what `of` gives; where `exact`, it says no more."""
    for key, here, there in _differences(recorded, derived, exact):
        raise PipelineError(
            f"{METRICS}: {key} does not match {of}, which gives {there!r}. "
            f"Received: {short(here)}. Metrics are never edited by hand; `dvc repro` writes them"
        )


def _differences(
    recorded: Any, derived: Mapping[str, Any], exact: bool, above: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, recorded, derived) of each metric that is not what was derived."""
    recorded = recorded if isinstance(recorded, dict) else {}
    unknown = [key for key in recorded if exact and key not in derived]
    for key in [*derived, *unknown]:
        here, there = recorded.get(key, _NOTHING), derived.get(key, _NOTHING)
        dotted = f"{above}{key}"
        if isinstance(there, Mapping):
            yield from _differences(here, there, exact, f"{dotted}.")
        elif isinstance(there, float) and type(here) in (int, float) and abs(here) < 2:
            if abs(here - there) > _TOLERANCE:  # of 10**400 and a float there is no difference
                yield dotted, here, there
        elif type(here) is not type(there) or here != there:
            yield dotted, here, there


def locked_md5s(lock: Mapping[str, Any], paths: Iterable[Path]) -> dict[Path, set[str]]:
    """The md5s that a dvc.lock has of each path, wherever a stage reads or writes it.

    Entries that are not as DVC writes them are passed over: their path then has no md5.
    """
    found: dict[Path, set[str]] = {path: set() for path in paths}
    stages = lock.get("stages")
    for stage in stages.values() if isinstance(stages, dict) else ():
        for kind in ("deps", "outs"):
            entries = stage.get(kind) if isinstance(stage, dict) else None
            for entry in entries if isinstance(entries, list) else ():
                path = Path(str(entry.get("path"))) if isinstance(entry, dict) else None
                if path in found:
                    found[path].add(str(entry.get("md5")))
    return found


def refuse_another_test_set(base: Side, candidate: Side) -> None:
    """See that both sides were measured on the same test images with the same labels.

    Raises:
        PipelineError: they were not.
    """
    if base.dataset != candidate.dataset and "phantoms" in (base.dataset, candidate.dataset):
        raise PipelineError(
            f"the test set changed: the base was measured on {base.dataset}, the candidate on "
            f"{candidate.dataset}. Phantoms and radiographs are never compared"
        )
    try:
        refuse_other_images({"the base": base.test, "the candidate": candidate.test})
    except PipelineError as error:
        raise PipelineError(
            f"the test set changed: {error}. A new test set is a new baseline: --new-baseline"
        ) from error


def refuse_other_images(tables: Mapping[str, pd.DataFrame]) -> None:
    """See that two tables of predictions, by their names, are of the same images.

    Raises:
        PipelineError: they are not; says how many images differ, and how the first does.
    """
    columns = ["split", "patient_id", "kind", "label"]
    (a_name, a), (b_name, b) = (
        (name, table.set_index("name")[columns].astype(str)) for name, table in tables.items()
    )
    names = a.index.union(b.index)
    # Where an image is missing, its cells are "": no image has these.
    unlike = a.reindex(names, fill_value="") != b.reindex(names, fill_value="")
    differing = names[unlike.any(axis=1)]
    if len(differing):
        first = differing[0]
        how = f"it is only in {b_name if first in b.index else a_name}"
        if first in a.index and first in b.index:
            column = unlike.columns[unlike.loc[first]][0]
            here, there = (str(table.at[first, column]) for table in (a, b))
            how = f"its {column} is {here} in {a_name} and {there} in {b_name}"
        raise PipelineError(
            f"expected the same images in {a_name} and {b_name}. Received: {len(differing)} that "
            f"differ, the first is {first}: {how}"
        )

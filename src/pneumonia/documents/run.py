"""The one reading of a run that every document is made from. No metric is computed here."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pneumonia.data.datasets import SOURCES, Dataset
from pneumonia.errors import PipelineError
from pneumonia.evaluation import interval_table, predictions
from pneumonia.evaluation.interval_table import Measured
from pneumonia.evaluation.metrics import dataset_in_words
from pneumonia.evaluation.threshold import SCHEMA
from pneumonia.store.files import read_json, read_table
from pneumonia.store.yaml12 import load_yaml

EVALUATE = Path("metrics/evaluate.json")
INTERVALS = Path("metrics/intervals.csv")
LOCK = Path("dvc.lock")
PLOTS = Path("plots")
PHASES = ("train_frozen", "finetune")
# Stages whose metrics and plots Git holds, so that every clone has them.
_IN_GIT = ("evaluate", "plot", "examine")


@dataclass(frozen=True)
class Phase:
    """One phase of training."""

    name: str
    n_epochs: int
    epoch: int | None = None  # the one that is handed on; None where none ran
    validation_loss: float = 0.0
    validation_accuracy: float = 0.0


@dataclass(frozen=True)
class Run:
    """What the files of a run say; None where there is no such file."""

    evaluate: Mapping[str, Any]  # metrics/evaluate.json
    params: Mapping[str, Any]
    lock: Mapping[str, Any] | None
    # Rows of metrics/intervals.csv by split, threshold, group and metric.
    metrics: Mapping[tuple[str, str, str, str], Measured] | None
    predictions: pd.DataFrame | None
    phases: Mapping[str, Phase]  # those whose curves are there, by name
    # Rows of metrics/robustness.csv; each metric is a `Measured`, `fell` names those that fell by
    # more than chance.
    robustness: Sequence[Mapping[str, Any]] | None
    shortcuts: Mapping[str, Mapping[str, Measured]] | None  # by classifier and metric
    # Rows of metrics/activation_maps.csv by study; `metric` holds median and quartiles.
    activation_maps: Mapping[str, Sequence[Mapping[str, Any]]] | None
    plots: Mapping[str, bytes]  # path below plots/ -> PNG
    unlike_lock: Sequence[str]  # metrics and plots whose bytes are not those that dvc.lock names

    def metric(
        self, name: str, split: str = "test", threshold: str = "operating", group: str = "all"
    ) -> Measured | None:
        """The row of metrics/intervals.csv; None where it has none, or is not there."""
        return (self.metrics or {}).get((split, threshold, group, name))

    def size(self, split: str) -> str:
        """`624 images of 428 patients`."""
        return _size(self.evaluate[split])

    def param(self, dotted: str) -> Any:
        """The parameter under a dotted name; None where there is none."""
        found: Any = self.params
        for key in dotted.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def count(self, of: str) -> int:
        """Images of a kind or a folder in the whole dataset; 0 where they are not known."""
        counts = (self.known.counts if self.known else None) or {}
        return sum(n_images for key, n_images in counts.items() if of in key)

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return str(self.evaluate["dataset"])

    @property
    def in_words(self) -> str:
        """The dataset as every table and plot names it."""
        return dataset_in_words(self.dataset)

    @property
    def known(self) -> Dataset | None:
        """What is known of the dataset; None of one that the user brought."""
        return SOURCES.get(self.dataset)

    @property
    def is_study(self) -> bool:
        """Whether the radiographs are those of Kermany et al., in either size."""
        return self.known is not None and self.known.counts is not None

    @property
    def is_public(self) -> bool:
        """Whether radiographs may be named and shown."""
        return self.known is not None and self.known.public


def read_run(root: Path) -> Run:
    """What the files of the repository at `root` say.

    Raises:
        PipelineError: metrics/evaluate.json or params.yaml is missing, or a file is broken.
    """
    evaluate = read_json(root / EVALUATE)
    schema = evaluate.get("schema") if isinstance(evaluate, dict) else None
    if schema != SCHEMA:
        raise PipelineError(
            f"{root / EVALUATE}: expected metrics of schema {SCHEMA}. Received: {schema!r}"
        )

    def if_there(path: str | Path, read: Callable[[Path], Any]) -> Any:
        if not (root / path).is_file():
            return None
        try:
            return read(root / path)
        except (KeyError, ValueError, TypeError) as error:
            raise PipelineError(
                f"{root / path}: expected what its stage writes. Received: {error!r}"
            ) from error

    lock = if_there(LOCK, load_yaml)
    phases = {name: if_there(PLOTS / f"history_{name}.csv", read_table) for name in PHASES}
    return Run(
        evaluate=evaluate,
        params=load_yaml(root / "params.yaml"),
        lock=lock,
        metrics=if_there(INTERVALS, _metrics),
        predictions=if_there("metrics/predictions.csv", _predictions),
        phases={k: _phase(k, history) for k, history in phases.items() if history is not None},
        robustness=if_there("metrics/robustness.csv", _robustness),
        shortcuts=if_there("metrics/shortcuts.csv", _shortcuts),
        activation_maps=if_there("metrics/activation_maps.csv", _activation_maps),
        plots={
            path.relative_to(root / PLOTS).as_posix(): path.read_bytes()
            for path in sorted((root / PLOTS).rglob("*.png"))
            if not path.name.startswith(".")
        },
        unlike_lock=list(_unlike(root, lock or {})),
    )


def outputs(lock: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each stage's name with each of its outputs in dvc.lock, which has path and md5."""
    for stage, of in lock.get("stages", {}).items():
        yield from ((stage, out) for out in of.get("outs", []) if {"path", "md5"} <= {*out})


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested parameters, in their order."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _size(of: Mapping[str, Any]) -> str:
    return f"{of['n_images']:,} images of {of['n_patients']:,} patients"


def _metrics(path: Path) -> Mapping[tuple[str, str, str, str], Measured]:
    return interval_table.measured(read_table(path, interval_table.TEXT_COLUMNS))


def _predictions(path: Path) -> pd.DataFrame:
    return predictions.checked(read_table(path, predictions.TEXT_COLUMNS))


def _rows(path: Path, *text: str) -> list[dict[Any, Any]]:
    return read_table(path, text).to_dict("records")


def _measured(row: Mapping[str, Any], value: str, low: str, high: str) -> Measured:
    """A metric from the columns of these names; `method` is the row's note."""
    note = row.get("note", "")
    return Measured(float(row[value]), float(row[low]), float(row[high]), None, None, note)


def _phase(name: str, history: pd.DataFrame) -> Phase:
    if history.empty:
        return Phase(name, 0)
    # The first of equal losses, as training takes it.
    best = history.iloc[int(history["validation_loss"].to_numpy().argmin())]
    kept = best[["validation_loss", "validation_accuracy"]].astype(float)
    return Phase(name, len(history), int(best["epoch"]), *kept)


def _robustness(path: Path) -> list[dict[str, Any]]:
    names = {"recall": "recall", "specificity": "specificity", "roc_auc": "ROC-AUC"}
    return [
        {
            "corruption": row["corruption"],
            "severity": row["severity"],
            "size": _size(row),
            **{name: _measured(row, name, f"{name}_low", f"{name}_high") for name in names},
            "fell": [
                w for n, w in names.items() if row["severity"] and row[f"{n}_change_high"] < 0
            ],
        }
        for row in _rows(path, "corruption")
    ]


def _shortcuts(path: Path) -> dict[str, dict[str, Measured]]:
    found: dict[str, dict[str, Measured]] = {"model": {}, "thumbnail": {}, "metadata": {}}
    for row in _rows(path, "classifier", "metric", "note"):
        found[row["classifier"]][row["metric"]] = _measured(row, "value", "low", "high")
    return found


def _activation_maps(path: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"sanity": [], "border": []}
    for row in _rows(path, "study", "group", "note"):
        found[row["study"]].append(row | {"metric": _measured(row, "median", "q1", "q3")})
    return found


def _unlike(root: Path, lock: Mapping[str, Any]) -> Iterator[str]:
    """Metrics and plots that a stage wrote or read with other bytes than they have."""
    seen: dict[str, set[str]] = {}
    for of in (lock.get("stages", {}).get(stage, {}) for stage in _IN_GIT):
        for entry in (*of.get("deps", []), *of.get("outs", [])):
            path, md5 = entry.get("path", ""), entry.get("md5", "")
            if path.startswith(("metrics/", "plots/")) and not md5.endswith(".dir"):
                seen.setdefault(path, set()).add(md5)
    for path, hashes in seen.items():
        data = (root / path).read_bytes() if (root / path).is_file() else b""
        if hashes != {hashlib.md5(data, usedforsecurity=False).hexdigest()}:
            yield path

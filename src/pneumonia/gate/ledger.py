"""The ledger: every look at the test set that Git knows, and those from before it knew any.

Settings that were chosen by many looks at 624 images fit those images. So each look is counted.
"""

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pneumonia.data.datasets import SOURCES
from pneumonia.errors import PipelineError
from pneumonia.gate.evidence import METRICS, PREDICTIONS, parse_metrics
from pneumonia.git import contents_of, git, hashes_at, is_shallow
from pneumonia.recipes import PARAMS, RECIPES, laid_over
from pneumonia.store.files import read_table
from pneumonia.store.yaml12 import parse_yaml

EARLIER = Path("docs/earlier_looks.csv")
EARLIER_COLUMNS = (
    "date", "revision", "source", "recipe", "n_looks", "recall", "specificity", "predictions",
    "note",
)  # fmt: skip
KNOWN_DATASETS = (*SOURCES, "own")
# Datasets of the study's own radiographs: a look at one of them is a look at the other.
FILMS = tuple(name for name, source in SOURCES.items() if source.counts is not None)
# Where each schema of metrics/evaluate.json has the dataset, and recall and specificity on test.
_PLACES = {1: ("source", ("test", "at_operating_threshold")), 2: ("dataset", ("test",))}

WIDTH = 100  # of the terminal
_LINE = "{:<10}  {:<8.8}  {:>5}  {:<17}  {:<31.31}  {:>6}  {:>11}"
_EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38,}/(.+)")
_RECIPE = re.compile(r"([a-z0-9][a-z0-9_-]*)\.yaml")
_RATES = ("recall", "specificity")
_RATE = (re.compile(r"(?:0(?:\.[0-9]+)?|1(?:\.0+)?)?"), "empty or in [0, 1]")
# What docs/earlier_looks.csv may say, and that in words.
_ACCEPTED = {
    "n_looks": (re.compile("[1-9][0-9]{0,6}"), "a number from 1"),
    "source": (re.compile("|".join(KNOWN_DATASETS)), f"one of {', '.join(KNOWN_DATASETS)}"),
    "date": (
        re.compile(r"(?:\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d\+00:00)?)?"),
        "empty, a day (2026-01-31) or a time in UTC (2026-01-31T12:00:00+00:00)",
    ),
    **dict.fromkeys(_RATES, _RATE),
}


def openings(root: Path) -> list[dict[str, Any]]:
    """A row for each opening of the test set: rows without a date first, then by date.

    One opening is one content of metrics/predictions.csv under one operating threshold, however
    many commits carry it: the earliest is named. Metrics that cannot be read are a row too. In a
    shallow clone a last row, of no look, says that the list is not whole.

    Args:
        root: top of the checkout. Looked through are all commits that a branch, tag, remote branch
            or experiment reaches, and docs/earlier_looks.csv of the working tree.

    Returns:
        Rows with date (UTC, ISO 8601; "" where unknown), revision (short hash or ""), experiment
        (its name or ""), source (the dataset), recipe, n_looks, recall and specificity (on test at
        the operating threshold, in [0, 1], or None) and note.

    Raises:
        PipelineError: docs/earlier_looks.csv is missing, or a row of it is wrong.
    """
    found = _found(root)
    # A look that another clone took may have come here since, as an experiment or a branch.
    rows = [row for predictions, row in _earlier(root) if predictions not in found]
    rows += [row for rows_of_one in found.values() for row in rows_of_one]
    rows.sort(key=lambda row: str(row["date"]))  # stable: rows without a date keep their order
    if is_shallow(root):
        note = "Not whole: this clone is shallow and lacks older commits. git fetch --unshallow"
        rows.append(_row(n_looks=0, note=note))
    return rows


def as_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows of `openings` as lines of at most 100 characters, and below them the sums of looks."""
    heading = ("date", "revision", "looks", "dataset", "recipe", "recall", "specificity")
    lines = [_LINE.format(*heading)]
    n_looks: dict[str, int] = {}
    for row in rows:
        dataset = row["source"] or "unknown"
        n_looks[dataset] = n_looks.get(dataset, 0) + row["n_looks"]
        indent = ""
        if row["n_looks"]:
            recipe = row["recipe"] + (" (experiment)" if row["experiment"] else "")
            rates = ["" if row[name] is None else f"{row[name]:.3f}" for name in _RATES]
            cells = (row["date"][:10], row["revision"], row["n_looks"], dataset, recipe, *rates)
            lines.append(_LINE.format(*cells).rstrip())
            indent = " " * 12
        lines += textwrap.wrap(row["note"], WIDTH, initial_indent=indent, subsequent_indent=indent)
    by_dataset = ", ".join(f"{dataset} {n}" for dataset, n in n_looks.items() if n)
    n_study = sum(n_looks.get(dataset, 0) for dataset in FILMS)
    lines += ["", *textwrap.wrap(f"Looks by dataset: {by_dataset or 'none'}", WIDTH)]
    lines.append(f"Looks at the study's test set ({' and '.join(FILMS)} are the same): {n_study}")
    return "\n".join(lines)


def _row(**given: Any) -> dict[str, Any]:
    """One row of `openings`; what is not given is empty."""
    empty = dict.fromkeys(("date", "revision", "experiment", "source", "recipe"), "")
    return {**empty, "n_looks": 1, "recall": None, "specificity": None, "note": "", **given}


def _earlier(root: Path) -> list[tuple[str, dict[str, Any]]]:
    """The looks that Git did not see, as (Git's hash of their predictions.csv or "", row)."""
    table = read_table(root / EARLIER, text=EARLIER_COLUMNS)
    rows = []
    for number, line in enumerate(table.to_dict("records"), 2):
        for name, (accepted, words) in _ACCEPTED.items():
            if not accepted.fullmatch(line[name]):
                raise PipelineError(
                    f"{root / EARLIER}, line {number}: {name} must be {words}. "
                    f"Received: {line[name]!r}"
                )
        texts = {name: line[name] for name in ("date", "revision", "source", "recipe", "note")}
        rates = {name: float(line[name]) if line[name] else None for name in _RATES}
        rows.append((line["predictions"], _row(n_looks=int(line["n_looks"]), **texts, **rates)))
    return rows


def _found(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Openings in Git's history, by its hash of predictions.csv (where that lacks: of the JSON)."""
    # Every commit is asked, as `git log -- PATH` would leave out what a merge did away with.
    # --no-show-signature: a person's configuration may put lines of gpg's between ours.
    log = git(
        root, "log", "--all", "--topo-order", "--reverse", "--no-show-signature",
        "--format=%H %h %ct",
    )  # fmt: skip
    commits = [(int(time), full, short) for full, short, time in map(str.split, log.splitlines())]
    commits.sort(key=lambda commit: commit[0])  # stable: parents stay before their children
    hashes = [full for _, full, _ in commits]
    evaluates = hashes_at(root, hashes, METRICS)
    predictions = hashes_at(root, hashes, PREDICTIONS)

    first: dict[tuple[str, str], tuple[int, str, str]] = {}
    for commit, evaluate, table in zip(commits, evaluates, predictions, strict=True):
        if evaluate:
            first.setdefault((table or evaluate, evaluate), commit)
    contents = contents_of(root, {evaluate for _, evaluate in first})
    names = _experiments(root)
    recipe_at = _recipes_at(root, [full for _, full, _ in first.values()])

    rows: dict[str, list[dict[str, Any]]] = {}
    seen = set()
    for (table, evaluate), (time, full, short) in first.items():
        threshold, metrics = _metrics(contents[evaluate])
        opening = (table, threshold) if threshold is not None else (evaluate, None)
        if opening in seen:  # the same look in another schema, or with more resamples
            continue
        seen.add(opening)
        rows.setdefault(table, []).append(
            _row(
                date=datetime.fromtimestamp(time, UTC).isoformat(),
                revision=short,
                experiment=names.get(full, ""),
                recipe=names.get(full) or recipe_at(full),
                **metrics,
            )
        )
    return rows


def _metrics(content: bytes) -> tuple[float | None, dict[str, Any]]:
    """Threshold, and source, recall and specificity, from the bytes of an evaluate.json.

    Of metrics that cannot be read, None and a note that says so.
    """
    try:
        evaluate = parse_metrics(content)
        if evaluate["schema"] not in _PLACES:
            raise ValueError(f"schema {evaluate['schema']!r}, expected 1 or 2")
        dataset, place = _PLACES[evaluate["schema"]]
        measured = evaluate
        for key in place:
            measured = measured[key]
        rates = {name: measured[name] for name in _RATES}
        for value in (evaluate["operating_threshold"], *rates.values()):
            if isinstance(value, bool) or not 0 <= value <= 1:
                raise ValueError(f"{value!r} is not in [0, 1]")
        if evaluate[dataset] not in KNOWN_DATASETS:
            raise ValueError(f"unknown dataset {evaluate[dataset]!r}")
    # What stands in a branch may be anything: a conflict's marks, a list, text for a number.
    except (PipelineError, ValueError, KeyError, TypeError) as error:
        lacks = "no " if isinstance(error, KeyError) else ""
        note = f"{METRICS} cannot be read: {lacks}{str(error).rpartition('Received: ')[2]}"
        return None, {"note": note if len(note) < 200 else f"{note[:199]}…"}
    return evaluate["operating_threshold"], {"source": evaluate[dataset], **rates}


def _experiments(root: Path) -> dict[str, str]:
    """Names of DVC's experiments by the full hash of their commit."""
    listed = git(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps/")
    names: dict[str, str] = {}
    for line in listed.splitlines():
        full, ref = line.split(" ", 1)
        # DVC keeps refs of its own beside them: refs/exps/exec/…, refs/exps/celery/…
        if match := _EXPERIMENT.fullmatch(ref):
            names.setdefault(full, match[1])
    return names


def _recipes_at(root: Path, commits: list[str]) -> Callable[[str], str]:
    """A function from a commit to the recipe that its params.yaml is the result of.

    That is the recipe, of those in the commit, whose overrides change nothing; params.yaml where
    there is none; "" where params.yaml itself cannot be read.
    """
    params = dict(zip(commits, hashes_at(root, commits, PARAMS), strict=True))
    folders = dict(zip(commits, hashes_at(root, commits, RECIPES, "tree"), strict=True))
    listed: dict[str, dict[str, str]] = {"": {}}
    for folder in {*folders.values()} - {""}:
        entries = (entry.split("\t", 1) for entry in git(root, "ls-tree", "-z", folder).split("\0"))
        listed[folder] = {
            match[1]: about[0].split()[2]
            for about in entries
            if len(about) == 2 and (match := _RECIPE.fullmatch(about[1]))
        }
    recipes = {blob for files in listed.values() for blob in files.values()}
    contents = contents_of(root, {*params.values(), *recipes} - {""})

    @cache
    def recipe(blob: str, folder: str) -> str:
        try:
            values = parse_yaml(contents.get(blob, b"").decode("utf-8", "replace"), str(PARAMS))
        except PipelineError:
            return ""
        fitting = []
        for name, override in listed[folder].items():
            try:
                overrides = parse_yaml(contents[override].decode("utf-8", "replace"), name)
                if laid_over(values, overrides, name) == values:
                    fitting.append(name)
            except PipelineError:  # no recipe for this params.yaml
                continue
        return ", ".join(fitting) or str(PARAMS)

    return lambda commit: recipe(params[commit], folders[commit])

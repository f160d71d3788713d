"""The ledger: every opening of the test set that Git knows, and those from before it knew any.

A setting that was chosen by many looks at 624 images fits those images. So each look is counted.
"""

import json
import re
import subprocess
import textwrap
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pneumonia.data.datasets import SOURCES
from pneumonia.errors import PipelineError
from pneumonia.evaluation.metrics import SCHEMA
from pneumonia.git import git
from pneumonia.recipes import PARAMS, RECIPES, laid_over
from pneumonia.store.files import read_table
from pneumonia.store.yaml12 import parse_yaml

METRICS = Path("metrics/evaluate.json")
PREDICTIONS = Path("metrics/predictions.csv")
EARLIER = Path("docs/earlier_looks.csv")
EARLIER_COLUMNS = (
    "date", "revision", "source", "recipe", "n_looks", "recall", "specificity", "predictions",
    "note",
)  # fmt: skip
KNOWN_SOURCES = (*SOURCES, "own")
# Sources of the study's own films: a look at one of them is a look at the other.
FILMS = tuple(name for name, source in SOURCES.items() if source.counts is not None)

WIDTH = 100  # of the terminal
_EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38,}/(.+)")
_RECIPE = re.compile(r"([a-z0-9][a-z0-9_-]*)\.yaml")
_DATE = re.compile(r"(?:\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d\+00:00)?)?")


def openings(root: Path) -> list[dict[str, Any]]:
    """A row for each opening of the test set: what has no date first, then by date.

    One opening is one content of metrics/predictions.csv under one operating threshold, however
    many commits carry it: the earliest is named. Figures that cannot be read are a row too. In a
    shallow clone a last row, of no look, says that the list is not whole.

    Args:
        root: top of the checkout. Looked through are all commits that a branch, tag, remote branch
            or experiment reaches, and docs/earlier_looks.csv of the working tree.

    Returns:
        Rows with date (UTC, ISO 8601; "" where unknown), revision (short hash or ""), experiment
        (its name or ""), source, recipe, n_looks, recall and specificity (on test at the operating
        threshold, in [0, 1], or None) and note.

    Raises:
        PipelineError: docs/earlier_looks.csv is missing, or a row of it is wrong.
    """
    found = _found(root)
    # A look that another clone took may have come here since, as an experiment or a branch.
    rows = [row for predictions, row in _earlier(root) if predictions not in found]
    rows += [row for rows_of_one in found.values() for row in rows_of_one]
    rows.sort(key=lambda row: str(row["date"]))  # stable: what has no date keeps its order
    if git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        note = "Not whole: this clone is shallow and lacks older commits. git fetch --unshallow"
        rows.append(_row(n_looks=0, note=note))
    return rows


def as_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows of `openings` as lines of at most 100 characters, and below them the sums of looks."""
    lines = [_line("date", "revision", "looks", "source", "recipe", "recall", "specificity")]
    n_looks: dict[str, int] = {}
    for row in rows:
        source = row["source"] or "unknown"
        n_looks[source] = n_looks.get(source, 0) + row["n_looks"]
        indent = ""
        if row["n_looks"]:
            recipe = row["recipe"] + (" (experiment)" if row["experiment"] else "")
            rates = [
                "" if row[name] is None else f"{row[name]:.3f}"
                for name in ("recall", "specificity")
            ]
            lines.append(
                _line(row["date"][:10], row["revision"], row["n_looks"], source, recipe, *rates)
            )
            indent = " " * 12
        lines += textwrap.wrap(row["note"], WIDTH, initial_indent=indent, subsequent_indent=indent)
    by_source = ", ".join(f"{source} {n}" for source, n in n_looks.items() if n)
    n_films = sum(n_looks.get(source, 0) for source in FILMS)
    return "\n".join(
        [
            *lines,
            "",
            *textwrap.wrap(f"Looks by source: {by_source or 'none'}", WIDTH),
            f"Looks at the films' test set ({' and '.join(FILMS)} are the same films): {n_films}",
        ]
    )


def _line(
    date: str, revision: str, looks: object, source: str, recipe: str, recall: str, specificity: str
) -> str:
    return (
        f"{date:<10}  {revision:<8.8}  {looks:>5}  {source:<17}  {recipe:<31.31}  "
        f"{recall:>6}  {specificity:>11}"
    ).rstrip()


def _row(**given: Any) -> dict[str, Any]:
    """One row of `openings`, with what is not given left empty."""
    empty = dict.fromkeys(("date", "revision", "experiment", "source", "recipe"), "")
    return {**empty, "n_looks": 1, "recall": None, "specificity": None, "note": "", **given}


def _earlier(root: Path) -> list[tuple[str, dict[str, Any]]]:
    """The looks that Git did not see, as (Git's hash of their predictions.csv or "", row)."""
    table = read_table(root / EARLIER, text=EARLIER_COLUMNS)
    rows = []
    for number, line in enumerate(table.to_dict("records"), 2):
        where = f"{root / EARLIER}, line {number}"
        if not re.fullmatch("[1-9][0-9]*", line["n_looks"]):
            raise PipelineError(
                f"{where}: n_looks must be a number from 1. Received: {line['n_looks']!r}"
            )
        if line["source"] not in KNOWN_SOURCES:
            raise PipelineError(
                f"{where}: source must be one of {', '.join(KNOWN_SOURCES)}. "
                f"Received: {line['source']!r}"
            )
        if not _DATE.fullmatch(line["date"]):
            raise PipelineError(
                f"{where}: date must be empty, a day (2026-01-31) or a time in UTC "
                f"(2026-01-31T12:00:00+00:00). Received: {line['date']!r}"
            )
        rates = {name: _rate(line[name], name, where) for name in ("recall", "specificity")}
        told = {name: line[name] for name in ("date", "revision", "source", "recipe", "note")}
        rows.append((line["predictions"], _row(n_looks=int(line["n_looks"]), **told, **rates)))
    return rows


def _rate(text: str, name: str, where: str) -> float | None:
    """A rate in [0, 1] as a CSV has it; None where it is empty."""
    if not text:
        return None
    if not re.fullmatch(r"[01](?:\.[0-9]+)?", text) or float(text) > 1:
        raise PipelineError(f"{where}: {name} must be empty or in [0, 1]. Received: {text!r}")
    return float(text)


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
    evaluates = _hashes(root, hashes, METRICS)
    predictions = _hashes(root, hashes, PREDICTIONS)

    first: dict[tuple[str, str], tuple[int, str, str]] = {}
    for commit, evaluate, table in zip(commits, evaluates, predictions, strict=True):
        if evaluate:
            first.setdefault((table or evaluate, evaluate), commit)
    contents = _contents(root, {evaluate for _, evaluate in first})
    names = _experiments(root)
    recipe_at = _recipes_at(root, [full for _, full, _ in first.values()])

    rows: dict[str, list[dict[str, Any]]] = {}
    seen = set()
    for (table, evaluate), (time, full, short) in first.items():
        threshold, figures = _figures(contents[evaluate])
        opening = (table, threshold) if threshold is not None else (evaluate, None)
        if opening in seen:  # other figures of the same predictions: more resamples, say
            continue
        seen.add(opening)
        rows.setdefault(table, []).append(
            _row(
                date=datetime.fromtimestamp(time, UTC).isoformat(),
                revision=short,
                experiment=names.get(full, ""),
                recipe=names.get(full) or recipe_at(full),
                **figures,
            )
        )
    return rows


def _figures(content: bytes) -> tuple[float | None, dict[str, Any]]:
    """Threshold, and source, recall and specificity, from the bytes of an evaluate.json.

    Of figures that cannot be read, None and a note that says so.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        evaluate = json.loads(content, parse_constant=refuse)
        if evaluate["schema"] != SCHEMA:
            raise ValueError(f"schema {evaluate['schema']!r}, expected {SCHEMA}")
        measured = evaluate["test"]["at_operating_threshold"]
        rates = {name: measured[name] for name in ("recall", "specificity")}
        for value in (evaluate["operating_threshold"], *rates.values()):
            if isinstance(value, bool) or not 0 <= value <= 1:
                raise ValueError(f"{value!r} is not in [0, 1]")
        if evaluate["source"] not in KNOWN_SOURCES:
            raise ValueError(f"unknown source {evaluate['source']!r}")
    # What stands in a branch may be anything: a conflict's marks, a list, text for a number.
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        lacks = "no " if isinstance(error, KeyError) else ""
        note = f"{METRICS} cannot be read: {lacks}{error}"
        return None, {"note": note if len(note) < 200 else f"{note[:199]}…"}
    return evaluate["operating_threshold"], {"source": evaluate["source"], **rates}


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
    params = dict(zip(commits, _hashes(root, commits, PARAMS), strict=True))
    folders = dict(zip(commits, _hashes(root, commits, RECIPES, "tree"), strict=True))
    listed: dict[str, dict[str, str]] = {"": {}}
    for folder in {*folders.values()} - {""}:
        entries = (entry.split("\t", 1) for entry in git(root, "ls-tree", "-z", folder).split("\0"))
        listed[folder] = {
            match[1]: about[0].split()[2]
            for about in entries
            if len(about) == 2 and (match := _RECIPE.fullmatch(about[1]))
        }
    recipes = {blob for files in listed.values() for blob in files.values()}
    contents = _contents(root, {*params.values(), *recipes} - {""})

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


def _hashes(root: Path, commits: list[str], path: Path, kind: str = "blob") -> list[str]:
    """Git's hash of the file (or folder: tree) at `path` in each commit; "" where it is missing."""
    answers = _cat_file(
        root, "--batch-check", [f"{commit}:{path.as_posix()}" for commit in commits]
    )
    words = [line.split() for line in answers.decode().splitlines()]
    return [word[0] if word[1:2] == [kind] else "" for word in words]


def _contents(root: Path, hashes: Iterable[str]) -> dict[str, bytes]:
    """The bytes of each object, by its hash."""
    wanted = sorted(hashes)
    answers = _cat_file(root, "--batch", wanted)
    contents, start = {}, 0
    for name in wanted:  # each answer: `hash type size`, a line's end, the bytes, a line's end
        body = answers.index(b"\n", start) + 1
        end = body + int(answers[start:body].split()[2])
        contents[name] = answers[body:end]
        start = end + 1
    return contents


def _cat_file(root: Path, mode: str, names: Iterable[str]) -> bytes:
    """What one `git cat-file` says to all names, in their order: thousands take no second."""
    # --git-dir outweighs the GIT_DIR of a hook that called us.
    folder = git(root, "rev-parse", "--absolute-git-dir").strip()
    return subprocess.run(
        ["git", f"--git-dir={folder}", "cat-file", mode],
        input="".join(f"{name}\n" for name in names).encode(),
        check=True,
        capture_output=True,
    ).stdout

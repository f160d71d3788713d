"""Files of the pipeline: written whole or not at all, in an order that makes diffs useful."""

import csv
import hashlib
import json
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from pneumonia.errors import PipelineError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; move it over `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")  # same suffix: Keras chooses format by it
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data`, whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN, no Infinity), indented, in the order given, newline at the end.

    Raises:
        ValueError: a number that JSON does not have; this is a bug, so it keeps its traceback.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a strict JSON file.

    Raises:
        PipelineError: the file is missing or is not strict JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"{path}: expected a JSON file that can be read. Received: {error}"
        ) from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV (or TSV, by suffix) with full column names and no row numbers."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, sep=separator(path), lineterminator="\n")


def read_table(path: Path, text: tuple[str, ...] = ()) -> pd.DataFrame:
    """The table in a CSV (or TSV) file, read strictly.

    Every row has the fields of the heading: pandas would take one more for the names of the rows.

    Args:
        path: the file.
        text: columns that stay text, so that patient "007" does not become 7.

    Raises:
        PipelineError: the file is missing, is no such table, or lacks one of `text`.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, delimiter=separator(path), strict=True)
            heading = next(lines, [])
            if not heading or "" in heading or len(set(heading)) < len(heading):
                raise ValueError(f"the heading {reprlib.repr(heading)}")
            for fields in lines:
                if len(fields) != len(heading):
                    n = f"{len(fields)} fields in line {lines.line_num}"
                    raise ValueError(f"{n} under {len(heading)} headings")
        table = pd.read_csv(
            path, sep=separator(path), dtype=dict.fromkeys(text, "str"), keep_default_na=False
        )
    except (OSError, ValueError, csv.Error) as error:  # pandas' parser errors are ValueErrors
        raise PipelineError(
            f"{path}: expected a table that can be read. Received: {error}"
        ) from error
    missing = [name for name in text if name not in table.columns]
    if missing:
        raise PipelineError(
            f"{path}: columns {missing} are missing. Received: {list(table.columns)}"
        )
    return table


def separator(path: Path) -> str:
    """The column separator that a table's suffix stands for."""
    return "\t" if path.suffix == ".tsv" else ","


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

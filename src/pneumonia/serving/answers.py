"""What is answered about one film, and its lines in a table, as JSON and as CSV.

A line is made from one row alone, so that rows can be told as soon as they are there.
"""

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

TABLE_HEAD = "probability  verdict    film"
CSV_COLUMNS = (
    "path",
    "probability",
    "verdict",
    "operating_threshold",
    "trained_on",
    "warnings",
    "heatmap",
    "error",
)
_INDENT = " " * 24


@dataclass(frozen=True)
class Row:
    """What is answered about one path.

    Attributes:
        path: as it was named or found.
        probability: P(pneumonia) in [0, 1], six decimals; None without an answer.
        verdict: at the operating threshold; None without an answer.
        operating_threshold: the threshold.
        trained_on: name of the data source that the model was trained on.
        warnings: sentences by code; see docs/predict.md.
        heatmap: the overlay that was written.
        error: why there is no answer.
    """

    path: Path
    probability: float | None
    verdict: Literal["normal", "pneumonia"] | None
    operating_threshold: float
    trained_on: str
    warnings: dict[str, str] = field(default_factory=dict)
    heatmap: Path | None = None
    error: str | None = None


def as_table_lines(row: Row) -> str:
    """The row as a line under `TABLE_HEAD`, and a line below for each warning, each at once."""
    shown = f" → {printable(row.heatmap)}" if row.heatmap else ""
    if row.error is not None:
        return f"          –  no answer  {printable(row.path)}\n{_INDENT}{row.error}"
    lines = [f"{row.probability:11.6f}  {row.verdict:<9}  {printable(row.path)}{shown}"]
    lines += [f"{_INDENT}warning, {code}: {says}" for code, says in row.warnings.items()]
    return "\n".join(lines)


def as_json_line(row: Row) -> str:
    """The row as one line of JSON, in ASCII: any name of a file can be read back from it."""
    return json.dumps(
        {
            "path": str(row.path),
            "probability": row.probability,
            "verdict": row.verdict,
            "operating_threshold": row.operating_threshold,
            "trained_on": row.trained_on,
            "warnings": row.warnings,
            "heatmap": None if row.heatmap is None else str(row.heatmap),
            "error": row.error,
        },
        allow_nan=False,
    )


def as_csv_line(row: Row | None) -> str:
    """The row as one line of CSV with `CSV_COLUMNS`, without its end; None gives their names.

    Probabilities have six decimals, `warnings` holds their codes with spaces between.
    """
    cells = (
        CSV_COLUMNS
        if row is None
        else (
            printable(row.path),
            "" if row.probability is None else f"{row.probability:.6f}",
            row.verdict or "",
            f"{row.operating_threshold:.6f}",
            row.trained_on,
            " ".join(row.warnings),
            "" if row.heatmap is None else printable(row.heatmap),
            row.error or "",
        )
    )
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def printable(path: Path) -> str:
    r"""The path on one line, what cannot be printed as `\n`, `\x1b`, `\udcff`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))

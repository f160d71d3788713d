"""The answer on one radiograph, and its lines in a table, as JSON and as CSV.

Each line is made from one row alone, so that rows can be printed as soon as they are known.
"""

import csv
import io
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, TypeAlias

TABLE_HEAD = "probability  verdict    radiograph"
Verdict: TypeAlias = Literal["normal", "pneumonia"]
_INDENT = " " * 24


@dataclass(frozen=True)
class Row:
    """The answer on one path.

    Attributes:
        path: as it was named or found.
        probability: P(pneumonia) in [0, 1], six decimals; None without an answer.
        verdict: at the operating threshold; None without an answer.
        operating_threshold: the threshold.
        trained_on: name of the dataset that the model was trained on.
        warnings: sentences by code; see docs/deployment.md.
        heatmap: the overlay that was written.
        error: why there is no answer.
    """

    path: Path
    probability: float | None
    verdict: Verdict | None
    operating_threshold: float
    trained_on: str
    warnings: dict[str, str] = field(default_factory=dict)
    heatmap: Path | None = None
    error: str | None = None


CSV_COLUMNS = tuple(field.name for field in fields(Row))


def as_table_lines(row: Row) -> str:
    """The row as a line under `TABLE_HEAD`, and one more line for each warning."""
    if row.error is not None:
        return f"          –  no answer  {printable(row.path)}\n{_INDENT}{row.error}"
    shown = f" → {printable(row.heatmap)}" if row.heatmap else ""
    lines = [f"{row.probability:11.6f}  {row.verdict:<9}  {printable(row.path)}{shown}"]
    lines += [f"{_INDENT}warning, {code}: {says}" for code, says in row.warnings.items()]
    return "\n".join(lines)


def as_json_line(row: Row) -> str:
    """The row as one line of JSON, in ASCII: any name of a file can be read back from it."""
    return json.dumps(asdict(row), allow_nan=False, default=str)  # str: of paths


def as_csv_line(row: Row | None) -> str:
    """The row as one line of CSV with `CSV_COLUMNS`, without its end; None gives their names.

    Probabilities have six decimals, `warnings` holds their codes with spaces between.
    """
    if row is None:
        return ",".join(CSV_COLUMNS)
    cells = asdict(row) | {
        "path": printable(row.path),
        "probability": None if row.probability is None else f"{row.probability:.6f}",
        "operating_threshold": f"{row.operating_threshold:.6f}",
        "warnings": " ".join(row.warnings),
        "heatmap": row.heatmap and printable(row.heatmap),
    }
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells.values())
    return line.getvalue()


def printable(path: Path) -> str:
    r"""The path on one line, unprintable characters as `\n`, `\x1b`, `\udcff`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))

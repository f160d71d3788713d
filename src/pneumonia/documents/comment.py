"""What a reviewer reads of a change, as Markdown: the gate's verdict, DVC's tables, new plots.

It only shows. Nothing here decides about a merge, so what is missing is a line and never an error.
All comes from Git, so that a checkout without data, and the base's code over a change, will do.
"""

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from pneumonia.documents.render import markdown_code, rendered
from pneumonia.errors import PipelineError
from pneumonia.git import changed_paths, commit_of, file_at, git
from pneumonia.store.yaml12 import parse_yaml

METRICS, PARAMS = "metrics/evaluate.json", "params.yaml"  # as DVC names them
# The metrics that a reviewer asks for first, in this order; then test, then all else.
FIRST = (
    "test.recall", "test.missed", "test.specificity", "test.false_alarms", "test.roc_auc",
    "operating_threshold", "test.precision", "test.accuracy",
)  # fmt: skip
# GitHub refuses a comment over 65,536 characters; the rest is for the comment's own marker.
MAX_CHARACTERS = 60_000
CUT = "\n\n*Too long for here; the whole is with the files of this run.*"


def summary(
    root: Path,
    base: str,
    gate_markdown: Path | None,
    plots: str | None,
    candidate: str | None = None,
) -> str:
    """The review of a change as Markdown, of at most `MAX_CHARACTERS` characters.

    Args:
        root: top folder of the checkout.
        base: revision that the change would be merged into.
        gate_markdown: the gate's verdict; None: not asked for.
        plots: URL under which the candidate's tree can be seen; None: no plots.
        candidate: revision of the change; None: the working tree.

    Raises:
        PipelineError: a revision is not in this clone.
    """
    base = commit_of(root, base)
    candidate = None if candidate is None else commit_of(root, candidate)
    text = rendered(
        "comment.md.jinja",
        gate=None if gate_markdown is None else _gate(gate_markdown),
        base=markdown_code(base[:10]),
        candidate="The working tree" if candidate is None else markdown_code(candidate[:10]),
        metrics=_changes(root, "metrics", METRICS, base, candidate),
        params=_changes(root, "params", PARAMS, base, candidate),
        stages=_stages(root, base, candidate),
        address=None if plots is None else plots.rstrip("/"),
        plots=[(path, quote(path)) for path in _changed_plots(root, base, candidate)],
    ).strip()
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS - len(CUT) - 40].rpartition("\n")[0]
        text += "\n\n</details>" * (text.count("<details") > text.count("</details>")) + CUT
    return text


def _gate(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return "**The gate gave no verdict.** Its job says why."


def _changes(
    root: Path, kind: str, file: str, base: str, candidate: str | None
) -> dict[str, Sequence[Any]]:
    """What `dvc metrics diff --md` or `dvc params diff --md` finds; `file` must be there.

    DVC notes what it cannot load on standard error and ends with 0: such a file has no row, or no
    value on one of the sides.

    Returns:
        `missing`, lines about what cannot be compared; `head` and `rows` of a table.
    """
    done = _dvc_diff(root, kind, [base[:10], *([candidate[:10]] if candidate else [])])
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[0][:300]
        words = Markup("`dvc {} diff` could not compare them. It said: {}.")
        return {"missing": [words.format(kind, markdown_code(said))], "head": [], "rows": []}
    head, *table = _cells(done.stdout)
    missing: dict[str, str] = {}
    for path in dict.fromkeys((file, *(row[0] for row in table))):
        sides = zip(*(row[2:4] for row in table if row[0] == path), strict=True)
        empty = [set(side) == {"-"} for side in sides]
        if not empty or any(empty):
            missing[path] = (" in the base", " in the candidate")[empty[1]] if empty else ""
    rows = [
        [name if path == file else f"{path}: {name}", *values]
        for path, name, *values in table
        if path not in missing and values[0] != values[1]
    ]
    order = {name: place for place, name in enumerate(FIRST)}
    # Stable: otherwise in DVC's own order.
    rows.sort(key=lambda row: (order.get(row[0], len(order)), not row[0].startswith("test.")))
    words = Markup("{} cannot be read, or is missing{}.")
    return {
        "missing": [words.format(markdown_code(path), place) for path, place in missing.items()],
        "head": head[1:],
        "rows": [[markdown_code(name), *values] for name, *values in rows],
    }


def _dvc_diff(root: Path, kind: str, revisions: list[str]) -> subprocess.CompletedProcess[str]:
    digits = ["--precision", "6"] if kind == "metrics" else []
    return subprocess.run(
        [sys.executable, "-m", "dvc", kind, "diff", "--all", "--md", *digits, *revisions],
        cwd=root, capture_output=True, text=True,
    )  # fmt: skip


def _cells(table: str) -> list[list[str]]:
    """The cells of a Markdown table of DVC's, headings first; one empty row where it has none.

    Its columns have fixed widths, so that a bar or a line's end within a value starts no cell.
    """
    lines = table.rstrip().split("\n")
    bars = [i for i, c in enumerate(lines.pop(1) if lines[1:] else "") if c == "|"]
    found: list[list[str]] = []
    for line in lines:
        cells = [line[start + 1 : end].strip() for start, end in pairwise(bars)]
        if not found or cells[0]:
            found.append(cells)
        else:  # a value with a line's end goes on here
            found[-1] = [
                " ".join(filter(None, both)) for both in zip(found[-1], cells, strict=True)
            ]
    return found


def _stages(root: Path, base: str, candidate: str | None) -> list[str] | None:
    """Stages whose entry in dvc.lock differs, in its order; None where it cannot be read."""
    sides: list[dict[str, Any]] = []
    for revision in (base, candidate):
        data = file_at(root, revision, Path("dvc.lock")) or b""
        try:
            sides.append(parse_yaml(data.decode("utf-8"), "dvc.lock")["stages"])
        except (PipelineError, UnicodeDecodeError, KeyError):
            return None
    old, new = (side if isinstance(side, dict) else {} for side in sides)
    return [str(name) for name in {**new, **old} if old.get(name) != new.get(name)]


def _changed_plots(root: Path, base: str, candidate: str | None) -> list[str]:
    """PNGs below plots/ of the candidate that are not the base's."""
    paths = changed_paths(root, base, candidate)
    if candidate is None:  # what Git does not track yet
        paths += git(root, "ls-files", "--others", "-z", "--", "plots/").split("\0")
    return sorted(
        path
        for path in paths
        if path.startswith("plots/") and path.endswith(".png")
        if file_at(root, candidate, Path(path))
    )

"""What a reviewer reads, as Markdown: the gate's verdict, what changed, the graph, the pictures.

It only shows. Nothing here decides about a merge, so what is missing is a line and never an error.
All comes from Git, so that a checkout without data, and the base's code over a change, will do.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from pneumonia.errors import PipelineError
from pneumonia.git import commit_of, file_at, git
from pneumonia.store.yaml12 import parse_yaml

GRAPH, LOCK = Path("dvc.yaml"), Path("dvc.lock")
METRICS, PARAMS = "metrics/evaluate.json", "params.yaml"  # as DVC names them
PICTURES = Path("plots/evaluate")
# GitHub refuses a comment over 65,536 characters; the rest is for the comment's own marker.
MAX_CHARACTERS = 60_000
CUT = "\n\n*Too long for here; the whole is with the files of this run.*"


def summary(
    root: Path,
    base: str,
    gate_markdown: Path | None,
    pictures: str | None,
    candidate: str | None = None,
) -> str:
    """The review of a change as Markdown, of at most `MAX_CHARACTERS` characters.

    Args:
        root: top folder of the checkout.
        base: revision that the change would be merged into.
        gate_markdown: the gate's verdict; None: not asked for.
        pictures: URL under which the candidate's tree can be seen; None: no pictures.
        candidate: revision of the change; None: the working tree.

    Raises:
        PipelineError: a revision is not in this clone.
    """
    base = commit_of(root, base)
    candidate = None if candidate is None else commit_of(root, candidate)
    sections = [
        f"{_words(candidate)} against {_words(base)}.",
        f"### Metrics\n\n{_metrics(root, base, candidate)}",
        f"### Parameters\n\n{_parameters(root, base, candidate)}",
        f"### Stages\n\n{_stages(root, base, candidate)}",
    ]
    if pictures is not None:
        sections.append(f"### Pictures\n\n{_pictures(root, base, candidate, pictures)}")
    if gate_markdown is not None:
        sections.insert(0, _gate(gate_markdown))
    return _fitted(sections)


def _words(revision: str | None) -> str:
    return "The working tree" if revision is None else f"`{revision[:10]}`"


def _gate(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return "**The gate gave no verdict.** Its job says why."


def _metrics(root: Path, base: str, candidate: str | None) -> str:
    """What `dvc metrics diff` finds, as tables: what the gate judges, and the rest folded away."""
    found = _dvc_diff(root, "metrics", base, candidate)
    if isinstance(found, str):
        return found
    # DVC leaves out a file that neither side has, and says so on standard error alone.
    lines = [] if METRICS in found else [f"{_code(METRICS)} cannot be read, or is missing."]
    first: list[str] = []
    rest: list[str] = []
    for file, figures in sorted(found.items()):
        if missing := _missing(file, figures):
            lines.append(missing)
            continue
        for name in sorted(figures, key=_importance):
            if re.search("_(low|high)$", name) and name.rpartition("_")[0] in figures:
                continue  # stands in brackets behind its figure
            row = _metric_row(name, figures)
            if row is not None:
                main = file == METRICS and ".at_half." not in name
                (first if main else rest).append(row if main else f"| {_code(file)} {row}")
    heading = "figure | base | candidate | change |\n|"
    if first:
        lines.append("\n".join([f"| {heading}{'---|' * 4}", *first]))
    elif not lines:
        lines.append(f"{_code(METRICS)} has not changed.")
    if rest:
        table = "\n".join([f"| file | {heading}{'---|' * 5}", *rest])
        lines.append(
            f"<details><summary>{len(rest)} more figures changed</summary>\n\n{table}\n\n</details>"
        )
    return "\n\n".join(lines)


def _importance(name: str) -> tuple[int, str]:
    """Test at the operating threshold first: that is what the gate judges."""
    order = ("test.at_operating_threshold.", "test.", "validation.at_operating_threshold.")
    return next((i for i, start in enumerate(order) if name.startswith(start)), len(order)), name


def _metric_row(name: str, figures: Mapping[str, Any]) -> str | None:
    """One row of the table, or None where neither the figure nor its interval has changed."""
    ends = [figures[end] for end in (f"{name}_low", f"{name}_high") if end in figures]
    changes = [figures[name], *(ends if len(ends) == 2 else [])]
    sides = [[_side(change, side) for change in changes] for side in ("old", "new")]
    if sides[0] == sides[1]:
        return None
    shown = [
        _number(values[0]) + (f" ({'–'.join(map(_number, values[1:]))})" if values[1:] else "")
        for values in sides
    ]
    old, new = sides[0][0], sides[1][0]
    change = _number(new - old, "+") if _is_number(old) and _is_number(new) else ""
    return f"| {_code(name)} | {shown[0]} | {shown[1]} | {change} |"


def _missing(file: str, values: Mapping[str, Any]) -> str | None:
    """A line that says on which side a file has no value at all, or None where both have some."""
    for side, place in (("old", "base"), ("new", "candidate")):
        if values and all(_side(change, side) is None for change in values.values()):
            return f"{_code(file)} cannot be read, or is missing, in the {place}."
    return None


def _side(change: Any, side: str) -> Any:
    return change.get(side) if isinstance(change, dict) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any, sign: str = "") -> str:
    """The one way in which a figure is written here: counts whole, all else to four decimals."""
    if value is None:
        return "–"
    if not _is_number(value):
        return _code(value)
    return f"{value:{sign}d}" if isinstance(value, int) else f"{value:{sign}.4f}"


def _parameters(root: Path, base: str, candidate: str | None) -> str:
    found = _dvc_diff(root, "params", base, candidate)
    if isinstance(found, str):
        return found
    if PARAMS not in found:
        return f"{_code(PARAMS)} cannot be read, or is missing."
    missing = [line for file, values in found.items() if (line := _missing(file, values))]
    if missing:
        return "\n".join(missing)
    rows = [
        f"| {_code(name)} | {_code(_side(change, 'old'))} | {_code(_side(change, 'new'))} |"
        for _, changes in sorted(found.items())
        for name, change in sorted(changes.items())
        if _side(change, "old") != _side(change, "new")
    ]
    if not rows:
        return "None has changed."
    return "\n".join(["| parameter | base | candidate |", "|---|---|---|", *rows])


def _dvc_diff(
    root: Path, kind: str, base: str, candidate: str | None
) -> dict[str, dict[str, Any]] | str:
    """What `dvc metrics diff` or `dvc params diff` says, or a line on why it says nothing.

    DVC notes what it cannot load on standard error and ends with 0: such a file has no values.
    """
    revisions = [base] if candidate is None else [base, candidate]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", kind, "diff", "--all", "--json", *revisions],
        cwd=root, capture_output=True, text=True,
    )  # fmt: skip
    try:
        found = json.loads(done.stdout or "{}") if done.returncode == 0 else None
    except ValueError:
        found = None
    if isinstance(found, dict):
        return {file: values for file, values in found.items() if isinstance(values, dict)}
    said = (done.stderr.strip().splitlines() or ["nothing"])[0]
    return f"`dvc {kind} diff` could not compare them. It said: {_code(said[:300])}"


def _stages(root: Path, base: str, candidate: str | None) -> str:
    """The graph of dvc.yaml as a Mermaid drawing; stages with another record in dvc.lock stand out.

    The names are the change's own text: in the drawing they are labels of letters and digits.
    """
    graph = _mapping_at(root, candidate, GRAPH).get("stages")
    if not isinstance(graph, dict) or not graph:
        return f"`{GRAPH}` cannot be read, or is missing, in the candidate."
    old, new = (_mapping_at(root, side, LOCK).get("stages") or {} for side in (base, candidate))
    recorded = isinstance(old, dict) and isinstance(new, dict)
    changed = [name for name in graph if recorded and old.get(name) != new.get(name)]
    lines = ["```mermaid", "flowchart LR"]
    lines += [f'  s{i}["{re.sub("[^a-zA-Z0-9_ .@-]", "_", str(n))}"]' for i, n in enumerate(graph)]
    writes = [set(_paths(stage, "outs", "metrics", "plots")) for stage in graph.values()]
    for later, stage in enumerate(graph.values()):
        read = {path for dep in _paths(stage, "deps") for path in (dep, *dep.parents)}
        lines += [f"  s{i} --> s{later}" for i, written in enumerate(writes) if written & read]
    if changed:
        marked = ",".join(f"s{i}" for i, name in enumerate(graph) if name in changed)
        lines += ["  classDef changed stroke-width:4px", f"  class {marked} changed"]
    lines.append("```")
    told = f"Recorded anew in `{LOCK}`: {', '.join(map(_code, changed)) or 'no stage'}."
    return "\n".join([told if recorded else f"`{LOCK}` cannot be read.", "", *lines])


def _paths(stage: Any, *kinds: str) -> Iterator[PurePosixPath]:
    """The paths that a stage of dvc.yaml lists under these kinds."""
    for kind in kinds:
        entries = stage.get(kind) if isinstance(stage, dict) else None
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, str | dict) and entry:
                yield PurePosixPath(entry if isinstance(entry, str) else str(next(iter(entry))))


def _mapping_at(root: Path, revision: str | None, path: Path) -> dict[str, Any]:
    """The mapping in a YAML file at a revision or in the working tree; empty where there is none.

    A stage of dvc.yaml may be a mapping that this reads and DVC would not: it is only drawn.
    """
    try:
        return parse_yaml((file_at(root, revision, path) or b"").decode("utf-8"), str(path))
    except (PipelineError, UnicodeDecodeError):
        return {}


def _pictures(root: Path, base: str, candidate: str | None, url: str) -> str:
    """Links to the pictures that differ from the base's."""
    folder = PICTURES.as_posix()
    if candidate is None:
        names = sorted(path.name for path in (root / PICTURES).glob("*.png"))
    else:
        listed = git(root, "ls-tree", "-z", "--name-only", candidate, "--", f"{folder}/")
        names = [Path(path).name for path in listed.split("\0") if path.endswith(".png")]
    if not names:
        return f"`{folder}` has none in the candidate."
    changed = [
        name
        for name in names
        if file_at(root, base, PICTURES / name) != file_at(root, candidate, PICTURES / name)
    ]
    if not changed:
        return "None has changed."
    return "\n\n".join(
        f"![{re.sub('[^a-zA-Z0-9_ .-]', '_', name)}]({url.rstrip('/')}/{folder}/{quote(name)})"
        for name in changed
    )


def _code(value: Any) -> str:
    """A value of the change as code in a table: it starts no link, no mention and no cell."""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    plain = "".join(c if c.isprintable() else " " for c in text)
    return "`" + (plain.replace("`", "'").replace("|", "\\|") or " ") + "`"


def _fitted(sections: list[str]) -> str:
    """The sections, one after the other; what does not fit is cut or left out, and said to be."""
    room = MAX_CHARACTERS - len(CUT) - len("</details>\n\n")
    text = "\n\n".join(sections)
    if len(text) <= room:
        return text
    fitting = ""
    for section in sections:
        longer = f"{fitting}\n\n{section}".lstrip("\n")
        if len(longer) > room:
            break
        fitting = longer
    if not fitting:  # the first, the gate's, is itself too long: its verdict stands at the top
        fitting = sections[0][:room].rpartition("\n")[0]
        fitting += "\n\n</details>" * (fitting.count("<details>") > fitting.count("</details>"))
    return fitting + CUT

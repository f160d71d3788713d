"""The gate's verdict as a person reads it, in text and Markdown, and as JSON in full."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from pneumonia.evaluation.metrics import dataset_in_words
from pneumonia.gate.evidence import Side
from pneumonia.gate.rules import RuleResult
from pneumonia.gate.verdict import EXIT_STATUS, GUARDS, Outcome, Verdict

# Names that a table can bear; JSON has all of them.
_SHOWN_IN_TEXT, _SHOWN_IN_MARKDOWN = 10, 100

MEANING: dict[Outcome, str] = {
    "PASS": "every rule holds",
    "FAIL": "the candidate is worse than the policy allows",
    "INCONCLUSIVE": "the data show neither a loss nor its absence, so the merge is blocked",
    "NO BASELINE": "there is no baseline to compare with; --new-baseline accepts that",
    "NEW BASELINE": "accepted without a comparison, as --new-baseline asked; the floors hold",
    "WAIVED": "a rule does not hold, and a waiver on the base allows that",
}
_RULES = {
    "recall_floor": "recall, floor",
    "specificity_floor": "specificity, floor",
    "recall_loss": "recall lost",
    "specificity_loss": "specificity lost",
    "recall_loss_bacterial": "recall lost, bacterial",
    "recall_loss_viral": "recall lost, viral",
}
_CHANGES = {
    "newly_missed": "pneumonia newly missed",
    "newly_caught": "pneumonia newly caught",
    "new_false_alarms": "new false alarms",
    "cleared_false_alarms": "false alarms gone",
}
_OF_RECALL = ("newly_missed", "newly_caught")
# Counts of test in words: many, and one.
_COUNTS = {
    "missed": ("pneumonias missed", "pneumonia missed"),
    "false_alarms": ("false alarms", "false alarm"),
}
# Metrics that a reviewer compares first, and their decimals.
_COMPARED = {
    "recall": 3, "specificity": 3, "roc_auc": 3, "missed": 0, "false_alarms": 0, "threshold": 6,
}  # fmt: skip


def as_text(verdict: Verdict) -> str:
    """The verdict as lines of at most 110 characters, but for names of images and files."""
    tables = [_aligned(metric_rows(verdict)), "", _aligned(_rule_rows(verdict))]
    lines = [_title(verdict), *_circumstances(verdict), "", *tables, "", *_notes(verdict, str)]
    for change, names in verdict.changed.items():
        # Recall comes first: whoever decides about a miss looks at the radiograph.
        listed = f" ({_listed(names, _SHOWN_IN_TEXT, str)})" if change in _OF_RECALL else ""
        lines += [f"{_CHANGES[change]}: {len(names)}{listed}"] if names else []
    return "\n".join(lines).rstrip()


def as_markdown(verdict: Verdict) -> str:
    """The verdict as Markdown for a review; ends with a newline."""
    rules = _rule_rows(verdict)
    for row in rules[1:]:
        row[1] = row[1] if row[1] in ("PASS", "NOT ASKED") else f"**{row[1]}**"
    asked = [result.outcome for result in verdict.rules if result.outcome != "NOT ASKED"]
    held = f"{asked.count('PASS')} of {len(asked)} rules hold"
    parts = [
        f"## {_title(verdict)}",
        "\n".join(f"- {line}" for line in _circumstances(verdict)),
        _table(metric_rows(verdict)),
        "\n".join(f"- {note}" for note in _notes(verdict, _code)),
        _folded(held, _table(rules), unfolded=verdict.outcome != "PASS"),
    ]
    for change, names in verdict.changed.items():
        listed = _listed(names, _SHOWN_IN_MARKDOWN, _code)
        summary = f"{_CHANGES[change]}: {len(names)}"
        parts += [_folded(summary, listed, unfolded=change == "newly_missed")] if names else []
    return "\n\n".join(filter(None, parts)) + "\n"


def as_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict in full, as plain values."""
    return {
        "schema": 2,
        "outcome": verdict.outcome,
        "exit_status": EXIT_STATUS[verdict.outcome],
        "base": verdict.base and _side(verdict.pair.base_name, verdict.base),
        "candidate": _side(verdict.pair.candidate_name, verdict.candidate),
        "policy": verdict.policy,
        "confidence": verdict.confidence,
        "rules": [
            asdict(result) | {"waiver": result.waiver and result.waiver.model_dump()}
            for result in verdict.rules
        ],
        **verdict.changed,
        "guards_changed": verdict.guards_changed,
        "expired_waivers": [waiver.model_dump() for waiver in verdict.expired],
    }


def _side(name: str, side: Side) -> dict[str, Any]:
    fields = {field: value for field, value in vars(side).items() if field != "predictions"}
    return {"name": name, **fields}


def in_words(verdict: Verdict) -> tuple[str, ...]:
    """What changed on test: 2 more pneumonias missed of 390; false alarms. Without a base, ()."""
    if verdict.base is None:
        return ()
    words = []
    for (count, names), n_images in zip(_COUNTS.items(), _sizes(verdict), strict=True):
        more = verdict.candidate.metrics["test"][count] - verdict.base.metrics["test"][count]
        if more:
            number = f"{abs(more)} {'more' if more > 0 else 'fewer'}"
            words.append(f"{number} {names[more in (1, -1)]} of {n_images}")
        else:
            words.append(f"as many {names[0]} as before")
    return tuple(words)


def _title(verdict: Verdict) -> str:
    return f"Gate: {verdict.outcome} – {MEANING[verdict.outcome]}"


def _circumstances(verdict: Verdict) -> list[str]:
    """What was compared, by which policy, on which images, and what changed, in words."""
    pair, test = verdict.pair, verdict.candidate.metrics["test"]
    n_ill, n_healthy = _sizes(verdict)
    lines = [
        f"{pair.candidate_name} against {pair.base_name}" if verdict.base else pair.candidate_name,
        pair.note,
        f"policy: {verdict.policy}",
        f"test, {dataset_in_words(verdict.candidate.dataset)}: {n_ill} pneumonia and "
        f"{n_healthy} normal images of {test['n_patients']} patients",
        "; ".join(in_words(verdict)),
    ]
    return [line for line in lines if line]


def _sizes(verdict: Verdict) -> tuple[int, int]:
    """Pneumonia and normal images of test."""
    n_ill = int(verdict.candidate.test["label"].sum())
    return n_ill, len(verdict.candidate.test) - n_ill


def metric_rows(verdict: Verdict) -> list[list[str]]:
    """Heading and rows of the metrics on test: base, candidate, change; or the candidate alone."""
    sides = [side for side in (verdict.base, verdict.candidate) if side is not None]
    tests = [
        {**side.metrics["test"], "threshold": side.metrics["operating_threshold"]} for side in sides
    ]
    of = {name: f" of {n}" for name, n in zip(_COUNTS, _sizes(verdict), strict=True)}
    names = ["base", "candidate", "change"] if verdict.base else ["candidate"]
    rows = [["on test", *names]]
    for name, n_decimals in _COMPARED.items():
        values = [test[name] for test in tests]
        cells = [_number(value, n_decimals) + of.get(name, "") for value in values]
        change = [_number(now - was, n_decimals, "+") for was, now in pairwise(values)]
        rows.append([name.replace("_alarms", " alarms"), *cells, *change])
    return rows


def _rule_rows(verdict: Verdict) -> list[list[str]]:
    """Heading and a row for each rule."""
    bounds = f"bounds, {100 * verdict.confidence:g} % each"
    heading = ["rule", "verdict", "measured", bounds, "must be", "images (p: McNemar's, exact)"]
    return [heading, *map(_rule_row, verdict.rules)]


def _rule_row(result: RuleResult) -> list[str]:
    if result.mcnemar_p is None:
        must = f"low ≥ {_number(result.must)}"
        images = f"{result.n_right} of {result.n_images} right"
    else:
        must = f"high < {_number(result.must)}"
        p = "p < 0.001" if result.mcnemar_p < 0.001 else f"p {result.mcnemar_p:.3f}"
        images = f"{result.n_lost} lost, {result.n_won} won of {result.n_images}, {p}"
    return [
        _RULES[result.rule], "WAIVED" if result.waiver else result.outcome, _number(result.value),
        f"{_number(result.low)} to {_number(result.high)}", must, images,
    ]  # fmt: skip


def _number(value: float, n_decimals: int = 3, sign: str = "") -> str:
    """A number with a minus sign that does not look like a dash, and no −0.000."""
    text = f"{value:{sign}.{n_decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def waived_in_words(verdict: Verdict) -> list[str]:
    """Each rule that is waived: its outcome, until when, and the reason given."""
    return [
        f"{_RULES[result.rule]}: {result.outcome}, waived until {result.waiver.expires}: "
        f"{result.waiver.reason}"
        for result in verdict.rules
        if result.waiver
    ]


def _notes(verdict: Verdict, written: Callable[[str], str]) -> list[str]:
    """What a reviewer must not overlook; `written` gives the name of a file."""
    notes = waived_in_words(verdict)
    notes += [
        f"{_RULES[waiver.rule]}: the waiver expired on {waiver.expires}"
        for waiver in verdict.expired
    ]
    notes += [
        f"{_RULES[result.rule]}: not asked, because {result.n_images} images are too few"
        for result in verdict.rules
        if result.outcome == "NOT ASKED"
    ]
    # By where they lie: a long list must not hide gate.yaml.
    guards = {
        guard: [path for path in verdict.guards_changed if path.startswith(guard)]
        for guard in GUARDS
    }
    touched = [
        written(paths[0]) if len(paths) == 1 else f"{written(guard)} ({len(paths)} files)"
        for guard, paths in guards.items()
        if paths
    ]
    if touched:
        notes.append(f"this change touches files that decide about merges: {', '.join(touched)}")
    return notes


def _listed(names: Sequence[str], n_shown: int, written: Callable[[str], str]) -> str:
    more = f" and {len(names) - n_shown} more" if len(names) > n_shown else ""
    return ", ".join(map(written, names[:n_shown])) + more


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines whose cells stand under one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first as its heading."""
    heading, *lines = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([heading, "|" + "---|" * len(rows[0]), *lines])


def _folded(summary: str, text: str, *, unfolded: bool) -> str:
    opened = " open" if unfolded else ""
    return f"<details{opened}><summary>{summary}</summary>\n\n{text}\n\n</details>"


def _code(name: str) -> str:
    """A name as code: a file or an image must not write the page that judges it by its name."""
    return "`" + name.replace("`", "'") + "`"

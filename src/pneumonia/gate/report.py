"""The gate's verdict as a person reads it, in text and Markdown, and as JSON in full."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pneumonia.evaluation.metrics import source_in_words
from pneumonia.gate.evidence import Side
from pneumonia.gate.verdict import EXIT_STATUS, RuleResult, Verdict

# Names that a table can bear; JSON has all of them.
_SHOWN_IN_TEXT, _SHOWN_IN_MARKDOWN = 10, 100

_IMAGES = "images (p: McNemar's, exact)"
_MEANING = {
    "PASS": "every rule holds",
    "FAIL": "the candidate is worse than the policy allows",
    "INCONCLUSIVE": "no loss is shown, and that there is none is not shown either; this blocks",
    "NO BASELINE": "the base has no record to compare with; --new-baseline accepts that",
    "NEW BASELINE": "accepted without a comparison, as --new-baseline asked; the floors hold",
    "WAIVED": "a rule that does not hold is waived on the base",
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
    "cleared_false_alarms": "false alarms no more",
}


def as_text(verdict: Verdict) -> str:
    """The verdict as lines of at most 110 characters, but for names of images."""
    rows = [("rule", "verdict", "figure", _interval_heading(verdict), "must be", _IMAGES),
            *(_row(result) for result in verdict.rules)]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_title(verdict), *_circumstances(verdict), ""]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += ["", *_notes(verdict, _plain)]
    for words, names in _changes(verdict):
        # Recall comes first: whoever decides about a miss looks at the film.
        shown = words.startswith("pneumonia")
        listed = f": {_listed(names, _SHOWN_IN_TEXT, _plain)}" if shown else ""
        lines.append(f"{len(names)} {words}{listed}")
    return "\n".join(lines).rstrip()


def as_markdown(verdict: Verdict) -> str:
    """The verdict as Markdown for a review; ends with a newline."""
    lines = [f"## {_title(verdict)}", ""]
    lines += [f"- {line}" for line in _circumstances(verdict)]
    lines += [
        "",
        f"| rule | verdict | figure | {_interval_heading(verdict)} | must be | {_IMAGES} |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    for result in verdict.rules:
        rule, outcome, *rest = _row(result)
        shown = outcome if outcome in ("PASS", "NOT ASKED") else f"**{outcome}**"
        lines.append(f"| {' | '.join([rule, shown, *rest])} |")
    notes = _notes(verdict, _code)
    lines += ["", *(f"- {note}" for note in notes)] if notes else []
    for words, names in _changes(verdict):
        opened = " open" if words == _CHANGES["newly_missed"] else ""
        summary = f"<details{opened}><summary>{len(names)} {words}</summary>"
        lines += ["", summary, "", _listed(names, _SHOWN_IN_MARKDOWN, _code), "", "</details>"]
    return "\n".join(lines) + "\n"


def as_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict in full, as plain values."""
    return {
        "schema": 1,
        "outcome": verdict.outcome,
        "exit_status": EXIT_STATUS[verdict.outcome],
        "base": _side(verdict.base, verdict.base_side),
        "candidate": _side(verdict.candidate, verdict.candidate_side),
        "policy": verdict.policy,
        "confidence": verdict.confidence,
        "rules": [asdict(result) for result in verdict.rules],
        **{name: list(getattr(verdict, name)) for name in _CHANGES},
        "guards_changed": list(verdict.guards_changed),
        "expired_waivers": [waiver.model_dump() for waiver in verdict.expired],
    }


def _side(name: str, side: Side | None) -> dict[str, Any] | None:
    if side is None:
        return None
    return {
        "name": name,
        "source": side.source,
        "target_recall": side.target_recall,
        "operating_threshold": side.operating_threshold,
        "n_test_images": len(side.test),
    }


def _title(verdict: Verdict) -> str:
    return f"Gate: {verdict.outcome} – {_MEANING[verdict.outcome]}"


def _circumstances(verdict: Verdict) -> list[str]:
    """What was compared, on which images, by which policy."""
    test = verdict.candidate_side.test
    n_pneumonia = int((test["label"] == 1).sum())
    compared = verdict.candidate
    if verdict.base_side is not None:
        compared += f" against {verdict.base}"
    lines = [
        f"{compared}; policy: {verdict.policy}",
        f"test, {source_in_words(verdict.candidate_side.source)}: {n_pneumonia} pneumonia and "
        f"{len(test) - n_pneumonia} normal images of {test['patient_id'].nunique()} patients",
    ]
    sides = [("candidate", verdict.candidate_side), ("base", verdict.base_side)]
    lines.append(
        "operating threshold (for a recall of): "
        + ", ".join(
            f"{name} {side.operating_threshold:.6f} ({side.target_recall:g})"
            for name, side in sides
            if side is not None
        )
    )
    return lines


def _interval_heading(verdict: Verdict) -> str:
    return f"bounds, {100 * verdict.confidence:g} % each"


def _row(result: RuleResult) -> tuple[str, ...]:
    """The cells of one rule."""
    bounds = f"{_number(result.low)} to {_number(result.high)}"
    outcome = "WAIVED" if result.waiver else result.outcome
    if result.mcnemar_p is None:
        must = f"low ≥ {_number(result.must)}"
        images = f"{result.n_right} of {result.n_images} right"
    else:
        must = f"high < {_number(result.must)}"
        p = "p < 0.001" if result.mcnemar_p < 0.001 else f"p {result.mcnemar_p:.3f}"
        images = f"{result.n_lost} lost, {result.n_won} won of {result.n_images}, {p}"
    return _RULES[result.rule], outcome, _number(result.figure), bounds, must, images


def _number(value: float) -> str:
    """Three decimals, with a minus sign that does not look like a dash, and no −0.000."""
    text = f"{value:.3f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _notes(verdict: Verdict, written: Callable[[str], str]) -> list[str]:
    """What a reviewer must not overlook; `written` gives the name of a file."""
    notes = [
        f"{_RULES[result.rule]}: {result.outcome}, waived until {result.waiver.expires}: "
        f"{result.waiver.reason}"
        for result in verdict.rules
        if result.waiver
    ]
    notes += [
        f"{_RULES[waiver.rule]}: the waiver expired on {waiver.expires}"
        for waiver in verdict.expired
    ]
    notes += [
        f"{_RULES[result.rule]}: not asked, for {result.n_images} images are too few"
        for result in verdict.rules
        if result.outcome == "NOT ASKED"
    ]
    if verdict.guards_changed:
        notes.append(
            "this change touches what guards the merge: "
            + ", ".join(map(written, verdict.guards_changed))
        )
    return notes


def _changes(verdict: Verdict) -> list[tuple[str, tuple[str, ...]]]:
    """What changed in words, and the images, for each kind of change that occurs."""
    changes = [(words, getattr(verdict, name)) for name, words in _CHANGES.items()]
    return [(words, names) for words, names in changes if names]


def _listed(names: tuple[str, ...], n_shown: int, written: Callable[[str], str]) -> str:
    more = f" and {len(names) - n_shown} more" if len(names) > n_shown else ""
    return ", ".join(map(written, names[:n_shown])) + more


def _plain(name: str) -> str:
    return name


def _code(name: str) -> str:
    """A name as code: whoever names a film or a file must not write the page that judges it."""
    return "`" + name.replace("`", "'") + "`"

"""The block of README about the baseline: its metrics with their files, and the gate's verdict."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pneumonia.documents.render import rendered
from pneumonia.documents.run import read_run
from pneumonia.errors import PipelineError
from pneumonia.gate.report import MEANING, in_words, metric_rows, waived_in_words
from pneumonia.gate.verdict import baseline_verdict

README = Path("README.md")
BEGIN, END = "<!-- baseline:begin -->", "<!-- baseline:end -->"


def gate_verdict(root: Path) -> dict[str, Any]:
    """The gate's verdict on the baseline in the working tree, as the documents show it.

    Returns:
        `outcome` and its `meaning`; `base`, as a person reads it, or None; `words`, what changed;
        `waived`, a sentence a rule that is waived; and `rows`: metric, base, now, change.

    Raises:
        PipelineError: the evidence is not sound, or the history is not there.
    """
    verdict = baseline_verdict(root, datetime.now(UTC).date())
    has_base = verdict.base is not None
    return {
        "outcome": verdict.outcome,
        "meaning": MEANING[verdict.outcome],
        "base": verdict.pair.base_name if has_base else None,
        "words": in_words(verdict),
        "waived": waived_in_words(verdict),
        "rows": metric_rows(verdict)[1:] if has_base else [],
    }


def readme(root: Path) -> str:
    """README.md of the repository at `root`, with the block for the run that is there.

    Raises:
        PipelineError: README does not have each marker once, in their order; a file of the run is
            missing or broken; or there is no verdict.
    """
    text = (root / README).read_text(encoding="utf-8")
    n_begin, n_end = text.count(BEGIN), text.count(END)
    if (n_begin, n_end) != (1, 1) or text.index(END) < text.index(BEGIN):
        raise PipelineError(
            f"{README}: expected {BEGIN} and after it {END}, once each. "
            f"Received: {n_begin} and {n_end}"
        )
    block = rendered("readme.md.jinja", run=read_run(root), gate=gate_verdict(root))
    return f"{text.split(BEGIN)[0]}{BEGIN}\n{block.strip()}\n{END}{text.split(END)[1]}"

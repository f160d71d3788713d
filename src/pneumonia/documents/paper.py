"""The recorded run beside the paper, figure by figure, with a verdict by a rule that stands here.

The rule, for each figure: take the 95 % interval of the difference, ours less the paper's.

- It lies wholly above 0: better. Wholly below 0: worse.
- Else, it lies within `MARGIN` of 0 on both sides: reproduced. Not to have seen a difference is not
  enough for that word; a larger one must be ruled out.
- Else: not distinguishable. There may be a difference, and these images cannot show it.
- Other images than the paper's: not comparable.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pneumonia.data.datasets import SOURCES
from pneumonia.evaluation.intervals import wilson_interval
from pneumonia.evaluation.metrics import Counts, f1, rates

# The largest difference that still counts as the same, for every figure, on its scale of 0 to 1.
# A round number, fitted to no figure, though those of the first runs were known by then. With 390
# and 234 images recall and specificity can hardly meet it: the interval of such a difference alone
# is 4 to 8 points either way.
MARGIN = 0.05

# What the paper prints of its fine-tuned EfficientNetV2S on the official 624 test images, at 0.5.
PAPER = Counts(tn=184, fp=50, fn=39, tp=351)
# Its area has no interval: that would need a probability for each image.
PAPER_ROC_AUC = "0.905"
# Its frozen phase: 88.67 % of validation. No count of the 522 validation images rounds to that;
# 454 of 512 does, and 512 are the sixteen whole batches of 32 that Keras makes of 522.
PAPER_FROZEN = (454, 512)
# Normal and pneumonia images of the paper's validation split.
PAPER_VALIDATION = (134, 388)

# Under the table, wherever it is shown.
RULE = (
    f"Verdicts, from the 95 % interval of the difference: wholly above 0 is better, wholly below 0 "
    f"worse; wholly within {100 * MARGIN:g} points of 0 reproduced; anything else not "
    "distinguishable. The two runs are taken for independent samples, for the paper's verdict on "
    "each image is not known; that makes the intervals too wide rather than too narrow. The paper "
    "gives no interval for its area, which is taken as exact, so that row is the boldest. Nothing "
    "is corrected for the number of rows. The paper's 88.67 % of the frozen phase is read as "
    f"{PAPER_FROZEN[0]} of {PAPER_FROZEN[1]}: no count of 522 rounds to it, and {PAPER_FROZEN[1]} "
    "are the whole batches of 32 in 522."
)

VERDICTS = ("reproduced", "better", "worse", "not distinguishable", "not comparable")


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its 95 % interval; both ends are the figure where none is known."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Compared:
    """One figure, ours and the paper's.

    Attributes:
        name: of the figure, for people.
        ours: what was measured; None if nothing was.
        ours_of: its counts, as "535 of 624"; empty where it is not one count of another.
        paper: the paper's.
        paper_of: its counts.
        difference: ours less the paper's; None where nothing was measured.
        verdict: one of `VERDICTS`.
    """

    name: str
    ours: Estimate | None
    ours_of: str
    paper: Estimate
    paper_of: str
    difference: Estimate | None
    verdict: str


def comparison(evaluate: Mapping[str, Any], frozen_history: pd.DataFrame) -> list[Compared]:
    """Each figure that the paper prints of its network, beside ours; test figures at 0.5.

    Args:
        evaluate: content of metrics/evaluate.json.
        frozen_history: a row an epoch of the frozen phase, as `curves.history_table` gives it.
    """
    test = evaluate["test"]
    at_half = test["at_half"]
    ours = Counts(**{name: at_half[name] for name in ("tn", "fp", "fn", "tp")})
    known = SOURCES.get(evaluate["source"])
    is_study = known is not None and known.counts is not None
    same_test = is_study and _classes(ours) == _classes(PAPER)
    rows = [
        _of_counts(name.capitalize(), rates(ours)[name], rates(PAPER)[name], same_test)
        for name in ("accuracy", "precision", "recall", "specificity")
    ]
    point = float(PAPER_ROC_AUC)
    for name, ours_of_name, paper in (
        ("F1", _recorded(at_half, "f1"), _paper_f1()),
        ("ROC-AUC", _recorded(test, "roc_auc"), Estimate(point, point, point)),
    ):
        rows.append(_compared(name, (ours_of_name, ""), (paper, ""), comparable=same_test))
    validation = evaluate["validation"]
    counted = validation["at_half"]
    classes = _classes(Counts(**{name: counted[name] for name in ("tn", "fp", "fn", "tp")}))
    rows.append(
        _of_counts(
            "Accuracy on validation, frozen phase",
            _frozen_counts(frozen_history, validation["n_images"]),
            PAPER_FROZEN,
            is_study and classes == PAPER_VALIDATION,
        )
    )
    return rows


def difference(ours: Estimate, paper: Estimate) -> Estimate:
    """Ours less the paper's, with the interval that follows from the two intervals.

    Both are taken for independent, because the paper's verdict on each image is not known. On the
    same images they go together, which makes this interval too wide rather than too narrow.

    Source: for Wilson's intervals of two rates, method 10 of Newcombe, Interval estimation for the
    difference between independent proportions, Stat. Med. 17 (1998) 873–890; for any two intervals,
    Zou and Donner, Construction of confidence limits about effect measures, Stat. Med. 27 (2008)
    1693–1702.
    """
    value = ours.value - paper.value
    return Estimate(
        value,
        value - math.hypot(ours.value - ours.low, paper.high - paper.value),
        value + math.hypot(ours.high - ours.value, paper.value - paper.low),
    )


def verdict(of_difference: Estimate) -> str:
    """The verdict on a difference, by the rule at the head of this module."""
    if of_difference.low > 0:
        return "better"
    if of_difference.high < 0:
        return "worse"
    if of_difference.low > -MARGIN and of_difference.high < MARGIN:
        return "reproduced"
    return "not distinguishable"


def comparison_table(rows: Sequence[Compared]) -> list[tuple[str, ...]]:
    """Rows for a table: figure, ours, the paper's, difference in percentage points, verdict."""
    return [
        (
            row.name,
            _shown(row.ours, row.ours_of) if row.ours else "not measured",
            _shown(row.paper, row.paper_of),
            _points(row.difference) if row.difference else "",
            row.verdict,
        )
        for row in rows
    ]


def _shown(estimate: Estimate, of: str) -> str:
    """`0.857 (0.828–0.883), 535 of 624`, without what is not known."""
    text = f"{estimate.value:.3f}"
    if estimate.low < estimate.high:
        text += f" ({estimate.low:.3f}–{estimate.high:.3f})"
    return f"{text}, {of}" if of else text


def _points(of_difference: Estimate) -> str:
    """`-1.0 (-5.0 to +3.1)`: percentage points."""
    value, low, high = (
        # 0.0 has no sign, nor has what is rounded to it.
        f"{100 * x:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")
        for x in (of_difference.value, of_difference.low, of_difference.high)
    )
    return f"{value} ({low} to {high})"


def _classes(c: Counts) -> tuple[int, int]:
    """Number of normal and of pneumonia images."""
    return c.tn + c.fp, c.fn + c.tp


def _rate(n_hits: int, n_total: int) -> Estimate:
    return Estimate(n_hits / n_total, *wilson_interval(n_hits, n_total))


def _recorded(measured: Mapping[str, float], name: str) -> Estimate:
    """A figure with its interval as metrics/evaluate.json has it."""
    return Estimate(measured[name], measured[f"{name}_low"], measured[f"{name}_high"])


def _paper_f1() -> Estimate:
    """The paper's F1 with an interval from its counts: nothing else is known to resample.

    F1 is 2 j / (1 + j) of the rate j = tp / (tp + fp + fn), and rises with it: so the ends of
    Wilson's interval for j are the ends for F1.
    """
    low, high = (2 * j / (1 + j) for j in wilson_interval(PAPER.tp, PAPER.tp + PAPER.fp + PAPER.fn))
    return Estimate(f1(PAPER), low, high)


def _frozen_counts(history: pd.DataFrame, n_images: int) -> tuple[int, int] | None:
    """Images called rightly, and all, at the epoch handed on: the lowest validation loss."""
    if history.empty:
        return None
    best = int(history["validation_loss"].to_numpy().argmin())  # the first of equals, as training
    return round(float(history["validation_accuracy"].to_numpy()[best]) * n_images), n_images


def _of_counts(
    name: str, ours: tuple[int, int] | None, paper: tuple[int, int], comparable: bool
) -> Compared:
    """A row of two rates, each as hits and total."""
    return _compared(
        name,
        (_rate(*ours), _of(ours)) if ours else (None, ""),
        (_rate(*paper), _of(paper)),
        comparable=comparable,
    )


def _of(counted: tuple[int, int]) -> str:
    return f"{counted[0]} of {counted[1]}"


def _compared(
    name: str,
    ours: tuple[Estimate | None, str],
    paper: tuple[Estimate, str],
    *,
    comparable: bool,
) -> Compared:
    estimate, of = ours
    between = difference(estimate, paper[0]) if estimate else None
    judged = verdict(between) if comparable and between else "not comparable"
    return Compared(name, estimate, of, *paper, between, judged)

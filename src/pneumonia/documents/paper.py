"""The baseline beside the paper: a row a metric, and a verdict by templates/rule.txt.jinja."""

import math
from dataclasses import dataclass

from pneumonia.documents.run import Run
from pneumonia.evaluation.interval_table import Measured
from pneumonia.evaluation.intervals import wilson_interval
from pneumonia.evaluation.metrics import f1, rates
from pneumonia.evaluation.threshold import Counts

# The largest difference that still counts as the same, for every metric, on its scale of 0 to 1.
# A round number, fitted to no metric, though those of the first runs were known by then. With 390
# and 234 images recall and specificity can hardly meet it: the interval of such a difference alone
# is 4 to 8 points either way.
MARGIN = 0.05

# What the paper prints of its fine-tuned EfficientNetV2S on the official 624 test images, at 0.5.
PAPER = Counts(tn=184, fp=50, fn=39, tp=351)
# Its area has no interval: that would need a probability for each image.
PAPER_ROC_AUC = Measured(0.905, 0.905, 0.905, None, None, "the paper's")
# Its frozen phase: 88.67 % of validation. No count of the 522 validation images rounds to that;
# 454 of 512 does, and 512 are the sixteen whole batches of 32 that Keras makes of 522.
PAPER_FROZEN = (454, 512)
# Normal and pneumonia images of the paper's test and validation split.
PAPER_TEST, PAPER_VALIDATION = (234, 390), (134, 388)

VERDICTS = ("reproduced", "better", "worse", "not distinguishable", "not comparable")


@dataclass(frozen=True)
class Compared:
    """One metric, ours and the paper's."""

    name: str  # for people
    ours: Measured | None  # None: nothing was measured
    paper: Measured
    difference: Measured | None  # ours minus the paper's
    verdict: str  # one of `VERDICTS`

    @property
    def points(self) -> str:
        """The difference in percentage points: `-1.0 (-5.0 to +3.1)`, or nothing."""
        if self.difference is None:
            return ""
        value, low, high = (
            # 0.0 has no sign, nor has what is rounded to it.
            f"{100 * x:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")
            for x in (self.difference.value, self.difference.low, self.difference.high)
        )
        return f"{value} ({low} to {high})"


def comparison(run: Run) -> list[Compared]:
    """Each metric that the paper prints of its network, beside ours; test metrics at 0.5."""
    same_test = run.is_study and _classes(run, "test") == PAPER_TEST
    rows = [
        _compared(name.capitalize(), run.metric(name, threshold="half"), _rate(*paper), same_test)
        for name, paper in rates(PAPER).items()
    ]
    rows.append(_compared("F1", run.metric("f1", threshold="half"), _paper_f1(), same_test))
    area = run.metric("roc_auc", threshold="none")
    rows.append(_compared("ROC-AUC", area, PAPER_ROC_AUC, same_test))
    frozen, n_images = run.phases.get("train_frozen"), run.evaluate["validation"]["n_images"]
    ours = None
    if frozen and frozen.epoch:
        ours = _rate(round(frozen.validation_accuracy * n_images), n_images)
    same_validation = run.is_study and _classes(run, "validation") == PAPER_VALIDATION
    name = "Accuracy on validation, frozen phase"
    return [*rows, _compared(name, ours, _rate(*PAPER_FROZEN), same_validation)]


def difference(ours: Measured, paper: Measured) -> Measured:
    """Ours minus the paper's, with the interval that follows from the two intervals.

    Both are treated as independent, because the paper's verdict on each image is not known. On the
    same images they go together, which makes this interval too wide rather than too narrow.

    Source: for Wilson's intervals of two rates, method 10 of Newcombe, Interval estimation for the
    difference between independent proportions, Stat. Med. 17 (1998) 873–890; for any two intervals,
    Zou and Donner, Construction of confidence limits about effect measures, Stat. Med. 27 (2008)
    1693–1702.
    """
    value = ours.value - paper.value
    low = value - math.hypot(ours.value - ours.low, paper.high - paper.value)
    high = value + math.hypot(ours.high - ours.value, paper.value - paper.low)
    return Measured(value, low, high, None, None, "Zou and Donner")


def verdict(of_difference: Measured) -> str:
    """The verdict on a difference, by the rule."""
    if of_difference.low > 0:
        return "better"
    if of_difference.high < 0:
        return "worse"
    within = of_difference.low > -MARGIN and of_difference.high < MARGIN
    return "reproduced" if within else "not distinguishable"


def _classes(run: Run, split: str) -> tuple[int | None, ...]:
    """Number of normal and of pneumonia images."""
    rows = (run.metric(name, split, "half") for name in ("specificity", "recall"))
    return tuple(row.n_total if row else None for row in rows)


def _rate(n_hits: int, n_total: int) -> Measured:
    ends = wilson_interval(n_hits, n_total)
    return Measured(n_hits / n_total, *ends, n_hits, n_total, "Wilson, images")


def _paper_f1() -> Measured:
    """The paper's F1 with an interval from its counts: nothing else is known to resample.

    F1 is 2 j / (1 + j) of the rate j = tp / (tp + fp + fn), and rises with it: so the ends of
    Wilson's interval for j are the ends for F1.
    """
    low, high = (2 * j / (1 + j) for j in wilson_interval(PAPER.tp, PAPER.tp + PAPER.fp + PAPER.fn))
    return Measured(f1(PAPER), low, high, None, None, "Wilson, images")


def _compared(name: str, ours: Measured | None, paper: Measured, comparable: bool) -> Compared:
    between = difference(ours, paper) if ours else None
    judged = verdict(between) if comparable and between else "not comparable"
    return Compared(name, ours, paper, between, judged)

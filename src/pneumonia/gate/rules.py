"""The rules of the gate, each asked of two models' calls on the same test images.

Recall comes first: a change may not lose any that the test set can show. A model that calls every
radiograph pneumonia wins recall, so specificity has a floor and a margin too. Doubt is no PASS:
too few images are no evidence that nothing was lost.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pneumonia.evaluation.intervals import wilson_interval
from pneumonia.evaluation.paired import loss_bounds, mcnemar_p
from pneumonia.gate.policy import RuleName, Rules, Waiver

RuleOutcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT ASKED"]


@dataclass(frozen=True)
class RuleResult:
    """One rule: the measured value, its bounds, and what the policy asks of them."""

    rule: RuleName
    outcome: RuleOutcome
    n_images: int
    value: float  # floors: the candidate's rate in [0, 1]; losses: base − candidate in [-1, 1]
    low: float  # each end is a one-sided bound of the policy's confidence
    high: float
    must: float  # floors: what `low` must reach; losses: what `high` must stay below
    n_right: int  # images that the candidate calls rightly
    n_lost: int = 0  # losses: right in the base alone
    n_won: int = 0  # losses: right in the candidate alone
    mcnemar_p: float | None = None  # losses only
    waiver: Waiver | None = None

    @property
    def blocks(self) -> bool:
        """Whether the rule stops a merge, unless it is waived."""
        return self.outcome in ("FAIL", "INCONCLUSIVE")


def rule_results(
    base: pd.DataFrame | None, candidate: pd.DataFrame, rules: Rules
) -> tuple[RuleResult, ...]:
    """Every rule of the policy on the test images; without a base, the floors alone.

    Args:
        base: `Side.test`, that is patient_id, kind, label (1 = pneumonia) and called (bool: called
            pneumonia), a row an image; None where there is nothing to compare with.
        candidate: the same of the candidate: the same images in the same order.
        rules: the policy.
    """
    pneumonia = candidate["label"].to_numpy() == 1
    kind = candidate["kind"].to_numpy(dtype=str)
    floors, margins = rules.floors, rules.margins
    results = [
        _floor("recall_floor", candidate[pneumonia], floors.recall, rules),
        _floor("specificity_floor", candidate[~pneumonia], floors.specificity, rules),
    ]
    if base is None:
        return tuple(results)
    of_rule: dict[RuleName, tuple[NDArray[np.bool_], float]] = {
        "recall_loss": (pneumonia, margins.recall),
        "specificity_loss": (~pneumonia, margins.specificity),
        "recall_loss_bacterial": (kind == "bacterial", margins.recall_bacterial),
        "recall_loss_viral": (kind == "viral", margins.recall_viral),
    }
    for rule, (of, margin) in of_rule.items():
        if of.any():  # a dataset may know no kinds
            result = _loss(rule, base[of], candidate[of], margin, rules)
            few = rule.endswith(("bacterial", "viral")) and of.sum() < rules.min_images_of_a_kind
            results.append(replace(result, outcome="NOT ASKED") if few else result)
    return tuple(results)


def changed_calls(base: pd.DataFrame | None, candidate: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Names of the test images, sorted, that are called otherwise than before, by how.

    Missed and caught are pneumonia, alarms are normal. Arguments as in `rule_results`; without a
    base there are none.
    """
    was = (candidate if base is None else base)["called"].to_numpy(bool)
    now, pneumonia = candidate["called"].to_numpy(bool), candidate["label"].to_numpy() == 1
    return {
        how: tuple(map(str, candidate["name"][of]))
        for how, of in (
            ("newly_missed", pneumonia & was & ~now),
            ("newly_caught", pneumonia & ~was & now),
            ("new_false_alarms", ~pneumonia & ~was & now),
            ("cleared_false_alarms", ~pneumonia & was & ~now),
        )
    }


def _floor(rule: RuleName, candidate: pd.DataFrame, floor: float, rules: Rules) -> RuleResult:
    """Whether the rate of images called rightly, all of one class, is surely at the floor."""
    right = _right(candidate)
    n_right, n_images = int(right.sum()), len(right)
    # Each end of this two-sided interval is a one-sided bound of the policy's confidence.
    low, high = wilson_interval(n_right, n_images, 2 * rules.confidence - 1)
    rate = n_right / n_images
    outcome: RuleOutcome = "PASS" if low >= floor else "INCONCLUSIVE"
    if rate < floor:
        outcome = "FAIL"
    return RuleResult(
        rule=rule, outcome=outcome, n_images=n_images, value=rate, low=low, high=high,
        must=floor, n_right=n_right,
    )  # fmt: skip


def _loss(
    rule: RuleName, base: pd.DataFrame, candidate: pd.DataFrame, margin: float, rules: Rules
) -> RuleResult:
    """Whether the candidate surely loses less than the margin; the images are of one class."""
    right_in_base, right = _right(base), _right(candidate)
    n_lost = int((right_in_base & ~right).sum())
    n_won = int((right & ~right_in_base).sum())
    patients = candidate["patient_id"].to_numpy(dtype=str)
    low, high = loss_bounds(
        right_in_base, right, patients, rules.n_bootstrap, [rules.seed], rules.confidence
    )
    loss = (n_lost - n_won) / len(right)
    outcome: RuleOutcome = "INCONCLUSIVE"
    if high < margin:
        outcome = "PASS"
    elif loss >= margin or low > 0:
        outcome = "FAIL"
    return RuleResult(
        rule=rule, outcome=outcome, n_images=len(right), value=loss, low=low, high=high,
        must=margin, n_right=int(right.sum()), n_lost=n_lost, n_won=n_won,
        mcnemar_p=mcnemar_p(n_lost, n_won),
    )  # fmt: skip


def _right(test: pd.DataFrame) -> NDArray[np.bool_]:
    """(n_images,) bool: whether each image is called what its label says."""
    right: NDArray[np.bool_] = test["called"].to_numpy(bool) == (test["label"].to_numpy() == 1)
    return right

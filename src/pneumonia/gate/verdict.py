"""The merge gate: may a candidate take the base's place, by figures and predictions alone?

Recall comes first: a change may not lose any that the test set can show. Recall alone is won by
calling every film pneumonia, so specificity has a floor and a margin too. What is not shown to
hold blocks: too few images are no evidence of no loss.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pneumonia.errors import PipelineError
from pneumonia.evaluation.intervals import wilson_interval
from pneumonia.evaluation.paired import loss_bounds, mcnemar_p
from pneumonia.gate.evidence import Side, evidence, refuse_another_test_set
from pneumonia.gate.policy import Policy, RuleName, Rules, Waiver, parse_policy
from pneumonia.git import changed_paths, commit_of, file_at

POLICY = Path("gate.yaml")
# What a change must not touch unseen: it decides about changes.
GUARDS = (
    "gate.yaml",
    ".github/",
    ".ci/",
    "Makefile",
    "src/pneumonia/store/files.py",
    "src/pneumonia/cli.py",
    "src/pneumonia/evaluation/clinical.py",
    "src/pneumonia/gate/confirm.py",
    "src/pneumonia/store/arrays.py",
    "src/pneumonia/data/downloads.py",
    "src/pneumonia/errors.py",
    "src/pneumonia/gate/evidence.py",
    "src/pneumonia/gate/verdict.py",
    "src/pneumonia/gate/report.py",
    "src/pneumonia/git.py",
    "src/pneumonia/evaluation/intervals.py",
    "src/pneumonia/evaluation/metrics.py",
    "src/pneumonia/training/model_files.py",
    "src/pneumonia/evaluation/paired.py",
    "src/pneumonia/store/params.py",
    "src/pneumonia/gate/policy.py",
    "src/pneumonia/evaluation/predictions.py",
    "src/pneumonia/data/privacy.py",
    "src/pneumonia/recipes.py",
    "src/pneumonia/data/datasets.py",
)

RuleOutcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT ASKED"]
Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "NO BASELINE", "NEW BASELINE", "WAIVED"]
# 1 and 2 are evidence that is not sound, and wrong arguments. A new baseline was asked for.
EXIT_STATUS: dict[Outcome, int] = {
    "PASS": 0,
    "NEW BASELINE": 0,
    "FAIL": 3,
    "INCONCLUSIVE": 4,
    "NO BASELINE": 5,
    "WAIVED": 6,
}


@dataclass(frozen=True)
class RuleResult:
    """One rule: what was measured, how sure that is, and what it had to be."""

    rule: RuleName
    outcome: RuleOutcome
    n_images: int
    figure: float  # floors: the candidate's rate in [0, 1]; losses: base − candidate in [-1, 1]
    low: float  # each end is a one-sided bound of the policy's confidence
    high: float
    must: float  # floors: what `low` must reach; losses: what `high` must stay below
    n_right: int  # images that the candidate calls rightly
    n_lost: int = 0  # losses: right in the base alone
    n_won: int = 0  # losses: right in the candidate alone
    mcnemar_p: float | None = None  # losses only
    waiver: Waiver | None = None


@dataclass(frozen=True)
class Verdict:
    """All that a reviewer needs of one comparison."""

    outcome: Outcome
    base: str
    candidate: str
    policy: str  # where it was read
    confidence: float
    candidate_side: Side
    base_side: Side | None  # None: nothing to compare with
    rules: tuple[RuleResult, ...]
    # Names of test images, sorted. Missed, caught: pneumonia; alarms: normal.
    newly_missed: tuple[str, ...] = ()
    newly_caught: tuple[str, ...] = ()
    new_false_alarms: tuple[str, ...] = ()
    cleared_false_alarms: tuple[str, ...] = ()
    guards_changed: tuple[str, ...] = ()  # paths among GUARDS that differ from the base
    expired: tuple[Waiver, ...] = ()


def judged(
    root: Path,
    base: str,
    candidate: str | None,
    *,
    policy_file: Path | None,
    new_baseline: bool,
    today: datetime.date,
) -> Verdict:
    """The verdict on `candidate` (None: the working tree) against `base`.

    Args:
        root: top of the checkout.
        base: revision whose record is the baseline and whose gate.yaml is the policy.
        candidate: revision that would be merged.
        policy_file: read in place of the base's gate.yaml.
        new_baseline: with nothing to compare with, or another test set, the floors decide alone.
        today: on which waivers count, in UTC.

    Raises:
        PipelineError: a revision, the policy, or a side's evidence is missing or not sound; or the
            test set changed and `new_baseline` is not asked for.
    """
    base_commit = commit_of(root, base)
    candidate_commit = None if candidate is None else commit_of(root, candidate)
    base_name = _named("base", base, base_commit)
    if candidate is None or candidate_commit is None:
        candidate_name = "candidate (working tree)"
    else:
        candidate_name = _named("candidate", candidate, candidate_commit)
    policy, where = _policy(root, base_commit, base_name, policy_file)

    candidate_side = evidence(root, candidate_commit, candidate_name)
    if candidate_side is None:
        raise PipelineError(
            f"{candidate_name}: expected metrics/evaluate.json and metrics/predictions.csv, as "
            "`dvc repro` makes them. Received: neither"
        )
    base_side = evidence(root, base_commit, base_name)
    if base_side is not None:
        try:
            refuse_another_test_set(base_side, candidate_side)
        except PipelineError:
            if not new_baseline:
                raise
            base_side = None

    base_test = None if base_side is None else base_side.test
    results = rule_results(base_test, candidate_side.test, policy.rules)
    rules = _with_waivers(results, policy, today)
    outcome = _outcome(rules)
    if base_side is None and outcome in ("PASS", "WAIVED"):
        outcome = "NEW BASELINE" if new_baseline else "NO BASELINE"
    return Verdict(
        outcome=outcome,
        base=base_name,
        candidate=candidate_name,
        policy=where,
        confidence=policy.rules.confidence,
        candidate_side=candidate_side,
        base_side=base_side,
        rules=rules,
        **({} if base_side is None else _named_changes(base_side.test, candidate_side.test)),
        guards_changed=tuple(
            path
            for path in changed_paths(root, base_commit, candidate_commit)
            if path.startswith(GUARDS)
        ),
        expired=tuple(waiver for waiver in policy.waivers if not waiver.counts_on(today)),
    )


def _named(side: str, revision: str, commit: str) -> str:
    """As a person reads it: base main (1a2b3c4)."""
    short = commit[:7]
    return f"{side} {short}" if commit.startswith(revision) else f"{side} {revision} ({short})"


def _policy(
    root: Path, base_commit: str, base_name: str, policy_file: Path | None
) -> tuple[Policy, str]:
    """The policy, and where it was read."""
    if policy_file is not None:
        where = str(policy_file)
        try:
            return parse_policy(policy_file.read_text(encoding="utf-8"), where), where
        except (OSError, UnicodeDecodeError) as error:
            raise PipelineError(
                f"{where}: expected a policy that can be read. Received: {error}"
            ) from error
    where = f"{POLICY} of {base_name}"
    data = file_at(root, base_commit, POLICY)
    if data is None:
        raise PipelineError(
            f"{where} is missing: the policy is read from the base, so that no change loosens its "
            f"own gate. Merge a {POLICY} first, or name one with --policy"
        )
    return parse_policy(data.decode("utf-8", "replace"), where), where


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
        if of.any():  # a source may know no kinds
            result = _loss(rule, base[of], candidate[of], margin, rules)
            few = rule.endswith(("bacterial", "viral")) and of.sum() < rules.min_images_of_a_kind
            results.append(replace(result, outcome="NOT ASKED") if few else result)
    return tuple(results)


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
        rule=rule, outcome=outcome, n_images=n_images, figure=rate, low=low, high=high,
        must=floor, n_right=n_right,
    )  # fmt: skip


def _loss(
    rule: RuleName,
    base: pd.DataFrame,
    candidate: pd.DataFrame,
    margin: float,
    rules: Rules,
) -> RuleResult:
    """Whether the candidate surely loses less than the margin of what the base calls rightly.

    Args:
        rule: its name.
        base: rows of the images in question, all of one class.
        candidate: the same images in the same order.
        margin: of the loss.
        rules: confidence, resamples, seed.
    """
    right_in_base, right = _right(base), _right(candidate)
    n_lost = int((right_in_base & ~right).sum())
    n_won = int((right & ~right_in_base).sum())
    low, high = loss_bounds(
        right_in_base,
        right,
        candidate["patient_id"].to_numpy(dtype=str),
        rules.n_bootstrap,
        [rules.seed],
        rules.confidence,
    )
    loss = (n_lost - n_won) / len(right)
    outcome: RuleOutcome = "INCONCLUSIVE"
    if high < margin:
        outcome = "PASS"
    elif loss >= margin or low > 0:
        outcome = "FAIL"
    return RuleResult(
        rule=rule, outcome=outcome, n_images=len(right), figure=loss, low=low, high=high,
        must=margin, n_right=int(right.sum()), n_lost=n_lost, n_won=n_won,
        mcnemar_p=mcnemar_p(n_lost, n_won),
    )  # fmt: skip


def _right(test: pd.DataFrame) -> NDArray[np.bool_]:
    """(n_images,) bool: whether each image's verdict is its label."""
    right: NDArray[np.bool_] = test["called"].to_numpy(bool) == (test["label"].to_numpy() == 1)
    return right


def _with_waivers(
    results: Sequence[RuleResult], policy: Policy, today: datetime.date
) -> tuple[RuleResult, ...]:
    """The results, each that does not hold with the waiver that counts for it today, if any."""
    waivers = {waiver.rule: waiver for waiver in policy.waivers if waiver.counts_on(today)}
    return tuple(
        replace(result, waiver=waivers.get(result.rule)) if _blocks(result) else result
        for result in results
    )


def _blocks(result: RuleResult) -> bool:
    return result.outcome in ("FAIL", "INCONCLUSIVE")


def _outcome(results: Sequence[RuleResult]) -> Outcome:
    """The worst of the rules that are not waived; WAIVED where only waived ones do not hold."""
    blocking = {result.outcome for result in results if _blocks(result) and not result.waiver}
    if "FAIL" in blocking:
        return "FAIL"
    if blocking:
        return "INCONCLUSIVE"
    return "WAIVED" if any(result.waiver for result in results) else "PASS"


def _named_changes(base: pd.DataFrame, candidate: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The images whose verdict changed, by the field of `Verdict` that names them."""
    was, now = base["called"].to_numpy(bool), candidate["called"].to_numpy(bool)
    pneumonia = candidate["label"].to_numpy() == 1
    return {
        changed: tuple(map(str, candidate["name"][of]))
        for changed, of in (
            ("newly_missed", pneumonia & was & ~now),
            ("newly_caught", pneumonia & ~was & now),
            ("new_false_alarms", ~pneumonia & ~was & now),
            ("cleared_false_alarms", ~pneumonia & was & ~now),
        )
    }

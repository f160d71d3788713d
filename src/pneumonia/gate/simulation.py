"""How often the gate lets an equal model pass, and how often one that lost recall.

`python -m pneumonia.gate.simulation` draws pairs of models whose true difference is known, on test
images in patients as in metrics/predictions.csv, asks every rule of gate.yaml of each pair, and
counts how many hold. The table in docs/gate.md is its output.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from pneumonia.errors import PipelineError, run_stage
from pneumonia.evaluation.intervals import wilson_interval
from pneumonia.evaluation.paired import tango_interval
from pneumonia.evaluation.predictions import TEXT_COLUMNS
from pneumonia.gate.policy import RuleName, Rules, parse_policy
from pneumonia.gate.rules import RuleResult, rule_results
from pneumonia.gate.verdict import POLICY
from pneumonia.store.files import read_table

PREDICTIONS = Path("metrics/predictions.csv")
KINDS = ("bacterial", "viral", "normal")
N_PAIRS = 2000  # of each scenario
N_BOOTSTRAP = 2000  # in place of gate.yaml's 10,000, for time; a bound moves by a tenth of a point
RECALL = 0.98  # what the threshold is chosen for
SPECIFICITY = 0.32  # about that of the first baseline
# Correlation between two images of a patient. That of the difference between two trained networks,
# in log odds, is 0.2 to 0.4.
LIKENESS = 0.3
_RULES: dict[RuleName, str] = {
    "recall_floor": "recall, floor",
    "specificity_floor": "specificity, floor",
    "recall_loss": "recall lost",
    "recall_loss_bacterial": "bacterial",
    "recall_loss_viral": "viral",
    "specificity_loss": "specificity lost",
}

log = logging.getLogger("gate_simulation")


class Truth(NamedTuple):
    """What is true of a pair of models on images of one kind, each a share of these images."""

    base_rate: float  # called rightly by the base
    loss: float  # by which the candidate's rate is lower
    discordant: float  # called rightly by one of the two and wrongly by the other

    def shares(self) -> tuple[float, ...]:
        """Shares of images called rightly by the base only, neither, both, the candidate only.

        Raises:
            ValueError: no two models can be so.
        """
        lost, won = (self.discordant + self.loss) / 2, (self.discordant - self.loss) / 2
        shares = (lost, 1 - self.base_rate - won, self.base_rate - lost, won)
        if min(shares) < -1e-9:  # differences of decimals are a hair beside 0
            raise ValueError(f"no two models can be so: {self}")
        return tuple(round(share, 9) for share in shares)


class Scenario(NamedTuple):
    """A pair of models, in words and in truth."""

    name: str
    of_kind: dict[str, Truth]  # for each of KINDS
    likeness: float = LIKENESS


def _scenario(
    name: str,
    recall: tuple[float, float],
    specificity: tuple[float, float],
    likeness: float = LIKENESS,
    **kinds: tuple[float, float],
) -> Scenario:
    """One scenario, from (loss, discordant) of each class, or of a kind that goes its own way."""
    pneumonia = {kind: Truth(RECALL, *kinds.get(kind, recall)) for kind in ("bacterial", "viral")}
    return Scenario(name, {**pneumonia, "normal": Truth(SPECIFICITY, *specificity)}, likeness)


SCENARIOS = (
    _scenario("equal, every call the same", (0, 0), (0, 0)),
    _scenario("equal, 1 % and 5 % discordant", (0, 0.01), (0, 0.05)),
    _scenario("equal, 1 % and 10 % discordant", (0, 0.01), (0, 0.10)),
    _scenario("equal, 2 % and 15 % discordant", (0, 0.02), (0, 0.15)),
    _scenario("the same, images of a patient independent", (0, 0.02), (0, 0.15), 0.0),
    _scenario("the same, images of a patient very alike", (0, 0.02), (0, 0.15), 0.6),
    _scenario("equal, 2.6 % and 20 % discordant", (0, 0.026), (0, 0.20)),
    _scenario("equal, 4 % and 20 % discordant", (0, 0.04), (0, 0.20)),
    _scenario("recall −2 points", (0.02, 0.03), (0, 0.10)),
    _scenario("recall −3 points", (0.03, 0.04), (0, 0.10)),
    _scenario("recall −5 points", (0.05, 0.05), (0, 0.10)),
    _scenario("recall −5 points, 7 % discordant", (0.05, 0.07), (0, 0.10)),
    _scenario("the same, images of a patient very alike", (0.05, 0.07), (0, 0.10), 0.6),
    _scenario("bacterial −8 points, viral equal", (0, 0.01), (0, 0.10), bacterial=(0.08, 0.08)),
    _scenario("viral −13 points, bacterial equal", (0, 0.01), (0, 0.10), viral=(0.13, 0.13)),
    _scenario("specificity −5 points", (0, 0.01), (0.05, 0.15)),
    _scenario("specificity −10 points", (0, 0.01), (0.10, 0.15)),
    _scenario("specificity −15 points", (0, 0.01), (0.15, 0.20)),
)


def drawn_right(
    patient_ids: NDArray[np.str_], truth: Truth, likeness: float, random: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which images base and candidate call rightly, for a pair of which `truth` is true.

    Each image has a normal value, which correlates with that of another image of its patient, by
    `likeness` in [0, 1]. From low to high it means: right for the base only, for neither, for both,
    for the candidate only. So losses gather in some patients and gains in others.

    Args:
        patient_ids: (n_images,) text.
        truth: what is true of the pair.
        likeness: the correlation.
        random: of the draws.

    Returns:
        Two arrays (n_images,) bool, of the base and of the candidate.
    """
    patients, patient_of_image = np.unique(patient_ids, return_inverse=True)
    value = np.sqrt(likeness) * random.standard_normal(len(patients))[patient_of_image]
    value += np.sqrt(1 - likeness) * random.standard_normal(len(patient_ids))
    ends = norm.ppf(np.cumsum(truth.shares()[:3]).round(9))  # infinite at 0 and 1
    base_only, _, both, candidate_only = range(4)
    case = np.searchsorted(ends, value)
    return np.isin(case, (base_only, both)), np.isin(case, (both, candidate_only))


def drawn_results(
    test: pd.DataFrame, scenario: Scenario, rules: Rules, n_pairs: int, seed: list[int]
) -> Iterator[tuple[RuleResult, ...]]:
    """The results of the gate's rules for each of `n_pairs` drawn pairs of models.

    Args:
        test: patient_id, kind and label (1 = pneumonia) of the test images, a row each.
        scenario: what is true of each pair.
        rules: of the gate.
        n_pairs: pairs to draw.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    pneumonia = test["label"].to_numpy() == 1
    rows = {kind: test["kind"].to_numpy(dtype=str) == kind for kind in KINDS}
    patient_ids = test["patient_id"].to_numpy(dtype=str)
    for _ in range(n_pairs):
        base_right, candidate_right = np.zeros((2, len(test)), dtype=bool)
        for kind, truth in scenario.of_kind.items():
            base_right[rows[kind]], candidate_right[rows[kind]] = drawn_right(
                patient_ids[rows[kind]], truth, scenario.likeness, random
            )
        yield rule_results(
            test.assign(called=pneumonia == base_right),
            test.assign(called=pneumonia == candidate_right),
            rules,
        )


def table_row(name: str, results: Sequence[tuple[RuleResult, ...]], confidence: float) -> str:
    """How many pairs in a hundred hold each rule, the four losses, and all, as a row of Markdown.

    The last cell says in how many the upper bound of the recall lost, and of the specificity lost,
    is that of the bootstrap over patients.

    Args:
        name: of the scenario.
        results: of each pair.
        confidence: of the rules.
    """
    of_rule = {
        rule: [result for of_pair in results for result in of_pair if result.rule == rule]
        for rule in _RULES
    }
    holds = {
        rule: np.array([result.outcome == "PASS" for result in asked])
        for rule, asked in of_rule.items()
    }
    losses = np.all([held for rule, held in holds.items() if "_loss" in rule], axis=0)
    of_patients = [
        float(np.mean([_patients_decide(result, confidence) for result in of_rule[rule]]))
        for rule in ("recall_loss", "specificity_loss")
    ]
    cells = [
        *(f"{100 * held.mean():.1f}" for held in holds.values()),
        _with_interval(losses),
        _with_interval(np.all(list(holds.values()), axis=0)),
        ", ".join(f"{100 * share:.1f}" for share in of_patients),
    ]
    return f"| {' | '.join([name, *cells])} |"


def _patients_decide(result: RuleResult, confidence: float) -> bool:
    """Whether the upper bound of a loss is not Tango's but the larger one of the bootstrap."""
    _, tango = tango_interval(result.n_lost, result.n_won, result.n_images, 2 * confidence - 1)
    return result.high > tango


def _with_interval(held: NDArray[np.bool_]) -> str:
    low, high = wilson_interval(int(held.sum()), len(held))
    return f"{100 * held.mean():.1f} ({100 * low:.1f}–{100 * high:.1f})"


def main(root: Path = Path(), n_pairs: int = N_PAIRS) -> None:
    """Log the table for the test images and the gate.yaml of the checkout at `root`."""
    predictions = read_table(root / PREDICTIONS, text=TEXT_COLUMNS)
    test = predictions[predictions["split"] == "test"].reset_index(drop=True)
    policy = parse_policy((root / POLICY).read_text(encoding="utf-8"), str(POLICY))
    rules = policy.rules.model_copy(update={"n_bootstrap": N_BOOTSTRAP})
    n_of_kind = test["kind"].value_counts().reindex(KINDS, fill_value=0)
    if n_of_kind.min() < rules.min_images_of_a_kind:
        raise PipelineError(
            f"{PREDICTIONS}: the table needs {rules.min_images_of_a_kind} test images of each kind "
            f"(min_images_of_a_kind of {POLICY}). Received: {n_of_kind.to_dict()}"
        )
    log.info("%d pairs each, images %s, margins %s", n_pairs, n_of_kind.to_dict(), rules.margins)
    heads = ["pairs", *_RULES.values(), "four losses", "all six", "bootstrap is larger"]
    log.info("| %s |\n|%s", " | ".join(heads), "---|" * len(heads))
    for number, scenario in enumerate(SCENARIOS):
        results = list(drawn_results(test, scenario, rules, n_pairs, [rules.seed, number]))
        log.info("%s", table_row(scenario.name, results, rules.confidence))


if __name__ == "__main__":
    run_stage(main)

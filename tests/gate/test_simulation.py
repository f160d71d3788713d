"""The gate's rules on pairs of models whose true difference is known."""

import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pneumonia.errors import PipelineError
from pneumonia.evaluation.paired import tango_interval
from pneumonia.gate import simulation as gate_simulation
from pneumonia.gate.policy import parse_policy
from pneumonia.gate.simulation import (
    PREDICTIONS,
    SCENARIOS,
    Scenario,
    Truth,
    drawn_results,
    drawn_right,
    main,
    table_row,
)
from pneumonia.gate.verdict import POLICY, RuleResult
from pneumonia.store.files import write_table

ROOT = Path(__file__).parents[2]
RULES = parse_policy((ROOT / POLICY).read_text(encoding="utf-8"), str(POLICY)).rules.model_copy(
    update={"n_bootstrap": 1000}
)
# As many images and patients as the study's test folder, about: bacterial by three, viral and
# normal mostly alone.
N_IMAGES = {"bacterial": 242, "viral": 148, "normal": 234}
PATIENT_OF = {"bacterial": lambda image: image // 3, "viral": lambda image: image % 126}
NORMAL = Truth(0.6, 0, 0.10)  # well above its floor, so that recall alone decides


def films():
    return pd.DataFrame(
        [
            (f"{kind}{PATIENT_OF.get(kind, int)(image)}", kind, int(kind != "normal"))
            for kind, n_images in N_IMAGES.items()
            for image in range(n_images)
        ],
        columns=["patient_id", "kind", "label"],
    )


def pairs_that_pass(pneumonia: Truth, likeness: float) -> int:
    """Of 60 pairs."""
    kinds = {"bacterial": pneumonia, "viral": pneumonia, "normal": NORMAL}
    results = drawn_results(films(), Scenario("", kinds, likeness), RULES, 60, [1])
    return sum(all(result.outcome == "PASS" for result in of_pair) for of_pair in results)


# What the gate is for, by the gate.yaml of this repository. docs/gate.md has the rates of 2,000
# pairs each.
def test_of_60_equal_pairs_at_most_12_are_blocked():
    assert pairs_that_pass(Truth(0.98, 0, 0.01), likeness=0.3) >= 48


@pytest.mark.parametrize("likeness", [0.0, 0.6])
def test_of_60_pairs_with_5_points_of_recall_lost_none_passes(likeness):
    assert pairs_that_pass(Truth(0.98, 0.05, 0.05), likeness) == 0


@pytest.mark.parametrize(
    "truth",
    [
        Truth(0.98, 0, 0),
        Truth(0.98, 0.05, 0.05),
        Truth(0.6, 0.1, 0.3),
        Truth(0.6, -0.1, 0.3),
        Truth(0.5, 0.5, 0.5),  # the candidate is right nowhere
        Truth(1.0, 1.0, 1.0),
        Truth(0.9, 0, 0.2),  # 1 - 0.9 - 0.1 is a hair below 0
    ],
)
@pytest.mark.parametrize("likeness", [0.0, 0.5])
def test_pairs_are_as_true_as_they_say(truth, likeness):
    patient_ids = np.repeat(np.arange(20_000), 2).astype(str)
    base, candidate = drawn_right(patient_ids, truth, likeness, np.random.default_rng(1))
    # Four standard deviations of a share of 40,000 are at most a point.
    assert base.mean() == pytest.approx(truth.base_rate, abs=0.01)
    assert base.mean() - candidate.mean() == pytest.approx(truth.loss, abs=0.01)
    assert (base != candidate).mean() == pytest.approx(truth.discordant, abs=0.01)


@pytest.mark.parametrize(
    ("likeness", "both"),
    [
        (0.0, 0.25),  # half of the images are lost: both of a patient by chance, ½ × ½
        (0.5, 1 / 3),  # two normal values that correlate by ½ are both below their median
        (1.0, 0.5),  # the patient's images share one fate
    ],
)
def test_the_images_of_a_patient_are_as_alike_as_they_say(likeness, both):
    patient_ids = np.repeat(np.arange(20_000), 2).astype(str)
    base, candidate = drawn_right(
        patient_ids, Truth(1.0, 0.5, 0.5), likeness, np.random.default_rng(1)
    )
    lost = (base & ~candidate).reshape(-1, 2)
    assert lost.all(axis=1).mean() == pytest.approx(both, abs=0.015)


@pytest.mark.parametrize(
    "shares",
    [
        (0.98, 0.05, 0.04),  # fewer images changed than were lost
        (0.98, -0.05, 0.05),  # 5 % won of the 2 % that were wrong
        (0.04, 0.05, 0.05),  # 5 % lost of the 4 % that were right
    ],
)
def test_a_pair_that_cannot_be_is_refused(shares):
    with pytest.raises(ValueError, match="no two models"):
        Truth(*shares)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_is_what_its_name_says(scenario):
    of_kind = scenario.of_kind
    losses = dict(re.findall(r"(\w+) −(\d+) points", scenario.name))
    if "the same" not in scenario.name:
        for kind, of in {"bacterial": "recall", "viral": "recall", "normal": "specificity"}.items():
            points = losses.get(kind, losses.get(of, 0))
            assert of_kind[kind].loss == pytest.approx(int(points) / 100)
    if named := re.search(r"([\d.]+) %(?: and (\d+) %)? discordant", scenario.name):
        shares = [float(share) / 100 for share in named.groups(default="10")]
        discordant = [of_kind[kind].discordant for kind in ("bacterial", "viral", "normal")]
        assert discordant == pytest.approx([shares[0], *shares])


def test_each_kind_goes_its_own_way_through_the_rules():
    kinds = {
        "bacterial": Truth(1.0, 0, 0),
        "viral": Truth(0.0, -1.0, 1.0),
        "normal": Truth(1.0, 1.0, 1.0),
    }
    [of_pair] = drawn_results(films(), Scenario("", kinds), RULES, 1, [1])
    lost = {r.rule: (r.n_lost, r.n_won) for r in of_pair if r.mcnemar_p is not None}
    assert lost == {
        "recall_loss": (0, 148),
        "specificity_loss": (234, 0),
        "recall_loss_bacterial": (0, 0),
        "recall_loss_viral": (0, 148),
    }


def test_the_images_of_a_patient_are_as_alike_as_the_scenario_says():
    kinds = dict.fromkeys(N_IMAGES, Truth(1.0, 0.5, 0.5))
    one_patient_each = films().assign(patient_id=films()["kind"])
    for likeness, fates in ((1.0, {0, 242}), (0.0, set(range(90, 152)))):
        results = drawn_results(one_patient_each, Scenario("", kinds, likeness), RULES, 5, [1])
        n_lost = {r.n_lost for of_pair in results for r in of_pair if "bacterial" in r.rule}
        assert n_lost <= fates


def test_the_seed_decides_the_pairs():
    first, again, other = (
        list(drawn_results(films(), SCENARIOS[1], RULES, 2, seed)) for seed in ([1], [1], [2])
    )
    assert first == again != other
    assert first[0] != first[1]


def result(rule: str, outcome: str, high: float) -> RuleResult:
    return RuleResult(
        rule, outcome, n_images=100, figure=0, low=0, high=high, must=0.1, n_right=90,
        n_lost=3, n_won=1,
    )  # fmt: skip


def test_a_row_counts_the_pairs_that_hold_each_rule_the_losses_and_all():
    tango = tango_interval(3, 1, 100, 0.90)[1]
    outcomes = {  # of four pairs
        "recall_floor": ["FAIL", "INCONCLUSIVE", "PASS", "PASS"],
        "specificity_floor": ["PASS", "PASS", "PASS", "PASS"],
        "recall_loss": ["PASS", "INCONCLUSIVE", "INCONCLUSIVE", "PASS"],
        "recall_loss_bacterial": ["PASS", "FAIL", "PASS", "PASS"],
        "recall_loss_viral": ["PASS", "PASS", "FAIL", "FAIL"],
        "specificity_loss": ["PASS", "PASS", "PASS", "PASS"],
    }
    highs = {"recall_loss": [tango, tango, tango, tango + 0.01]}  # one by the patients
    results = [
        tuple(
            result(rule, outcomes[rule][pair], highs.get(rule, [tango] * 4)[pair])
            for rule in outcomes
        )
        for pair in range(4)
    ]
    # Wilson's interval of 1 of 4 is 4.6 to 69.9 %, of 0 of 4 it is 0 to 49 %.
    assert table_row("words", results, 0.95) == (
        "| words | 50.0 | 100.0 | 50.0 | 75.0 | 50.0 | 100.0 | 25.0 (4.6–69.9) | "
        "0.0 (0.0–49.0) | 25.0, 0.0 |"
    )


def test_the_table_has_a_row_for_each_scenario(tmp_path, monkeypatch, caplog):
    shutil.copy(ROOT / POLICY, tmp_path)
    table = films().assign(split="test", name=[f"{n}" for n in range(624)])
    validation = table.assign(split="validation")
    write_table(tmp_path / PREDICTIONS, pd.concat([table, validation]))
    monkeypatch.setattr(gate_simulation, "N_BOOTSTRAP", 1000)
    with caplog.at_level(logging.INFO):
        main(tmp_path, n_pairs=2)
    first, heads, *rows = caplog.messages
    assert first.startswith(
        "2 pairs each, images {'bacterial': 242, 'viral': 148, 'normal': 234}, margins"
    )
    assert [row.split(" | ")[0] for row in rows] == [f"| {each.name}" for each in SCENARIOS]
    # Wilson's interval of 2 of 2 begins at 2 / (2 + 1.96²).
    assert "| 100.0 (34.2–100.0) |" in rows[0]
    assert {row.count("|") for row in (*heads.splitlines(), *rows)} == {11}


def test_too_few_test_images_of_a_kind_are_refused(tmp_path):
    shutil.copy(ROOT / POLICY, tmp_path)
    table = films().assign(split="test", name=[f"{n}" for n in range(624)])
    write_table(tmp_path / PREDICTIONS, table.drop(index=table.index[table["kind"] == "viral"]))
    with pytest.raises(PipelineError, match=r"100 test images of each kind .* 'viral': 0"):
        main(tmp_path, n_pairs=2)

"""The gate: what passes, what is refused, and that doubt never passes."""

import datetime
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gate_repository import (
    N_TEST,
    POLICY,
    commit,
    name_of,
    new_repository,
    predictions,
    relock,
    write_record,
)
from pneumonia.errors import PipelineError
from pneumonia.gate.policy import parse_policy
from pneumonia.gate.verdict import EXIT_STATUS, GUARDS, judged, rule_results
from pneumonia.git import git

ROOT = Path(__file__).parents[2]
TODAY = datetime.date(2026, 12, 1)
RULES = parse_policy(POLICY, "policy").rules


def tables(was_wrong: set[str], is_wrong: set[str], **n_images: int):
    """Test tables of base and candidate with the images that each calls wrongly."""
    table = predictions({}, N_TEST | n_images)
    test = table[table["split"] == "test"]
    return tuple(
        test.assign(called=(test["label"] == 1) != test["name"].isin(wrong))
        for wrong in (was_wrong, is_wrong)
    )


def names(kind: str, first: int, end: int) -> set[str]:
    return {name_of(kind, number) for number in range(first, end)}


def outcomes(base, candidate) -> dict[str, str]:
    return {result.rule: result.outcome for result in rule_results(base, candidate, RULES)}


def judge(root: Path, **how):
    how = {"policy_file": None, "new_baseline": False, "today": TODAY} | how
    return judged(root, "main", None, **how)


# ---- the rules ----


def test_equal_models_pass_every_rule():
    base, candidate = tables(names("viral", 0, 2), names("viral", 0, 2), viral=50)
    assert set(outcomes(base, candidate).values()) == {"PASS"}


def test_a_floor_fails_below_and_is_in_doubt_until_the_lower_bound_reaches_it():
    # Floor .9 of 100 images. Wilson's one-sided 95 % lower bounds, by hand from z = 1.6449:
    # 89 of 100: below the floor itself; 92: .864; 95: .9008.
    for n_missed, outcome in ((11, "FAIL"), (8, "INCONCLUSIVE"), (5, "PASS")):
        _, candidate = tables(set(), names("bacterial", 0, n_missed))
        floor = rule_results(None, candidate, RULES)[0]
        assert (floor.rule, floor.outcome) == ("recall_floor", outcome)
        assert (floor.n_right, floor.n_images) == (100 - n_missed, 100)
    assert floor.low == pytest.approx(0.9008, abs=5e-5)


def test_calling_every_film_pneumonia_fails_by_specificity():
    _, candidate = tables(set(), names("normal", 0, 60))
    assert outcomes(None, candidate) == {"recall_floor": "PASS", "specificity_floor": "FAIL"}


def test_a_loss_fails_at_the_margin_and_when_it_is_sure_though_small():
    # Margin of recall .05. Five of 100 lost, none won: at the margin.
    base, candidate = tables(set(), names("bacterial", 0, 5))
    assert outcomes(base, candidate)["recall_loss"] == "FAIL"
    # Four lost of four patients, none won: below the margin, but surely a loss, and not surely
    # below the margin.
    base, candidate = tables(set(), {name_of("bacterial", number) for number in (0, 2, 4, 6)})
    loss = rule_results(base, candidate, RULES)[2]
    assert (loss.rule, loss.outcome, loss.figure) == ("recall_loss", "FAIL", 0.04)
    assert loss.low > 0
    assert loss.high >= 0.05


def test_a_loss_that_may_be_none_or_too_much_is_in_doubt():
    # Six lost and four won, each of another patient: measured .02, somewhere from below 0 to .07.
    lost = {name_of("bacterial", number) for number in range(0, 12, 2)}
    won = {name_of("viral", number) for number in range(0, 8, 2)}
    base, candidate = tables(won, lost)
    loss = rule_results(base, candidate, RULES)[2]
    assert (loss.outcome, loss.n_lost, loss.n_won) == ("INCONCLUSIVE", 6, 4)
    assert loss.figure == pytest.approx(0.02)
    assert loss.low < 0 < 0.05 <= loss.high
    # Exact binomial: 2 × P(X ≤ 4 | 10, ½) = 2 × 386 / 1024.
    assert loss.mcnemar_p == pytest.approx(0.7539, abs=1e-4)


def test_a_loss_that_is_sure_but_smaller_than_the_margin_passes():
    # One of 100: Tango's bound is below .05, whatever the bootstrap says of it.
    base, candidate = tables(set(), names("viral", 0, 1))
    assert outcomes(base, candidate)["recall_loss"] == "PASS"


def test_images_won_do_not_hide_that_one_kind_is_lost():
    # Twelve viral lost, twelve bacterial won: recall is as it was.
    base, candidate = tables(names("bacterial", 0, 12), names("viral", 0, 12), viral=50)
    results = {result.rule: result for result in rule_results(base, candidate, RULES)}
    assert results["recall_loss"].figure == 0
    assert results["recall_loss_viral"].outcome == "FAIL"
    assert results["recall_loss_viral"].figure == pytest.approx(12 / 50)
    assert results["recall_loss_bacterial"].outcome == "PASS"
    assert results["recall_loss_bacterial"].figure == pytest.approx(-12 / 60)


def test_specificity_has_a_margin_of_its_own():
    # Six of 60 normal films: .1, at the margin; recall is not asked to pay for it.
    base, candidate = tables(set(), names("normal", 0, 6))
    assert outcomes(base, candidate)["specificity_loss"] == "FAIL"
    assert outcomes(base, candidate)["recall_loss"] == "PASS"


def test_a_kind_with_few_images_is_not_asked_but_shown():
    base, candidate = tables(set(), names("viral", 0, 40))  # all 40, of which 50 are wanted
    viral = rule_results(base, candidate, RULES)[-1]
    assert (viral.rule, viral.outcome, viral.figure) == ("recall_loss_viral", "NOT ASKED", 1.0)


def test_a_source_that_knows_no_kinds_has_no_rules_of_kinds():
    base, candidate = tables(set(), set())
    unknown = {"bacterial": "pneumonia", "viral": "pneumonia"}
    base, candidate = (table.replace({"kind": unknown}) for table in (base, candidate))
    assert len(rule_results(base, candidate, RULES)) == 4


def test_films_of_one_patient_are_not_independent_evidence():
    # Four lost of 100 pneumonia films: of four patients, or all of one, who is drawn three times
    # or more in 8 % of the resamples: 12 lost.
    lost = names("bacterial", 0, 4)
    highs = []
    for patient in ({}, dict.fromkeys(lost, "one")):
        base, candidate = (
            table.assign(patient_id=[patient.get(name, name) for name in table["name"]])
            for table in tables(set(), lost)
        )
        highs.append(rule_results(base, candidate, RULES)[2].high)
    # Tango's bound, by images, is .0862; the bootstrap by four patients is not above it.
    assert highs[0] == pytest.approx(0.0862, abs=5e-4)
    assert highs[1] > 0.11


def test_the_verdict_does_not_hang_on_the_order_of_the_rows():
    base, candidate = tables(names("viral", 0, 3), names("bacterial", 0, 4))
    order = np.random.default_rng(1).permutation(len(base))
    assert rule_results(base.iloc[order], candidate.iloc[order], RULES) == rule_results(
        base, candidate, RULES
    )


# ---- revisions ----


@pytest.fixture
def root(tmp_path):
    """main misses two of 60 bacterial images and calls three of 60 normal ones."""
    return new_repository(tmp_path / "root", {"bacterial": 2, "normal": 3})


def record(root: Path, missed: dict[str, int]) -> None:
    write_record(root, predictions(missed))


def test_the_same_record_passes(root):
    assert judge(root).outcome == "PASS"


def test_a_loss_of_recall_is_refused_and_the_images_are_named(root):
    record(root, {"bacterial": 2, "viral": 8, "normal": 1})
    verdict = judge(root)
    assert verdict.outcome == "FAIL"
    assert set(verdict.newly_missed) == names("viral", 0, 8)
    assert verdict.newly_caught == ()
    assert verdict.new_false_alarms == ()
    assert set(verdict.cleared_false_alarms) == names("normal", 1, 3)


def test_doubt_blocks(root):
    # Recall 92 of 100: above the floor of .9, and not surely.
    write_record(root, predictions({"bacterial": 8, "normal": 3}))
    base = commit(root, "the base has the same recall")
    verdict = judged(root, base, None, policy_file=None, new_baseline=False, today=TODAY)
    assert verdict.outcome == "INCONCLUSIVE"


def test_a_committed_candidate_and_the_working_tree_are_judged_alike(root):
    record(root, {"viral": 9})
    in_tree = judge(root)
    candidate = commit(root)
    committed = judged(root, "main~1", candidate, policy_file=None, new_baseline=False, today=TODAY)
    assert committed.rules == in_tree.rules
    assert committed.candidate == f"candidate {candidate[:7]}"
    # What lies in the tree now is not the candidate's.
    record(root, {})
    again = judged(root, "main~1", candidate, policy_file=None, new_baseline=False, today=TODAY)
    assert again.rules == committed.rules


def test_each_verdict_has_an_exit_status_of_its_own_and_only_what_may_be_merged_is_zero():
    assert EXIT_STATUS == {
        "PASS": 0, "NEW BASELINE": 0, "FAIL": 3, "INCONCLUSIVE": 4, "NO BASELINE": 5, "WAIVED": 6,
    }  # fmt: skip


# ---- the policy is the base's ----


def test_a_change_cannot_loosen_its_own_gate_and_the_attempt_is_shown(root):
    record(root, {"viral": 9})
    (root / "gate.yaml").write_text(POLICY.replace("recall: 0.05", "recall: 0.9"))
    verdict = judge(root)
    assert verdict.outcome == "FAIL"
    assert verdict.guards_changed == ("gate.yaml",)
    assert verdict.policy.startswith("gate.yaml of base main (")


def test_a_change_of_the_gates_code_or_of_a_workflow_is_shown(root):
    for path in (
        "src/pneumonia/gate/verdict.py",
        ".github/workflows/checks.yml",
        "src/stages/split.py",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x\n")
    candidate = commit(root)
    verdict = judged(root, "main~1", candidate, policy_file=None, new_baseline=False, today=TODAY)
    assert verdict.guards_changed == (
        ".github/workflows/checks.yml",
        "src/pneumonia/gate/verdict.py",
    )
    # What lies in the tree beside them is not the candidate's.
    (root / "Makefile").write_text("x\n")
    git(root, "add", "-A")
    again = judged(root, "main~1", candidate, policy_file=None, new_baseline=False, today=TODAY)
    assert again.guards_changed == verdict.guards_changed


def test_every_module_that_the_verdict_hangs_on_is_a_guard():
    code = (
        "import sys, pneumonia.gate_report, pneumonia.cli, pneumonia.confirm\n"
        "print(*(n for n in sys.modules if n.startswith('pneumonia.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {f"src/{name.replace('.', '/')}.py" for name in done.stdout.split()}
    assert imported - set(GUARDS) == set()
    assert [path for path in GUARDS if not (ROOT / path).exists()] == []


def test_a_base_without_a_policy_is_one_clear_error_and_a_file_can_stand_in(root, tmp_path):
    (root / "gate.yaml").rename(tmp_path / "policy.yaml")
    base = commit(root, "no policy")
    how = {"new_baseline": False, "today": TODAY}
    with pytest.raises(PipelineError, match=r"gate\.yaml of base \w+ is missing: the policy is"):
        judged(root, base, None, policy_file=None, **how)
    policy = tmp_path / "policy.yaml"
    verdict = judged(root, base, None, policy_file=policy, **how)
    assert (verdict.outcome, verdict.policy) == ("PASS", str(policy))
    with pytest.raises(PipelineError, match="expected a policy that can be read"):
        judged(root, base, None, policy_file=tmp_path / "none.yaml", **how)


def test_a_broken_policy_on_the_base_is_no_pass(root):
    (root / "gate.yaml").write_text(POLICY + "extra: 1\n")
    commit(root)
    with pytest.raises(PipelineError, match=r"gate\.yaml of base main \(\w+\): unknown extra"):
        judge(root)


# ---- waivers ----


def waiver(expires: str, rule: str = "recall_loss") -> str:
    return f"- {{rule: {rule}, reason: a new scanner, expires: {expires}}}\n"


def policy_with(*waivers: str) -> str:
    return POLICY.replace("waivers: []\n", "waivers:\n" + "".join(waivers))


def test_a_waiver_on_the_base_turns_a_refusal_into_a_verdict_of_its_own(root):
    (root / "gate.yaml").write_text(
        policy_with(waiver("2026-12-01"), waiver("2026-12-01", "recall_floor"))
    )
    commit(root, "waive")
    record(root, {"bacterial": 16, "normal": 3})
    # The rule of the kind fails as well, and nobody waived that.
    assert judge(root).outcome == "FAIL"
    # Five viral images lost of 100; of the kind there are too few to ask.
    record(root, {"bacterial": 2, "viral": 5, "normal": 3})
    verdict = judge(root)
    assert verdict.outcome == "WAIVED"
    waived = {result.rule for result in verdict.rules if result.waiver}
    assert waived == {"recall_loss", "recall_floor"}
    # The last day was yesterday.
    late = judge(root, today=datetime.date(2026, 12, 2))
    assert late.outcome == "FAIL"
    assert len(late.expired) == 2


def test_a_waiver_that_the_change_brings_itself_does_not_count(root):
    record(root, {"bacterial": 2, "viral": 5, "normal": 3})
    (root / "gate.yaml").write_text(policy_with(waiver("2026-12-31")))
    verdict = judge(root)
    assert verdict.outcome == "FAIL"
    assert verdict.guards_changed == ("gate.yaml",)


def test_a_waiver_of_a_rule_that_holds_changes_nothing(root):
    (root / "gate.yaml").write_text(policy_with(waiver("2026-12-31")))
    commit(root, "waive")
    verdict = judge(root)
    assert verdict.outcome == "PASS"
    assert [result for result in verdict.rules if result.waiver] == []


# ---- no baseline ----


def test_without_a_record_on_the_base_there_is_no_pass_unless_it_is_asked_for(tmp_path):
    root = new_repository(tmp_path / "root")
    record(root, {"normal": 2})
    assert judge(root).outcome == "NO BASELINE"
    verdict = judge(root, new_baseline=True)
    assert verdict.outcome == "NEW BASELINE"
    assert [result.rule for result in verdict.rules] == ["recall_floor", "specificity_floor"]


def test_a_first_record_must_hold_the_floors_all_the_same(tmp_path):
    root = new_repository(tmp_path / "root")
    record(root, {"bacterial": 30})
    assert judge(root).outcome == judge(root, new_baseline=True).outcome == "FAIL"


def test_a_waived_floor_does_not_stand_in_for_a_baseline(tmp_path):
    root = new_repository(
        tmp_path / "root", policy=policy_with(waiver("2026-12-31", "recall_floor"))
    )
    record(root, {"bacterial": 30})
    assert judge(root).outcome == "NO BASELINE"
    assert judge(root, new_baseline=True).outcome == "NEW BASELINE"


def test_another_test_set_is_no_pass_and_with_the_flag_a_new_baseline(root):
    write_record(root, predictions({}, N_TEST | {"viral": 41}))
    with pytest.raises(PipelineError, match="A new test set is a new baseline: --new-baseline"):
        judge(root)
    assert judge(root, new_baseline=True).outcome == "NEW BASELINE"


def test_the_flag_does_not_spare_a_comparison_that_can_be_made(root):
    record(root, {"viral": 9})
    assert judge(root, new_baseline=True).outcome == "FAIL"


# ---- fails closed ----


def test_a_candidate_without_a_record_is_no_pass(root):
    for name in ("metrics/evaluate.json", "metrics/predictions.csv"):
        (root / name).unlink()
    with pytest.raises(PipelineError, match=r"^candidate \(working tree\): .* Received: neither"):
        judge(root)


def test_a_base_that_is_not_sound_is_no_pass(root):
    path = root / "metrics/evaluate.json"
    path.write_text(path.read_text().replace('"tp": 98', '"tp": 99'))
    relock(root)
    commit(root)
    record(root, {})
    with pytest.raises(PipelineError, match=r"^base main \(\w+\): .*does not follow from"):
        judge(root)


def test_a_base_of_another_schema_is_no_pass_even_with_the_flag(root):
    path = root / "metrics/evaluate.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    relock(root)
    commit(root)
    record(root, {})
    with pytest.raises(PipelineError, match=r"^base main \(\w+\): .*expected schema 1"):
        judge(root, new_baseline=True)


def test_an_unknown_revision_is_no_pass(root):
    with pytest.raises(PipelineError, match="Received: 'nowhere'"):
        judged(root, "nowhere", None, policy_file=None, new_baseline=False, today=TODAY)
    with pytest.raises(PipelineError, match="Received: 'nowhere'"):
        judged(root, "main", "nowhere", policy_file=None, new_baseline=False, today=TODAY)


def test_neither_a_model_nor_an_image_is_needed(root, monkeypatch):
    # TensorFlow, or a reader of images, would be imported by this.
    for name in ("tensorflow", "keras", "PIL"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not any((root / name).exists() for name in ("data", "models"))
    assert judge(root).outcome == "PASS"

"""The rules: what passes, what is refused, and that doubt never passes."""

import numpy as np
import pytest

from gate_repository import N_TEST, POLICY, name_of, predictions
from pneumonia.gate.policy import parse_policy
from pneumonia.gate.rules import changed_calls, rule_results

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


def test_calling_every_image_pneumonia_fails_by_specificity():
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
    assert (loss.rule, loss.outcome, loss.value) == ("recall_loss", "FAIL", 0.04)
    assert loss.low > 0
    assert loss.high >= 0.05


def test_a_loss_that_may_be_none_or_too_much_is_in_doubt():
    # Six lost and four won, each of another patient: measured .02, somewhere from below 0 to .07.
    lost = {name_of("bacterial", number) for number in range(0, 12, 2)}
    won = {name_of("viral", number) for number in range(0, 8, 2)}
    base, candidate = tables(won, lost)
    loss = rule_results(base, candidate, RULES)[2]
    assert (loss.outcome, loss.n_lost, loss.n_won) == ("INCONCLUSIVE", 6, 4)
    assert loss.value == pytest.approx(0.02)
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
    assert results["recall_loss"].value == 0
    assert results["recall_loss_viral"].outcome == "FAIL"
    assert results["recall_loss_viral"].value == pytest.approx(12 / 50)
    assert results["recall_loss_bacterial"].outcome == "PASS"
    assert results["recall_loss_bacterial"].value == pytest.approx(-12 / 60)


def test_specificity_has_a_margin_of_its_own():
    # Six of 60 normal images: .1, at the margin; recall is not asked to pay for it.
    base, candidate = tables(set(), names("normal", 0, 6))
    assert outcomes(base, candidate)["specificity_loss"] == "FAIL"
    assert outcomes(base, candidate)["recall_loss"] == "PASS"


def test_a_kind_with_few_images_is_not_asked_but_shown():
    base, candidate = tables(set(), names("viral", 0, 40))  # all 40, of which 50 are wanted
    viral = rule_results(base, candidate, RULES)[-1]
    assert (viral.rule, viral.outcome, viral.value) == ("recall_loss_viral", "NOT ASKED", 1.0)


def test_a_source_that_knows_no_kinds_has_no_rules_of_kinds():
    base, candidate = tables(set(), set())
    unknown = {"bacterial": "pneumonia", "viral": "pneumonia"}
    base, candidate = (table.replace({"kind": unknown}) for table in (base, candidate))
    assert len(rule_results(base, candidate, RULES)) == 4


def test_images_of_one_patient_are_not_independent_evidence():
    # Four lost of 100 pneumonia images: of four patients, or all of one, who is drawn three times
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


def test_images_that_are_called_otherwise_are_named_by_how():
    was = names("viral", 0, 2) | names("normal", 0, 2)
    now = names("viral", 1, 3) | names("normal", 1, 4)
    assert changed_calls(*tables(was, now)) == {
        "newly_missed": (name_of("viral", 2),),
        "newly_caught": (name_of("viral", 0),),
        "new_false_alarms": (name_of("normal", 2), name_of("normal", 3)),
        "cleared_false_alarms": (name_of("normal", 0),),
    }
    assert not any(changed_calls(None, tables(was, now)[1]).values())

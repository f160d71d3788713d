"""Ours beside the paper's: the figures, the intervals of the differences and the verdicts."""

import pandas as pd
import pytest

from pneumonia.documents.paper import (
    MARGIN,
    PAPER,
    VERDICTS,
    Estimate,
    comparison,
    comparison_table,
    difference,
    verdict,
)
from pneumonia.evaluation.intervals import wilson_interval
from pneumonia.evaluation.metrics import Counts, f1, rates


def measured(tn: int, fp: int, fn: int, tp: int) -> dict:
    """What metrics/evaluate.json has of one split at 0.5, as far as it is read."""
    c = Counts(tn, fp, fn, tp)
    return {
        "n_images": sum(vars(c).values()),
        "roc_auc": 0.94, "roc_auc_low": 0.92, "roc_auc_high": 0.96,
        "at_half": {**vars(c), "f1": f1(c), "f1_low": f1(c) - 0.02, "f1_high": f1(c) + 0.02},
    }  # fmt: skip


def evaluate(test=(184, 50, 39, 351), validation=(100, 34, 20, 368), source="chestxray2017"):
    return {"source": source, "test": measured(*test), "validation": measured(*validation)}


def history(*rows: tuple[float, float]) -> pd.DataFrame:
    """Validation loss and accuracy of each epoch of the frozen phase."""
    return pd.DataFrame(rows, columns=["validation_loss", "validation_accuracy"])


FROZEN = history((0.3, 463 / 522))


def row(name: str, *args, **kwargs):
    return next(r for r in comparison(*args, **kwargs) if r.name.startswith(name))


# ---- the difference ----


def test_the_interval_of_a_difference_is_newcombes():
    # His table II, case a: 56 of 70 less 48 of 80 is .2, method 10 gives .0524 to .3339.
    ours = Estimate(56 / 70, *wilson_interval(56, 70))
    paper = Estimate(48 / 80, *wilson_interval(48, 80))
    found = difference(ours, paper)
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=5e-5)
    assert found.high == pytest.approx(0.3339, abs=5e-5)
    turned = difference(paper, ours)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_against_a_figure_without_an_interval_only_our_own_counts():
    found = difference(Estimate(0.94, 0.92, 0.96), Estimate(0.905, 0.905, 0.905))
    assert (found.value, found.low, found.high) == pytest.approx((0.035, 0.015, 0.055))


# ---- the verdict ----


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.2, "better"),
        (-0.2, -0.001, "worse"),
        (-0.049, 0.049, "reproduced"),
        (-0.051, 0.01, "not distinguishable"),  # it may be worse by more than the margin
        (-0.01, 0.051, "not distinguishable"),
        (0.0, 0.2, "not distinguishable"),  # an interval that touches 0 holds it
        (-0.2, 0.0, "not distinguishable"),
        (0.01, 0.02, "better"),  # small and certain
    ],
)
def test_the_rule_of_the_verdict(low, high, expected):
    assert MARGIN == 0.05
    assert verdict(Estimate((low + high) / 2, low, high)) == expected
    assert expected in VERDICTS


# ---- the rows ----


def test_the_papers_own_counts_differ_from_the_paper_in_nothing():
    rows = {r.name: r for r in comparison(evaluate(), FROZEN)}
    assert list(rows) == [
        "Accuracy", "Precision", "Recall", "Specificity", "F1", "ROC-AUC",
        "Accuracy on validation, frozen phase",
    ]  # fmt: skip
    for name in ("Accuracy", "Precision", "Recall", "Specificity", "F1"):
        assert rows[name].difference.value == 0
        assert rows[name].ours.value == rows[name].paper.value
    # 535 of 624, twice: ±4 points. 184 of 234, twice: ±7, more than may be called the same.
    assert rows["Accuracy"].verdict == "reproduced"
    assert rows["Specificity"].verdict == "not distinguishable"
    assert (rows["Accuracy"].ours_of, rows["Accuracy"].paper_of) == ("535 of 624",) * 2
    assert rows["Precision"].paper_of == "351 of 401"
    assert rows["Recall"].paper_of == "351 of 390"


def test_ours_are_the_figures_at_one_half_and_the_recorded_intervals():
    ours = comparison(evaluate(test=(200, 34, 20, 370)), FROZEN)
    by_name = {r.name: r for r in ours}
    for name, (n_hits, n_total) in rates(Counts(200, 34, 20, 370)).items():
        assert by_name[name.capitalize()].ours_of == f"{n_hits} of {n_total}"
        assert by_name[name.capitalize()].ours.low == wilson_interval(n_hits, n_total)[0]
    # 2 × 370 / (2 × 370 + 34 + 20)
    assert by_name["F1"].ours.value == pytest.approx(740 / 794)
    assert by_name["F1"].ours.low == pytest.approx(740 / 794 - 0.02)
    assert by_name["ROC-AUC"].ours == Estimate(0.94, 0.92, 0.96)


def test_the_papers_f1_has_an_interval_from_its_counts():
    # 351 of the 440 that are pneumonia, are called it, or both: j = .798, F1 = 702 / 791.
    paper = row("F1", evaluate(), FROZEN).paper
    assert paper.value == pytest.approx(702 / 791)
    low, high = wilson_interval(351, 440)
    assert (paper.low, paper.high) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))


def test_more_found_at_the_price_of_more_false_alarms_is_better_and_worse():
    # 382 of 390 against 351, and 134 of 234 against 184.
    rows = {r.name: r.verdict for r in comparison(evaluate(test=(134, 100, 8, 382)), FROZEN)}
    assert (rows["Recall"], rows["Specificity"]) == ("better", "worse")


def test_the_frozen_phase_counts_at_the_epoch_of_the_lowest_validation_loss():
    # The second epoch is handed on, though the third was right more often; of two equal losses
    # the first, as in training.
    frozen = row(
        "Accuracy on", evaluate(), history((0.5, 0.7), (0.2, 400 / 522), (0.3, 0.99), (0.2, 0.98))
    )
    assert frozen.ours_of == "400 of 522"
    assert frozen.paper_of == "454 of 512"
    assert round(100 * frozen.paper.value, 2) == 88.67  # what the paper prints
    assert frozen.verdict == "worse"
    # The count comes back from six decimals.
    printed = history((0.2, round(401 / 522, 6)))
    assert row("Accuracy on", evaluate(), printed).ours_of == "401 of 522"


def test_a_frozen_phase_of_no_epochs_was_not_measured():
    frozen = row("Accuracy on", evaluate(), history())
    assert (frozen.ours, frozen.difference) == (None, None)
    assert frozen.verdict == "not comparable"
    assert comparison_table([frozen])[0][1:2] == ("not measured",)


@pytest.mark.parametrize(
    ("changed", "test_rows", "frozen_row"),
    [
        ({"source": "phantoms"}, False, False),  # as many as the study has, and no films
        ({"source": "own"}, False, False),
        ({"source": "chestxray2017-224"}, True, True),
        ({"test": (184, 50, 39, 350)}, False, True),  # a film short
        ({"validation": (133, 0, 0, 388)}, True, False),  # another strategy
    ],
)
def test_other_images_are_not_compared(changed, test_rows, frozen_row):
    *of_test, frozen = comparison(evaluate(**changed), FROZEN)
    assert {r.verdict != "not comparable" for r in of_test} == {test_rows}
    assert (frozen.verdict != "not comparable") == frozen_row


# ---- the table ----


def test_the_table_shows_counts_intervals_and_signed_points():
    table = comparison_table(comparison(evaluate(test=(184, 50, 8, 382)), FROZEN))
    assert table[2][0] == "Recall"
    # 382 and 351 of 390; the intervals stand in many tables of Wilson's. 31 more are 7.9 points.
    assert table[2][1] == "0.979 (0.960–0.990), 382 of 390"
    assert table[2][2] == "0.900 (0.866–0.926), 351 of 390"
    assert table[2][3].startswith("+7.9 (+4.")
    assert table[2][4] == "better"
    assert table[3][3].startswith("0.0 (-7.")  # specificity: the same, and no sign
    assert table[5] == ("ROC-AUC", "0.940 (0.920–0.960)", "0.905", "+3.5 (+1.5 to +5.5)", "better")


def test_the_paper_prints_these_rates():
    assert {k: round(h / n, 3) for k, (h, n) in rates(PAPER).items()} == {
        "accuracy": 0.857, "precision": 0.875, "recall": 0.9, "specificity": 0.786,
    }  # fmt: skip

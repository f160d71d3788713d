"""Ours beside the paper's: the metrics, the intervals of the differences and the verdicts."""

import pytest

from pneumonia.documents.paper import (
    MARGIN,
    PAPER,
    VERDICTS,
    comparison,
    difference,
    verdict,
)
from pneumonia.documents.run import Phase, Run
from pneumonia.evaluation.interval_table import Measured
from pneumonia.evaluation.intervals import wilson_interval
from pneumonia.evaluation.metrics import f1, rates
from pneumonia.evaluation.threshold import Counts

ONE_EPOCH = Phase("train_frozen", 1, 1, 0.3, 463 / 522)


def of(value: float, low: float, high: float) -> Measured:
    return Measured(value, low, high, None, None, "")


def rate(n_hits: int, n_total: int) -> Measured:
    return Measured(n_hits / n_total, *wilson_interval(n_hits, n_total), n_hits, n_total, "")


def run(
    test=(184, 50, 39, 351), validation=(100, 34, 20, 368), dataset="chestxray2017",
    frozen=ONE_EPOCH,
) -> Run:  # fmt: skip
    """A run with these counts tn, fp, fn, tp at 0.5, as far as it is compared with the paper."""
    metrics = {}
    for split, c in (("test", Counts(*test)), ("validation", Counts(*validation))):
        metrics |= {(split, "half", "all", name): rate(*n) for name, n in rates(c).items()}
        metrics[split, "half", "all", "f1"] = of(f1(c), f1(c) - 0.02, f1(c) + 0.02)
        metrics[split, "none", "all", "roc_auc"] = of(0.94, 0.92, 0.96)
    return Run(
        evaluate={"dataset": dataset, "validation": {"n_images": sum(validation)}},
        params={}, lock=None, metrics=metrics, predictions=None,
        phases={"train_frozen": frozen} if frozen else {}, robustness=None, shortcuts=None,
        activation_maps=None, plots={}, unlike_lock=[],
    )  # fmt: skip


def rows(**changes) -> dict:
    return {row.name: row for row in comparison(run(**changes))}


FROZEN = "Accuracy on validation, frozen phase"


# ---- the difference ----


def test_the_interval_of_a_difference_is_newcombes():
    # His table II, case a: 56 of 70 less 48 of 80 is .2, method 10 gives .0524 to .3339.
    ours = rate(56, 70)
    paper = rate(48, 80)
    found = difference(ours, paper)
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=5e-5)
    assert found.high == pytest.approx(0.3339, abs=5e-5)
    turned = difference(paper, ours)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_against_a_metric_without_an_interval_only_our_own_counts():
    found = difference(of(0.94, 0.92, 0.96), of(0.905, 0.905, 0.905))
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
    assert verdict(of((low + high) / 2, low, high)) == expected
    assert expected in VERDICTS


# ---- the rows ----


def test_the_papers_own_counts_differ_from_the_paper_in_nothing():
    found = rows()
    assert list(found) == [
        "Recall", "Specificity", "Precision", "Accuracy", "F1", "ROC-AUC", FROZEN,
    ]  # fmt: skip
    for name in ("Accuracy", "Precision", "Recall", "Specificity", "F1"):
        assert found[name].difference.value == 0
        assert found[name].points.startswith("0.0 (-")  # no sign before it
    # 535 of 624, twice: ±4 points. 184 of 234, twice: ±7, more than may be called the same.
    assert found["Accuracy"].verdict == "reproduced"
    assert found["Specificity"].verdict == "not distinguishable"
    for name, n_hits, n_total in (
        ("Accuracy", 535, 624), ("Precision", 351, 401), ("Recall", 351, 390),
    ):  # fmt: skip
        assert (found[name].paper.n_hits, found[name].paper.n_total) == (n_hits, n_total)


def test_ours_are_the_metrics_at_one_half():
    changed = run(test=(200, 34, 20, 370))
    found = {row.name: row for row in comparison(changed)}
    for name in ("recall", "specificity", "precision", "accuracy", "f1"):
        assert found[name.capitalize()].ours == changed.metric(name, threshold="half")
    assert found["ROC-AUC"].ours == of(0.94, 0.92, 0.96)
    # .94 is .035 above .905, which counts as exact.
    assert found["ROC-AUC"].points == "+3.5 (+1.5 to +5.5)"
    assert found["ROC-AUC"].verdict == "better"


def test_the_papers_f1_has_an_interval_from_its_counts():
    # 351 of the 440 that are pneumonia, are called it, or both: j = .798, F1 = 702 / 791.
    paper = rows()["F1"].paper
    assert paper.value == pytest.approx(702 / 791)
    low, high = wilson_interval(351, 440)
    assert (paper.low, paper.high) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))


def test_more_found_at_the_price_of_more_false_alarms_is_better_and_worse():
    # 382 of 390 against 351, and 134 of 234 against 184.
    found = rows(test=(134, 100, 8, 382))
    assert (found["Recall"].verdict, found["Specificity"].verdict) == ("better", "worse")
    assert found["Recall"].points.startswith("+7.9 (+4.")  # 31 more


def test_the_frozen_phase_counts_the_images_of_validation_called_correctly():
    # The count comes back from six decimals.
    frozen = rows(frozen=Phase("train_frozen", 3, 2, 0.2, round(401 / 522, 6)))[FROZEN]
    assert (frozen.ours.n_hits, frozen.ours.n_total) == (401, 522)
    assert (frozen.paper.n_hits, frozen.paper.n_total) == (454, 512)
    assert round(100 * frozen.paper.value, 2) == 88.67  # what the paper prints
    assert frozen.verdict == "worse"


@pytest.mark.parametrize("frozen", [None, Phase("train_frozen", 0)])
def test_a_frozen_phase_of_no_epochs_was_not_measured(frozen):
    row = rows(frozen=frozen)[FROZEN]
    assert (row.ours, row.difference, row.points) == (None, None, "")
    assert row.verdict == "not comparable"


@pytest.mark.parametrize(
    ("changed", "test_rows", "frozen_row"),
    [
        ({"dataset": "phantoms"}, False, False),  # as many as the study has, and no radiographs
        ({"dataset": "own"}, False, False),
        ({"dataset": "chestxray2017-224"}, True, True),
        ({"test": (184, 50, 39, 350)}, False, True),  # an image short
        ({"validation": (133, 0, 0, 388)}, True, False),  # another strategy
    ],
)
def test_other_images_are_not_compared(changed, test_rows, frozen_row):
    *of_test, frozen = comparison(run(**changed))
    assert {r.verdict != "not comparable" for r in of_test} == {test_rows}
    assert (frozen.verdict != "not comparable") == frozen_row


def test_the_paper_prints_these_rates():
    assert {k: round(h / n, 3) for k, (h, n) in rates(PAPER).items()} == {
        "accuracy": 0.857, "precision": 0.875, "recall": 0.9, "specificity": 0.786,
    }  # fmt: skip

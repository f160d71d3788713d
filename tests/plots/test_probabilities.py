"""Reliability and decision curves: what they say, and the table that DVC draws."""

from made_plots import lines_on
from pneumonia.plots.probabilities import decision_png, reliability_png, strategies_table


def test_the_reliability_diagram_says_how_many_images_a_bin_holds_and_how_far_off_they_are(
    figures, of_phantoms
):
    given = of_phantoms
    reliability_png(given.reliability, given.evaluate, given.intervals)
    lines = lines_on(figures[0])
    assert "10 bins of 9 images, 95 % intervals" in lines
    for name, key in (("Brier score", "brier"), ("calibration error", "calibration_error")):
        assert f"{name} {given.intervals['test', 'none', 'all', key]}" in lines
    diagonal = figures[0].axes[0].lines[0]
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]


def test_the_decision_curve_says_at_which_prevalence(figures, of_phantoms):
    given = of_phantoms
    decision_png(given.decision, given.evaluate, given.intervals)
    lines = lines_on(figures[0])
    # 60 of 90 images are of pneumonia.
    assert "Decision curve at the prevalence of this test split, 66.7%" in lines
    assert {"the model", "treat all", "treat none", "95 % interval"} <= set(lines)


def test_a_row_a_threshold_and_strategy(of_phantoms):
    table = strategies_table(of_phantoms.decision)
    assert list(table.columns) == ["threshold", "strategy", "net_benefit", "low", "high"]
    assert len(table) == 3 * 50
    by_strategy = dict(list(table.groupby("strategy", sort=False)))
    assert list(by_strategy) == ["model", "treat all", "treat none"]
    assert by_strategy["model"]["high"].tolist() == of_phantoms.decision["model_high"].tolist()
    assert by_strategy["treat all"]["net_benefit"].tolist() == of_phantoms.decision["all"].tolist()
    assert (by_strategy["treat none"][["net_benefit", "low", "high"]] == 0).all(axis=None)

"""Verdicts drawn: counts at both thresholds, each kind with its numbers, values by prevalence."""

from dataclasses import replace

from made_plots import Measurements, lines_on, made_up
from made_predictions import both, predictions
from pneumonia.plots.verdicts import confusion_png, confusion_table, kinds_png


def test_confusion_is_a_row_a_test_image():
    table = confusion_table(both(predictions("test", [0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8])), 0.4)
    assert list(table.columns) == ["actual", "predicted"]
    assert table.to_numpy().tolist() == [
        ["normal", "normal"],
        ["pneumonia", "pneumonia"],
        ["normal", "pneumonia"],
        ["pneumonia", "pneumonia"],
    ]


def test_the_confusion_matrix_shows_the_counts_at_both_thresholds(figures, of_phantoms):
    confusion_png(of_phantoms.evaluate, of_phantoms.intervals)
    test = of_phantoms.predictions[of_phantoms.predictions["split"] == "test"]
    threshold = of_phantoms.evaluate["operating_threshold"]
    for axes, at in zip(figures[0].axes, (threshold, 0.5), strict=True):
        called, ill = test["probability"] >= at, test["label"] == 1
        # Row by row: actually normal, then actually ill.
        expected = [(actual & predicted).sum() for actual in (~ill, ill)
                    for predicted in (~called, called)]  # fmt: skip
        assert [int(text.get_text().split("\n")[0]) for text in axes.texts] == expected
    assert figures[0].axes[1].get_title() == "threshold 0.5"


def test_each_kind_has_its_counts_and_pneumonia_comes_first(figures, of_phantoms):
    given = of_phantoms
    kinds_png(given.predictions, given.evaluate, given.intervals)
    lines = lines_on(figures[0])
    assert [line for line in lines if line.startswith(("recall, ", "specificity, "))] == [
        "recall, bacterial", "recall, viral", "specificity, normal", "recall, patients",
    ]  # fmt: skip
    for kind, metric in (("viral", "recall"), ("normal", "specificity")):
        found = given.intervals["test", "operating", kind, metric]
        assert f"{found.n_hits} of 30 images, 15 patients" in lines
        assert f"{found.value:.4f} ({found.low:.4f}–{found.high:.4f})" in lines
    patients = given.intervals["test", "operating", "patients", "recall"]
    assert f"{patients.n_hits} of 30 ill patients" in lines


def test_a_kind_that_does_not_occur_is_not_drawn(figures):
    table = made_up()
    given = Measurements(predictions=table[table["kind"] != "bacterial"])
    kinds_png(given.predictions, given.evaluate, given.intervals)
    lines = [line for line in lines_on(figures[0]) if line.startswith("recall, ")]
    assert lines == ["recall, viral", "recall, patients"]


def test_predictive_values_are_named_with_their_prevalence_and_an_npv_is_not_rounded_to_1(
    figures, of_phantoms
):
    given = of_phantoms
    key = ("test", "operating", "prevalence_05", "npv")
    found = replace(given.intervals[key], value=0.9997, low=0.9983, high=1.0)
    kinds_png(given.predictions, given.evaluate, given.intervals | {key: found})
    lines = lines_on(figures[0])
    named = {f"{name}, {percent} % ill" for name in ("npv", "ppv") for percent in (5, 20, 50)}
    assert named <= set(lines)
    assert "0.9997 (0.9983–1.0000)" in lines
    assert any("computed, not observed" in line for line in lines)


def test_an_undefined_value_is_not_drawn(figures, of_phantoms):
    given = of_phantoms
    some = {key: row for key, row in given.intervals.items() if key[3] != "npv"}
    kinds_png(given.predictions, given.evaluate, some)
    assert not [line for line in lines_on(figures[0]) if line.startswith("npv, ")]

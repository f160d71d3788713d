"""Pictures of the clinical figures: what they say, how small they are, and that they repeat."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pneumonia.evaluation.clinical import clinical, decision_table, reliability_table
from pneumonia.plots import clinical as clinical_figures
from pneumonia.plots.clinical import clinical_pictures

LIMIT_BYTES = 150_000
KINDS = ("bacterial", "normal", "viral")


def made_up(source: str = "phantoms", kinds=KINDS) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """The two tables and the metrics of 90 test images of 45 patients, a third of each kind."""
    random = np.random.default_rng(5)
    kind = np.array(KINDS)[np.arange(90) // 2 % 3]
    label = (kind != "normal").astype(int)
    test = pd.DataFrame(
        {
            "name": [f"test/{number:03}.jpeg" for number in range(90)],
            "patient_id": [f"p{number // 2}" for number in range(90)],
            "kind": kind,
            "label": label,
            "split": "test",
            "probability": np.round(1 / (1 + np.exp(-random.normal(3 * label - 1.5, 1.5))), 6),
        }
    )
    test = test[test["kind"].isin(kinds)]
    figures = clinical(test, 0.25, 60, [1])
    of = figures["by_kind"]
    evaluate = {
        "source": source,
        "operating_threshold": 0.25,
        "test": {
            "n_images": len(test),
            "n_patients": test["patient_id"].nunique(),
            "at_operating_threshold": {
                "tn": of["normal"]["tn"],
                "fp": of["normal"]["fp"],
                **{key: sum(of[kind].get(key, 0) for kind in of) for key in ("fn", "tp")},
            },
            **figures,
        },
    }
    return reliability_table(test, 60, [1]), decision_table(test, 60, [1]), evaluate


@pytest.fixture
def words(monkeypatch) -> dict[str, list[str]]:
    """All lines of text on each picture, by the first line of its heading; not drawn."""
    said: dict[str, list[str]] = {}

    def listening(figure: Figure) -> bytes:
        texts = [text.get_text() for text in figure.findobj(Text)]
        # A tick has two labels, of which one is shown.
        lines = list(dict.fromkeys("\n".join(texts).splitlines()))
        said[figure.get_suptitle().splitlines()[0]] = lines
        return b""

    monkeypatch.setattr(clinical_figures, "as_png", listening)
    return said


@pytest.fixture(scope="module")
def drawn() -> dict[str, bytes]:
    return clinical_pictures(*made_up())


def test_the_same_input_gives_the_same_bytes(drawn):
    assert clinical_pictures(*made_up()) == drawn


def test_pictures_are_small_and_of_readme_width(drawn):
    assert set(drawn) == {"kinds.png", "reliability.png", "decision.png"}
    for name, data in drawn.items():
        assert len(data) < LIMIT_BYTES, name
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.format, picture.width) == ("PNG", 800), name
            assert picture.info == {}, name


def test_every_picture_names_its_split_its_number_its_interval_and_its_source(words):
    clinical_pictures(*made_up("phantoms"))
    assert len(words) == 3
    for heading, lines in words.items():
        assert "test: 90 images of 45 patients" in lines, heading
        assert "phantoms (drawn, no patients)" in lines, heading
        assert "95 % interval" in "\n".join(lines), heading


def test_pictures_of_films_do_not_say_phantom(words):
    clinical_pictures(*made_up("chestxray2017-224"))
    for lines in words.values():
        assert "source chestxray2017-224" in lines
        assert "phantom" not in "\n".join(lines)


def test_no_text_is_smaller_than_9_points(monkeypatch):
    sizes = []

    def listening(figure: Figure) -> bytes:
        sizes.extend(t.get_fontsize() for t in figure.findobj(Text) if t.get_text())
        return b""

    monkeypatch.setattr(clinical_figures, "as_png", listening)
    clinical_pictures(*made_up())
    assert min(sizes) >= 9


def test_each_kind_has_its_counts_and_pneumonia_comes_first(words):
    _, _, evaluate = made_up()
    clinical_figures.kinds_png(evaluate)
    (lines,) = words.values()
    of = evaluate["test"]["by_kind"]
    assert [line for line in lines if line.startswith(("recall, ", "specificity, "))] == [
        "recall, bacterial", "recall, viral", "specificity, normal",
    ]  # fmt: skip
    for kind, name, right in (("viral", "recall", "tp"), ("normal", "specificity", "tn")):
        assert f"{of[kind][right]} of 30 images, 15 patients" in lines
        value, low, high = (of[kind][f"{name}{end}"] for end in ("", "_low", "_high"))
        assert f"{value:.4f} ({low:.4f}–{high:.4f})" in lines


def test_a_kind_that_does_not_occur_is_not_drawn(words):
    _, _, evaluate = made_up(kinds=("normal", "viral"))
    clinical_figures.kinds_png(evaluate)
    (lines,) = words.values()
    assert [line for line in lines if line.startswith("recall, ")] == ["recall, viral"]


def test_predictive_values_are_named_with_their_prevalence_and_an_npv_is_not_rounded_to_1(words):
    _, _, evaluate = made_up()
    evaluate["test"]["at_prevalence_05"] |= {"npv": 0.9997, "npv_low": 0.9983, "npv_high": 1.0}
    clinical_figures.kinds_png(evaluate)
    (lines,) = words.values()
    assert {f"{name}, {percent} % ill" for name in ("npv", "ppv") for percent in (5, 20, 50)} <= (
        set(lines)
    )
    assert "0.9997 (0.9983–1.0000)" in lines
    assert any("computed, not observed" in line for line in lines)


def test_the_reliability_diagram_says_how_many_images_a_bin_holds_and_how_far_off_they_are(words):
    reliability, _, evaluate = made_up()
    clinical_figures.reliability_png(reliability, evaluate)
    (lines,) = words.values()
    test = evaluate["test"]
    assert "10 bins of 9 images, 95 % intervals" in lines
    for name, key in (("Brier score", "brier"), ("calibration error", "calibration_error")):
        value, low, high = (test[f"{key}{end}"] for end in ("", "_low", "_high"))
        assert f"{name} {value:.3f} ({low:.3f}–{high:.3f})" in lines


def test_the_decision_curve_says_at_which_prevalence(words):
    _, decision, evaluate = made_up()
    clinical_figures.decision_png(decision, evaluate)
    # 60 of 90 images are of pneumonia.
    assert list(words) == ["Decision curve at the prevalence of this test split, 66.7%"]
    (lines,) = words.values()
    assert {"the model", "call all", "call none"} <= set(lines)


def test_drawing_leaves_no_global_figure_behind(drawn):
    from matplotlib import _pylab_helpers

    assert _pylab_helpers.Gcf.get_all_fig_managers() == []

"""Plots of robustness: they say what they show, repeat byte for byte, and are small."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pneumonia.data.phantoms import draw_phantom
from pneumonia.evaluation.corruptions import CORRUPTIONS, corrupted
from pneumonia.evaluation.robustness import METRICS, SETTINGS, robustness
from pneumonia.plots import robustness as robustness_figures
from pneumonia.plots.robustness import corruptions_png, robustness_png

LIMIT_BYTES = 150_000
POINT = {"dataset": "phantoms", "operating_threshold": 0.118511}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Of 40 normal and 60 ill films; a model that goes by brightness, and is often wrong."""
    random = np.random.default_rng(2)
    label = (np.arange(100) >= 40).astype(int)
    grey = np.clip(95 + 50 * label + random.normal(0, 30, 100), 0, 255)
    films = np.broadcast_to(grey[:, None, None], (100, 32, 32)).astype(np.uint8)
    rows = pd.DataFrame({"label": label, "kind": label.astype(str), "patient_id": np.arange(100)})
    return robustness(lambda x: x.mean(axis=(1, 2)) / 255, films, rows.astype(str), 0.5, 100, 1)


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_the_heading_has_the_sample_its_classes_patients_threshold_and_source(table, figures):
    robustness_png(table, 1624, POINT)
    heading = figures[0].get_suptitle()
    assert "100 of 1,624 images (60 pneumonia, 40 normal), 100 patients" in heading
    assert "threshold 0.118511" in heading
    assert "95 % intervals" in heading
    assert "phantoms (drawn, no patients)" in heading


def test_a_panel_for_each_corruption_with_its_name_unit_and_levels(table, figures):
    robustness_png(table, 1624, POINT)
    panels = [axes for axes in figures[0].axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == [c.label for c in CORRUPTIONS.values()]
    assert [axes.get_xlabel() for axes in panels] == [c.unit for c in CORRUPTIONS.values()]
    ticks = {
        axes.get_title(): [text.get_text() for text in axes.get_xticklabels()] for axes in panels
    }
    assert ticks["JPEG"] == ["none", "25", "15", "7"]
    assert ticks["Blur"] == ["none", "0.45", "1.3", "2.7"]
    assert ticks["Inverted grey scale"] == ["off", "on"]


def test_each_curve_starts_clean_and_follows_the_table_and_its_marks_tell_falls(table, figures):
    robustness_png(table, 1624, POINT)
    for axes, name in zip(figures[0].axes, CORRUPTIONS, strict=False):
        rows = table[table["corruption"].isin(["none", name])]
        curves = axes.get_lines()
        for number, metric in enumerate(METRICS):
            curve, hollow, filled = curves[3 * number : 3 * number + 3]
            assert curve.get_xdata().tolist() == list(range(len(rows)))
            assert curve.get_ydata().tolist() == rows[metric].tolist()
            falls = rows[rows[f"{metric}_change_high"] < 0]
            assert filled.get_ydata().tolist() == falls[metric].tolist()
            assert filled.get_markerfacecolor() != "white"
            assert hollow.get_markerfacecolor() == "white"
            assert len(hollow.get_xdata()) + len(filled.get_xdata()) == len(rows)
            band = axes.collections[number].get_paths()[0].vertices
            assert band[:, 1].min() == pytest.approx(rows[f"{metric}_low"].min())
            assert band[:, 1].max() == pytest.approx(rows[f"{metric}_high"].max())


def test_the_three_curves_are_told_apart_without_colour_and_named(table, figures):
    robustness_png(table, 1624, POINT)
    styles = robustness_figures._STYLES
    assert len({style["marker"] for style in styles.values()}) == 3
    assert len({style["linestyle"] for style in styles.values()}) == 3
    said = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert said == ["recall", "specificity", "AUC", "fell beyond chance", "did not"]


def test_a_table_without_rows_gives_a_picture_that_says_so(table, figures):
    robustness_png(table.iloc[:0], 1624, POINT)
    assert "0 images" in words(figures[0])
    assert "Turned off: robustness.n_images is 0" in words(figures[0])
    assert "phantoms (drawn, no patients)" in words(figures[0])


def test_the_sheet_has_the_film_under_every_setting_with_its_level_and_as_it_came(figures):
    film = draw_phantom("viral", 64, 3, 0, 0).pixels
    corruptions_png(film, "phantoms", 8)
    shown = {
        axes.get_title(): axes.images[0].get_array()
        for axes in reversed(figures[0].axes)
        if axes.images
    }
    n_films = sum(bool(axes.images) for axes in figures[0].axes)
    assert n_films == len(SETTINGS) == 35
    assert np.abs(shown["as it came"].astype(int) - film).max() <= 10  # a step of grey
    for title, (name, severity) in {
        "1: 0.08": ("gaussian_noise", 1), "3: 20": ("rotation", 3), "on": ("inverted", 1),
    }.items():  # fmt: skip
        expected = corrupted(film[None], name, severity, 8)[0]
        assert np.abs(shown[title].astype(int) - expected).max() <= 10, title
    for corruption in CORRUPTIONS.values():
        assert corruption.label in words(figures[0])
    assert "phantoms (drawn, no patients)" in words(figures[0])


def test_no_letter_is_smaller_than_nine_points(table, figures):
    robustness_png(table, 1624, POINT)
    corruptions_png(draw_phantom("viral", 32, 3, 0, 0).pixels, "phantoms", 8)
    for figure in figures:
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
        assert min(sizes) >= 9


def test_pictures_are_small_and_repeat_byte_for_byte(table):
    curves = robustness_png(table, 1624, POINT)
    assert curves == robustness_png(table, 1624, POINT)
    # Drawn once only, which takes seconds; that `corrupted` repeats has its own test.
    sheet = corruptions_png(draw_phantom("bacterial", 96, 2017, 1, 0).pixels, "phantoms", 2017)
    for data in (curves, sheet):
        assert len(data) <= LIMIT_BYTES
        assert Image.open(io.BytesIO(data)).size[0] == 800

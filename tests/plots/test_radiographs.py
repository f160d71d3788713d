"""Sample radiographs and their maps: chosen by rule, named, on one scale."""

import numpy as np
import pandas as pd
import pytest

from made_plots import lines_on
from pneumonia.evaluation.activation_maps import overlay
from pneumonia.evaluation.map_study import COLUMNS, SIMILARITIES, MapStudy, outcomes
from pneumonia.plots import radiographs, sanity
from pneumonia.plots.radiographs import (
    activation_maps_png,
    middle_places,
    sample_places,
    samples_png,
)

# Eleven images, threshold 0.5:    truth, probability
TEST = pd.DataFrame(
    [
        ("c", 1, 0.2), ("a", 1, 0.2), ("b", 1, 0.4),  # missed: a tie, told apart by name
        ("d", 0, 0.9),  # the one false alarm
        ("e", 1, 0.5), ("f", 1, 0.6), ("g", 1, 0.7), ("h", 1, 0.8), ("i", 1, 0.99),  # caught
        ("j", 0, 0.1), ("k", 0, 0.3),  # cleared
    ],
    columns=["name", "label", "probability"],
)  # fmt: skip
TEST["kind"] = np.where(TEST["label"] == 1, "viral", "normal")
TEST["outcome"] = outcomes(TEST["label"].to_numpy(), TEST["probability"].to_numpy(), 0.5)
POINT = {"dataset": "phantoms", "operating_threshold": 0.5}
# Each image has the grey of its place.
IMAGES = np.arange(11, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
MAPS = np.random.default_rng(2).normal(0, 3, (11, 7, 7)).astype(np.float32)


def shown(figure) -> list[int]:
    """Greys of the upper left pixels, row by row: which images are drawn."""
    return [int(axes.images[0].get_array()[0, 0, 0]) for axes in figure.axes if axes.images]


def test_samples_are_the_lowest_middle_and_highest_of_each_outcome_errors_first():
    names = [TEST["name"].iloc[places].tolist() for places in sample_places(TEST)]
    assert names == [["a", "c", "b"], ["d"], ["e", "g", "i"], ["j", "k"]]
    assert TEST["name"].iloc[middle_places(TEST)].tolist() == ["c", "d", "g", "k"]


def test_each_sample_is_the_image_of_its_row_with_its_probability_and_kind(figures):
    # Rows in any order: a place is a row's number.
    order = np.random.default_rng(4).permutation(11)
    samples_png(TEST.iloc[order], IMAGES[order], POINT)
    assert shown(figures[0]) == [1, 0, 2, 3, 4, 6, 8, 9, 10]
    lines = lines_on(figures[0])
    for words in ("Missed: 3", "False alarm: 1", "Caught: 5", "Cleared: 2",
                  "P = 0.990000, viral", "P = 0.300000, normal"):  # fmt: skip
        assert words in lines
    heading = figures[0].get_suptitle()
    assert "at threshold 0.500000" in heading
    assert "9 of the 11 test images: lowest, middle and highest" in heading


def test_an_outcome_without_images_says_none(figures):
    perfect = TEST[TEST["outcome"].isin(["true_positive", "true_negative"])]
    samples_png(perfect, IMAGES[: len(perfect)], POINT)
    texts = [text.get_text() for axes in figures[0].axes for text in axes.texts]
    assert texts.count("none") == 2
    assert "Missed: 0\ntruth pneumonia,\nverdict normal" in texts
    assert len(middle_places(perfect)) == 2


@pytest.fixture
def limits(monkeypatch) -> list:
    """(map, limit) of each overlay that is drawn."""
    seen: list = []

    def listening(image, activation, limit=None):
        seen.append((activation, limit))
        return overlay(image, activation, limit)

    monkeypatch.setattr(radiographs, "overlay", listening)
    monkeypatch.setattr(sanity, "overlay", listening)
    return seen


def test_each_map_is_its_images_own_and_all_share_one_scale(figures, limits):
    activation_maps_png(TEST, IMAGES, MAPS, POINT)
    places = [1, 0, 2, 3, 4, 6, 8, 9, 10]
    assert shown(figures[0]) == places
    for (activation, _), place in zip(limits, places, strict=True):
        np.testing.assert_array_equal(activation, MAPS[place])
    assert {limit for _, limit in limits} == {float(np.abs(MAPS[places]).max())}
    assert "7 × 7 places a map" in figures[0].get_suptitle()
    label = figures[0].axes[-1].get_xlabel()
    assert label.startswith("towards normal")
    assert label.endswith("towards pneumonia")


def test_maps_of_zeros_have_a_scale_above_zero(figures, limits):
    activation_maps_png(TEST, IMAGES, np.zeros((11, 3, 3), np.float32), POINT)
    assert {limit for _, limit in limits} == {1.0}


def test_the_sanity_plot_shows_maps_less_their_mean_and_the_numbers(figures, limits):
    rows = [
        ("sanity", key, 200, place / 10, place / 20, 0.1 + place / 10, "")
        for place, key in enumerate(SIMILARITIES, start=2)
    ]
    places = middle_places(TEST)
    study = MapStudy(pd.DataFrame(rows, columns=list(COLUMNS)), MAPS, MAPS[:4] + 1, MAPS[4:8] - 1)
    sanity.sanity_png(TEST, IMAGES, study, places, POINT)
    lines = lines_on(figures[0])
    for words in ("0.20 (0.10 to 0.30)", "0.50 (0.25 to 0.60)", "trained", "Missed", "P = 0.200"):
        assert words in lines
    assert "200 of the 11 test images, 20 random heads" in figures[0].get_suptitle()
    assert len(limits) == 4 * 3
    for number, (activation, limit) in enumerate(limits):
        place, column = divmod(number, 3)
        of = (MAPS[places[place]], study.head[place], study.backbone[place])[column]
        np.testing.assert_allclose(activation, of - of.mean(), atol=1e-6)
        assert limit is None  # of its own scale

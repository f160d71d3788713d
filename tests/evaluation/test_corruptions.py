"""Corruptions: each does to a film what its name and its level say, and nothing to the original."""

import re
from pathlib import Path

import numpy as np
import pytest

from pneumonia.evaluation import corruptions
from pneumonia.evaluation.corruptions import CORRUPTIONS, corrupted

ALL = [
    (name, severity)
    for name, corruption in CORRUPTIONS.items()
    for severity in range(1, len(corruption.levels) + 1)
]


def grey(value: int, n_films: int = 2, side: int = 100) -> np.ndarray:
    return np.full((n_films, side, side), value, np.uint8)


def smooth(n_films: int = 3, side: int = 96) -> np.ndarray:
    """Films with a bright blob off the middle, each a little brighter than the one before."""
    down, across = np.mgrid[:side, :side] / side
    blob = 160 * np.exp(-((down - 0.4) ** 2 + (across - 0.6) ** 2) / 0.05)
    return np.stack([30 + 10 * film + blob for film in range(n_films)]).astype(np.uint8)


def grained(n_films: int = 3, side: int = 96) -> np.ndarray:
    grain = np.random.default_rng(4).normal(0, 12, (n_films, side, side))
    return np.clip(smooth(n_films, side) + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("name", "severity"), ALL)
def test_each_gives_other_films_of_the_same_shape_and_leaves_the_originals(name, severity):
    films = grained()
    before = films.copy()
    films.flags.writeable = False  # as a memory-mapped split is
    result = corrupted(films, name, severity, 1)
    assert (result.shape, result.dtype) == (films.shape, np.uint8)
    np.testing.assert_array_equal(films, before)
    assert (result != films).mean() > 0.005


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_0_is_the_film_as_it_came(name):
    films = grained()
    np.testing.assert_array_equal(corrupted(films, name, 0, 1), films)


@pytest.mark.parametrize("severity", [-1, 2, 6])
def test_a_severity_that_there_is_not_is_refused(severity):
    with pytest.raises(ValueError, match=rf"inverted has severities 0 to 1, not {severity}"):
        corrupted(grey(1), "inverted", severity, 1)


@pytest.mark.parametrize("name", [name for name, c in CORRUPTIONS.items() if len(c.levels) > 1])
def test_a_higher_severity_is_further_from_the_film(name):
    films = grained(n_films=8)
    distance = [
        np.square(corrupted(films, name, severity, 1).astype(float) - films).mean()
        for severity in range(6)
    ]
    assert distance == sorted(distance)
    assert len(set(distance)) == 6


@pytest.mark.parametrize(("name", "severity"), [(name, 1) for name in CORRUPTIONS])
def test_one_seed_gives_the_same_pixels(name, severity):
    films = grained()
    np.testing.assert_array_equal(
        corrupted(films, name, severity, 7), corrupted(films, name, severity, 7)
    )


@pytest.mark.parametrize(
    "name", ["gaussian_noise", "speckle_noise", "rotation", "shift", "occlusion"]
)
def test_another_seed_and_another_film_give_other_draws(name):
    films = np.repeat(grained(n_films=1), 12, axis=0)
    one, two = corrupted(films, name, 3, 1), corrupted(films, name, 3, 2)
    assert (one != two).any()
    assert (one[0] != one).any()


def test_how_many_films_are_worked_on_at_a_time_changes_nothing(monkeypatch):
    films = grained(n_films=9, side=40)
    for name in CORRUPTIONS:
        whole = corrupted(films, name, 1, 3)
        monkeypatch.setattr(corruptions, "_CHUNK", 4)
        np.testing.assert_array_equal(corrupted(films, name, 1, 3), whole, err_msg=name)
        monkeypatch.undo()


def test_gaussian_noise_has_the_standard_deviation_of_its_level_on_dark_and_bright_alike():
    for value in (100, 150):  # 0.08 of 255 is 20.4: five of them away from 0 and 255
        noise = corrupted(grey(value), "gaussian_noise", 1, 1).astype(float) - value
        assert noise.mean() == pytest.approx(0, abs=1)
        assert noise.std() == pytest.approx(0.08 * 255, rel=0.03)


def test_speckle_noise_grows_with_the_pixel_and_leaves_black_black():
    for value in (0, 50, 100):
        noise = corrupted(grey(value), "speckle_noise", 1, 1).astype(float) - value
        assert noise.std() == pytest.approx(0.15 * value, rel=0.03)


def test_all_severities_share_one_pattern_of_noise():
    weak, strong = (
        corrupted(grey(128), "gaussian_noise", severity, 1).astype(float) - 128
        for severity in (1, 2)
    )
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("side", [112, 224])
def test_blur_spreads_a_point_by_its_share_of_the_side_and_loses_no_light(side):
    # Severity 4 is 4 of 224 pixels: 2 of 112. A point alone would be too dark to be counted in.
    film = np.zeros((1, side, side), np.uint8)
    half = side // 2
    film[0, half:, :] = 200  # an edge: its slope is the spread of a point
    profile = corrupted(film, "blur", 4, 1)[0, :, half].astype(float)
    slope = np.diff(profile)
    rows = np.arange(side - 1)
    middle = (slope * rows).sum() / slope.sum()
    spread = np.sqrt((slope * (rows - middle) ** 2).sum() / slope.sum())
    assert spread == pytest.approx(4 * side / 224, rel=0.08)
    assert (profile[0], profile[-1]) == (0, 200)  # the edge of the film is no edge


def test_low_contrast_keeps_each_films_mean_and_a_share_of_the_distance_from_it():
    film = np.array([[100, 201], [100, 201]], np.uint8)  # mean 150.5
    films = np.stack([film, film // 2])  # 50 and 100, mean 75
    # 0.4 of 50.5 is 20.2, so 130.3 and 170.7, which are rounded; and 0.4 of 25.
    result = corrupted(films, "low_contrast", 1, 1)
    assert result[0].tolist() == [[130, 171], [130, 171]]
    assert result[1].tolist() == [[65, 85], [65, 85]]


def test_over_exposure_darkens_under_exposure_brightens_and_both_stop_at_the_ends():
    film = np.array([[[0, 60], [120, 250]]], np.uint8)
    # Severity 2 is 0.2 of 255, which is 51.
    assert corrupted(film, "over_exposure", 2, 1).tolist() == [[[0, 9], [69, 199]]]
    assert corrupted(film, "under_exposure", 2, 1).tolist() == [[[51, 111], [171, 255]]]


def test_jpeg_writes_with_the_quality_of_its_level(monkeypatch):
    asked = []
    save = corruptions.Image.Image.save

    def listening(image, file, kind, quality):
        asked.append((kind, quality))
        save(image, file, kind, quality=quality)

    monkeypatch.setattr(corruptions.Image.Image, "save", listening)
    for severity in range(1, 6):
        corrupted(smooth(1), "jpeg", severity, 1)
    assert asked == [("JPEG", quality) for quality in (25, 18, 15, 10, 7)]


def test_rotation_turns_by_its_degrees_either_way_about_the_middle_and_leaves_black_corners():
    # A bright bar from the middle to the right edge: where it points to is its angle.
    films = np.zeros((40, 201, 201), np.uint8)
    films[:, 98:103, 100:] = 255
    films[:, 95:106, 95:106] = 255  # the middle
    result = corrupted(films, "rotation", 3, 1)  # 20 degrees
    down, across = np.mgrid[:201, :201] - 100
    away = (np.hypot(down, across) > 20) * result.astype(float)
    angles = np.degrees(
        np.arctan2((away * down).sum(axis=(1, 2)), (away * across).sum(axis=(1, 2)))
    )
    np.testing.assert_allclose(np.abs(angles), 20, atol=0.5)
    assert {bool(angle > 0) for angle in angles} == {True, False}
    assert (result[:, 100, 100] == 255).all()
    assert (corrupted(grey(200), "rotation", 3, 1)[:, 0, 0] == 0).all()


def test_shift_moves_by_its_share_of_the_side_on_both_axes_and_every_way_with_black_behind():
    films = grey(0, n_films=60)
    films[:, 50, 50] = 255
    result = corrupted(films, "shift", 3, 1)  # 0.12 of 100 pixels
    found = {tuple(place) for place in np.argwhere(result)[:, 1:].tolist()}
    assert found == {(38, 38), (38, 62), (62, 38), (62, 62)}
    # 88 × 88 of 10,000 pixels are left.
    assert ((corrupted(grey(9), "shift", 3, 1) == 9).sum(axis=(1, 2)) == 88 * 88).all()


def test_occlusion_is_one_whole_black_square_of_its_share_of_the_side_anywhere_on_the_film():
    black = corrupted(grey(9, n_films=200), "occlusion", 2, 1) == 0  # 20 of 100 pixels
    assert (black.sum(axis=(1, 2)) == 400).all()
    rows, columns = black.any(axis=2), black.any(axis=1)
    assert (rows.sum(axis=1) == 20).all()
    assert (columns.sum(axis=1) == 20).all()
    tops, lefts = rows.argmax(axis=1), columns.argmax(axis=1)
    for corners in (tops, lefts):  # 0 to 80, both ends among them
        assert corners.min() < 5
        assert corners.max() > 75
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.2


def test_inverting_swaps_black_and_white():
    film = np.array([[[0, 10], [128, 255]]], np.uint8)
    assert corrupted(film, "inverted", 1, 1).tolist() == [[[255, 245], [127, 0]]]


def test_low_resolution_leaves_so_many_distinct_pixels():
    # 0.25 of 16 pixels: blocks of 4 × 4, each their mean.
    film = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    result = corrupted(film, "low_resolution", 5, 1)[0]
    assert len(np.unique(result)) == 16
    assert (result[:4, :4] == result[0, 0]).all()
    assert result[0, 0] == pytest.approx(film[0, :4, :4].mean(), abs=1)


def test_the_document_has_every_corruption_with_its_levels():
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
    text = page.split("## Robustness", 1)[1]
    rows = {
        cells[0].strip(): [float(number) for number in re.findall(r"[\d.]+", cells[2])]
        for cells in (line.strip("|").split("|") for line in text.splitlines() if "|" in line)
        if len(cells) == 4
    }
    for name, corruption in CORRUPTIONS.items():
        if len(corruption.levels) > 1:
            assert rows[f"`{name}`"] == pytest.approx(list(corruption.levels), rel=0.01), name
        assert f"`{name}`" in rows

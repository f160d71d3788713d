"""Pictures of the maps: they say what they show, share a scale where they must, and are small."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pneumonia.evaluation.activation_maps import OUTCOMES, SIMILARITIES, overlay
from pneumonia.plots import activation_maps as map_figures

LIMIT_BYTES = 250_000
SANITY = {
    "n_images": 200,
    "n_draws": 20,
    **{
        key: {"median": place / 10, "q1": place / 20, "q3": 0.1 + place / 10}
        for place, key in enumerate(SIMILARITIES, start=2)
    },
}


def evaluate(source: str = "phantoms", fn: int = 3) -> dict:
    at = {"fn": fn, "fp": 1_234, "tp": 40, "tn": 30}
    return {"source": source, "test": {"n_images": 1_304, "at_operating_threshold": at}}


def some_films(outcomes=OUTCOMES, each: int = 3) -> pd.DataFrame:
    names = [outcome for outcome in outcomes for _ in range(each)]
    return pd.DataFrame(
        {
            "outcome": names,
            "probability": np.linspace(0.012345, 0.987654, len(names)),
            "kind": ["viral" if name in ("false_negative", "true_positive") else "normal"
                     for name in names],
        }
    )  # fmt: skip


def grainy(n: int) -> np.ndarray:
    # About the grain of the films: what grain there is decides how large the file becomes.
    grain = np.random.default_rng(1).normal(0, 5, (n, 128, 128))
    return np.clip(np.linspace(20, 235, 128) + grain, 0, 255).astype(np.uint8)


def some_maps(n: int) -> np.ndarray:
    return np.random.default_rng(2).normal(0, 3, (n, 7, 7)).astype(np.float32)


def gallery(films=None, public: bool = True, **about) -> bytes:
    films = some_films() if films is None else films
    n = len(films)
    images = grainy(n) if public else None
    return map_figures.gallery_png(films, images, some_maps(n), evaluate(**about))


def sanity(public: bool = True, **about) -> bytes:
    films = some_films(each=1)
    columns = {name: some_maps(4) + place for place, name in enumerate(("trained", "head random"))}
    images = grainy(4) if public else None
    return map_figures.sanity_png(films, images, columns, SANITY, evaluate(**about))


@pytest.fixture
def drawn_words(monkeypatch) -> list[str]:
    """All text on the picture drawn last; not painted, for that is slow."""
    said: list[str] = []

    def listening(figure: Figure, n_colours: int = 0) -> bytes:
        # Words on the film or its map are as good as any.
        said[:] = ["\n".join(text.get_text() for text in figure.findobj(Text))]
        return b""

    monkeypatch.setattr(map_figures, "as_png", listening)
    return said


@pytest.fixture
def limits(monkeypatch, drawn_words) -> list:
    """(map, limit) of each overlay that is drawn."""
    seen: list = []

    def listening(image, activation, limit=None):
        seen.append((activation, limit))
        return overlay(image, activation, limit)

    monkeypatch.setattr(map_figures, "overlay", listening)
    return seen


@pytest.mark.parametrize("draw", [gallery, sanity])
def test_a_picture_is_small_of_readme_width_and_the_same_every_time(draw):
    data = draw()
    assert draw() == data
    assert len(data) <= LIMIT_BYTES
    assert Image.open(io.BytesIO(data)).width == 800


def test_the_gallery_says_n_source_and_places(drawn_words):
    gallery()
    assert "12 of the 1,304 test images, 7 × 7 places" in drawn_words[0]
    assert "phantoms (drawn, no patients)" in drawn_words[0]
    assert "lowest, middle and highest probability" in drawn_words[0]


def test_the_gallery_gives_each_outcome_its_count_and_each_film_its_probability_and_kind(
    drawn_words,
):
    gallery()
    for words in (
        "Missed: 3\ntruth pneumonia,\nverdict normal",
        "False alarm: 1,234\ntruth normal,\nverdict pneumonia",
        "Caught: 40\ntruth pneumonia,\nverdict pneumonia",
        "Cleared: 30\ntruth normal,\nverdict normal",
        "P = 0.012345, viral",
        "P = 0.987654, normal",
        "towards normal",
        "towards pneumonia",
    ):
        assert words in drawn_words[0]


def test_all_maps_of_the_gallery_share_one_scale(limits):
    gallery()
    shown = some_maps(12)
    assert len(limits) == 12
    assert {limit for _, limit in limits} == {float(np.abs(shown).max())}
    # In the order of the films.
    for (activation, _), expected in zip(limits, shown, strict=True):
        np.testing.assert_array_equal(activation, expected)


def test_an_outcome_without_films_says_none(drawn_words):
    gallery(some_films(OUTCOMES[1:]), fn=0)
    assert "none" in drawn_words[0].split("\n")
    gallery()
    assert "none" not in drawn_words[0].split("\n")


def test_maps_of_zeros_have_a_scale_above_zero(limits, drawn_words):
    films = some_films()
    zeros = np.zeros((12, 3, 3), np.float32)
    map_figures.gallery_png(films, grainy(12), zeros, evaluate())
    assert "3 × 3 places" in drawn_words[0]
    assert {limit for _, limit in limits} == {1.0}


def test_films_that_are_not_public_are_not_shown(limits, drawn_words):
    gallery(public=False, source="own")
    assert "none of the 1,304 test images" in drawn_words[0]
    assert "not marked public" in drawn_words[0]
    assert "P = " not in drawn_words[0]
    sanity(public=False, source="own")
    assert "films are not public" in drawn_words[0]
    assert "P = " not in drawn_words[0]
    assert "0.20 (0.10 to 0.30)" in drawn_words[0]  # figures are no film
    assert not limits


def test_the_sanity_picture_says_n_draws_and_its_figures(drawn_words):
    sanity()
    for words in (
        "200 of the 1,304 test images",
        "20 random heads, one random backbone",
        "phantoms (drawn, no patients)",
        "0.20 (0.10 to 0.30)",  # heads, by SANITY
        "0.50 (0.25 to 0.60)",  # chance
        "trained",
        "head random",
        "Missed\nP = 0.012",
        "without its sign",
    ):
        assert words in drawn_words[0]


def test_the_sanity_pictures_maps_are_shown_less_their_mean(limits):
    sanity()
    assert len(limits) == 8
    for activation, limit in limits:
        assert abs(activation.mean()) < 1e-5
        assert limit is None  # of its own scale

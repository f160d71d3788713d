"""The study of maps: which films, which maps, and what is left out where films are not public."""

import numpy as np
import pandas as pd
import pytest

from pneumonia.evaluation.activation_maps import similarities
from pneumonia.plots import map_study as module
from pneumonia.plots.map_study import map_study
from pneumonia.store.arrays import Split

EVALUATE = {"seed": 3, "source": "phantoms", "operating_threshold": 0.5}


@pytest.fixture
def asked(monkeypatch):
    """What is drawn, with maps that tell the film by its grey: a network is not needed for this."""
    drawn: dict = {}

    def maps_of(images):
        return images.mean(axis=(1, 2))[:, None, None] * np.array([[1.0, 2.0], [3.0, 4.0]])

    monkeypatch.setattr(module, "activation_maps", lambda classifier, images: maps_of(images))
    monkeypatch.setattr(
        module,
        "randomised_maps",
        lambda classifier, images, what, seed, n_draws=4: np.stack(
            [maps_of(images) * (1 if what == "head" else -1)] * n_draws
        ),
    )

    def gallery(films, images, maps, evaluate):
        drawn["gallery"] = films, images, maps
        return b"gallery"

    def sanity(films, images, maps, found, evaluate):
        drawn["sanity"] = films, images, maps
        return b"sanity"

    monkeypatch.setattr(module, "gallery_png", gallery)
    monkeypatch.setattr(module, "sanity_png", sanity)
    return drawn


def made(n: int = 12) -> tuple[Split, np.ndarray]:
    """Films 0 to n - 1, each of its own grey; every third is normal."""
    kinds = np.array(["normal", "bacterial", "viral"])[np.arange(n) % 3]
    index = pd.DataFrame(
        {
            "name": [f"film{i:02}" for i in range(n)],
            "kind": kinds,
            "label": (kinds != "normal").astype(int),
            "patient_id": [f"p{i}" for i in range(n)],
        }
    )
    images = np.arange(1, n + 1, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    return Split(images=images, index=index), np.linspace(0, 1, n)


def chosen() -> pd.DataFrame:
    """Three caught films and one missed."""
    return pd.DataFrame(
        {
            "name": ["film07", "film08", "film10", "film01"],
            "outcome": ["true_positive"] * 3 + ["false_negative"],
            "probability": [0.6, 0.7, 0.9, 0.1],
        }
    )


def test_each_film_is_shown_with_its_own_map(asked):
    split, y_prob = made()
    found, pictures = map_study("any", split, y_prob, chosen(), np.array([7, 8, 10, 1]), EVALUATE)
    assert pictures == {"maps.png": b"gallery", "maps_sanity.png": b"sanity"}
    _, images, maps = asked["gallery"]
    # Film number i has grey i + 1, and a map that begins with its grey.
    assert images[:, 0, 0].tolist() == [8, 9, 11, 2]
    assert maps[:, 0, 0].tolist() == [8, 9, 11, 2]
    assert found["n_images"] == 12
    assert found["sanity"]["n_images"] == 12


def test_the_check_shows_the_middle_film_of_each_outcome_under_each_kind_of_weights(asked):
    split, y_prob = made()
    map_study("any", split, y_prob, chosen(), np.array([7, 8, 10, 1]), EVALUATE)
    films, images, maps = asked["sanity"]
    assert films["name"].tolist() == ["film08", "film01"]
    assert images[:, 0, 0].tolist() == [9, 2]
    assert [column[:, 0, 0].tolist() for column in maps.values()] == [[9, 2], [9, 2], [-9, -2]]


def test_films_that_are_not_public_are_measured_and_not_shown(asked):
    split, y_prob = made()
    found, _ = map_study("any", split, y_prob, chosen(), None, EVALUATE)
    assert found["n_images"] == 12
    assert asked["gallery"][1] is None
    assert asked["sanity"][1:] == (None, {})


def test_the_check_compares_the_sample_alone_and_each_kind_of_weights_with_the_trained(
    asked, monkeypatch
):
    compared = {}

    def listening(trained, head, backbone):
        compared.update(trained=trained, head=head, backbone=backbone)
        return similarities(trained, head, backbone)

    monkeypatch.setattr(module, "similarities", listening)
    split, y_prob = made()
    map_study("any", split, y_prob, chosen(), np.array([7, 8, 10, 1]), EVALUATE)
    # A map begins with its film's grey. Normal films are 0, 3, 6, 9, but kinds go by the alphabet.
    greys = [2, 5, 8, 11, 1, 4, 7, 10, 3, 6, 9, 12]
    assert compared["trained"][:, 0, 0].tolist() == greys
    assert compared["head"][:, :, 0, 0].tolist() == [greys] * 4
    assert compared["backbone"][:, :, 0, 0].tolist() == [[-grey for grey in greys]] * 4

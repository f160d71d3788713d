"""Do the maps show what the model learned? Random weights, likeness, and the image's border."""

import numpy as np
import pytest
from scipy.stats import spearmanr

import small_classifiers
from pneumonia.evaluation import map_study as maps
from pneumonia.evaluation.activation_maps import activation_maps
from small_classifiers import QUADRANTS, noise


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@pytest.fixture
def averaging(keras):
    return small_classifiers.averaging(keras)


@pytest.fixture(scope="module")
def convolving(keras):
    return small_classifiers.convolving(keras)


def test_randomising_leaves_the_classifier_as_it_is(convolving):
    before = [w.copy() for w in convolving.get_weights()]
    for what in ("head", "backbone"):
        maps.randomised_maps(convolving, noise(2, 8), what, seed=1, n_draws=2)
    for old, new in zip(before, convolving.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_random_weights_are_of_the_seed_alone_and_as_before_training(convolving):
    trained = [np.full_like(w, 7) for w in convolving.get_weights()]
    before = convolving.get_weights()
    try:
        convolving.set_weights(trained)
        one, same, other = (maps.randomised(convolving, seed) for seed in (1, 1, 2))
    finally:
        convolving.set_weights(before)
    for a, b in zip(one.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.get_weights()[0], other.get_weights()[0])
    drawn = {(w.path.split("/")[-2].split("_")[0], w.name): np.asarray(w) for w in one.weights}
    # Deviation 1 / sqrt(fan-in): 3 × 3 × 3 channels; 3 × 3 of one channel. 5,400 and 1,800 draws.
    assert drawn["conv2d", "kernel"].std() == pytest.approx(27**-0.5, rel=0.05)
    assert drawn["depthwise", "kernel"].std() == pytest.approx(9**-0.5, rel=0.08)
    for name, value in (("gamma", 1), ("beta", 0), ("moving_mean", 0), ("moving_variance", 1)):
        assert (drawn["batch", name] == value).all()


def test_a_random_head_keeps_the_features_and_a_random_backbone_does_not(averaging, convolving):
    # Three equal channels: any head gives the quadrants' order, or its reverse.
    image = QUADRANTS[None]
    head = maps.randomised_maps(averaging, image, "head", seed=4, n_draws=12)
    assert head.shape == (12, 1, 2, 2)
    trained = activation_maps(averaging, image)
    signs = [maps.similarity(trained, drawn)[0] for drawn in head]
    np.testing.assert_allclose(np.abs(signs), 1)
    assert len(set(np.sign(signs))) == 2  # twelve heads, not one twelve times

    images = noise(2, 8)
    head = maps.randomised_maps(convolving, images, "head", seed=4, n_draws=2)
    both = maps.randomised_maps(convolving, images, "backbone", seed=4, n_draws=2)
    # The heads are the same, the features are not.
    assert np.abs(maps.similarity(head[0], both[0])).max() < 0.9
    again = maps.randomised_maps(convolving, images, "backbone", seed=4, n_draws=2)
    np.testing.assert_array_equal(both, again)


def test_similarity_is_spearmans_rank_correlation():
    a = np.array([[[1, 2], [3, 4]]] * 4, float)
    b = np.array([[[10, 20], [30, 99]], [[4, 3], [2, 1]], [[2, 1], [4, 3]], [[1, 1], [2, 2]]])
    # The same order; the reverse; 1 − 6 · 4 / (4 · 15); ties.
    expected = [1, -1, 0.6, spearmanr([1, 2, 3, 4], [1, 1, 2, 2]).statistic]
    np.testing.assert_allclose(maps.similarity(a, b), expected)


def test_a_constant_map_is_like_none_and_never_nan():
    even = np.ones((1, 2, 2))
    np.testing.assert_array_equal(maps.similarity(even, even), [0])
    np.testing.assert_array_equal(maps.similarity(even, np.arange(4.0).reshape(1, 2, 2)), [0])


def test_similarities_forget_the_sign_and_compare_each_pair_of_noise():
    up = np.arange(4.0).reshape(2, 2)
    trained = np.stack([up, -up, up[::-1]]).astype(np.float32)
    found = maps.similarities(trained, -trained[None], np.stack([trained, 0 * trained]))
    assert tuple(found) == maps.SIMILARITIES
    np.testing.assert_allclose(found["head_randomised"], [1, 1, 1])
    np.testing.assert_allclose(found["backbone_randomised"], [1, 1, 1, 0, 0, 0])
    # Images 1 and 2 are reverses. Image 3 swaps the rows, 2 3 0 1: 1 − 6 · 16 / (4 · 15) = −0.6.
    np.testing.assert_allclose(found["another_image"], [1, 0.6, 0.6])
    # Four places, 24 orders: 13 of them have at least 0.4 either way, 9 no more than 0.2.
    assert np.median(found["chance"]) == pytest.approx(0.4)


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_an_even_map_has_the_borders_share_of_the_area(side):
    found = maps.border_shares(np.full((1, side, side), 2.0, np.float32))
    # 1 − (3/4)²
    np.testing.assert_allclose(found, [0.4375])
    assert maps.EVEN_BORDER_SHARE == 0.4375


def test_border_shares_count_what_pushes_towards_pneumonia_by_area():
    inside, corner, side, mixed = (np.zeros((4, 4), np.float32) for _ in range(4))
    inside[1:3, 1:3] = 5
    corner[0, 3] = 1  # (1/8)² of its (1/4)² is inner: a quarter
    side[3, 1] = 1  # half of it is inner
    mixed[0, 3], mixed[1, 1], mixed[0, 0] = 1, 3, -9  # 0.75 of 1 in 4; negative places do not count
    found = maps.border_shares(np.stack([inside, corner, side, mixed]))
    np.testing.assert_allclose(found, [0, 0.75, 0.5, 0.1875], atol=1e-12)


def test_a_map_without_a_positive_place_has_no_border_share():
    none, some = np.full((2, 2), -1.0), np.array([[1.0, -1], [-1, -1]])
    assert len(maps.border_shares(np.stack([none, some, none]).astype(np.float32))) == 1


def test_outcomes_are_truth_and_verdict():
    # An image on the threshold is called pneumonia.
    found = maps.outcomes(np.array([1, 0, 1, 0]), np.array([0.2, 0.5, 0.5, 0.4999]), 0.5)
    assert found.tolist() == ["false_negative", "false_positive", "true_positive", "true_negative"]


def test_the_sanity_sample_holds_each_kind_in_its_share():
    kinds = np.array(["viral", "normal", "normal", "bacterial"] * 10)
    places = maps.sanity_places(kinds, 8)
    assert sorted(kinds[places]) == ["bacterial"] * 2 + ["normal"] * 4 + ["viral"] * 2
    assert len(set(places)) == 8
    assert sorted(maps.sanity_places(kinds, 99)) == list(range(40))


def test_border_rows_have_quartiles_of_the_images_with_a_place_above_0():
    trained = np.array([[[1, 2], [3, 4]], [[-1, -2], [-3, -4]], [[4, 3], [2, 1]]], np.float32)
    outcome = np.array(["true_positive", "true_negative", "true_positive"])
    # A 2 × 2 map's places all have the same share of border. The cleared image has none above 0,
    # and no image is missed.
    assert maps.border_rows(trained, outcome) == [
        (
            "border", "true_positive", 2, 0.4375, 0.4375, 0.4375,
            "of 2 images, those with a place above 0; an even map has 0.4375",
        )
    ]  # fmt: skip


GREYS = np.arange(1, 13, dtype=np.uint8)  # of image 0 … 11


@pytest.fixture
def by_grey(monkeypatch):
    """Maps that begin with the image's grey, so that one sees whose they are; no network."""

    def maps_of(images):
        return images.mean(axis=(1, 2))[:, None, None] * np.array([[1.0, 2.0], [3.0, 4.0]])

    def randomised(classifier, images, what, seed):
        return np.stack([maps_of(images) * (1 if what == "head" else -1)] * 4)

    monkeypatch.setattr(maps, "activation_maps", lambda classifier, images: maps_of(images))
    monkeypatch.setattr(maps, "randomised_maps", randomised)


def study(shown=(7, 1)) -> maps.MapStudy:
    kinds = np.array(["normal", "bacterial", "viral"])[np.arange(12) % 3]
    images = GREYS[:, None, None] * np.ones((1, 4, 4), np.uint8)
    outcome = np.where(kinds == "normal", "false_positive", "true_positive")
    return maps.map_study("any", images, kinds, outcome, np.array(shown, dtype=int), 3)


def test_the_study_has_all_maps_and_random_ones_of_the_images_that_are_shown(by_grey):
    found = study()
    assert found.maps[:, 0, 0].tolist() == GREYS.tolist()
    assert found.head[:, 0, 0].tolist() == [8, 2]
    assert found.backbone[:, 0, 0].tolist() == [-8, -2]
    assert study(()).head.shape == (0, 2, 2)


def test_the_check_compares_each_kind_of_weights_with_the_trained_on_the_sample_alone(
    by_grey, monkeypatch
):
    compared = {}

    def listening(trained, head, backbone):
        compared.update(trained=trained, head=head, backbone=backbone)
        return dict.fromkeys(maps.SIMILARITIES, np.array([0.1, 0.2, 0.3, 0.4, 0.9]))

    monkeypatch.setattr(maps, "similarities", listening)
    table = study().table
    # A map begins with its image's grey. Normal images are 0, 3, 6, 9; kinds go by the alphabet.
    greys = [2, 5, 8, 11, 1, 4, 7, 10, 3, 6, 9, 12]
    assert compared["trained"][:, 0, 0].tolist() == greys
    assert compared["head"][:, :, 0, 0].tolist() == [greys] * 4
    assert compared["backbone"][:, :, 0, 0].tolist() == [[-grey for grey in greys]] * 4
    sanity = table[table["study"] == "sanity"]
    assert sanity["group"].tolist() == list(maps.SIMILARITIES)
    # The third, second and fourth of five.
    assert (sanity[["n_images", "median", "q1", "q3"]] == [12, 0.3, 0.2, 0.4]).all(axis=None)
    assert sanity["note"].iloc[0] == "4 random heads; 0 constant maps"


def test_the_table_says_of_how_many_images_and_has_no_empty_number(by_grey):
    table = study().table
    assert tuple(table.columns) == maps.COLUMNS
    border = table[table["study"] == "border"]
    assert border[["group", "n_images"]].to_numpy().tolist() == [
        ["false_positive", 4], ["true_positive", 8],
    ]  # fmt: skip
    assert not table.isna().any(axis=None)

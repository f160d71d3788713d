"""Augmentation: what each change does to pixels that can be followed by hand, and its ranges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pneumonia.errors import PipelineError
from pneumonia.store.params import as_section
from pneumonia.training.augmentation import (
    AugmentationParams,
    augmented,
    blurred,
    draw_affine,
    draw_blur,
    draw_noise,
    draw_tone,
)

STILL = AugmentationParams(
    rotation_degrees=0.0,
    shift=0.0,
    shear_degrees=0.0,
    zoom_min=1.0,
    zoom_max=1.0,
    aspect=0.0,
    crop_area_min=1.0,
    crop_area_max=1.0,
    crop_aspect=1.0,
    flip=False,
    fill="constant",
    gamma=0.0,
    brightness=0.0,
    contrast=0.0,
    noise=0.0,
    blur=0.0,
)
FILM = np.array(
    [
        [10, 20, 30, 40],
        [50, 60, 70, 80],
        [90, 100, 110, 120],
        [130, 140, 150, 160],
    ],
    dtype=np.float32,
)
SAME_TONE = [1.0, 1.0, 0.0]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def changed(affine, tone=SAME_TONE, film=FILM, fill="constant"):
    """One film after the given changes, as (height, width)."""
    images = augmented(
        film[None, ..., None],
        np.array([affine], np.float32),
        np.array([tone], np.float32),
        fill,
    )
    return np.asarray(images)[0, ..., 0]


def test_without_ranges_a_film_stays_as_it_is():
    affine = draw_affine(3, 4, STILL, rng())
    assert affine.tolist() == [[1, 0, 0, 0, 1, 0, 0, 0]] * 3
    tone = draw_tone(3, STILL, rng())
    assert tone.tolist() == [[1, 1, 0]] * 3
    np.testing.assert_allclose(changed(affine[0], tone[0]), FILM, atol=1e-3)


def test_a_flip_mirrors_left_and_right_in_one_image_of_two():
    affine = draw_affine(1000, 4, STILL.model_copy(update={"flip": True}), rng())
    mirrored = affine[affine[:, 0] < 0]
    assert 450 < len(mirrored) < 550
    np.testing.assert_allclose(changed(mirrored[0]), FILM[:, ::-1], atol=1e-3)


def test_a_quarter_turn_is_the_turn_of_numpy():
    # x of the film = y of the result, y of the film = 3 - x: the first row becomes the last column.
    affine = [0, 1, 0, -1, 0, 3, 0, 0]
    np.testing.assert_allclose(changed(affine), np.rot90(FILM, k=-1), atol=1e-3)


def test_a_rotation_of_at_most_90_degrees_draws_that_quarter_turn():
    """The drawn matrix itself, at an angle whose sine and cosine are 1 and 0."""

    class NinetyDegrees(np.random.Generator):
        def uniform(self, low=0.0, high=1.0, size=None):
            return np.full(size, high)  # every draw at its upper end

    params = STILL.model_copy(update={"rotation_degrees": 90.0})
    affine = draw_affine(1, 4, params, NinetyDegrees(np.random.PCG64(0)))
    #   x' = -y + 3,  y' = x   (about the middle, 1.5)
    np.testing.assert_allclose(affine[0], [0, -1, 3, 1, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(changed(affine[0]), np.rot90(FILM), atol=1e-3)


def test_a_shift_of_one_pixel_moves_the_film_and_leaves_black():
    # The result at x reads the film at x + 1: the film moves left, nothing comes from the right.
    expected = np.zeros_like(FILM)
    expected[:, :3] = FILM[:, 1:]
    np.testing.assert_allclose(changed([1, 0, 1, 0, 1, 0, 0, 0]), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("fill", "last_column"),
    [
        ("constant", [0, 0, 0, 0]),
        ("nearest", [40, 80, 120, 160]),
        (
            "reflect",
            [40, 80, 120, 160],
        ),  # mirrored about the edge: one step beyond is the edge itself
    ],
)
def test_what_lies_beyond_the_film_is_as_named(fill, last_column):
    result = changed([1, 0, 1, 0, 1, 0, 0, 0], fill=fill)
    np.testing.assert_allclose(result[:, 3], last_column, atol=1e-2)


def test_a_zoom_of_one_third_magnifies_the_middle_threefold():
    params = STILL.model_copy(update={"zoom_min": 1 / 3, "zoom_max": 1 / 3})
    affine = draw_affine(1, 4, params, rng())
    # 4 result pixels cover 1.0 … 2.0 of the film: its inner square, bilinear in between.
    steps = np.array([0, 1 / 3, 2 / 3, 1])
    expected = 60 + 10 * steps[None, :] + 40 * steps[:, None]
    np.testing.assert_allclose(changed(affine[0]), expected, atol=1e-2)


def test_gamma_contrast_and_brightness_in_that_order():
    grey = np.full((2, 2), 0.25 * 255, np.float32)
    still = [1, 0, 0, 0, 1, 0, 0, 0]
    # 0.25 ** 0.5 = 0.5; the middle grey keeps under contrast; 0.5 + 0.1 = 0.6
    np.testing.assert_allclose(changed(still, [0.5, 1.2, 0.1], grey), 0.6 * 255, atol=1e-2)
    # 0.25 ** 1 = 0.25; (0.25 - 0.5) * 2 + 0.5 = 0
    np.testing.assert_allclose(changed(still, [1.0, 2.0, 0.0], grey), 0.0, atol=1e-2)


RANGES = AugmentationParams(
    rotation_degrees=40.0,
    shift=0.2,
    shear_degrees=10.0,
    zoom_min=0.6,
    zoom_max=1.1,
    aspect=0.2,
    crop_area_min=0.3,
    crop_area_max=1.0,
    crop_aspect=1.0,
    flip=True,
    fill="constant",
    gamma=0.3,
    brightness=0.1,
    contrast=0.2,
    noise=0.0,
    blur=0.0,
)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_result_stays_within_0_and_255(seed):
    film = rng(seed).integers(0, 256, (8, 8)).astype(np.float32)
    result = changed(
        draw_affine(1, 8, RANGES, rng(seed))[0], draw_tone(1, RANGES, rng(seed))[0], film
    )
    assert result.shape == (8, 8)
    assert result.min() >= 0
    assert result.max() <= 255


@pytest.mark.parametrize(
    ("change", "read_off", "low", "high"),
    [
        # the share of the area that is seen is the determinant: zoom²
        ({"zoom_min": 0.6, "zoom_max": 1.1}, lambda a: np.sqrt(a[:, 0] * a[:, 4]), 0.6, 1.1),
        ({"rotation_degrees": 40.0}, lambda a: np.degrees(np.arctan2(a[:, 3], a[:, 0])), -40, 40),
        ({"shift": 0.2}, lambda a: a[:, 2] / 64, -0.2, 0.2),
        ({"shift": 0.2}, lambda a: a[:, 5] / 64, -0.2, 0.2),
        ({"shear_degrees": 10.0}, lambda a: np.degrees(np.arctan(a[:, 1])), -10, 10),
        ({"aspect": 0.2}, lambda a: a[:, 0] / a[:, 4], 1 / 1.2, 1.2),
        ({"crop_area_min": 0.3}, lambda a: a[:, 0] * a[:, 4], 0.3, 1.0),
    ],
)
def test_each_range_is_filled_to_its_ends_and_never_left(change, read_off, low, high):
    affine = draw_affine(4000, 64, STILL.model_copy(update=change), rng())
    values = read_off(affine.astype(np.float64))
    margin = 0.01 * (high - low)
    assert low - 1e-5 <= values.min() < low + margin
    assert high - margin < values.max() <= high + 1e-5


def test_a_crop_never_leaves_the_film():
    affine = draw_affine(2000, 64, STILL.model_copy(update={"crop_area_min": 0.1}), rng())
    corners = np.array([[-0.5, -0.5, 1], [63.5, 63.5, 1]]).T  # outer edges of the result
    x = affine[:, :3].astype(np.float64) @ corners
    y = affine[:, 3:6].astype(np.float64) @ corners
    for edges in (x, y):
        assert edges.min() >= -0.5 - 1e-3
        assert edges.max() <= 63.5 + 1e-3


@pytest.mark.parametrize(
    ("change", "column", "low", "high"),
    [
        ({"gamma": 0.3}, 0, 1 / 1.3, 1.3),
        ({"contrast": 0.2}, 1, 0.8, 1.2),
        ({"brightness": 0.1}, 2, -0.1, 0.1),
    ],
)
def test_each_tone_is_filled_to_its_ends_and_never_left(change, column, low, high):
    values = draw_tone(4000, STILL.model_copy(update=change), rng())[:, column]
    margin = 0.01 * (high - low)
    assert low - 1e-6 <= values.min() < low + margin
    assert high - margin < values.max() <= high + 1e-6


def test_turning_one_change_off_leaves_the_others_as_drawn():
    with_flip = draw_affine(50, 64, RANGES, rng(3))
    without = draw_affine(50, 64, RANGES.model_copy(update={"flip": False}), rng(3))
    np.testing.assert_allclose(np.abs(with_flip[:, 0]), np.abs(without[:, 0]), rtol=1e-5)


def test_inside_a_compiled_graph_the_result_is_the_same():
    """The training runs `augmented` inside a graph; these tests run it eagerly."""
    import keras

    affine, tone = draw_affine(4, 8, RANGES, rng(1)), draw_tone(4, RANGES, rng(1))
    films = rng(2).integers(0, 256, (4, 8, 8, 1)).astype(np.uint8)
    inputs = [
        keras.Input((8, 8, 1), dtype="uint8"),
        keras.Input((8,), dtype="float32"),
        keras.Input((3,), dtype="float32"),
    ]
    graph = keras.Model(inputs, augmented(*inputs, "constant"))
    compiled = graph.predict([films, affine, tone], verbose=0)
    np.testing.assert_allclose(
        compiled, np.asarray(augmented(films, affine, tone, "constant")), atol=1e-3
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"shift": 1.5}, "shift must be in [0, 1]. Received: 1.5"),
        ({"zoom_min": 1.2}, "zoom_min must be at most zoom_max (1.0). Received: 1.2"),
        (
            {"crop_area_max": 0.5},
            "crop_area_min must be at most crop_area_max (0.5). Received: 1.0",
        ),
        ({"crop_aspect": 0.5}, "crop_aspect must be in [1, 4]. Received: 0.5"),
        ({"crop_area_min": 0.0}, "crop_area_min must be in (0, 1]. Received: 0.0"),
    ],
)
def test_an_impossible_range_is_refused(change, sentence):
    with pytest.raises(PipelineError) as error:
        as_section(STILL.model_dump() | change, "augmentation", AugmentationParams)
    assert str(error.value) == f"augmentation.{sentence}"


def test_a_crop_has_an_aspect_of_its_own_tall_and_wide_and_stays_on_the_radiograph():
    params = STILL.model_copy(
        update={"crop_area_min": 0.2, "crop_area_max": 0.6, "crop_aspect": 4 / 3}
    )
    affine = draw_affine(4000, 64, params, rng()).astype(np.float64)
    width, height = affine[:, 0], affine[:, 4]
    assert 0.2 - 1e-5 <= (width * height).min() < 0.21
    assert 0.59 < (width * height).max() <= 0.6 + 1e-5
    assert 3 / 4 - 1e-5 <= (width / height).min() < 0.76
    assert 1.32 < (width / height).max() <= 4 / 3 + 1e-5
    for side, offset in ((width, affine[:, 2]), (height, affine[:, 5])):
        # outer edges of the result, as places on the radiograph
        assert (offset - 0.5 * side).min() >= -0.5 - 1e-3
        assert (offset + 63.5 * side).max() <= 63.5 + 1e-3
        assert (offset - 0.5 * side).min() < 0.5  # anywhere: at the one edge …
        assert (offset + 63.5 * side).max() > 62.5  # … and at the other


def test_the_sides_of_a_large_crop_end_at_the_radiographs_own():
    params = STILL.model_copy(update={"crop_area_min": 0.9, "crop_aspect": 4.0})
    affine = draw_affine(1000, 64, params, rng())
    assert affine[:, [0, 4]].max() <= 1 + 1e-6


def test_an_aspect_of_crops_leaves_all_other_numbers_as_drawn():
    ours, others = rng(3), rng(3)
    with_aspect = RANGES.model_copy(update={"crop_aspect": 2.0})
    aspect = draw_affine(50, 64, with_aspect, ours)
    plain = draw_affine(50, 64, RANGES, others)
    # the share of the area is the determinant
    area = aspect[:, 0] * aspect[:, 4] - aspect[:, 1] * aspect[:, 3]
    assert (aspect[:, :6] != plain[:, :6]).any()
    np.testing.assert_allclose(
        area, plain[:, 0] * plain[:, 4] - plain[:, 1] * plain[:, 3], rtol=1e-4
    )
    assert (draw_tone(50, RANGES, ours) == draw_tone(50, RANGES, others)).all()


def test_noise_is_drawn_for_each_image_up_to_its_share_of_the_range():
    grain = draw_noise(400, 16, STILL.model_copy(update={"noise": 0.1}), rng())
    assert (grain.shape, grain.dtype) == ((400, 16, 16, 1), np.float32)
    deviations = grain.std(axis=(1, 2, 3))
    assert deviations.min() < 1
    assert 22 < deviations.max() < 25.5 * 1.15  # 256 pixels tell a deviation to some 5 %
    assert not draw_noise(2, 4, STILL, rng()).any()


def test_blur_is_the_gaussian_of_scipy_and_none_where_none_is_drawn():
    film = rng(1).integers(0, 256, (1, 32, 32, 1)).astype(np.float32)
    images = np.repeat(film, 3, axis=0)
    result = np.asarray(blurred(images, np.array([[0.0], [1.0], [2.0]], np.float32), 2.0))
    np.testing.assert_allclose(result[0], film[0], atol=1e-3)
    for image, deviation in ((result[1], 1.0), (result[2], 2.0)):
        expected = gaussian_filter(film[0, ..., 0], deviation, mode="reflect", radius=6)
        np.testing.assert_allclose(image[..., 0], expected, atol=0.05)
    drawn = draw_blur(4000, STILL.model_copy(update={"blur": 2.0}), rng())
    assert drawn.shape == (4000, 1)
    assert 0 <= drawn.min() < 0.01
    assert 1.99 < drawn.max() <= 2

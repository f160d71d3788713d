"""Warnings: each rule finds its case, and seldom warns of a real radiograph."""

import io
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageOps

from pneumonia.data.images import decode
from pneumonia.serving.quality import (
    LEAST_CONTRAST,
    MOST_COLOUR,
    TYPICAL,
    best_likeness,
    colour_of,
    statistics,
    warnings_of,
)

SIDE = 96  # what the network sees


def typical(contrast: float = 55, mean: float = 123) -> Image.Image:
    """The typical image in 224 pixels, and upon it stripes of 8 pixels for fine detail."""
    greys = np.clip(mean + contrast * TYPICAL / 100, 0, 255).astype(np.uint8)
    soft = Image.fromarray(greys).resize((224, 224), Image.Resampling.BICUBIC)
    stripes = np.where(np.arange(224) // 8 % 2, 1, -1)[:, None] * contrast / 10
    return Image.fromarray(np.clip(np.asarray(soft) + stripes, 0, 255).astype(np.uint8))


def codes(image: Image.Image, colour: float = 0.0) -> set[str]:
    return set(warnings_of(image, SIDE, colour))


def test_an_image_like_the_training_images_gets_no_warning():
    assert warnings_of(typical(), SIDE) == {}


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_image_is_reported_with_its_angle(degrees):
    warnings = warnings_of(typical().rotate(degrees), SIDE)
    assert set(warnings) == {"rotated"}
    assert f"{degrees}°" in warnings["rotated"]


def test_a_negative_is_inverted():
    assert codes(ImageOps.invert(typical())) == {"inverted"}
    assert codes(ImageOps.invert(typical()).rotate(90)) == {"inverted", "rotated"}


def test_a_turned_image_or_a_negative_gets_no_warning_of_its_greys():
    dark = typical(mean=60)
    assert codes(dark) == {"far"}
    assert codes(dark.rotate(90)) == {"rotated"}
    assert codes(ImageOps.invert(dark)) == {"inverted"}


def test_likeness_does_not_depend_on_brightness_or_contrast():
    grey = np.arange(64.0).reshape(8, 8) ** 1.5
    likeness, turned, inverted = best_likeness(grey)
    again = best_likeness(3 * grey + 40)
    assert again == (pytest.approx(likeness), turned, inverted)
    assert best_likeness(TYPICAL.astype(float)) == (pytest.approx(1, abs=0.001), 0, False)


def test_an_image_smaller_than_the_network_sees_is_tiny():
    assert codes(typical().resize((95, 400))) == {"tiny"}
    assert codes(typical().resize((96, 400))) == set()


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_one_grey_all_over_is_blank(grey):
    assert codes(Image.new("L", (224, 224), grey)) == {"blank"}


def test_blank_begins_below_the_least_contrast():
    def halves(step: int) -> Image.Image:
        # left half 100, right half 100 + step: standard deviation step / 2
        greys = np.full((8, 8), 100, np.uint8)
        greys[:, 4:] += step
        return Image.fromarray(greys).resize((224, 224), Image.Resampling.NEAREST)

    assert LEAST_CONTRAST == 8
    assert "blank" in codes(halves(15))
    assert "blank" not in codes(halves(16))


@pytest.mark.parametrize("seed", range(5))
def test_clouds_of_noise_are_not_a_chest_radiograph(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8)).astype(np.uint8)
    clouds = Image.fromarray(noise).resize((224, 224), Image.Resampling.BICUBIC)
    assert codes(clouds) == {"not_chest"}


def test_an_image_in_colour_is_not_a_chest_radiograph():
    assert codes(typical(), MOST_COLOUR) == set()
    assert codes(typical(), MOST_COLOUR + 0.1) == {"not_chest"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (typical(mean=200), "mean grey"),
        (typical(mean=60), "mean grey"),
        (typical(contrast=20), "contrast"),
        (typical(contrast=15, mean=123), "fine detail"),
    ],
)
def test_greys_that_no_training_image_has_are_far(changed, said):
    warnings = warnings_of(changed, SIDE)
    assert set(warnings) == {"far"}
    assert said in warnings["far"]


def test_statistics_can_be_counted():
    # 64 columns, each its own pixel: 0 and 255 in turn
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    counted = statistics(Image.fromarray(stripes))
    assert counted["mean grey"] == 127.5
    assert counted["contrast"] == 127.5
    assert counted["share of white"] == 0.5
    assert counted["fine detail"] == 127.5  # 255 across, 0 downwards


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_colour_is_the_distance_between_the_channels():
    assert colour_of(encoded(typical(), "JPEG")) == 0
    assert colour_of(encoded(typical().convert("RGB"), "JPEG")) == 0
    assert colour_of(encoded(typical().convert("P"), "PNG")) == 0
    # left half grey, right half red: 200 in half of the places
    halves = Image.new("RGB", (224, 224), (200, 200, 200))
    halves.paste((200, 0, 0), (112, 0, 224, 224))
    assert colour_of(encoded(halves, "PNG")) == 100
    assert colour_of(encoded(halves, "JPEG")) == pytest.approx(100, abs=3)


@pytest.fixture(scope="module")
def radiographs() -> list[Image.Image]:
    """Every sixteenth real training image of the mirror, for tests marked `real`."""
    from conftest import FILMS, in_mirror

    with zipfile.ZipFile(str(in_mirror(FILMS))) as archive:
        names = [name for name in archive.namelist() if "/train/" in name]
        return [decode(archive.read(name)) for name in names[::16]]


@pytest.mark.real
def test_few_real_radiographs_get_a_warning(radiographs):
    warned = Counter(code for radiograph in radiographs for code in warnings_of(radiograph, SIDE))
    assert len(radiographs) == 327
    assert all(count <= 0.02 * len(radiographs) for count in warned.values())
    assert not {"tiny", "blank", "inverted"} & set(warned)


@pytest.mark.real
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda radiograph: radiograph.rotate(90), "rotated"),
        (lambda radiograph: radiograph.rotate(180), "rotated"),
        (lambda radiograph: radiograph.rotate(270), "rotated"),
        (ImageOps.invert, "inverted"),
    ],
)
def test_nearly_every_turned_or_inverted_real_radiograph_is_found(radiographs, change, code):
    found = sum(code in warnings_of(change(radiograph), SIDE) for radiograph in radiographs)
    assert found >= 0.98 * len(radiographs)


@pytest.mark.real
def test_the_typical_image_is_the_mean_of_the_training_images(radiographs):
    greys = [
        np.asarray(radiograph.resize((8, 8), Image.Resampling.BOX), float)
        for radiograph in radiographs
    ]
    mean = np.mean([(grey - grey.mean()) / grey.std() for grey in greys], axis=0)
    mean = (mean - mean.mean()) / mean.std()
    # A sixteenth of the radiographs: their mean is a few hundredths from that of all.
    assert np.abs(100 * mean - TYPICAL).max() <= 8

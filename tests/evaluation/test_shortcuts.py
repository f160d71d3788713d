"""Two classifiers that see next to nothing of a lung, and how they are set beside the model."""

import numpy as np
import pandas as pd
import pytest

from pneumonia.evaluation import shortcuts as module
from pneumonia.evaluation.interval_table import interval_table, measured
from pneumonia.evaluation.predictions import COLUMNS, as_printed
from pneumonia.evaluation.shortcuts import (
    TEXT_COLUMNS,
    metadata_probabilities,
    shortcuts_table,
    thumbnail_probabilities,
    thumbnails,
)
from pneumonia.store.arrays import Split
from pneumonia.store.files import read_table, write_table

N = 40  # images of a split: 20 normal, then 20 pneumonia
LABELS = np.repeat([0, 1], N // 2)
SEED = 2017


def split(images=None, **columns) -> Split:
    """N images, grey 100 unless given, each of a patient of its own."""
    if images is None:
        images = np.full((N, 16, 16), 100, np.uint8)
    index = pd.DataFrame(
        {
            "name": [f"{i:02}.jpeg" for i in range(N)],
            "label": LABELS,
            "kind": np.where(LABELS, "viral", "normal"),
            "patient_id": [f"p{i:02}" for i in range(N)],
            "width": 224,
            "height": 224,
            "mode": "L",
        }
    )
    return Split(images, index.assign(**columns))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(module, "N_BOOTSTRAP", 100)


def rows_of(train: Split, test: Split, y_prob: np.ndarray) -> dict[tuple[str, ...], tuple]:
    """(classifier, threshold, metric) -> value, low, high, n_hits, n_total, note."""
    rows = shortcuts_table(train, test, y_prob, SEED).itertuples(index=False)
    return {tuple(row[:3]): tuple(row[3:]) for row in rows}


def greys(values) -> np.ndarray:
    """Even images of these greys."""
    return np.broadcast_to(np.asarray(values, np.uint8)[:, None, None], (N, 16, 16))


# Pneumonia is brighter, and no two images are the same.
BRIGHT = greys(np.concatenate([np.arange(50, 70), np.arange(150, 170)]))
# Ten normal and ten pneumonia images of the same greys twice: brightness says nothing.
NO_HELP = greys(np.tile(np.arange(50, 70), 2))


# ---- the thumbnail ----


def test_a_thumbnail_is_the_mean_grey_of_each_field_row_by_row():
    # 16 pixels a side: fields of 2 × 2. The first field is 0, 1, 2, 3, mean 1.5; the one right of
    # it 10; the one below it 20; all else 0.
    image = np.zeros((16, 16), np.uint8)
    image[:2, :2] = [[0, 1], [2, 3]]
    image[:2, 2:4] = 10
    image[2:4, :2] = 20
    (small,) = thumbnails(image[None])
    assert small.shape == (64,)
    assert (small[0], small[1], small[8]) == (1.5, 10, 20)
    assert small.sum() == 31.5


def test_a_side_that_eight_does_not_divide_keeps_left_left_and_right_right():
    image = np.zeros((12, 12), np.uint8)
    image[:, 6:] = 200
    (small,) = thumbnails(image[None])
    np.testing.assert_array_equal(small.reshape(8, 8), [[0] * 4 + [200] * 4] * 8)


def test_what_a_thumbnail_shows_is_learned():
    y_prob = thumbnail_probabilities(split(BRIGHT), split(BRIGHT))
    assert ((y_prob >= 0.5) == LABELS).all()


def test_what_a_thumbnail_cannot_show_is_not_learned():
    # Stripes of a pixel's width in pneumonia, all fields of mean 100.
    striped = np.full((N, 16, 16), 100, np.uint8)
    striped[LABELS == 1, :, ::2] = 50
    striped[LABELS == 1, :, 1::2] = 150
    rows = rows_of(split(striped), split(striped), np.full(N, 0.5))
    assert rows["thumbnail", "none", "roc_auc"][0] == 0.5


# ---- the file metadata ----


def test_a_size_that_goes_with_the_class_is_learned_though_not_by_its_order():
    # Pneumonia between two sizes of normal images: no line through widths separates them.
    width = np.where(LABELS, 1200, np.tile([900, 1600], N // 2))
    y_prob = metadata_probabilities(split(width=width), split(width=width))
    assert ((y_prob >= 0.5) == LABELS).all()


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ({"mode": np.where(LABELS, "RGB", "L")},) * 2,
        # Height alone: at a width of its own, with ratios that train does not have.
        (
            {"width": np.tile([500, 2000], N // 2), "height": np.where(LABELS, 800, 1000)},
            {"width": 1000, "height": np.where(LABELS, 800, 1000)},
        ),
        # The ratio alone: 2:1 for pneumonia, 1:1 for normal, in test at twice the sizes.
        (
            {
                "width": np.tile([100, 200], N // 2),
                "height": np.tile([100, 200], N // 2) // (1 + LABELS),
            },
            {"width": 400, "height": 400 // (1 + LABELS)},
        ),
    ],
)
def test_colour_mode_height_and_aspect_each_speak(train, test):
    y_prob = metadata_probabilities(split(**train), split(**test))
    assert ((y_prob >= 0.5) == LABELS).all()


def test_metadata_does_not_see_the_pixels():
    width = np.tile([900, 1600], N // 2)  # says nothing
    once = metadata_probabilities(split(BRIGHT, width=width), split(BRIGHT, width=width))
    again = metadata_probabilities(split(NO_HELP, width=width), split(NO_HELP, width=width))
    np.testing.assert_array_equal(once, again)


def test_a_mode_that_only_test_has_is_no_error():
    train = split(mode=np.where(LABELS, "RGB", "L"))
    y_prob = metadata_probabilities(train, split(mode="P"))
    assert len(set(y_prob)) == 1


SIZES = np.tile([900, 1600], N // 2)


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        ({}, {}, "every image is 224×224 L"),
        ({}, {"width": SIZES}, "every image of train is 224×224 L"),
        ({"width": SIZES}, {}, "every image of test is 224×224 L"),
        ({"mode": "RGB"}, {}, "every image of train is 224×224 RGB"),
    ],
)
def test_metadata_that_cannot_tell_images_apart_get_a_reason_and_no_area(train, test, reason):
    rows = rows_of(split(BRIGHT, **train), split(BRIGHT, **test), LABELS * 1.0)
    of_metadata = {key[1:]: row for key, row in rows.items() if key[0] == "metadata"}
    assert of_metadata == {("none", "n_file_kinds"): (1, 1, 1, "", "", reason)}


# ---- both ----


@pytest.mark.parametrize("probabilities", [thumbnail_probabilities, metadata_probabilities])
def test_nothing_is_learned_from_test(probabilities):
    train = split(BRIGHT, width=np.where(LABELS, 900, 1600))
    test = split(BRIGHT, width=np.where(LABELS, 900, 1600))
    turned = Split(test.images, test.index.assign(label=1 - LABELS))
    few = Split(test.images[:3], test.index[:3])
    y_prob = probabilities(train, test)
    np.testing.assert_array_equal(probabilities(train, turned), y_prob)
    np.testing.assert_array_equal(probabilities(train, few), y_prob[:3])


# ---- beside the model ----


def test_each_is_measured_on_test_at_one_half_with_its_counts():
    # The model misses one of 20 and raises two false alarms.
    y_prob = np.where(LABELS, 0.9, 0.1)
    y_prob[[0, 1]] = 0.5
    y_prob[-1] = 0.4
    rows = rows_of(split(BRIGHT), split(BRIGHT), y_prob)
    found = {metric: rows["model", "half", metric] for metric in module.RATES}
    assert {metric: (row[0], *row[3:5]) for metric, row in found.items()} == {
        "accuracy": (0.925, "37", "40"),
        "recall": (0.95, "19", "20"),
        "specificity": (0.9, "18", "20"),
    }
    value, low, high = found["recall"][:3]
    assert low < value < high
    # Of 400 pairs, 18 × 20 are ranked rightly and the two false alarms lie above the missed one.
    assert rows["model", "none", "roc_auc"][0] == (400 - 2) / 400
    assert rows["thumbnail", "half", "recall"][3:5] == ("20", "20")


def test_behind_is_the_models_area_less_the_shortcuts():
    # The thumbnail knows nothing, the model all: 1 - 0.5, in every resample.
    rows = rows_of(split(), split(), LABELS * 1.0)
    assert rows["thumbnail", "none", "roc_auc_behind"][:3] == (0.5, 0.5, 0.5)
    assert ("model", "none", "roc_auc_behind") not in rows


def test_the_difference_is_taken_resample_by_resample():
    # A model with the thumbnail's own probabilities varies as it does, and is never ahead of it.
    train = split(greys(np.concatenate([np.arange(50, 70), np.arange(60, 80)])))
    rows = rows_of(train, train, thumbnail_probabilities(train, train))
    value, low, high = rows["thumbnail", "none", "roc_auc"][:3]
    assert low < value < high
    assert rows["thumbnail", "none", "roc_auc_behind"][:3] == (0, 0, 0)


def test_the_models_area_and_interval_are_those_of_the_intervals_table():
    random = np.random.default_rng(0)
    patients = np.repeat([f"p{i:02}" for i in range(N // 4)], 4)  # four images a patient
    y_prob = np.round(random.uniform(size=N) * 0.6 + LABELS * 0.3, 6)
    test = split(BRIGHT, patient_id=patients)
    table = test.index.assign(split="test", probability=y_prob)[list(COLUMNS)]
    other = table.assign(split="validation", name="v" + table["name"], patient_id="v" + patients)
    predictions = pd.concat([other, table], ignore_index=True)
    expected = measured(interval_table(predictions, 0.5, module.N_BOOTSTRAP, SEED))
    rows = rows_of(split(BRIGHT), test, y_prob)
    area = expected["test", "none", "all", "roc_auc"]
    assert rows["model", "none", "roc_auc"][:3] == (area.value, area.low, area.high)
    for metric in module.RATES:
        rate = expected["test", "half", "all", metric]
        assert rows["model", "half", metric][:3] == (rate.value, rate.low, rate.high)


def test_the_table_is_the_same_every_time_and_comes_back_from_its_file(tmp_path):
    train = split(BRIGHT, width=np.where(LABELS, 900, 1600))
    first, second = (shortcuts_table(train, train, LABELS * 1.0, SEED) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert list(dict.fromkeys(first["classifier"])) == ["model", "thumbnail", "metadata"]
    write_table(tmp_path / "shortcuts.csv", as_printed(first))
    back = read_table(tmp_path / "shortcuts.csv", TEXT_COLUMNS)
    pd.testing.assert_frame_equal(back, first, check_dtype=False)

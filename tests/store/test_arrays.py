"""A split is opened as it was written, or not at all."""

import numpy as np
import pandas as pd
import pytest

from pneumonia.errors import PipelineError
from pneumonia.store.arrays import open_split
from training_root import SIZE, write_split


@pytest.fixture
def folder(tmp_path):
    write_split(tmp_path / "train", n_normal=2, n_pneumonia=3, seed=0)
    return tmp_path / "train"


def test_pixels_are_mapped_not_read_and_labels_are_in_their_order(folder):
    split = open_split(folder)
    assert isinstance(split.images, np.memmap)
    assert split.images.shape == (5, SIZE, SIZE)
    assert split.image_size == SIZE
    assert split.labels.tolist() == [0, 0, 1, 1, 1]


def test_a_patient_id_of_digits_stays_text(folder):
    index = pd.read_csv(folder / "index.csv")
    index["patient_id"] = ["007", "008", "009", "010", "011"]
    index.to_csv(folder / "index.csv", index=False)
    assert open_split(folder).index["patient_id"].tolist() == ["007", "008", "009", "010", "011"]


def one_row_less(folder):
    index = pd.read_csv(folder / "index.csv")
    index.iloc[:-1].to_csv(folder / "index.csv", index=False)


def one_class_only(folder):
    index = pd.read_csv(folder / "index.csv")
    index["label"] = 1
    index.to_csv(folder / "index.csv", index=False)


def floats_instead_of_bytes(folder):
    np.save(folder / "images.npy", np.zeros((5, SIZE, SIZE)))


def cut_short(folder):
    data = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(data[:100])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (one_row_less, "index.csv has 4 rows, so images.npy must be uint8 of shape (4, side"),
        (one_class_only, "both labels, 0 (normal) and 1 (pneumonia), must occur"),
        (floats_instead_of_bytes, "Received: float64 (5, 32, 32)"),
        (cut_short, "images.npy: expected an array that can be read"),
        (lambda folder: (folder / "images.npy").unlink(), "images.npy: expected an array"),
        (lambda folder: (folder / "index.csv").unlink(), "index.csv: expected a table"),
    ],
)
def test_a_damaged_split_is_refused_in_one_line(folder, damage, sentence):
    damage(folder)
    with pytest.raises(PipelineError) as error:
        open_split(folder)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)

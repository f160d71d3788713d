"""Stage `preprocess`, through its main: arrays, index, and nothing half-written."""

import io
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumonia.data.archive import write_archive
from pneumonia.errors import PipelineError
from pneumonia.store.files import read_table
from stages.preprocess import main

SRC = Path(__file__).parents[2] / "src"
SPLITS = ["test", "train", "validation"]


def jpeg(value: int, size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, value).save(file, "JPEG", quality=100)
    return file.getvalue()


def prepare(root: Path, films: list[tuple[str, bytes]], image_size: int = 32) -> None:
    """A root as `split` leaves it; each film is (its split, its bytes)."""
    (root / "data/raw").mkdir(parents=True)
    (root / "data/split").mkdir()
    (root / "params.yaml").write_text(
        f"preprocess: {{image_size: {image_size}, resampling: bilinear, fit: squash}}\n"
    )
    members = [f"chest_xray/{i:03d}.jpeg" for i in range(len(films))]
    data = [film for _, film in films]
    write_archive(root / "data/raw/radiographs.zip", zip(members, data, strict=True))
    lines = ["name,member,label,kind,patient_id,split,sha256"]
    for i, (split, _) in enumerate(films):
        lines.append(f"film {i},{members[i]},{i % 2},normal,{i:03d},{split},00")
    (root / "data/split/manifest.csv").write_text("\n".join(lines) + "\n")


def visible(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "data/processed").glob("[!.]*"))


def hidden(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "data/processed").glob(".*"))


FILMS = [
    ("test", jpeg(10)),
    ("train", jpeg(20)),
    ("validation", jpeg(30)),
    ("train", jpeg(40, (50, 60))),
]


def test_each_split_gets_its_images_in_the_order_of_the_manifest(tmp_path, caplog):
    prepare(tmp_path, FILMS)
    with caplog.at_level(logging.INFO):
        main(tmp_path)
    assert visible(tmp_path) == SPLITS
    assert hidden(tmp_path) == []
    for split, values in (("train", [20, 40]), ("validation", [30]), ("test", [10])):
        folder = tmp_path / "data/processed" / split
        assert sorted(path.name for path in folder.iterdir()) == ["images.npy", "index.csv"]
        arrays = np.load(folder / "images.npy", mmap_mode="r")
        assert arrays.shape == (len(values), 32, 32)
        assert arrays[:, 16, 16].tolist() == values
    index = read_table(tmp_path / "data/processed/train/index.csv", text=("patient_id",))
    assert index.to_dict("list") == {
        "name": ["film 1", "film 3"],
        "label": [1, 1],
        "kind": ["normal", "normal"],
        "patient_id": ["001", "003"],
        "width": [40, 50],
        "height": [30, 60],
        "mode": ["L", "L"],
    }
    assert "train: 2 images: {'normal': 2}" in caplog.text


def test_a_second_run_replaces_the_first(tmp_path):
    prepare(tmp_path, FILMS)
    main(tmp_path)
    (tmp_path / "data/processed/train/stale").touch()
    main(tmp_path)
    assert not (tmp_path / "data/processed/train/stale").exists()
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("split", SPLITS)
def test_an_image_that_cannot_be_decoded_is_named_and_leaves_no_output(tmp_path, split):
    prepare(tmp_path, [*FILMS, (split, jpeg(50)[:200])])
    with pytest.raises(PipelineError, match=r"^film 4: expected a whole JPEG or PNG"):
        main(tmp_path)
    assert visible(tmp_path) == []
    assert hidden(tmp_path) == []


def test_an_image_that_is_not_in_the_archive_is_named(tmp_path):
    prepare(tmp_path, FILMS)
    manifest = tmp_path / "data/split/manifest.csv"
    manifest.write_text(manifest.read_text().replace("003.jpeg", "900.jpeg"))
    with pytest.raises(PipelineError, match=r"chest_xray/900\.jpeg"):
        main(tmp_path)
    assert visible(tmp_path) == []


def test_a_killed_run_leaves_nothing_visible_and_the_next_one_completes(tmp_path):
    film = jpeg(60, (1500, 1500))
    prepare(tmp_path, [("train", film)] * 80 + FILMS, image_size=512)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.preprocess"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SRC)},
        stderr=subprocess.DEVNULL,
    )
    half = tmp_path / "data/processed/.partial-train/images.npy"
    while not (half.exists() and half.stat().st_size > 512 * 512):
        assert process.poll() is None, "the stage ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert visible(tmp_path) == []
    assert ".partial-train" in hidden(tmp_path)

    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("512", "32"))  # only to be quick
    main(tmp_path)
    assert visible(tmp_path) == SPLITS
    assert hidden(tmp_path) == []
    assert np.load(tmp_path / "data/processed/train/images.npy").shape == (82, 32, 32)


def test_off_a_terminal_progress_is_lines(tmp_path, caplog, capsys, monkeypatch):
    prepare(tmp_path, FILMS)
    monkeypatch.setattr("pneumonia.progress._EVERY_S", 0.0)
    with caplog.at_level(logging.INFO):
        main(tmp_path)
    assert "1 of 2 train images decoded" in caplog.messages
    assert "0 of 1 test images decoded" in caplog.messages
    assert capsys.readouterr().err == ""  # no bar


@pytest.mark.real
def test_the_real_radiographs_become_arrays_with_the_studys_counts(tmp_path, real_archive):
    from stages.split import main as split

    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/radiographs.zip").symlink_to(real_archive.resolve())
    (tmp_path / "params.yaml").write_text(
        "seed: 1\nsplit: {strategy: paper, validation_share: 0.1, block_start: 0}\n"
        "preprocess: {image_size: 32, resampling: bilinear, fit: squash}\n"
    )
    split(tmp_path)
    main(tmp_path)
    counts = {"train": (1215, 3495), "validation": (134, 388), "test": (234, 390)}
    for name, (n_normal, n_pneumonia) in counts.items():
        folder = tmp_path / "data/processed" / name
        arrays = np.load(folder / "images.npy", mmap_mode="r")
        index = read_table(folder / "index.csv", text=("patient_id",))
        assert arrays.shape == (n_normal + n_pneumonia, 32, 32)
        assert (index["label"] == 0).sum() == n_normal
        assert (index["label"] == 1).sum() == n_pneumonia
        assert index["width"].eq(224).all()
        assert arrays.max(axis=(1, 2)).min() > 0  # no image came out black

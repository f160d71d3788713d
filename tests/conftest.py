"""What several test files share: a clean environment, and archives small enough to count."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pneumonia.archive import write_archive

# Two normal films, one bacterial and one viral in each folder: eight in all.
SMALL = (
    "chest_xray/test/NORMAL/IM-0001-0001.jpeg",
    "chest_xray/test/NORMAL/NORMAL2-IM-0007-0001.jpeg",
    "chest_xray/test/PNEUMONIA/person1_virus_6.jpeg",
    "chest_xray/test/PNEUMONIA/person78_bacteria_378.jpeg",
    "chest_xray/train/NORMAL/IM-0115-0001.jpeg",
    "chest_xray/train/NORMAL/NORMAL2-IM-0115-0001.jpeg",
    "chest_xray/train/PNEUMONIA/person23_bacteria_91.jpeg",
    "chest_xray/train/PNEUMONIA/person23_virus_53.jpeg",
)


@pytest.fixture(autouse=True)
def no_mirror_and_no_key(request, monkeypatch):
    """What the machine has at hand must not decide a test, unless the test is about real films."""
    if request.node.get_closest_marker("real") is None:
        monkeypatch.delenv("PNEUMONIA_MIRROR", raising=False)
    monkeypatch.delenv("PNEUMONIA_KEY", raising=False)


@pytest.fixture
def real_archive() -> Path:
    """The 224-pixel copy of the study in `PNEUMONIA_MIRROR`; a test that asks for it is `real`."""
    folders = [Path(entry) for entry in os.environ["PNEUMONIA_MIRROR"].split(os.pathsep) if entry]
    return next(
        folder / "ChestXRay2017-224.zip"
        for folder in folders
        if (folder / "ChestXRay2017-224.zip").is_file()
    )


@pytest.fixture
def jpeg() -> Callable[..., bytes]:
    """jpeg(grey, size=(12, 10), mode="L"): an even picture as JPEG bytes."""

    def make(grey: int, size: tuple[int, int] = (12, 10), mode: str = "L") -> bytes:
        data = io.BytesIO()
        Image.new("L", size, grey).convert(mode).save(data, "JPEG")
        return data.getvalue()

    return make


@pytest.fixture
def small_entries(jpeg) -> dict[str, bytes]:
    """The entries of an archive in the official layout: the films of SMALL, greys 0, 20 … 140."""
    return {member: jpeg(20 * i) for i, member in enumerate(SMALL)}


@pytest.fixture
def small_archive(tmp_path, small_entries) -> Path:
    """A zip archive in the official layout with the films of SMALL."""
    path = tmp_path / "small.zip"
    write_archive(path, sorted(small_entries.items()))
    return path


@pytest.fixture
def zipped(tmp_path) -> Callable[..., Path]:
    """zipped(entries, compression=stored): a zip archive of (name, bytes) pairs, as they come."""

    def make(entries, compression: int = zipfile.ZIP_STORED) -> Path:
        path = tmp_path / "zipped.zip"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in dict(entries).items():
                archive.writestr(name, data)
        return path

    return make

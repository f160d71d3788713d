import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from pneumonia.data import shrink
from pneumonia.data.archive import write_archive
from pneumonia.data.shrink import shrunk, write_shrunk
from pneumonia.errors import PipelineError


def noise(seed, size=(300, 260), mode="L", form="JPEG"):
    """An image of noise, so that another recipe gives other bytes."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(data, form)
    return data.getvalue()


@pytest.mark.parametrize(
    ("mode", "size"), [("L", (300, 260)), ("RGB", (300, 260)), ("L", (100, 120)), ("L", (1, 1))]
)
def test_an_image_is_squashed_by_the_documented_recipe(mode, size):
    data = noise(1, size, mode)
    expected = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").resize((224, 224), Image.BILINEAR).save(
        expected, "JPEG", quality=75
    )
    assert shrunk(data) == expected.getvalue()
    with Image.open(io.BytesIO(shrunk(data))) as image:
        assert (image.size, image.mode) == ((224, 224), "RGB")


@pytest.fixture
def official(tmp_path, small_entries):
    """An archive like the official one, litter and unsorted entries included; 40 more images."""
    images = {member: noise(i) for i, member in enumerate(small_entries)}
    images |= {
        f"chest_xray/train/NORMAL/IM-{2000 + i}-0001.jpeg": noise(100 + i, (80, 60))
        for i in range(40)
    }
    path = tmp_path / "official.zip"
    entries = {"chest_xray/": b"", "__MACOSX/chest_xray/._train": b"x"} | images
    write_archive(path, reversed(entries.items()))
    return path, images


def test_the_copy_holds_every_radiograph_sorted_shrunk_and_nothing_else(official, tmp_path):
    path, images = official
    write_shrunk(path, tmp_path / "copy.zip")
    with zipfile.ZipFile(tmp_path / "copy.zip") as copy:
        assert copy.namelist() == sorted(images)
        for entry in copy.infolist():
            assert copy.read(entry) == shrunk(images[entry.filename])
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert (entry.create_system, entry.external_attr) == (3, 0o644 << 16)


def test_the_copys_bytes_do_not_depend_on_the_cores(official, tmp_path, monkeypatch):
    written = set()
    for n_cores in (None, 1, 3):
        monkeypatch.setattr("os.cpu_count", lambda n_cores=n_cores: n_cores)
        write_shrunk(official[0], tmp_path / "copy.zip")
        written.add((tmp_path / "copy.zip").read_bytes())
    assert len(written) == 1


def test_few_images_are_in_memory_at_a_time(official, tmp_path, monkeypatch):
    # 48 images, 2 threads: at most 2 · 2 + 1 are read and not yet written.
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    ahead = most = 0

    def read(archive, member):
        nonlocal ahead, most
        ahead += 1
        most = max(most, ahead)
        return archive.read(member)

    def written(path, entries):
        nonlocal ahead
        n_images = 0
        for _ in entries:
            ahead -= 1
            n_images += 1
        assert n_images == 48

    monkeypatch.setattr(shrink, "read_member", read)
    monkeypatch.setattr(shrink, "write_archive", written)
    write_shrunk(official[0], tmp_path / "copy.zip")
    assert most == 5


@pytest.mark.parametrize("data", [b"not an image", noise(0)[:2000]])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path, small_entries, data):
    bad = "chest_xray/train/NORMAL/IM-0115-0001.jpeg"
    path = tmp_path / "official.zip"
    write_archive(path, (small_entries | {bad: data}).items())
    with pytest.raises(PipelineError, match=r"IM-0115-0001\.jpeg' cannot be decoded"):
        write_shrunk(path, tmp_path / "copy.zip")

"""Pictures to arrays: every mode's treatment, the two fits, and arrays written whole or not."""

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from pneumonia.data import images
from pneumonia.data.archive import write_archive
from pneumonia.data.images import (
    PreprocessParams,
    decode,
    replacing_folders,
    resized,
    write_split,
)
from pneumonia.errors import PipelineError
from pneumonia.store.params import as_section


def encoded(image: Image.Image, picture_format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, picture_format, **options)
    return file.getvalue()


def grey(rows: list[list[int]]) -> Image.Image:
    return Image.fromarray(np.array(rows, np.uint8))


def pixels(data: bytes) -> list[list[int]]:
    image = decode(data)
    assert image.mode == "L"
    return np.asarray(image).tolist()


# --- decode: what comes out of every mode

FILM = [[0, 100], [200, 255]]


def test_greyscale_comes_out_as_it_is():
    assert pixels(encoded(grey(FILM))) == FILM


def test_colour_becomes_its_luma():
    colours = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))
    # 0.299 * 255 = 76.2, 0.587 * 255 = 149.7, 0.114 * 255 = 29.1
    assert pixels(encoded(colours)) == [[76, 150, 29]]


def test_a_grey_film_saved_as_colour_comes_out_as_the_grey_film():
    assert pixels(encoded(grey(FILM).convert("RGB"))) == FILM


def test_sixteen_bits_are_scaled_by_their_full_range():
    wide = Image.fromarray(np.array([[0, 128, 129], [257, 4095, 65535]], np.uint16))
    data = encoded(wide)
    assert Image.open(io.BytesIO(data)).mode == "I;16"
    # 65535 / 255 = 257: 128 / 257 < 0.5 < 129 / 257; 4095 / 257 = 15.9
    assert pixels(data) == [[0, 0, 1], [1, 16, 255]]


def test_one_bit_becomes_black_and_white():
    assert pixels(encoded(grey([[0, 255]]).convert("1"))) == [[0, 255]]


def test_a_palette_stands_for_its_colours():
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([10, 10, 10, 90, 90, 90])
    indexed.putdata([1, 0])
    assert pixels(encoded(indexed)) == [[90, 10]]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_over_black(mode):
    film = grey([[200, 200, 200]]).convert(mode)
    film.putalpha(grey([[0, 51, 255]]))
    # 51 / 255 = a fifth: 200 / 5 = 40
    assert pixels(encoded(film)) == [[0, 40, 200]]


def test_a_transparent_shade_is_black():
    assert pixels(encoded(grey([[7, 200]]), transparency=200)) == [[7, 0]]


@pytest.mark.parametrize("value", [0, 128, 255])
def test_cmyk_is_read_by_way_of_rgb(value):
    film = Image.new("RGB", (8, 8), (value, value, value)).convert("CMYK")
    data = encoded(film, "JPEG", quality=100)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert np.abs(np.asarray(decode(data)).astype(int) - value).max() <= 1  # JPEG's rounding


def test_a_progressive_jpeg_is_the_same_picture_as_a_plain_one():
    gradient = grey(np.add.outer(np.arange(40), 3 * np.arange(50)).tolist())
    assert pixels(encoded(gradient, "JPEG", progressive=True)) == pixels(encoded(gradient, "JPEG"))


def test_one_pixel_is_a_picture():
    assert pixels(encoded(grey([[77]]))) == [[77]]


# The stored picture is what a camera wrote; EXIF says how to hold it. The upright picture is
# 1 2 3   and each line below is what is stored when the orientation is the number before it.
# 4 5 6
UPRIGHT = [[10, 20, 30], [40, 50, 60]]
STORED = {
    1: [[10, 20, 30], [40, 50, 60]],
    2: [[30, 20, 10], [60, 50, 40]],  # mirrored left to right
    3: [[60, 50, 40], [30, 20, 10]],  # upside down
    4: [[40, 50, 60], [10, 20, 30]],  # mirrored top to bottom
    5: [[10, 40], [20, 50], [30, 60]],  # row 0 is the left side, column 0 the top
    6: [[30, 60], [20, 50], [10, 40]],  # row 0 is the right side, column 0 the top
    7: [[60, 30], [50, 20], [40, 10]],  # row 0 is the right side, column 0 the bottom
    8: [[40, 10], [50, 20], [60, 30]],  # row 0 is the left side, column 0 the bottom
}


@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_turned_upright(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    assert pixels(encoded(grey(STORED[orientation]), exif=exif)) == UPRIGHT


def test_sixteen_bits_are_turned_upright_too():
    exif = Image.Exif()
    exif[274] = 6
    wide = Image.fromarray(np.array(STORED[6], np.uint16) * 257)
    assert pixels(encoded(wide, exif=exif)) == UPRIGHT


def test_an_unknown_orientation_leaves_the_picture_as_it_is():
    exif = Image.Exif()
    exif[274] = 9
    assert pixels(encoded(grey(UPRIGHT), exif=exif)) == UPRIGHT


# --- decode: what is refused


@pytest.mark.parametrize("picture_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_picture_is_refused(picture_format, progressive):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), picture_format, progressive=progressive)
    for kept in (len(data) // 2, len(data) * 9 // 10, 3, 0):
        with pytest.raises(PipelineError, match=f"expected a whole.*Received {kept} bytes"):
            decode(data[:kept])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    "data", [b"<html>not found</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", encoded(grey(FILM), "TIFF")]
)
def test_what_is_no_jpeg_or_png_is_refused(data):
    with pytest.raises(PipelineError, match="expected a whole JPEG or PNG image"):
        decode(data)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises so many grey pixels and holds none."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (head, data, b"IEND")
    )


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_before_its_pixels_are_read(width, height):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(PipelineError, match=r"100000000 pixels|decompression bomb"):
            decode(png_header(width, height))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_hundred_megapixels_are_accepted():
    data = encoded(Image.new("1", (10_000, 10_000), 1))
    assert decode(data).size == (10_000, 10_000)


def damaged() -> st.SearchStrategy[bytes]:
    exif = Image.Exif()
    exif[274] = 6
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8))
    whole = [
        encoded(noise, "JPEG", exif=exif),
        encoded(noise, exif=exif),
        encoded(noise.convert("P")),
    ]
    edits = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), min_size=1, max_size=3)

    def edited(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
        for at, new in changes:
            data = data[:at] + new + data[at + 2 :]
        return data

    return st.builds(edited, st.sampled_from(whole), edits)


@given(damaged())
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_damage_is_a_refusal_or_a_picture_and_never_a_traceback(data):
    # Any other exception fails the test.
    with contextlib.suppress(PipelineError):
        assert decode(data).mode == "L"


# --- resized


def params(size: int = 32, resampling: str = "nearest", fit: str = "squash") -> PreprocessParams:
    return PreprocessParams(image_size=size, resampling=resampling, fit=fit)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [31, 1025])
def test_an_image_size_out_of_range_is_refused(size):
    with pytest.raises(
        PipelineError, match=rf"image_size must be in \[32, 1024\]. Received: {size}"
    ):
        as_section(params().model_dump() | {"image_size": size}, "preprocess", PreprocessParams)


def test_squash_fills_the_square_from_edge_to_edge():
    halves = resized(grey([[10, 20]]), params())  # 2 × 1: each pixel becomes half the square
    assert halves.shape == (32, 32)
    assert halves.dtype == np.uint8
    assert (halves[:, :16] == 10).all()
    assert (halves[:, 16:] == 20).all()


@pytest.mark.parametrize(
    ("width", "height", "inside"),
    [
        (64, 32, np.s_[8:24, :]),  # 2:1 becomes 32 × 16, with (32 - 16) / 2 = 8 black rows above
        (32, 64, np.s_[:, 8:24]),
        (50, 50, np.s_[:, :]),
        (6400, 10, np.s_[15:16, :]),  # 0.05 of a pixel high: 1, with (32 - 1) // 2 = 15 above
        (1, 1, np.s_[:, :]),
    ],
)
def test_pad_keeps_the_proportions_on_black(width, height, inside):
    padded = resized(Image.new("L", (width, height), 200), params(fit="pad"))
    expected = np.zeros((32, 32), np.uint8)
    expected[inside] = 200
    np.testing.assert_array_equal(padded, expected)


def test_resampling_is_the_one_that_was_named():
    # Sixteen pixels of stripes become one: nearest takes a stripe, box the mean of 0 and 240.
    stripes = Image.fromarray(np.tile(np.uint8([0, 240]), (32, 256)))
    assert set(resized(stripes, params(resampling="nearest")).flat) <= {0, 240}
    assert set(resized(stripes, params(resampling="box")).flat) == {120}


@pytest.mark.parametrize(
    "resampling", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
)
@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_a_picture_of_the_right_size_passes_unchanged(resampling, fit):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    np.testing.assert_array_equal(
        resized(Image.fromarray(noise), params(32, resampling, fit)), noise
    )


# --- write_split


def archive_of(tmp_path: Path, files: list[bytes]) -> tuple[Path, pd.DataFrame]:
    path = tmp_path / "radiographs.zip"
    entries = [(f"chest_xray/{i:03d}.jpeg", data) for i, data in enumerate(files)]
    write_archive(path, entries)
    rows = pd.DataFrame(
        {
            "name": [f"film {i}" for i in range(len(files))],
            "member": [member for member, _ in entries],
            "label": 0,
            "kind": "normal",
            "patient_id": "007",
            "split": "train",
        }
    )
    return path, rows


def test_arrays_and_index_hold_every_image_in_the_order_of_the_rows(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    archive, rows = archive_of(
        tmp_path,
        [encoded(Image.new("L", (40, 50), 10 * i)) for i in range(20)]
        + [encoded(Image.new("RGB", (60, 70), (9, 9, 9)), exif=exif)],
    )
    passed = []

    def seen(decoded):
        for image in decoded:
            passed.append(image)
            yield image

    rows = rows.iloc[::-1]  # the order of the rows, not of the archive
    write_split(archive, rows, tmp_path, params(), seen)
    arrays = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert isinstance(arrays, np.memmap)
    assert arrays.dtype == np.uint8
    assert arrays.shape == (21, 32, 32)
    assert arrays[:, 5, 5].tolist() == [9, *range(190, -1, -10)]
    assert len(passed) == 21
    lines = (tmp_path / "index.csv").read_text().splitlines()
    assert lines[0] == "name,label,kind,patient_id,width,height,mode"
    assert lines[1] == "film 20,0,normal,007,60,70,RGB"  # as the file came, before turning
    assert lines[21] == "film 0,0,normal,007,40,50,L"


def test_arrays_are_the_same_bytes_every_time(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64), dtype=np.uint8)
    archive, rows = archive_of(tmp_path, [encoded(Image.fromarray(n), "JPEG") for n in noise])
    written = []
    for _ in range(2):
        write_split(archive, rows, tmp_path, params(resampling="bilinear"), iter)
        written.append((tmp_path / "images.npy").read_bytes())
    assert written[0] == written[1]


def test_the_first_image_that_cannot_be_decoded_is_named(tmp_path):
    good = encoded(grey(FILM))
    archive, rows = archive_of(tmp_path, [good, good, b"bad", b"worse"])
    with pytest.raises(PipelineError, match=r"^film 2: expected a whole JPEG or PNG"):
        write_split(archive, rows, tmp_path, params(), iter)


def test_only_a_few_images_are_in_memory_at_once(tmp_path, monkeypatch):
    archive, rows = archive_of(tmp_path, [encoded(grey(FILM))] * 100)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    waiting, most = 0, 0
    read = images.read_member

    def counted(*arguments):
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        return read(*arguments)

    def written(decoded):
        nonlocal waiting
        for image in decoded:
            yield image
            waiting -= 1

    monkeypatch.setattr(images, "read_member", counted)
    write_split(archive, rows, tmp_path, params(), written)
    assert most == 2 * 3 + 1
    assert waiting == 0


# --- replacing_folders


def test_folders_take_their_place_together_at_the_end(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    folders[0].mkdir()
    (folders[0] / "old").touch()
    with replacing_folders(folders) as partials:
        for partial in partials:
            (partial / "new").touch()
        assert (folders[0] / "old").exists()
        assert not folders[1].exists()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        *["a", "a/new"],
        *["b", "b/new"],
    ]


def test_a_failure_leaves_the_folders_as_they_were(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    folders[0].mkdir()
    (folders[0] / "old").touch()

    def fail() -> None:
        with replacing_folders(folders) as partials:
            (partials[0] / "new").touch()
            raise PipelineError("no")

    with pytest.raises(PipelineError):
        fail()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["a", "a/old"]


def test_what_a_killed_process_left_does_not_come_along(tmp_path):
    (tmp_path / ".partial-a").mkdir()
    (tmp_path / ".partial-a" / "half").touch()
    with replacing_folders([tmp_path / "a"]) as (partial,):
        assert list(partial.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["a"]

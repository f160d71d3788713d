"""Pictures become arrays: the one preprocessing, for training, evaluation and prediction alike."""

import io
import os
import shutil
import struct
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from pneumonia.data.archive import open_archive, read_member
from pneumonia.errors import PipelineError
from pneumonia.store.files import write_table
from pneumonia.store.params import Section

FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 100_000_000  # of one image; the largest radiographs have some 20 million
INDEX_COLUMNS = ["name", "label", "kind", "patient_id", "width", "height", "mode"]

# EXIF 2.32, tag 274: what turns the stored picture upright.
_ORIENTATION_TAG = 274
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pixels, and (width, height, mode) of the file.
Decoded: TypeAlias = tuple[NDArray[np.uint8], tuple[int, int, str]]


class PreprocessParams(Section):
    """Section `preprocess` of params.yaml."""

    # Below 32 the backbones have no feature map left; above 1024 the arrays outgrow a disk.
    image_size: int = Field(ge=32, le=1024, description="pixels a side")
    resampling: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    fit: Literal["squash", "pad"] = Field(
        description="pad keeps the aspect ratio, with black borders"
    )


def decode(data: bytes) -> Image.Image:
    """The picture in `data` as greyscale: mode L, upright, black = 0, white = 255.

    - Colour: the luma of ITU-R 601, 0.299 R + 0.587 G + 0.114 B; CMYK and YCCK by way of RGB.
    - 16-bit greyscale: the full range 0 to 65535 becomes 0 to 255, rounded, whatever part of it
      the picture uses. A 12-bit film that was stored unscaled in 16 bits stays dark.
    - 1-bit: 0 and 255. Palettes: their colours.
    - Transparency: laid over black.
    - The orientation in its EXIF data is applied.
    - Of several frames: the first.

    Raises:
        PipelineError: not a whole JPEG or PNG, or more than `MAX_PIXELS`.
    """
    return _grey(_opened(data))


def resized(image: Image.Image, params: PreprocessParams) -> NDArray[np.uint8]:
    """The picture at the size that the network sees.

    `squash` gives both sides `image_size`, whatever the aspect ratio. `pad` gives the longer side
    `image_size`, the shorter one its proportion (at least 1 pixel), and centres it on black.

    Args:
        image: mode L, of any size; what `decode` returns.
        params: section `preprocess`.

    Returns:
        (height, width) uint8 in [0, 255], both `image_size`.
    """
    side = params.image_size
    resampling = Image.Resampling[params.resampling.upper()]
    if params.fit == "squash":
        return np.asarray(image.resize((side, side), resampling))
    longer = max(image.size)
    width, height = (max(1, round(pixels * side / longer)) for pixels in image.size)
    canvas = Image.new("L", (side, side))
    left_top = ((side - width) // 2, (side - height) // 2)
    canvas.paste(image.resize((width, height), resampling), left_top)
    return np.asarray(canvas)


def write_split(
    archive: Path,
    rows: pd.DataFrame,
    folder: Path,
    params: PreprocessParams,
    seen: Callable[[Iterator[Decoded]], Iterable[Decoded]],
) -> None:
    """Write `images.npy` and `index.csv` of one split into an existing folder.

    images.npy: (n_images, height, width) uint8 in [0, 255], in the order of `rows`, for
    `np.load(mmap_mode="r")`. index.csv, in the same order: name, label, kind, patient_id, and
    width, height (pixels) and mode of the file as it came, before any turning.

    Decodes on all cores. Memory does not grow with the number of images.

    Args:
        archive: the archive of radiographs.
        rows: one row an image, with columns name, member, label, kind, patient_id.
        folder: where to write; see `replacing_folders`.
        params: section `preprocess`.
        seen: hands the decoded images on, one by one, and may tell how far it is; or `iter`.

    Raises:
        PipelineError: an image cannot be read or decoded; it is named.
    """
    shapes = []
    with (folder / "images.npy").open("wb") as file, open_archive(archive) as opened:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
            "fortran_order": False,
            "shape": (len(rows), params.image_size, params.image_size),
        }
        np.lib.format.write_array_header_1_0(file, header)
        # Plain writes and no memory map: on a full disk a map ends the process without a word.
        for pixels, shape in seen(_decoded(opened, rows, params)):
            file.write(pixels.tobytes())
            shapes.append(shape)
    index = rows.reset_index(drop=True).join(
        pd.DataFrame(shapes, columns=["width", "height", "mode"])
    )
    write_table(folder / "index.csv", index[INDEX_COLUMNS])


@contextmanager
def replacing_folders(folders: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield an empty sibling of each folder; they take the folders' places if the block succeeds.

    What a killed process left in the siblings is thrown away.
    """
    partials = [folder.with_name(f".partial-{folder.name}") for folder in folders]
    try:
        for partial in partials:
            _remove(partial)
            partial.mkdir(parents=True)
        yield partials
        for partial, folder in zip(partials, folders, strict=True):
            _remove(folder)
            partial.rename(folder)
    finally:
        for partial in partials:
            _remove(partial)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _decoded(
    archive: zipfile.ZipFile, rows: pd.DataFrame, params: PreprocessParams
) -> Iterator[Decoded]:
    """Pixels, and (width, height, mode) of the file, of each row in turn.

    Threads, not processes: Pillow lets go of the interpreter while it decodes and resizes, so they
    are as fast, start at once, and cannot outlive a stage that is killed.
    """

    def work(name: str, data: bytes) -> Decoded:
        try:
            picture = _opened(data)
            return resized(_grey(picture), params), (*picture.size, picture.mode)
        except PipelineError as error:
            raise PipelineError(f"{name}: {error}") from error

    n_workers = os.cpu_count() or 1
    waiting: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(n_workers) as pool:
        for name, member in zip(rows["name"], rows["member"], strict=True):
            waiting.append(pool.submit(work, name, read_member(archive, member)))
            # Enough for every worker to have the next one at hand.
            if len(waiting) > 2 * n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _opened(data: bytes) -> Image.Image:
    """The picture as it came, its pixels read.

    Raises:
        PipelineError: as `decode`.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        # Before the pixels are read, and memory is taken for them.
        if picture.width * picture.height > MAX_PIXELS:
            raise PipelineError(
                f"expected at most {MAX_PIXELS} pixels. "
                f"Received: {picture.width} × {picture.height}"
            )
        picture.load()
        picture.getexif()  # read here, so that damaged EXIF data is this picture's fault
    # What Pillow raises for damaged files: OSError for most, SyntaxError for a broken PNG chunk.
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise PipelineError(
            f"expected a whole {' or '.join(FORMATS)} image. Received {len(data)} bytes: {error}"
        ) from error
    return picture


def _grey(picture: Image.Image) -> Image.Image:
    """The picture in mode L, upright; see `decode`."""
    if picture.mode.startswith("I;16"):
        wide = np.asarray(picture).astype(np.uint32)
        grey = Image.fromarray(((wide + 128) // 257).astype(np.uint8))  # 65535 = 257 * 255
    elif picture.has_transparency_data:
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        grey = Image.alpha_composite(black, picture.convert("RGBA")).convert("L")
    elif picture.mode in ("1", "L", "P", "RGB", "CMYK"):
        grey = (picture if picture.mode != "CMYK" else picture.convert("RGB")).convert("L")
    else:
        raise PipelineError(f"expected greyscale or colour. Received: Pillow's mode {picture.mode}")
    upright = _UPRIGHT.get(picture.getexif().get(_ORIENTATION_TAG, 1))
    return grey if upright is None else grey.transpose(upright)

"""Images become arrays: the one preprocessing, for training, evaluation and prediction alike."""

import io
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field

from pneumonia.data.ahead import ahead
from pneumonia.data.archive import open_archive, read_member
from pneumonia.errors import PipelineError
from pneumonia.store.files import write_table
from pneumonia.store.params import Section

FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 100_000_000  # of one image; the largest radiographs have some 20 million
INDEX_COLUMNS = ["name", "label", "kind", "patient_id", "width", "height", "mode"]

# Width, height (pixels) and Pillow's mode of an image as it came, before it is turned upright.
Shape: TypeAlias = tuple[int, int, str]
Decoded: TypeAlias = tuple[NDArray[np.uint8], Shape]


class PreprocessParams(Section):
    """Section `preprocess` of params.yaml."""

    # Below 32 the backbones have no feature map left; above 1024 the arrays outgrow a disk.
    image_size: int = Field(ge=32, le=1024, description="pixels a side")
    resampling: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    fit: Literal["squash", "pad"] = Field(
        description="pad keeps the aspect ratio, with black borders"
    )


def decode(data: bytes) -> Image.Image:
    """The image in `data` as greyscale: mode L, upright, black = 0, white = 255.

    - Colour: the luma of ITU-R 601, 0.299 R + 0.587 G + 0.114 B; CMYK and YCCK by way of RGB.
    - 16-bit greyscale: the full range 0 to 65535 becomes 0 to 255, rounded, whatever part of it
      the image uses. A 12-bit radiograph that was stored unscaled in 16 bits stays dark.
    - 1-bit: 0 and 255. Palettes: their colours.
    - Transparency: laid over black.
    - The orientation in its EXIF data is applied.
    - Of several frames: the first.

    Raises:
        PipelineError: not a whole JPEG or PNG, or more than `MAX_PIXELS`.
    """
    return _decoded(data)[0]


def resized(image: Image.Image, params: PreprocessParams) -> NDArray[np.uint8]:
    """An image of mode L and any size, at the size that the network sees.

    `squash` gives both sides `image_size`, whatever the aspect ratio. `pad` gives the longer side
    `image_size`, the shorter one its proportion (at least 1 pixel), and centres it on black.

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
    `np.load(mmap_mode="r")`. index.csv, in the same order: name, label, kind, patient_id, and the
    `Shape` of the file.

    Args:
        archive: the archive of radiographs.
        rows: one row an image, with columns name, member, label, kind, patient_id.
        folder: where to write; see `replacing_folders`.
        params: section `preprocess`.
        seen: passes the decoded images on, one by one, and may show progress; or `iter`.

    Raises:
        PipelineError: an image cannot be read or decoded; the message names it.
    """

    def work(name: str, data: bytes) -> Decoded:
        try:
            image, shape = _decoded(data)
        except PipelineError as error:
            raise PipelineError(f"{name}: {error}") from error
        return resized(image, params), shape

    shapes = []
    with (folder / "images.npy").open("wb") as file, open_archive(archive) as opened:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
            "fortran_order": False,
            "shape": (len(rows), params.image_size, params.image_size),
        }
        np.lib.format.write_array_header_1_0(file, header)
        files = zip(rows["name"], rows["member"], strict=True)
        items = ((name, read_member(opened, member)) for name, member in files)
        # Plain writes, not a memory map: on a full disk a map ends the process without a message.
        for pixels, shape in seen(ahead(work, items)):
            file.write(pixels.tobytes())
            shapes.append(shape)
    index = rows.reset_index(drop=True).join(
        pd.DataFrame(shapes, columns=["width", "height", "mode"])
    )
    write_table(folder / "index.csv", index[INDEX_COLUMNS])


@contextmanager
def replacing_folders(folders: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield an empty sibling of each folder; they replace the folders if the block succeeds.

    What a killed process left in the siblings is deleted.
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


def _decoded(data: bytes) -> tuple[Image.Image, Shape]:
    """The image as `decode` returns it, and the shape of the file."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        # Before the pixels are read, and memory is taken for them.
        if image.width * image.height > MAX_PIXELS:
            raise PipelineError(
                f"expected at most {MAX_PIXELS} pixels. Received: {image.width} × {image.height}"
            )
        image.load()
        shape = (*image.size, image.mode)
        image.getexif()  # the image keeps what it read
        for key in ("exif", "Raw profile type exif"):
            image.info.pop(key, None)  # or exif_transpose would encode it again, and may fail
        ImageOps.exif_transpose(image, in_place=True)
    # What Pillow raises for damaged files: OSError for most, SyntaxError for a broken PNG chunk.
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise PipelineError(
            f"expected a whole {' or '.join(FORMATS)} image. Received {len(data)} bytes: {error}"
        ) from error
    return _grey(image), shape


def _grey(image: Image.Image) -> Image.Image:
    """The image in mode L; see `decode`."""
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))  # 65535 = 257 * 255
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("L")
    if image.mode == "CMYK":
        image = image.convert("RGB")
    if image.mode not in ("1", "L", "P", "RGB"):
        raise PipelineError(f"expected greyscale or colour. Received: Pillow's mode {image.mode}")
    return image.convert("L")

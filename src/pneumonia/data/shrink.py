"""The 224-pixel copy of an archive: each radiograph squashed to 224×224, always the same bytes."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from pneumonia.data.ahead import ahead
from pneumonia.data.archive import list_radiographs, open_archive, read_member, write_archive
from pneumonia.errors import PipelineError
from pneumonia.progress import reported

log = logging.getLogger("fetch")

SIDE = 224  # pixels


def write_shrunk(official: Path, path: Path) -> None:
    """Write at `path` the radiographs of `official` at 224×224 pixels, under their own names.

    The bytes depend on the radiographs and on Pillow's JPEG code alone. It is written in place:
    call this within `store.files.replacing`.

    Raises:
        PipelineError: the archive is not what it should be, or an image cannot be decoded.
    """
    write_archive(path, _shrunk_entries(official))


def shrunk(data: bytes) -> bytes:
    """The bytes of an image file, as a JPEG of 224×224 pixels in RGB, bilinear, quality 75.

    Raises:
        OSError, ValueError, SyntaxError: Pillow cannot decode it.
    """
    squashed = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(
            squashed, "JPEG", quality=75
        )
    return squashed.getvalue()


def _shrunk_entries(official: Path) -> Iterator[tuple[str, bytes]]:
    """(path inside the archive, JPEG bytes), sorted by path."""
    members = sorted(radiograph.member for radiograph in list_radiographs(official))
    with open_archive(official) as archive:
        items = ((member, read_member(archive, member)) for member in members)
        yield from reported(ahead(_entry, items), len(members), "images shrunk", log)


def _entry(member: str, data: bytes) -> tuple[str, bytes]:
    try:
        return member, shrunk(data)
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise PipelineError(f"{member!r} cannot be decoded: {error}") from error

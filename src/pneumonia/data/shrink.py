"""The 224-pixel copy of an archive: each film squashed to 224×224, the same bytes every time."""

import io
import logging
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from pneumonia.data.archive import list_radiographs, open_archive, read_member, write_archive
from pneumonia.errors import PipelineError
from pneumonia.progress import reported

log = logging.getLogger("fetch")

SIDE = 224  # pixels


def write_shrunk(official: Path, path: Path) -> None:
    """Write at `path` the radiographs of `official` at 224×224 pixels, under their own names.

    The bytes depend on the films and on the JPEG code of Pillow alone. Films are worked on in
    parallel, a few at a time, so that memory does not grow with their number. It is written in
    place: call this within `artifacts.replacing`.

    Raises:
        PipelineError: the archive is not what it should be, or a film cannot be decoded.
    """
    write_archive(path, _shrunk_entries(official))


def shrunk(data: bytes) -> bytes:
    """A film as a JPEG file of 224×224 pixels in RGB, bilinear, quality 75.

    Args:
        data: the bytes of a picture file.

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
    yield from reported(_in_parallel(official, members), len(members), "films shrunk", log)


def _in_parallel(official: Path, members: list[str]) -> Iterator[tuple[str, bytes]]:
    """(path inside the archive, JPEG bytes) in the order of `members`, a few at a time."""
    n_threads = os.cpu_count() or 1
    waiting: deque[tuple[str, Future[bytes]]] = deque()
    # Pillow works outside Python's lock: threads use all cores and nothing is copied.
    with open_archive(official) as archive, ThreadPoolExecutor(n_threads) as pool:
        for member in members:
            waiting.append((member, pool.submit(shrunk, read_member(archive, member))))
            if len(waiting) > 2 * n_threads:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())


def _result(member: str, future: Future[bytes]) -> tuple[str, bytes]:
    try:
        return member, future.result()
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise PipelineError(f"{member!r} cannot be decoded: {error}") from error

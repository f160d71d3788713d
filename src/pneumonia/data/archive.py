"""The archive of radiographs, and the only module that opens it. Nothing is ever extracted."""

import lzma
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pneumonia.data.names import CLASSES, FOLDERS, Radiograph, radiograph_of
from pneumonia.errors import PipelineError

# Far above any archive of radiographs, far below what would hurt the machine.
MAX_ENTRIES = 2_000_000
MAX_IMAGE_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 64 * 2**30
MAX_RATIO = 1000  # declared size to compressed size; images are compressed already

# What zipfile raises for a damaged archive; NotImplementedError: for a format that is too new.
_DAMAGED = (zipfile.BadZipFile, NotImplementedError, OSError, ValueError)
_HINT = "Accepted: a zip archive with {train,test}/{NORMAL,PNEUMONIA}/ and images in them"


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, open for reading.

    Raises:
        PipelineError: the file does not exist, or is not a whole zip archive.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise PipelineError(f"{path}: no such archive. The fetch stage writes it") from error
    except _DAMAGED as error:
        raise PipelineError(f"{path}: {_fault(path, error)}. {_HINT}") from error
    with archive:
        yield archive


def list_radiographs(path: Path) -> list[Radiograph]:
    """The radiographs of an archive, sorted by name, with both classes in both folders.

    An archive may hold its tree twice, as Kaggle's does; each image is then listed once.

    Raises:
        PipelineError: the archive is broken, encrypted or absurdly large, an image's name gives no
            patient, two different images have one name, or a folder lacks a class.
    """
    with open_archive(path) as archive:
        entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise PipelineError(
            f"{path}: an archive may hold {MAX_ENTRIES} entries. Received: {len(entries)}"
        )
    found: dict[str, tuple[Radiograph, zipfile.ZipInfo]] = {}
    # Of two copies the one nearer to the top is listed, whatever the order of the entries.
    for entry in sorted(entries, key=lambda entry: (entry.filename.count("/"), entry.filename)):
        try:
            radiograph = radiograph_of(entry.filename)
        except PipelineError as error:
            raise PipelineError(f"{path}: {error}") from error
        if radiograph is None or entry.is_dir():
            continue
        _check_entry(path, entry)
        first, its_entry = found.setdefault(radiograph.name, (radiograph, entry))
        if (entry.CRC, entry.file_size) != (its_entry.CRC, its_entry.file_size):
            raise PipelineError(
                f"{path}: two different images have the name {radiograph.name}: "
                f"{first.member!r} and {entry.filename!r}"
            )
    total = sum(entry.file_size for _, entry in found.values())
    if total > MAX_TOTAL_BYTES:
        raise PipelineError(
            f"{path}: the images may hold {MAX_TOTAL_BYTES} bytes in all. Received: {total}"
        )
    radiographs = sorted(radiograph for radiograph, _ in found.values())
    present = {f"{one.folder}/{CLASSES[one.label]}" for one in radiographs}
    missing = [name for f in FOLDERS for c in CLASSES if (name := f"{f}/{c}") not in present]
    if missing:
        raise PipelineError(f"{path}: no image in {', '.join(missing)}. {_HINT}")
    return radiographs


def read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """The bytes of one entry of the archive.

    Raises:
        PipelineError: the entry is missing, larger than `MAX_IMAGE_BYTES`, encrypted, or damaged.
    """
    try:
        entry = archive.getinfo(member)
        _check_entry(Path(str(archive.filename)), entry)
        # zipfile stops at the declared size and then compares the checksum.
        return archive.read(entry)
    except (*_DAMAGED, KeyError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PipelineError(
            f"{archive.filename}: entry {member!r} cannot be read: {reason}"
        ) from error


def write_archive(path: Path, entries: Iterable[tuple[str, bytes]]) -> None:
    """Write a zip archive whose bytes depend on the entries alone, one entry in memory at a time.

    Entries are pairs of path and bytes, in sorted order; they are stored uncompressed, dated
    1980-01-01, mode 0644, made on Unix. It is written in place: call this within
    `store.files.replacing`.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member, data in entries:
            entry = zipfile.ZipInfo(member)  # its date is 1980-01-01
            entry.create_system = 3  # Unix, also when made elsewhere
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse an image that is encrypted or whose declared size is absurd."""
    if entry.flag_bits & 0x1:
        raise PipelineError(f"{path}: {entry.filename!r} is encrypted. Accepted: no password")
    if entry.file_size > MAX_IMAGE_BYTES:
        raise PipelineError(
            f"{path}: {entry.filename!r} may hold {MAX_IMAGE_BYTES} bytes. "
            f"Received: {entry.file_size}"
        )
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        raise PipelineError(
            f"{path}: {entry.filename!r} may unpack to {MAX_RATIO} times its size. "
            f"Received: {entry.compress_size} bytes that unpack to {entry.file_size}"
        )


def _fault(path: Path, error: Exception) -> str:
    """Why a file does not open as a zip archive."""
    if not path.is_file():
        return "not a file"
    with path.open("rb") as file:
        head = file.read(512)
    n_bytes = path.stat().st_size
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return f"an HTML page, not a zip archive ({n_bytes} bytes)"
    if head.startswith(b"PK\x03\x04"):
        return f"a zip archive that is truncated or damaged ({n_bytes} bytes; {error})"
    return f"not a zip archive ({n_bytes} bytes, beginning {head[:8]!r})"

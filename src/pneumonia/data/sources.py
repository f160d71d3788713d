"""How the archive of each source is received: copied, downloaded, derived or drawn."""

import errno
import logging
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

import PIL

from pneumonia.data.archive import list_radiographs, open_archive, read_member, write_archive
from pneumonia.data.datasets import SOURCES, FetchParams, Source, is_public
from pneumonia.data.downloads import is_right, mirrored, obtain
from pneumonia.data.names import FOLDERS, KINDS, Radiograph
from pneumonia.data.phantoms import PhantomParams, phantom_entries, phantom_films
from pneumonia.data.privacy import key_from_environment
from pneumonia.data.remote_file import Remote
from pneumonia.data.shrink import write_shrunk
from pneumonia.errors import PipelineError
from pneumonia.progress import reported
from pneumonia.store.files import replacing, sha256_of

log = logging.getLogger("fetch")

# What the user can put right; any other OSError is a bug and keeps its traceback.
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}

WAYS_OUT = (
    "Ways out: a folder with {files} in PNEUMONIA_MIRROR, your own archive "
    "(fetch.source: own), or `make demo`, which needs no data"
)


def receive(
    params: FetchParams, phantoms: PhantomParams, seed: int, destination: Path, work: Path
) -> None:
    """Put the archive of radiographs at `destination`, verified, whole or not at all.

    Args:
        params: the source.
        phantoms: how phantoms are drawn, if they are.
        seed: of the phantoms.
        destination: the archive to write.
        work: a folder for what is on its way; a broken download is kept there.

    Raises:
        PipelineError: the archive cannot be had, is not the right one, is damaged, holds other
            images than expected, or is not public and there is no key for its names.
    """
    # Asked for now: nobody should train for hours and then be unable to report.
    if not is_public(params.source):
        key_from_environment()
    try:
        received = _received(params, phantoms, seed, work)
        with replacing(destination) as partial:
            shutil.move(received, partial)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        raise PipelineError(f"{error.filename or destination}: {error.strerror}") from error


def counts_of(radiographs: list[Radiograph]) -> dict[tuple[str, str], int]:
    """Number of images by (folder, kind), zeros included, in the order of FOLDERS and KINDS."""
    found = Counter((radiograph.folder, radiograph.kind) for radiograph in radiographs)
    return {(folder, kind): found[folder, kind] for folder in FOLDERS for kind in KINDS}


def as_text(counts: Mapping[tuple[str, str], int]) -> str:
    """Counts by (folder, kind) as one line."""
    return ", ".join(f"{folder} {kind} {n_images}" for (folder, kind), n_images in counts.items())


def _received(params: FetchParams, phantoms: PhantomParams, seed: int, work: Path) -> Path:
    """The verified archive, in `work`."""
    if params.source == "own":
        return _own(str(params.archive), str(params.sha256), work)
    if params.source == "phantoms":
        path = work / "phantoms.zip"
        with replacing(path) as partial:
            n_films = len(phantom_films(phantoms.share, seed))
            entries = phantom_entries(phantoms, seed)
            write_archive(partial, reported(entries, n_films, "phantoms drawn", log))
        list_radiographs(path)
        return path
    remote = _remote(params.source)
    path = _working_copy(work) if params.source == "chestxray2017-224" else _obtained(remote, work)
    _check_counts(SOURCES[params.source], list_radiographs(path))
    return path


def _check_counts(source: Source, radiographs: list[Radiograph]) -> None:
    received = counts_of(radiographs)
    if source.counts is not None and received != source.counts:
        raise PipelineError(
            f"{source.name}: expected {as_text(source.counts)}. Received: {as_text(received)}"
        )


def _working_copy(work: Path) -> Path:
    """The 224-pixel copy, in `work`: from a mirror, or made from the official archive."""
    remote, source = _remote("chestxray2017-224"), _remote("chestxray2017")
    path = work / remote.file
    if mirrored(remote) is not None or is_right(remote, path):
        return _obtained(remote, work)
    official = _obtained(source, work, f"{remote.file}, which suffices, or {source.file}")
    with replacing(path) as partial:
        write_shrunk(official, partial)
        received = sha256_of(partial)
        if received != remote.sha256:
            raise PipelineError(
                f"{remote.file} made from {official}: expected sha256 {remote.sha256}. "
                f"Received: {received}, by Pillow {PIL.__version__}; Pillow 13.0.0 is known to "
                "give the right bytes. Way round: fetch.source: chestxray2017, "
                "the same films at full size"
            )
    official.unlink()  # 1.2 GB that nothing asks for again
    return path


def _own(archive: str, sha256: str, work: Path) -> Path:
    """A copy of the user's own archive, in `work`, every image in it readable."""
    scheme = urlsplit(archive).scheme
    if scheme in ("http", "https"):
        file = PurePosixPath(urlsplit(archive).path).name
        remote = Remote(
            file=file if file.strip(".") else "archive.zip",
            address=archive,
            sha256=sha256,
            md5=None,
            n_bytes=None,
        )
        received = _obtained(remote, work)
        listed = received
    elif scheme in ("", "file"):
        listed = Path(url2pathname(urlsplit(archive).path) if scheme else archive).expanduser()
        if not listed.is_file():
            raise PipelineError(
                f"fetch.archive: there is no such file. Received: {archive!r}, "
                f"which is {listed.absolute()}"
            )
        received = work / "own.zip"
        with replacing(received) as partial:
            shutil.copyfile(listed, partial)
            actual = sha256_of(partial)
            if actual != sha256:
                raise PipelineError(f"{listed}: expected sha256 {sha256}. Received: {actual}")
    else:
        raise PipelineError(
            "fetch.archive must be a path or an address that begins with file://, http:// or "
            f"https://. Received: {archive!r}"
        )
    radiographs = list_radiographs(listed)
    # A known archive is vouched for by its record; of this one only the user knows the hash.
    with open_archive(listed) as opened:
        for radiograph in reported(radiographs, len(radiographs), "films read", log):
            read_member(opened, radiograph.member)
    return received


def _obtained(remote: Remote, work: Path, files: str | None = None) -> Path:
    """The file of `remote`, in `work`; without it, `files` tells which would serve in a mirror."""
    path = work / remote.file
    obtain(remote, path, WAYS_OUT.format(files=files or remote.file))
    return path


def _remote(source: str) -> Remote:
    remote = SOURCES[source].remote
    if remote is None:
        raise ValueError(f"{source} is drawn, not received")
    return remote

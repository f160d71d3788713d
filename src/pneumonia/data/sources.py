"""How the archive of each dataset is obtained: copied, downloaded, derived or drawn."""

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
from pneumonia.data.datasets import SOURCES, FetchParams, is_public
from pneumonia.data.downloads import is_right, mirrored, obtain
from pneumonia.data.names import FOLDERS, KINDS, Radiograph
from pneumonia.data.phantoms import PhantomParams, list_phantoms, phantom_entries
from pneumonia.data.privacy import key_from_environment
from pneumonia.data.remote_file import Remote
from pneumonia.data.shrink import write_shrunk
from pneumonia.errors import PipelineError
from pneumonia.progress import reported
from pneumonia.store.files import replacing, sha256_of

log = logging.getLogger("fetch")

# Errors of the disk, which the user can put right; any other OSError is a bug.
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
        params: the dataset.
        phantoms: how many phantoms, and how large, if it is drawn.
        seed: of the phantoms.
        destination: the archive to write.
        work: a folder for unfinished files; it keeps a broken download.

    Raises:
        PipelineError: the archive is nowhere to be found, is not the right one, is damaged, holds
            other images than expected, or is not public and there is no key for its names.
    """
    # Checked first: nobody should train for hours and then be unable to report.
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
            n_images = len(list_phantoms(phantoms.share, seed))
            entries = phantom_entries(phantoms, seed)
            write_archive(partial, reported(entries, n_images, "phantoms drawn", log))
        list_radiographs(path)
        return path
    if params.source == "chestxray2017-224":
        path = _working_copy(work)
    else:
        path = _obtained(_remote(params.source), work)
    received, expected = counts_of(list_radiographs(path)), SOURCES[params.source].counts
    if expected is not None and received != expected:
        raise PipelineError(
            f"{params.source}: expected {as_text(expected)}. Received: {as_text(received)}"
        )
    return path


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
                "the same radiographs at full size"
            )
    official.unlink()  # 1.2 GB that no later step needs
    return path


def _own(archive: str, sha256: str, work: Path) -> Path:
    """A copy of the user's own archive, in `work`, every image in it readable."""
    scheme = urlsplit(archive).scheme
    if scheme in ("http", "https"):
        file = PurePosixPath(urlsplit(archive).path).name
        file = file if file.strip(".") else "archive.zip"
        received = listed = _obtained(Remote(file, archive, sha256, md5=None, n_bytes=None), work)
    elif scheme in ("", "file"):
        listed = Path(url2pathname(urlsplit(archive).path) if scheme else archive).expanduser()
        if not listed.is_file():
            raise PipelineError(
                f"fetch.archive: no such file. Received: {archive!r}, which is {listed.absolute()}"
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
    # The images of a known archive are known to be whole; those of this one are not.
    with open_archive(listed) as opened:
        for radiograph in reported(radiographs, len(radiographs), "images read", log):
            read_member(opened, radiograph.member)
    return received


def _obtained(remote: Remote, work: Path, files: str | None = None) -> Path:
    """The file of `remote`, in `work`; an error names `files`, any of which a mirror may hold."""
    path = work / remote.file
    obtain(remote, path, WAYS_OUT.format(files=files or remote.file))
    return path


def _remote(source: str) -> Remote:
    remote = SOURCES[source].remote
    if remote is None:
        raise ValueError(f"{source} is drawn, not received")
    return remote

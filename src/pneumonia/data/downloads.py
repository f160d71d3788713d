"""Files that are known by their hash: from a local mirror, or from the internet, and checked."""

import errno
import hashlib
import logging
import os
import queue
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests
from tqdm import tqdm

from pneumonia.data.remote_file import Remote
from pneumonia.errors import PipelineError
from pneumonia.store.files import replacing

MIRROR = "PNEUMONIA_MIRROR"

# A receipt of minutes must be seen to go on, so this module logs although it is no stage.
log = logging.getLogger("download")

_CHUNK_BYTES = 64 * 1024
_REPORT_EVERY_S = 10.0
# Answers after which the same question may be asked again.
_BUSY = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How long a download waits. `give_up_s` bounds the time to an error without a network."""

    answer_s: float = 10.0  # for the first byte of an answer
    stall_s: float = 10.0  # for the next byte
    give_up_s: float = 20.0  # over all attempts, without one new byte
    pause_s: float = 1.0  # before the second attempt; doubles until a byte comes


class _BrokenError(Exception):
    """An attempt that failed and may be repeated."""


def mirrored(remote: Remote) -> Path | None:
    """The first file of that name in the folders of `PNEUMONIA_MIRROR`, not yet checked.

    Raises:
        PipelineError: a folder of the list is not absolute; stages may run in a copy of the
            workspace, where it would mean another place.
    """
    for entry in os.environ.get(MIRROR, "").split(os.pathsep):
        if not entry:
            continue
        if not Path(entry).is_absolute():
            raise PipelineError(
                f"{MIRROR} must list absolute folders, separated by {os.pathsep!r}. "
                f"Received: {entry!r}"
            )
        if (Path(entry) / remote.file).is_file():
            return Path(entry) / remote.file
    return None


def is_right(remote: Remote, path: Path) -> bool:
    """Whether `path` is there and has the hash of `remote`."""
    return path.is_file() and _fault(remote, path) is None


def obtain(
    remote: Remote, destination: Path, ways_out: str, patience: Patience | None = None
) -> None:
    """Put the file at `destination`: kept if it is right, else from a mirror, else received.

    A download goes on in `<destination>.download`, which survives a break and a kill, and takes
    the name of `destination` only when its hash is right.

    Args:
        remote: what to get.
        destination: where to put it.
        ways_out: what the reader of an error can do, as a sentence.
        patience: how long to wait, if not as usual.

    Raises:
        PipelineError: the file cannot be had, is not the right one, or cannot be written.
    """
    try:
        if is_right(remote, destination):
            return
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            copy = mirrored(remote)
            if copy is not None:
                _copy(remote, copy, destination)
            elif remote.address is not None:
                _download(remote, remote.address, destination, patience or Patience())
            else:
                raise PipelineError(
                    f"{remote.file} has no public address and is not in a mirror. "
                    f"{MIRROR} is {os.environ.get(MIRROR, '')!r}"
                )
        except PipelineError as error:
            raise PipelineError(f"{error}. {ways_out}") from error
    except OSError as error:  # of the disk: those of the network are handled where they arise
        raise PipelineError(
            f"{error.filename or destination}: {error.strerror or error}. "
            f"{remote.file} {_needs(remote)}, free there: "
            f"{shutil.disk_usage(_nearest_folder(destination)).free} bytes"
        ) from error


def _copy(remote: Remote, copy: Path, destination: Path) -> None:
    """Copy a file of a mirror; what is checked is the copy."""
    with replacing(destination) as partial:
        shutil.copyfile(copy, partial)
        fault = _fault(remote, partial)
        if fault is not None:
            raise PipelineError(f"{copy}: {fault}")
    log.info("%s copied from %s", remote.file, copy.parent)


def _download(remote: Remote, address: str, destination: Path, patience: Patience) -> None:
    """Receive the file into `<destination>.download`, check it, and give it its name."""
    partial = destination.with_name(f"{destination.name}.download")
    kept = _size(partial) > 0
    log.info("receiving %s from %s", remote.file, _shown(address))
    _stream(remote, address, partial, patience)
    fault = _fault(remote, partial)
    if fault is not None and kept:
        log.warning("%s: the part kept from an earlier run did not fit; starting over", remote.file)
        partial.unlink()
        _stream(remote, address, partial, patience)
        fault = _fault(remote, partial)
    if fault is not None:
        partial.unlink()
        raise PipelineError(f"{_shown(address)}: {fault}")
    partial.replace(destination)


def _stream(remote: Remote, address: str, partial: Path, patience: Patience) -> None:
    """Append to `partial` until the server has no more, over as many attempts as that takes.

    Raises:
        PipelineError: no byte came for `give_up_s`, or the answer cannot be the file.
    """
    give_up_at = time.monotonic() + patience.give_up_s
    pause_s = patience.pause_s
    while True:
        before = _size(partial)
        if remote.n_bytes is not None and before > remote.n_bytes:
            partial.unlink()
            before = 0
        if before and before == remote.n_bytes:
            return
        try:
            _attempt(remote, address, partial, patience, give_up_at)
            return
        except _BrokenError as error:
            reason = str(error)
        now = time.monotonic()
        if _size(partial) > before:
            give_up_at = now + patience.give_up_s
            pause_s = patience.pause_s
        if now + pause_s >= give_up_at:
            kept = _size(partial)
            raise PipelineError(
                f"{_shown(address)}: {reason}"
                + (f". {kept} bytes are kept, and a new start goes on from there" if kept else "")
            )
        log.warning("%s: %s; next attempt in %g s", remote.file, reason, pause_s)
        time.sleep(pause_s)
        pause_s *= 2


def _attempt(
    remote: Remote, address: str, partial: Path, patience: Patience, give_up_at: float
) -> None:
    """One request for what `partial` lacks.

    Raises:
        _BrokenError: the connection or the server failed in a way that may pass.
        PipelineError: the answer cannot be the file.
    """
    have = _size(partial)
    wait_s = min(patience.answer_s, max(give_up_at - time.monotonic(), 0.1))
    # identity: a compressed answer would have other bytes, and ranges of other bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with _answer(address, headers, wait_s, patience.stall_s) as response:
            status = response.status_code
            if status == 416 and have:
                return  # nothing lies beyond what is there: the hash decides
            if status in _BUSY:
                raise _BrokenError(f"the server answers HTTP {status} {response.reason}")
            if status not in (200, 206):
                raise PipelineError(f"{_shown(address)}: HTTP {status} {response.reason}")
            total = _announced(response)
            if status == 206:
                start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
                if start is None or int(start[1]) != have:
                    partial.unlink(missing_ok=True)  # so that the next request asks for all of it
                    raise _BrokenError(
                        "the server sends another part of the file than was asked for"
                    )
            else:
                have = 0  # the server sends the whole file, asked for or not
            _receive(response, remote, address, partial, have, total)
    # Protocol and read errors: what came before them is on the disk.
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        raise _BrokenError(_reason(error)) from error
    except requests.RequestException as error:
        raise PipelineError(f"{_shown(address)}: {_reason(error)}") from error
    if total is None:
        total = remote.n_bytes
    if total is not None and _size(partial) < total:
        raise _BrokenError(f"the connection ended after {_size(partial)} of {total} bytes")


def _receive(
    response: requests.Response,
    remote: Remote,
    address: str,
    partial: Path,
    have: int,
    total: int | None,
) -> None:
    """Write the body of an answer to `partial` from byte `have` on, with progress."""
    chunks = response.iter_content(_CHUNK_BYTES)
    first = next(chunks, b"")
    # Looked at before the kept part is given up: a log-in page must not cost it.
    if have == 0 and _is_html(first):
        raise PipelineError(
            f"{_shown(address)}: an HTML page came in place of {remote.file}; "
            "a log-in page or a proxy may stand between"
        )
    if remote.n_bytes is not None and total is not None and total != remote.n_bytes:
        raise PipelineError(
            f"{_shown(address)}: expected {remote.n_bytes} bytes. Received: {total} announced"
        )
    size = total if total is not None else remote.n_bytes
    # Appended to or written over, what is there already takes no more room.
    if size is not None and size - _size(partial) > shutil.disk_usage(partial.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial))
    with (
        partial.open("ab" if have else "wb") as file,
        tqdm(
            total=size,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=remote.file,
            disable=not sys.stderr.isatty(),
        ) as bar,
    ):
        reported_at = time.monotonic()
        for chunk in _chain(first, chunks):
            file.write(chunk)
            have += len(chunk)
            bar.update(len(chunk))
            if bar.disable and time.monotonic() - reported_at >= _REPORT_EVERY_S:
                reported_at = time.monotonic()
                log.info("%s: %.1f of %s MB", remote.file, have / 1e6, _megabytes(size))


def _answer(
    address: str, headers: dict[str, str], wait_s: float, stall_s: float
) -> requests.Response:
    """The head of the server's answer, within `wait_s` seconds whatever happens.

    The time limits of requests do not bound the look-up of a name, nor the sum over the addresses
    of a host. So a thread asks, and is left alone if it takes too long.
    """
    answers: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(
                requests.get(address, headers=headers, stream=True, timeout=(wait_s, stall_s))
            )
        except Exception as error:  # raised again below, in the thread that waits
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=wait_s)
    except queue.Empty:
        raise requests.Timeout(f"no answer within {wait_s:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _announced(response: requests.Response) -> int | None:
    """The size of the whole file as the server tells it, if it does."""
    if response.status_code == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length", "")
    return int(total) if total.isdecimal() else None


def _fault(remote: Remote, path: Path) -> str | None:
    """What is wrong with a file in comparison with its record, or None."""
    algorithm, expected = (
        ("sha256", remote.sha256) if remote.sha256 is not None else ("md5", remote.md5)
    )
    n_bytes = path.stat().st_size
    if expected is None:  # its publisher names no hash; the size is all there is to compare
        if remote.n_bytes is None:
            raise ValueError(f"{remote.file} has neither sha256, nor md5, nor a size")
        if n_bytes == remote.n_bytes:
            return None
        return f"expected {remote.n_bytes} bytes. Received: {n_bytes} bytes"
    with path.open("rb") as file:
        is_html = _is_html(file.read(512))
        file.seek(0)
        received = hashlib.file_digest(file, algorithm).hexdigest()
    if received == expected:
        return None
    size = "" if remote.n_bytes in (None, n_bytes) else f", {remote.n_bytes} bytes"
    return f"expected {algorithm} {expected}{size}. Received: {received}, {n_bytes} bytes" + (
        ", an HTML page" if is_html else ""
    )


def _is_html(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _megabytes(n_bytes: int | None) -> str:
    return "?" if n_bytes is None else f"{n_bytes / 1e6:.1f}"


def _needs(remote: Remote) -> str:
    return "has a size not known" if remote.n_bytes is None else f"needs {remote.n_bytes} bytes"


def _nearest_folder(path: Path) -> Path:
    """The lowest folder above `path` that is there."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def _shown(address: str) -> str:
    """An address without what may be secret in it: user, password and query."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _reason(error: BaseException) -> str:
    """The innermost reason of an error of requests, in one line."""
    inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
    if isinstance(inner, BaseException):
        return _reason(inner)
    text = " ".join(str(error).split())
    return text.rpartition("): ")[2].rstrip(".") or type(error).__name__

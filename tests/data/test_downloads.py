"""Each promise of a download, against a server on loopback that breaks it on purpose."""

import errno
import hashlib
import logging
import os
import shutil
import socket
import threading
import time

import pytest

from pneumonia.data import downloads
from pneumonia.data.downloads import Patience, is_right, mirrored, obtain
from pneumonia.data.remote_file import Remote
from pneumonia.errors import PipelineError

DATA = bytes(range(256)) * 1000  # 256,000 bytes: four pieces of 64 KiB
WAYS_OUT = "Ways out: there are three"
QUICK = Patience(answer_s=1.0, stall_s=0.3, give_up_s=1.0, pause_s=0.01)
# For downloads that must fail: their tests last as long as this.
BRIEF = Patience(answer_s=1.0, stall_s=0.3, give_up_s=0.2, pause_s=0.01)


def remote(address, data=DATA, **changes):
    fields = {
        "file": "archive.zip",
        "address": address,
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": None,
        "n_bytes": len(data),
    }
    return Remote(**(fields | changes))


@pytest.fixture
def place(tmp_path):
    return tmp_path / "work" / "archive.zip"


def partial_of(place):
    return place.with_name("archive.zip.download")


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def failure(what, place, patience=BRIEF):
    """The message of the error that obtaining `what` ends with; nothing must lie at `place`."""
    with pytest.raises(PipelineError) as error:
        obtain(what, place, WAYS_OUT, patience)
    assert not place.exists()
    assert "\n" not in str(error.value)
    return str(error.value)


# --- mirrors


def test_a_file_of_the_mirror_is_copied(tmp_path, place, monkeypatch):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "two" / "archive.zip").write_bytes(DATA)
    monkeypatch.setenv(
        "PNEUMONIA_MIRROR", os.pathsep.join([str(tmp_path / "one"), str(tmp_path / "two"), ""])
    )
    assert mirrored(remote(None)) == tmp_path / "two" / "archive.zip"
    obtain(remote(None), place, WAYS_OUT)
    assert place.read_bytes() == DATA
    assert (tmp_path / "two" / "archive.zip").exists()
    assert names_in(place.parent) == ["archive.zip"]


def test_the_mirror_is_looked_in_before_the_internet(tmp_path, place, monkeypatch, server):
    here = server(DATA)
    (tmp_path / "archive.zip").write_bytes(DATA)
    monkeypatch.setenv("PNEUMONIA_MIRROR", str(tmp_path))
    obtain(remote(here.address), place, WAYS_OUT)
    assert place.read_bytes() == DATA
    assert here.requests == []


def test_the_mirrors_file_is_checked_too(tmp_path, place, monkeypatch):
    (tmp_path / "archive.zip").write_bytes(b"something else")
    monkeypatch.setenv("PNEUMONIA_MIRROR", str(tmp_path))
    message = failure(remote(None), place)
    assert str(tmp_path / "archive.zip") in message
    assert f"expected sha256 {hashlib.sha256(DATA).hexdigest()}, 256000 bytes" in message
    assert f"Received: {hashlib.sha256(b'something else').hexdigest()}, 14 bytes" in message
    assert message.endswith(WAYS_OUT)
    assert names_in(place.parent) == []


def test_a_relative_mirror_is_refused(place, monkeypatch):
    monkeypatch.setenv("PNEUMONIA_MIRROR", "shared/data")
    assert "must list absolute folders" in failure(remote(None), place)


def test_without_an_address_and_a_mirror_the_error_says_so(place):
    message = failure(remote(None), place)
    assert "archive.zip has no public address and is not in a mirror" in message
    assert "PNEUMONIA_MIRROR is ''" in message
    assert message.endswith(WAYS_OUT)


# --- what is there already


def test_a_right_file_is_kept_without_a_request(place, server):
    here = server(DATA)
    place.parent.mkdir()
    place.write_bytes(DATA)
    before = place.stat().st_mtime_ns
    obtain(remote(here.address), place, WAYS_OUT)
    assert here.requests == []
    assert place.stat().st_mtime_ns == before


def test_a_wrong_file_is_replaced(place, server):
    place.parent.mkdir()
    place.write_bytes(b"older")
    obtain(remote(server(DATA).address), place, WAYS_OUT)
    assert place.read_bytes() == DATA


@pytest.mark.parametrize(("data", "right"), [(DATA, True), (DATA[:-1], False)])
def test_a_file_known_by_its_md5_alone_is_checked_by_it(tmp_path, data, right):
    path = tmp_path / "weights.h5"
    path.write_bytes(data)
    md5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    assert is_right(remote(None, sha256=None, md5=md5), path) is right
    assert not is_right(remote(None), tmp_path / "none.h5")


# --- the download


def test_a_file_is_downloaded_and_nothing_else_is_left(place, server):
    here = server(DATA)
    obtain(remote(here.address), place, WAYS_OUT)
    assert place.read_bytes() == DATA
    assert here.requests == [None]
    assert names_in(place.parent) == ["archive.zip"]


def test_a_file_of_unknown_size_is_downloaded(place, server):
    obtain(remote(server(DATA).address, n_bytes=None), place, WAYS_OUT)
    assert place.read_bytes() == DATA


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_after_a_break_the_download_goes_on_from_there(place, server, size):
    here = server(DATA)
    here.answers = [("break", 100_000), ("break", 100_000), "ranged"]
    obtain(remote(here.address, n_bytes=size), place, WAYS_OUT, QUICK)
    assert place.read_bytes() == DATA
    # Whole pieces are kept: 65,536 of the first 100,000 bytes, as many of the next.
    assert here.requests == [None, "bytes=65536-", "bytes=131072-"]


def test_a_connection_that_stalls_is_broken_off_and_taken_up_again(place, server):
    here = server(DATA)
    here.answers = [("hang", 2 * 65536), "ranged"]
    obtain(remote(here.address), place, WAYS_OUT, QUICK)
    assert place.read_bytes() == DATA
    assert here.requests == [None, "bytes=131072-"]


def test_a_new_start_goes_on_from_what_an_earlier_one_kept(place, server):
    here = server(DATA)
    place.parent.mkdir()
    partial_of(place).write_bytes(DATA[:70_000])
    obtain(remote(here.address), place, WAYS_OUT, QUICK)
    assert place.read_bytes() == DATA
    assert here.requests == ["bytes=70000-"]
    assert names_in(place.parent) == ["archive.zip"]


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_a_complete_download_that_was_not_renamed_is_renamed(place, server, size):
    # Killed between the last byte and the renaming. Without a size the server says 416.
    place.parent.mkdir()
    partial_of(place).write_bytes(DATA)
    obtain(remote(server(DATA).address, n_bytes=size), place, WAYS_OUT, QUICK)
    assert place.read_bytes() == DATA


def test_a_server_that_ignores_ranges_sends_the_file_from_the_start(place, server):
    here = server(DATA)
    here.answers = [("break", 100_000), "whole"]
    obtain(remote(here.address), place, WAYS_OUT, QUICK)
    assert place.read_bytes() == DATA


def test_a_part_that_was_not_requested_is_not_appended(place, server, monkeypatch):
    here = server(DATA)
    here.answers = [("break", 100_000), "ranged"]
    right = here.answer

    def answer_beside_the_question(request):
        if request.headers["Range"]:
            request.headers.replace_header("Range", "bytes=1000-")
        right(request)

    monkeypatch.setattr(here, "answer", answer_beside_the_question)
    obtain(remote(here.address), place, WAYS_OUT, QUICK)
    assert place.read_bytes() == DATA
    assert here.requests == [None, "bytes=1000-", None]


def test_compressed_answers_are_not_requested(place, server, monkeypatch):
    # Its ranges would be ranges of other bytes.
    here = server(DATA)
    accepted = []
    right = here.answer

    def noted(request):
        accepted.append(request.headers.get_all("Accept-Encoding"))
        right(request)

    monkeypatch.setattr(here, "answer", noted)
    obtain(remote(here.address), place, WAYS_OUT)
    assert accepted == [["identity"]]


@pytest.mark.parametrize("n_kept", [70_000, len(DATA), len(DATA) + 1])
def test_a_kept_part_of_another_file_is_downloaded_again_without_an_error(place, server, n_kept):
    place.parent.mkdir()
    partial_of(place).write_bytes(bytes(n_kept))
    obtain(remote(server(DATA).address), place, WAYS_OUT, QUICK)
    assert place.read_bytes() == DATA


def test_a_busy_server_is_asked_again(place, server):
    here = server(DATA)
    here.answers = [503, 429, 500, "ranged"]
    obtain(remote(here.address), place, WAYS_OUT, QUICK)
    assert place.read_bytes() == DATA
    assert len(here.requests) == 4


def test_the_pause_doubles_from_attempt_to_attempt(place, server, caplog):
    here = server(DATA)
    here.answers = [503, 503, 503, "ranged"]
    with caplog.at_level(logging.WARNING, "download"):
        obtain(remote(here.address), place, WAYS_OUT, QUICK)
    pauses = [record.getMessage().rpartition("in ")[2] for record in caplog.records]
    assert pauses == ["0.01 s", "0.02 s", "0.04 s"]


def test_progress_is_logged_where_there_is_no_terminal(place, server, caplog, monkeypatch):
    monkeypatch.setattr(downloads, "_REPORT_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "download"):
        obtain(remote(server(DATA).address), place, WAYS_OUT)
    # 65,536 bytes a piece, in millions
    assert "archive.zip: 0.1 of 0.3 MB" in caplog.messages
    assert "archive.zip: 0.3 of 0.3 MB" in caplog.messages


# --- one clear line each


def test_a_missing_file_is_an_error_at_once(place, server):
    here = server(DATA)
    here.answers = [404]
    message = failure(remote(here.address), place)
    assert "HTTP 404 Not Found" in message
    assert message.endswith(WAYS_OUT)
    assert len(here.requests) == 1


def test_a_server_that_stays_busy_is_given_up(place, server):
    here = server(DATA)
    here.answers = [503]
    assert "the server answers HTTP 503" in failure(remote(here.address), place, QUICK)
    assert len(here.requests) > 3


def test_an_html_page_instead_of_the_file_is_recognised(place, server):
    here = server(DATA)
    here.answers = [b"\n<!DOCTYPE html><html>Please log in</html>"]
    message = failure(remote(here.address), place)
    assert "an HTML page came in place of archive.zip" in message
    assert len(here.requests) == 1


def test_an_html_page_does_not_delete_the_part_that_was_kept(place, server):
    here = server(DATA)
    here.answers = [b"<html>Please log in</html>"]
    place.parent.mkdir()
    partial_of(place).write_bytes(DATA[:70_000])
    assert "an HTML page" in failure(remote(here.address), place)
    assert partial_of(place).read_bytes() == DATA[:70_000]


def test_a_wrong_hash_names_both_and_leaves_nothing(place, server):
    other = DATA[::-1]
    message = failure(remote(server(other).address), place)
    assert f"expected sha256 {hashlib.sha256(DATA).hexdigest()}" in message
    assert f"Received: {hashlib.sha256(other).hexdigest()}" in message
    assert names_in(place.parent) == []


def test_an_unexpected_size_is_refused_before_the_download(place, server):
    message = failure(remote(server(DATA + b"more").address), place)
    assert "expected 256000 bytes. Received: 256004 announced" in message
    assert names_in(place.parent) == []


def test_fewer_bytes_than_announced_are_an_error_and_are_kept(place, server):
    here = server(DATA)
    here.answers = [("break", 100_000), ("break", 0)]
    message = failure(remote(here.address), place)
    assert "65536 bytes are kept, and a new start goes on from there" in message
    assert message.endswith(WAYS_OUT)
    assert partial_of(place).read_bytes() == DATA[:65_536]


def test_an_early_end_is_noticed_although_no_size_was_announced(place):
    # HTTP/1.0 without Content-Length: a lost connection looks like the end of the file.
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.recv(65536)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + DATA[:1000])
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        message = failure(remote(f"http://127.0.0.1:{listening.getsockname()[1]}/"), place)
    assert "the connection ended after 1000 of 256000 bytes" in message


def test_a_refused_connection_is_given_up_in_time(place):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    message = failure(remote(f"http://127.0.0.1:{port}/archive.zip"), place)
    assert "refused" in message
    assert message.endswith(WAYS_OUT)


@pytest.mark.parametrize("call", ["getaddrinfo", "connect"])
def test_a_network_that_never_answers_is_given_up_in_time(place, monkeypatch, call):
    # No time limit of requests bounds the look-up of a name: the resolver may try for minutes.
    def swallow(*args, **kwargs):
        time.sleep(30)

    if call == "getaddrinfo":
        monkeypatch.setattr(socket, "getaddrinfo", swallow)
    else:
        monkeypatch.setattr("urllib3.util.connection.create_connection", swallow)
    started = time.monotonic()
    message = failure(
        remote("http://radiographs.invalid/archive.zip"),
        place,
        Patience(answer_s=0.2, stall_s=0.2, give_up_s=0.4, pause_s=0.05),
    )
    assert "no answer within" in message
    # 0.4 s without a byte, and one shortened attempt of at least 0.1 s.
    assert time.monotonic() - started < 1.5


def test_the_usual_patience_ends_within_30_seconds():
    usual = Patience()
    # The last pause ends before give_up_s, and the attempt after it waits for what is left.
    assert usual.give_up_s + 0.1 < 30
    # A server that answers and falls silent holds one attempt up for so much more.
    assert usual.give_up_s + usual.stall_s <= 30


def test_an_address_of_an_unknown_scheme_is_an_error(place):
    assert "ftp://127.0.0.1/archive.zip" in failure(remote("ftp://127.0.0.1/archive.zip"), place)


def test_errors_show_no_secrets_of_an_address(place, server):
    here = server(DATA)
    here.answers = [404]
    address = here.address.replace("http://", "http://me:password@") + "?token=1"
    message = failure(remote(address), place)
    assert here.address in message
    assert "password" not in message
    assert "token" not in message


def test_a_disk_without_room_is_an_error_before_the_first_byte(place, server, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    message = failure(remote(server(DATA).address), place)
    assert "No space left on device" in message
    assert "needs 256000 bytes, free there: 1000 bytes" in message


def test_a_disk_that_fills_up_meanwhile_is_an_error(place, server, monkeypatch):
    def full(response, *rest):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(downloads, "_receive", full)
    message = failure(remote(server(DATA).address), place)
    assert f"{place}: No space left on device" in message


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path, server):
    (tmp_path / "work").write_text("a file where a folder should be")
    with pytest.raises(PipelineError, match="work"):
        obtain(remote(server(DATA).address), tmp_path / "work" / "archive.zip", WAYS_OUT)

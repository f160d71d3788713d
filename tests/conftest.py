"""What several test files share: a clean environment, and archives small enough to count."""

import io
import os
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pneumonia.data.archive import write_archive

# Two normal films, one bacterial and one viral in each folder: eight in all.
SMALL = (
    "chest_xray/test/NORMAL/IM-0001-0001.jpeg",
    "chest_xray/test/NORMAL/NORMAL2-IM-0007-0001.jpeg",
    "chest_xray/test/PNEUMONIA/person1_virus_6.jpeg",
    "chest_xray/test/PNEUMONIA/person78_bacteria_378.jpeg",
    "chest_xray/train/NORMAL/IM-0115-0001.jpeg",
    "chest_xray/train/NORMAL/NORMAL2-IM-0115-0001.jpeg",
    "chest_xray/train/PNEUMONIA/person23_bacteria_91.jpeg",
    "chest_xray/train/PNEUMONIA/person23_virus_53.jpeg",
)

# What `real` tests need of PNEUMONIA_MIRROR: the first, where the mark names no other.
FILMS = "ChestXRay2017-224.zip"
REAL_FILES = (FILMS, "mobilenet_v2_1.0_224_no_top_bnfolded.weights.h5")

# Files whose tests take minutes, the longest first: begun last, they would leave a core idle.
LONGEST = ("test_story.py", "test_remote.py", "test_pipeline.py")

# What `browser` tests need on PATH, one of them.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def in_mirror(file: str) -> Path | None:
    """The first file of that name in the folders of `PNEUMONIA_MIRROR`."""
    folders = os.environ.get("PNEUMONIA_MIRROR", "").split(os.pathsep)
    paths = [Path(folder) / file for folder in folders if folder]
    return next((path for path in paths if path.is_file()), None)


def pytest_report_header() -> list[str]:
    missing = [file for file in REAL_FILES if in_mirror(file) is None]
    where = f"PNEUMONIA_MIRROR ({os.environ.get('PNEUMONIA_MIRROR') or 'not set'})"
    told = [f"left out: tests that need {' or '.join(missing)}, not in {where}"] if missing else []
    if not has_browser():
        told.append(f"left out: tests that need a browser, no {' or '.join(BROWSERS)} on PATH")
    return told


def has_browser() -> bool:
    """Whether a browser for the tests of pages is on PATH."""
    return any(shutil.which(name) for name in BROWSERS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what has not its file, and begin with what takes longest.

    Not a skip: it would be of this machine's own making.
    """
    kept, left_out = [], []
    for item in items:
        mark = item.get_closest_marker("real")
        file = (mark.args or (FILMS,))[0] if mark else None
        if file is not None and file not in REAL_FILES:  # the header would not tell of it
            raise pytest.UsageError(f"{item.nodeid}: {file!r} is not in REAL_FILES of conftest.py")
        here = file is None or in_mirror(file) is not None
        if item.get_closest_marker("browser") and not has_browser():
            here = False
        (kept if here else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
    order = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def no_mirror_and_no_key(request, monkeypatch):
    """What the machine has at hand must not decide a test, unless the test is about real films."""
    if request.node.get_closest_marker("real") is None:
        monkeypatch.delenv("PNEUMONIA_MIRROR", raising=False)
    monkeypatch.delenv("PNEUMONIA_KEY", raising=False)


@pytest.fixture
def real_archive() -> Path:
    """The 224-pixel copy of the study in `PNEUMONIA_MIRROR`; a test that asks for it is `real`."""
    path = in_mirror(FILMS)
    assert path is not None, "a test that asks for the real archive must be marked `real`"
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The one browser of a worker: it takes a second to start, and Playwright allows no second."""
    from playwright.sync_api import sync_playwright

    path = next(path for name in BROWSERS if (path := shutil.which(name)))
    with sync_playwright() as playwright:
        # Without a sandbox: it needs rights that a container does not have, and the page is ours.
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def jpeg() -> Callable[..., bytes]:
    """jpeg(grey, size=(12, 10), mode="L"): an even picture as JPEG bytes."""

    def make(grey: int, size: tuple[int, int] = (12, 10), mode: str = "L") -> bytes:
        data = io.BytesIO()
        Image.new("L", size, grey).convert(mode).save(data, "JPEG")
        return data.getvalue()

    return make


@pytest.fixture
def small_entries(jpeg) -> dict[str, bytes]:
    """The entries of an archive in the official layout: the films of SMALL, greys 0, 20 … 140."""
    return {member: jpeg(20 * i) for i, member in enumerate(SMALL)}


@pytest.fixture
def small_archive(tmp_path, small_entries) -> Path:
    """A zip archive in the official layout with the films of SMALL."""
    path = tmp_path / "small.zip"
    write_archive(path, sorted(small_entries.items()))
    return path


@pytest.fixture
def zipped(tmp_path) -> Callable[..., Path]:
    """zipped(entries, compression=stored): a zip archive of (name, bytes) pairs, as they come."""

    def make(entries, compression: int = zipfile.ZIP_STORED) -> Path:
        path = tmp_path / "zipped.zip"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in dict(entries).items():
                archive.writestr(name, data)
        return path

    return make


class Server:
    """A web server on loopback that has one file and gives scripted answers.

    `answers` holds one answer a request, the last of them for all that follow: "ranged" (the file,
    or the part that is asked for), "whole" (ignores Range), ("break", n) (announces what is asked
    for and ends after n bytes), ("hang", n) (sends n bytes and then nothing more), a status code,
    or bytes (a page in place of the file). `requests` holds the Range of each request, or None.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.answers: list = ["ranged"]
        self.requests: list[str | None] = []
        self.closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *args) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/files/archive.zip"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers["Range"]
        self.requests.append(asked)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, int):
            request.send_error(answer)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        body = answer if isinstance(answer, bytes) else self.data
        if answer == "whole" or isinstance(answer, bytes):
            asked, start = None, 0
        elif start >= len(body):
            request.send_error(416)
            return
        request.send_response(206 if asked else 200)
        request.send_header("Content-Length", str(len(body) - start))
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.end_headers()
        n_bytes = answer[1] if isinstance(answer, tuple) else len(body)
        request.wfile.write(body[start : start + n_bytes])
        request.wfile.flush()
        if isinstance(answer, tuple) and answer[0] == "hang":
            self.closing.wait()


@pytest.fixture
def server() -> Iterator[Callable[[bytes], Server]]:
    """server(data): a `Server` that runs until the end of the test."""
    started: list[Server] = []

    def start(data: bytes) -> Server:
        started.append(Server(data))
        threading.Thread(target=started[-1].http.serve_forever, args=(0.01,), daemon=True).start()
        return started[-1]

    yield start
    for one in started:
        one.closing.set()
        one.http.shutdown()
        one.http.server_close()


@pytest.fixture(scope="session")
def of_phantoms():
    """All that a plot of predictions is drawn from, of phantoms; imported here: it draws."""
    from made_plots import Measurements

    return Measurements("phantoms")


@pytest.fixture(scope="session")
def of_patients():
    """The same, of a public dataset."""
    from made_plots import Measurements

    return Measurements("chestxray2017-224")


@pytest.fixture
def figures(monkeypatch) -> list:
    """The figures that a test draws, before they would become PNGs."""
    from made_plots import keep_figures

    return keep_figures(monkeypatch)

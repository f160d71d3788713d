"""The fetch stage, as DVC starts it and as a function."""

import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pneumonia.data.archive import list_radiographs
from pneumonia.errors import PipelineError
from stages import fetch

SRC = Path(__file__).parents[2] / "src"
PARAMS = """
seed: 7
fetch: {{source: {source}, archive: {archive}, sha256: {sha256}}}
phantoms: {{image_size: 32, share: 0.002}}
"""


@pytest.fixture
def root(tmp_path):
    """A repository's root that holds parameters for phantoms and nothing else."""
    folder = tmp_path / "root"
    folder.mkdir()
    set_params(folder, "phantoms")
    return folder


def set_params(root, source, archive="null", sha256="null"):
    text = PARAMS.format(source=source, archive=archive, sha256=sha256)
    (root / "params.yaml").write_text(text)


def own_params(root, archive, data):
    set_params(root, "own", archive, f'"{hashlib.sha256(data).hexdigest()}"')


def start(root, **environment):
    """The stage as `dvc repro` starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "stages.fetch"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(SRC)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def files_in(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_the_command_draws_phantoms_and_says_what_came_out(root):
    stage = start(root)
    output, errors = stage.communicate()
    assert stage.returncode == 0, errors
    assert output == ""
    assert files_in(root) == ["data/raw/radiographs.zip", "params.yaml"]
    # share 0.002 of 1,349, 2,538, 1,345 / 234, 242, 148 films; at least two of a kind
    assert (
        "fetch: 17 images: train normal 3, train bacterial 5, train viral 3, "
        "test normal 2, test bacterial 2, test viral 2"
    ) in errors
    assert errors.splitlines()[0] == "fetch: source: phantoms"
    assert errors.splitlines()[-1].startswith("fetch: done in ")


def test_the_same_parameters_give_the_same_archive(root, tmp_path):
    fetch.main(root)
    first = (root / fetch.ARCHIVE).read_bytes()
    fetch.main(root)
    assert (root / fetch.ARCHIVE).read_bytes() == first


def test_an_own_archive_is_received(root, small_archive, monkeypatch, caplog):
    monkeypatch.setenv("PNEUMONIA_KEY", "a key for the tests")
    own_params(root, small_archive, small_archive.read_bytes())
    with caplog.at_level(logging.INFO, "fetch"):
        fetch.main(root)
    assert (root / fetch.ARCHIVE).read_bytes() == small_archive.read_bytes()
    assert any("8 images: train normal 2" in message for message in caplog.messages)


def test_a_wrong_hash_is_one_line_and_no_archive(root, small_archive):
    own_params(root, small_archive, b"another archive")
    stage = start(root, PNEUMONIA_KEY="a key for the tests")
    output, errors = stage.communicate()
    assert (stage.returncode, output) == (1, "")
    assert errors.splitlines() == [
        "fetch: source: own",
        f"error: {small_archive}: "
        f"expected sha256 {hashlib.sha256(b'another archive').hexdigest()}. "
        f"Received: {hashlib.sha256(small_archive.read_bytes()).hexdigest()}",
    ]
    assert files_in(root) == ["params.yaml"]


def test_without_a_key_own_films_are_one_line_and_no_archive(root, small_archive):
    own_params(root, small_archive, small_archive.read_bytes())
    stage = start(root)
    _, errors = stage.communicate()
    assert stage.returncode == 1
    assert errors.splitlines()[-1].startswith("error: films that are not public need a secret key")
    assert files_in(root) == ["params.yaml"]


def test_killed_in_mid_download_it_goes_on_from_there(root, small_entries, zipped, server):
    # 400,000 bytes of litter make the archive long enough to be killed half-way.
    data = zipped(small_entries | {"litter.bin": bytes(400_000)}).read_bytes()
    here = server(data)
    here.answers = [("hang", 3 * 65536), "ranged"]
    own_params(root, here.address, data)
    partial = root / ".scratch" / "fetch" / "archive.zip.download"

    stage = start(root, PNEUMONIA_KEY="a key for the tests")
    until = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size == 3 * 65536):
        assert stage.poll() is None, stage.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    stage.send_signal(signal.SIGKILL)
    stage.communicate()
    assert files_in(root) == [str(partial.relative_to(root)), "params.yaml"]

    stage = start(root, PNEUMONIA_KEY="a key for the tests")
    _, errors = stage.communicate()
    assert stage.returncode == 0, errors
    assert here.requests == [None, "bytes=196608-"]  # 3 · 65,536
    assert (root / fetch.ARCHIVE).read_bytes() == data
    assert files_in(root) == ["data/raw/radiographs.zip", "params.yaml"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (PARAMS.replace("seed: 7", ""), "section `seed` is missing"),
        (PARAMS.replace("seed: 7", "seed: many"), "seed must be int"),
        (
            PARAMS.replace("seed: 7", "seed: -1"),
            r"params\.yaml: seed must be in \[0, 4294967295\]\. Received: -1$",
        ),
        # 2³²: it used to pass here and to end in a traceback of Keras in train_frozen.
        (
            PARAMS.replace("seed: 7", "seed: 4294967296"),
            r"params\.yaml: seed must be in \[0, 4294967295\]\. Received: 4294967296$",
        ),
        (PARAMS.replace("archive:", "archiv:"), "missing archive; unknown archiv"),
        (PARAMS.replace("image_size: 32", "image_size: 3"), r"image_size must be in \[32, 1024\]"),
    ],
)
def test_wrong_parameters_stop_before_anything_is_written(root, params, message):
    text = params.format(source="phantoms", archive="null", sha256="null")
    (root / "params.yaml").write_text(text)
    with pytest.raises(PipelineError, match=message):
        fetch.main(root)
    assert files_in(root) == ["params.yaml"]


def test_the_largest_seed_that_keras_takes_is_accepted(root):
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("seed: 7", "seed: 4294967295"))
    fetch.main(root)
    assert (root / fetch.ARCHIVE).is_file()


@pytest.mark.real
def test_the_command_receives_the_study_from_the_mirror(root):
    set_params(root, "chestxray2017-224")
    stage = start(root)
    _, errors = stage.communicate()
    assert stage.returncode == 0, errors
    assert (
        "fetch: 5856 images: train normal 1349, train bacterial 2538, train viral 1345, "
        "test normal 234, test bacterial 242, test viral 148"
    ) in errors
    assert len(list_radiographs(root / fetch.ARCHIVE)) == 5856

"""Tests on real films and weights: run where their file is, and seen to be left out elsewhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import FILMS, LONGEST, REAL_FILES

ROOT = Path(__file__).parents[1]
WEIGHTS = REAL_FILES[1]
TESTS = f"""
import pytest

def test_plain(): pass

@pytest.mark.real
def test_films(): pass

@pytest.mark.real("{WEIGHTS}")
def test_weights(): pass
"""


def run(folder, tests=TESTS, mirror=None, browser=True):
    """pytest in `folder`, with our conftest.py and our configuration; the folder's own tests."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests/conftest.py", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "test_it.py").write_text(tests)
    # On PATH is a browser, or nothing.
    (folder / "bin").mkdir()
    if browser:
        (folder / "bin/chromium").touch(0o755)
    environment = os.environ | {
        "PATH": str(folder / "bin"),
        "PYTHONPATH": str(ROOT / "src"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # only to be quick
    }
    environment.pop("PNEUMONIA_MIRROR", None)
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "pytest_timeout", "."],
        cwd=folder,
        env=environment if mirror is None else environment | {"PNEUMONIA_MIRROR": mirror},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("files", "passed"),
    [
        (None, ["plain"]),  # not set
        ((FILMS,), ["plain", "films"]),
        ((WEIGHTS,), ["plain", "weights"]),
        ((FILMS, WEIGHTS), ["plain", "films", "weights"]),
    ],
)
def test_a_real_test_runs_where_its_file_is_and_is_left_out_elsewhere(tmp_path, files, passed):
    mirror = None
    if files is not None:
        (tmp_path / "two").mkdir()
        for file in files:
            (tmp_path / "two" / file).touch()
        mirror = f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}"
    done = run(tmp_path / "tests", mirror=mirror)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("plain", "films", "weights"):
        assert (f"test_it.py::test_{name} PASSED" in done.stdout) == (name in passed)
    assert "skipped" not in done.stdout
    assert ("deselected" in done.stdout) == (len(passed) < 3)
    header = [line for line in done.stdout.splitlines() if line.startswith("left out: ")]
    missing = [file for file in REAL_FILES if file not in (files or ())]
    where = f"PNEUMONIA_MIRROR ({mirror or 'not set'})"
    assert header == (
        [f"left out: tests that need {' or '.join(missing)}, not in {where}"] if missing else []
    )


@pytest.mark.parametrize("browser", [True, False])
def test_a_browser_test_runs_where_one_is_and_is_left_out_visibly_elsewhere(tmp_path, browser):
    tests = "import pytest\n@pytest.mark.browser\ndef test_page(): pass\ndef test_plain(): pass\n"
    for file in REAL_FILES:
        (tmp_path / file).touch()
    done = run(tmp_path / "tests", tests, str(tmp_path), browser)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_it.py::test_plain PASSED" in done.stdout
    assert ("test_it.py::test_page PASSED" in done.stdout) == browser
    assert ("left out: tests that need a browser, no chromium or" in done.stdout) != browser


def test_a_file_of_which_the_header_would_not_tell_is_refused(tmp_path):
    done = run(tmp_path / "tests", TESTS.replace(WEIGHTS, "other.h5"))
    assert done.returncode == 4  # pytest's code for a usage error
    assert "'other.h5' is not in REAL_FILES" in done.stderr


def test_the_real_archive_needs_the_mark(tmp_path):
    """Else what a machine has at hand would decide whether the test passes."""
    (tmp_path / FILMS).touch()
    tests = "def test_unmarked(real_archive): pass"
    done = run(tmp_path / "tests", tests, mirror=str(tmp_path))
    assert "must be marked `real`" in done.stdout
    assert done.returncode == 1


def test_what_takes_longest_begins(tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    for name in ("test_a.py", *reversed(LONGEST)):
        (folder / name).write_text("def test_one(): pass")
    said = run(folder, tests="def test_one(): pass").stdout
    begun = re.findall(r"^(\S+)::test_one PASSED", said, re.MULTILINE)
    assert begun == [*LONGEST, "test_a.py", "test_it.py"]
    assert all((ROOT / "tests" / name).exists() for name in LONGEST)

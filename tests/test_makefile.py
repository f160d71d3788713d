"""The Makefile: what each target would run, and how it keeps its environment whole.

Nothing is installed here: `make` runs in a small copy, with scripts in place of Python.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TARGETS = [
    "help", "demo", "repro", "test", "check", "fresh", "gate", "ledger", "remote", "pull",
    "push", "confirm", "summary", "report", "documents", "lock",
]  # fmt: skip

# Stands for Python: notes its arguments, makes an environment that holds itself, answers the rest.
PYTHON = """\
#!/bin/sh
echo "$@" >> "$NOTES"
case "$*" in
    *"venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip install --require-hashes"*) [ -z "$BREAK" ] || { echo "ERROR: no room"; exit 1; } ;;
    *version_info*) exit "${OLD:-0}" ;;
    --version) echo "Python 3.9.9" ;;
    *abspath*) exec python3 "$@" ;;
esac
"""


@pytest.fixture
def copy(tmp_path):
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-gpu.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "stand-in").write_text(PYTHON)
    (tmp_path / "stand-in").chmod(0o755)
    return tmp_path


def make(copy: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["make", f"PYTHON={copy}/stand-in", *arguments],
        cwd=copy, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "NOTES": str(copy / "notes"), **environment},
    )  # fmt: skip


def noted(copy: Path) -> str:
    notes = copy / "notes"
    text = notes.read_text() if notes.exists() else ""
    notes.write_text("")
    return text


def test_help_is_the_default_lists_every_target_and_installs_nothing(copy):
    done = make(copy)
    assert done.stdout == make(copy, "help").stdout
    assert re.findall(r"make ([a-z]+)", done.stdout) == TARGETS
    assert not (copy / ".venv").exists()


def test_set_up_is_done_once_from_the_lock_with_hashes(copy):
    assert make(copy, "test").returncode == 0
    notes = noted(copy)
    assert "-m pip install --require-hashes -r requirements.lock" in notes
    assert "-m pip install --quiet --no-build-isolation --no-deps --no-index -e ." in notes
    assert make(copy, "test").returncode == 0
    assert "install" not in noted(copy)


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_lock_or_pyproject_brings_the_environment_up_to_date(copy, name):
    make(copy, "test")
    noted(copy)
    later = time.time() + 10
    os.utime(copy / name, (later, later))
    make(copy, "test")
    notes = noted(copy)
    assert "install --require-hashes" in notes
    assert "--clear" not in notes  # nothing is thrown away for it


def test_an_environment_whose_installation_broke_off_is_made_anew(copy):
    broken = make(copy, "test", BREAK="1")
    assert broken.returncode != 0
    assert "ERROR: no room" in broken.stderr
    assert "pytest" not in noted(copy)
    assert make(copy, "test").returncode == 0
    notes = noted(copy)
    assert "venv --clear .venv" in notes
    assert "pytest" in notes


def test_a_python_that_is_too_old_is_one_clear_line(copy):
    done = make(copy, "test", OLD="1")
    assert done.returncode != 0
    assert not (copy / ".venv").exists()
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")] == [
        f"error: Python 3.11, 3.12 or 3.13 is needed. `{copy}/stand-in` is: Python 3.9.9. "
        "Name another: make PYTHON=python3.12 …"
    ]


def test_every_test_is_asked_for_and_conftest_says_what_it_leaves_out(copy):
    make(copy, "test")
    noted(copy)
    make(copy, "test")
    assert noted(copy).splitlines() == [
        "-m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder"
    ]


@pytest.mark.parametrize("given", ["environment", "command line"])
def test_the_mirror_is_absolute_before_dvc_sees_it(copy, given):
    make(copy, "test")
    dvc = copy / ".venv/bin/dvc"
    dvc.write_text('#!/bin/sh\necho "dvc $* sees $PNEUMONIA_MIRROR"\n')
    dvc.chmod(0o755)
    mirror = "films here:../weights:/else where"
    if given == "environment":
        done = make(copy, "repro", PNEUMONIA_MIRROR=mirror)
    else:
        done = make(copy, "repro", f"PNEUMONIA_MIRROR={mirror}")
    assert done.stdout == f"dvc repro sees {copy}/films here:{copy.parent}/weights:/else where\n"


@pytest.mark.parametrize(
    ("typed", "runs"),
    [
        (["repro"], "dvc repro"),
        (["repro", "RECIPE=paper"], "pneumonia repro 'paper'"),
        (["repro", "PULL=1"], "dvc repro --pull"),
        (["repro", "RECIPE=paper", "PULL=1"], "pneumonia repro 'paper' --pull"),
        (["demo"], "pneumonia demo"),
        (["check"], "pre-commit run --all-files"),
        (["check"], "mypy"),
        (["fresh"], "dvc repro --dry --allow-missing"),
        (["ledger"], "pneumonia ledger"),
        (["remote"], "pneumonia remote"),
        (["remote", "CANDIDATE=../x"], "pneumonia remote --candidate '../x'"),
        (["pull"], "cd '.' && dvc pull --run-cache --allow-missing"),
        (
            ["pull", "CANDIDATE=../x", "WHAT=models data"],
            "cd '../x' && dvc pull --run-cache --allow-missing models data",
        ),
        (["push"], "dvc push --run-cache"),
        (["documents"], "python -m pneumonia.documents"),
        (["report"], "pneumonia report --output 'report/report.html'"),
        (["confirm"], "pneumonia confirm"),
        (["confirm", "CANDIDATE=../x"], "pneumonia confirm --candidate '../x'"),
        (["gate"], "pneumonia gate --markdown 'report/gate.md'"),
        (["gate", "NEW_BASELINE=1"], "pneumonia gate --new-baseline --markdown"),
        (
            ["gate", "BASE=v1", "CANDIDATE=topic", "REPORT=/r"],
            "pneumonia gate --base 'v1' --candidate 'topic' --markdown '/r/gate.md'",
        ),
        (["summary"], "pneumonia summary --base 'main' --gate 'report/gate.md'"),
        (["summary", "BASE=v1"], "pneumonia summary --base 'v1' --gate 'report/gate.md'"),
        (
            ["summary", "CANDIDATE=topic", "PICTURES=https://host.example"],
            "--base 'main' --candidate 'topic' --pictures 'https://host.example' --gate",
        ),
    ],
)
def test_targets_run_what_a_person_would_type(copy, typed, runs):
    make(copy, "test")
    done = make(copy, "--dry-run", *typed)
    assert runs in " ".join(done.stdout.replace("\\\n", " ").split())


@pytest.mark.parametrize(
    ("status", "passes"), [(0, True), (6, True), (1, False), (3, False), (4, False), (5, False)]
)
def test_the_gate_lets_pass_and_waived_through_and_nothing_else(copy, status, passes):
    make(copy, "test")
    gate = copy / ".venv/bin/pneumonia"
    gate.write_text(f'#!/bin/sh\necho "pneumonia $*"\nexit {status}\n')
    gate.chmod(0o755)
    (copy / "report").mkdir()
    for name in ("gate.md", "gate.json"):
        (copy / "report" / name).write_text("PASS, of an earlier run")
    done = make(copy, "gate")
    assert (done.returncode == 0) == passes
    assert done.stdout.startswith("pneumonia gate --markdown")
    assert list((copy / "report").iterdir()) == []


def test_a_gpu_machine_installs_from_its_own_lock(copy):
    make(copy, "test", "LOCK=requirements-gpu.lock")
    assert "--require-hashes -r requirements-gpu.lock" in noted(copy)

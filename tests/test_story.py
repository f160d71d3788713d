"""The story of two branches, really played: the better passes, the worse is refused.

Slow for a test: TensorFlow starts ten times. It is played once for all tests of this file.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_repository import ROOT, ran

STORY = "examples/two_branches.sh"

pytestmark = pytest.mark.timeout(1800)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def state(folder: Path) -> str:
    """All that could tell of a story in the checkout: files, branches, commits, experiments."""
    return git(folder, "status", "--porcelain", "--ignored") + git(folder, "show-ref", "--head")


def play(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The story as somebody plays it who has never told Git a name."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    nobody = checkout.parent / "nobody"
    nobody.mkdir(exist_ok=True)
    return subprocess.run(
        [checkout / STORY, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env=environment | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(nobody), "GIT_CONFIG_NOSYSTEM": "1", "TMPDIR": str(nobody),
            "XDG_CONFIG_HOME": str(nobody), "DVC_NO_ANALYTICS": "1",
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The repository as it stands here, uncommitted files included, with one commit."""
    folder = tmp_path_factory.mktemp("story") / "checkout"
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in listed.split("\0")[:-1]:
        if (ROOT / name).is_file():  # or it is on its way out
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", "-A")
    someone = ["-c", "user.name=someone", "-c", "user.email=someone@host.example"]
    git(folder, *someone, "commit", "-qm", "start")
    return folder


@pytest.fixture(scope="module")
def told(checkout):
    """What the story said, by the branch it spoke of; its clone; the checkout before it."""
    before = state(checkout)
    clone = checkout.parent / "clone of the story"
    done = play(checkout, str(clone))
    assert done.returncode == 0, done.stdout + done.stderr
    chapters = dict(re.findall(r"^=== (\w+)(.*?)(?=^===|\Z)", done.stdout, re.M | re.S))
    return chapters, clone, before


def row(chapter: str, metric: str) -> tuple[float, float, float]:
    """main, the branch, and the change of a metric on test."""
    words = re.search(rf" test\.{metric} +(.*)", chapter).group(1).split()
    return float(words[0]), float(words[1]), float(words[2])


@pytest.mark.parametrize(
    ("branch", "verdict", "status"), [("better", "PASS", 0), ("worse", "FAIL", 3),
                                      ("comment", "PASS", 0)]
)  # fmt: skip
def test_the_better_passes_the_worse_is_refused_and_a_comment_is_not(told, branch, verdict, status):
    chapters, clone, _ = told
    assert f"Gate: {verdict} " in chapters[branch]
    assert f"exit status {status}\n" in chapters[branch]
    # Not by the story's word alone.
    done = subprocess.run(
        [sys.executable, "-m", "pneumonia.cli", "gate", "--base", "main", "--candidate", branch],
        cwd=clone, env={**os.environ, "PYTHONPATH": str(clone / "src")}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == status


def test_metrics_diff_shows_what_each_branch_does(told):
    chapters, _, _ = told
    # 117 pneumonia images on test: a lower target lets recall fall by far more than its margin.
    was, is_, change = row(chapters["worse"], "recall")
    assert was > 0.9 > is_ + 0.05
    assert change < -0.1
    assert row(chapters["worse"], "missed")[2] > 0.1 * 117
    # What makes it tempting: fewer false alarms.
    assert row(chapters["worse"], "specificity")[2] > 0.1

    assert row(chapters["better"], "specificity")[2] > 0
    assert "no metric differs" in chapters["comment"]


def test_each_branch_runs_the_stages_that_its_change_reaches(told):
    chapters, _, _ = told
    tested = ["evaluate", "plot", "examine"]
    training = ["train_frozen", "finetune"]
    assert ran(chapters["main"]) == ["fetch", "split", "preprocess", *training, *tested]
    assert ran(chapters["better"]) == [*training, *tested]
    assert ran(chapters["worse"]) == tested
    assert ran(chapters["comment"]) == ["plot"]  # test stays closed


def test_each_branch_is_one_commit_of_what_belongs_together(told):
    _, clone, _ = told
    for branch in ("better", "worse", "comment"):
        assert git(clone, "rev-list", "--count", f"main..{branch}").strip() == "1"
    changed = git(clone, "diff", "--name-only", "main", "comment").split()
    assert changed == ["dvc.lock", "src/pneumonia/plots/curves.py"]
    changed = git(clone, "diff", "--name-only", "main", "worse").split()
    assert {"params.yaml", "dvc.lock", "metrics/evaluate.json"} <= set(changed)
    assert git(clone, "status", "--porcelain") == ""


def test_the_checkout_stays_as_it_was(told, checkout):
    _, _, before = told
    assert state(checkout) == before


def test_a_second_story_in_the_same_folder_is_one_clear_line(told, checkout):
    _, clone, _ = told
    before = state(clone)
    done = play(checkout, str(clone))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {clone}: expected a new or an empty folder. Received: ")
    assert done.stderr.count("\n") == 1
    assert state(clone) == before


def test_a_story_within_the_checkout_is_refused(checkout):
    before = state(checkout)
    done = play(checkout, str(checkout / "played"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected a folder outside" in done.stderr
    assert state(checkout) == before


def test_two_folders_are_one_too_many(checkout):
    done = play(checkout, "here", "there")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: expected at most one folder. Received: here there\n"

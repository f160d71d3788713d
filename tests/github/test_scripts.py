"""The scripts that the workflows call, run in small repositories of Git.

`gh` is a stand-in that keeps a pull request's comments in a file.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pneumonia.git import git

SCRIPTS = Path(__file__).parents[2] / ".github"


def script(name: str, folder: Path, *arguments: str, **environment: str):
    return subprocess.run(
        [SCRIPTS / name, *arguments], cwd=folder, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
    )  # fmt: skip


def commit(root: Path, message: str, **files: str) -> str:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git(root, "add", "-A")
    git(root, "commit", "-qm", message, "--allow-empty")
    return git(root, "rev-parse", "HEAD").strip()


@pytest.fixture
def story(tmp_path):
    """Commits by name: old -> main, old -> change, and GitHub's merge of change into main.

    `old` has the gate; before it `policy` has gate.yaml alone and `target` only a target for it.
    The clone knows main as origin/main.
    """
    root = tmp_path / "clone"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "someone")
    git(root, "config", "user.email", "someone@host.example")
    at = {"target": commit(root, "target", Makefile="gate: x\n")}
    at["policy"] = commit(root, "policy", Makefile="investigate:\n", **{"gate.yaml": ""})
    at["old"] = commit(root, "old", Makefile="gate: x\n", **{"dvc.lock": "1"})
    git(root, "checkout", "-qb", "change")
    at["change"] = commit(root, "change", **{"code.py": "x"})
    git(root, "checkout", "-q", "main")
    at["main"] = commit(root, "main", **{"other.py": "y"})
    git(root, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(root, "merge", "-q", "--no-ff", "-m", "merge", "change")
    at["merge"] = git(root, "rev-parse", "HEAD").strip()
    return root, at


@pytest.mark.parametrize(
    ("event", "candidate", "given", "base"),
    [
        # Not where the change began: main as it is now, with which it was merged for the test.
        ("pull_request", "merge", {}, "main"),
        ("merge_group", "merge", {"GROUP_BASE": "old"}, "old"),
        ("push", "main", {"BEFORE": "old"}, "old"),
        ("workflow_dispatch", "change", {}, "old"),
        ("workflow_dispatch", "main", {}, "main"),
    ],
)
def test_the_base_is_what_the_change_would_be_merged_into(
    story, tmp_path, event, candidate, given, base
):
    root, at = story
    values = {name: at[value] for name, value in given.items()}
    folder = tmp_path / "base"
    done = script(
        "base.sh", root, str(folder), EVENT=event, CANDIDATE=at[candidate], TARGET="main",
        **{"BEFORE": "", "GROUP_BASE": ""} | values,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"base={at[base]}\n"), done.stderr
    assert git(folder, "rev-parse", "HEAD").strip() == at[base]
    assert (folder / "code.py").exists() == (base in ("change", "merge"))


@pytest.mark.parametrize(
    ("event", "candidate", "given", "says"),
    [
        ("pull_request", "change", {}, "a commit with 1 parents"),
        ("push", "main", {"BEFORE": "0" * 40}, "is not in this clone"),
        ("push", "main", {"BEFORE": "f" * 40}, "is not in this clone"),  # a forced push
        ("push", "main", {"BEFORE": ""}, "is not in this clone"),
        ("merge_group", "merge", {"GROUP_BASE": ""}, "is not in this clone"),
        ("workflow_dispatch", "change", {"TARGET": "nowhere"}, "shares no commit with"),
        ("schedule", "main", {}, "no base is known for the event 'schedule'"),
        ("push", "old", {"BEFORE": "target"}, "has no gate"),
        ("push", "old", {"BEFORE": "policy"}, "has no gate"),
    ],
)
def test_without_a_base_that_can_judge_nothing_passes(
    story, tmp_path, event, candidate, given, says
):
    root, at = story
    values = {"BEFORE": "", "GROUP_BASE": "", "TARGET": "main"}
    values |= {name: at.get(value, value) for name, value in given.items()}
    folder = tmp_path / "base"
    done = script(
        "base.sh", root, str(folder), EVENT=event, CANDIDATE=at[candidate], **values
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert says in next(line for line in done.stderr.splitlines() if line.startswith("::error::"))
    assert not folder.exists()


@pytest.mark.parametrize(
    "file",
    [
        "dvc.lock",
        "metrics/evaluate.json",
        "metrics/intervals.csv",
        "metrics/predictions.csv",
    ],
)
def test_a_fork_with_metrics_of_its_own_is_refused(story, file):
    root, at = story
    changed = commit(root, "metrics", **{file: "2"})
    done = script("access.sh", root, FORK="true", ROLE="r", BASE=at["main"], CANDIDATE=changed)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"::error::a fork changed {file}: metrics from a fork count only after" in done.stderr


@pytest.mark.parametrize(
    ("fork", "role", "granted", "says"),
    [
        ("true", "role", "false", "::notice::a fork has no credentials"),
        ("", "role", "false", "::notice::a fork has no credentials"),  # nothing known: no access
        ("false", "", "false", "::notice::the variable AWS_ROLE_READ is not set"),
        ("false", "role", "true", ""),
    ],
)
def test_the_remote_is_read_by_runs_of_this_repository_that_have_a_role(
    story, fork, role, granted, says
):
    root, at = story
    done = script("access.sh", root, FORK=fork, ROLE=role, BASE=at["main"], CANDIDATE=at["merge"])
    assert (done.returncode, done.stdout) == (0, f"granted={granted}\n")
    assert done.stderr.startswith(says)
    assert bool(done.stderr) == bool(says)


def test_access_is_not_granted_where_git_cannot_compare(story):
    root, at = story
    done = script("access.sh", root, FORK="true", ROLE="", BASE="f" * 40, CANDIDATE=at["main"])
    assert done.returncode != 0
    assert done.stdout == ""


# Stands for gh: comments are `number author body` lines in comments.json; it notes each call.
GH = """\
#!/usr/bin/env python3
import json, os, pathlib, re, sys
place = pathlib.Path(os.environ["HOME"])
with (place / "calls").open("a") as calls:
    print(*sys.argv[1:], file=calls)
if os.environ.get("BREAK") and re.search(os.environ["BREAK"], " ".join(sys.argv)):
    sys.exit("gh: not reachable")
store = place / "comments.json"
comments = json.loads(store.read_text()) if store.exists() else []
words = sys.argv[1:]
method = words[words.index("--method") + 1] if "--method" in words else "GET"
address = next(word for word in words if word.startswith("repos/"))
if address.endswith("/pulls"):
    print(os.environ.get("OPEN", ""))
elif method == "GET":
    # The filter of the script: its author and its beginning. gh's own jq is not here.
    for number, author, body in comments:
        if author == "github-actions[bot]" and body.startswith(os.environ["MARKER"]):
            print(number)
else:
    (field,) = [word for word in words if word.startswith("body=@")]
    body = pathlib.Path(field.removeprefix("body=@")).read_text()
    if method == "POST":
        comments.append([len(comments) + 11, "github-actions[bot]", body])
    else:
        number = int(address.rpartition("/")[2])
        comments = [[n, a, body if n == number else b] for n, a, b in comments]
    store.write_text(json.dumps(comments))
"""


@pytest.fixture
def pull(tmp_path):
    """pull(text, **environment): comment.sh with a stand-in gh; `.calls()`, `.comments()`."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(GH)
    (tmp_path / "bin/gh").chmod(0o755)

    def run(text: str | None, **environment: str):
        if text is not None:
            (tmp_path / "summary.md").write_text(text)
        given = {"PULL": "7", "BRANCH": "better", "REPOSITORY": "team/films", **environment}
        path = f"{tmp_path}/bin:{os.environ['PATH']}"
        return script("comment.sh", tmp_path, "summary.md", **given, PATH=path)

    run.calls = lambda: (tmp_path / "calls").read_text().splitlines()
    run.store = tmp_path / "comments.json"
    return run


def bodies(pull) -> list[list]:
    return json.loads(pull.store.read_text()) if pull.store.exists() else []


MARK = "<!-- pneumonia: review -->\n"


def test_one_comment_is_made_and_then_kept_up_to_date(pull):
    assert pull("PASS `$(touch x)` ${{ y }}\n").returncode == 0
    assert bodies(pull) == [[11, "github-actions[bot]", f"{MARK}PASS `$(touch x)` ${{{{ y }}}}\n"]]
    assert pull("FAIL\n").returncode == 0
    assert bodies(pull) == [[11, "github-actions[bot]", f"{MARK}FAIL\n"]]
    assert "repos/team/films/issues/7/comments" in pull.calls()[0]


def test_only_a_comment_of_the_workflows_own_account_is_overwritten(pull):
    theirs = [[3, "somebody", f"{MARK}PASS"], [4, "github-actions[bot]", "another workflow's"]]
    pull.store.write_text(json.dumps(theirs))
    assert pull("FAIL\n").returncode == 0
    assert bodies(pull) == [*theirs, [13, "github-actions[bot]", f"{MARK}FAIL\n"]]
    # The stand-in has no jq: the filter that gh is given says the same.
    (asked,) = [call for call in pull.calls() if "--paginate" in call]
    assert '.user.login == "github-actions[bot]" and (.body | startswith(env.MARKER))' in asked


def test_a_run_started_by_hand_finds_the_pull_request_of_its_branch(pull):
    assert pull("PASS\n", PULL="", OPEN="9").returncode == 0
    assert "head=team:better" in pull.calls()[0]
    assert "repos/team/films/issues/9/comments" in pull.calls()[1]
    assert len(bodies(pull)) == 1


def test_a_branch_without_a_pull_request_gets_no_comment_and_a_notice(pull):
    done = pull("PASS\n", PULL="")
    assert done.returncode == 0
    assert done.stdout == "::notice::better has no open pull request, and so no comment\n"
    assert bodies(pull) == []


@pytest.mark.parametrize("broken", ["pulls", "--paginate", "POST"])
def test_a_comment_that_cannot_be_made_is_a_warning_and_no_failure(pull, broken):
    done = pull("PASS\n", PULL="", OPEN="9", BREAK=broken)
    assert done.returncode == 0
    assert done.stdout.count("::warning::no comment on the pull request") == 1
    assert bodies(pull) == []


def test_without_a_summary_there_is_no_comment_and_a_warning(pull):
    done = pull(None)
    assert done.returncode == 0
    assert "::warning::no comment on the pull request (there is no summary.md)" in done.stdout


@pytest.fixture
def trained(story, tmp_path):
    """trained(files, branch=…): record.sh in a checkout of `change`, with a patch of `files`."""
    root, at = story
    origin = tmp_path / "origin.git"
    git(root, "clone", "-q", "--bare", ".", str(origin))
    git(root, "checkout", "-q", "--detach", at["change"])

    def run(branch: str = "change", patch: str | None = None, path=os.environ["PATH"], **files):
        commit(root, "trained", **files)
        made = git(root, "diff", "--binary", at["change"], "HEAD")
        git(root, "checkout", "-q", "--detach", at["change"])
        (tmp_path / "recorded.patch").write_text(made if patch is None else patch)
        return script(
            "record.sh", root, str(tmp_path / "recorded.patch"),
            TOKEN="t0ken", URL=str(origin), BRANCH=branch, DEFAULT_BRANCH="main", PATH=path,
        )  # fmt: skip

    run.origin, run.at, run.root = origin, at, root
    return run


def test_a_training_is_one_commit_of_the_bot_on_its_branch(trained):
    done = trained(**{"dvc.lock": "2", "metrics/a.json": "{}", "README.md": "new"})
    tip = git(trained.origin, "rev-parse", "change").strip()
    assert (done.returncode, done.stdout) == (0, f"commit={tip}\n"), done.stderr
    assert git(trained.origin, "rev-parse", "change~1").strip() == trained.at["change"]
    assert git(trained.origin, "log", "-1", "--format=%an: %s", "change").strip() == (
        "github-actions[bot]: Record the training of change"
    )
    changed = git(trained.origin, "diff", "--name-only", "change~1", "change").split()
    assert changed == ["README.md", "dvc.lock", "metrics/a.json"]
    assert git(trained.origin, "rev-parse", "main").strip() == trained.at["merge"]  # untouched


def test_a_training_that_changed_nothing_leaves_the_branch_as_it_is(trained):
    done = trained(patch="")
    assert (done.returncode, done.stdout) == (0, f"commit={trained.at['change']}\n")
    assert git(trained.origin, "rev-parse", "change").strip() == trained.at["change"]


@pytest.mark.parametrize("path", [".github/workflows/checks.yml", "src/x.py", "gate.yaml"])
def test_a_training_records_results_and_no_code(trained, path):
    done = trained(**{"dvc.lock": "2", path: "x"})
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Received: {path}" in done.stderr
    assert git(trained.origin, "rev-parse", "change").strip() == trained.at["change"]


def test_a_training_is_never_committed_to_the_default_branch(trained):
    done = trained("main", **{"dvc.lock": "2"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "::error::a training is never committed to main" in done.stderr
    assert git(trained.origin, "rev-parse", "main").strip() == trained.at["merge"]


def test_a_branch_that_moved_on_while_it_was_trained_is_not_overwritten(trained):
    git(trained.root, "checkout", "-q", "change")
    newer = commit(trained.root, "newer", **{"code.py": "z"})
    git(trained.root, "push", "-q", str(trained.origin), "change")
    git(trained.root, "checkout", "-q", "--detach", trained.at["change"])
    done = trained(**{"dvc.lock": "2"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "::error::change could not be pushed" in done.stderr
    assert git(trained.origin, "rev-parse", "change").strip() == newer


# Notes what it is called with and, at a push, asks the helpers it was given as Git would; goes on.
GIT = """\
#!/bin/sh
echo "$@" >> "$HOME/arguments"
case "$*" in
    *" push "*) printf 'protocol=https\\nhost=h\\n\\n' | REAL "$1" "$2" "$3" "$4" credential fill \\
        >> "$HOME/answers" ;;
esac
exec REAL "$@"
"""


def test_the_token_reaches_git_through_no_argument_and_no_file(trained, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(GIT.replace("REAL", shutil.which("git")))
    (tmp_path / "bin/git").chmod(0o755)
    done = trained(path=f"{tmp_path}/bin:{os.environ['PATH']}", **{"dvc.lock": "2"})
    assert done.returncode == 0
    assert "t0ken" not in (trained.root / "arguments").read_text()
    assert "t0ken" not in (trained.root / ".git/config").read_text()
    assert "username=x-access-token\npassword=t0ken\n" in (trained.root / "answers").read_text()

"""Git as the gate and the recipes ask it: revisions, files at a revision, what changed."""

import os
import subprocess
from pathlib import Path

import pytest

from pneumonia.errors import PipelineError
from pneumonia.git import (
    changed_paths,
    commit_of,
    contents_of,
    day_of,
    file_at,
    git,
    hashes_at,
    is_shallow,
)


@pytest.fixture
def root(tmp_path):
    """Two commits: `a` is b"one" and then b"two", `gone` is deleted, `né` has a strange name."""
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "config", "user.name", "someone")
    git(tmp_path, "config", "user.email", "someone@host.example")
    (tmp_path / "sub").mkdir()
    for name, content in (("a", b"one"), ("gone", b"x\r\n\0"), ("sub/né", b"same")):
        (tmp_path / name).write_bytes(content)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "a").write_bytes(b"two")
    (tmp_path / "gone").unlink()
    git(tmp_path, "commit", "-qam", "second")
    return tmp_path


def test_a_revision_becomes_its_full_hash(root):
    head = git(root, "rev-parse", "HEAD").strip()
    assert commit_of(root, "main") == commit_of(root, "HEAD") == commit_of(root, head[:8]) == head
    git(root, "tag", "-a", "v1", "-m", "an annotated tag is an object of its own")
    assert commit_of(root, "v1") == head


@pytest.mark.parametrize("revision", ["nowhere", "--all", "", "main:a"])
def test_what_is_no_commit_is_one_clear_error(root, revision):
    with pytest.raises(PipelineError, match=r"expected a commit, branch or tag of this clone"):
        commit_of(root, revision)


def test_files_are_read_as_they_were_to_the_byte(root):
    path = Path("a")
    assert file_at(root, "HEAD~1", path) == b"one"
    assert file_at(root, "HEAD", path) == b"two"
    (root / "a").write_bytes(b"three")
    assert file_at(root, None, path) == b"three"
    assert file_at(root, "HEAD", path) == b"two"
    assert file_at(root, "HEAD~1", Path("gone")) == b"x\r\n\0"


def test_a_missing_file_is_none_at_a_commit_and_in_the_working_tree(root):
    for revision in ("HEAD", None):
        assert file_at(root, revision, Path("gone")) is None
        assert file_at(root, revision, Path("sub/none")) is None
        assert file_at(root, revision, Path("sub")) is None


def test_changed_paths_of_commits_and_of_the_working_tree(root):
    assert changed_paths(root, "HEAD~1", "HEAD") == ["a", "gone"]
    assert changed_paths(root, "HEAD", None) == []
    (root / "sub/né").write_bytes(b"other")
    assert changed_paths(root, "HEAD", None) == ["sub/né"]


def test_hashes_and_contents_of_many_files_are_asked_at_once(root, monkeypatch):
    commits = [commit_of(root, name) for name in ("HEAD", "HEAD~1")]
    a, gone, folder = (
        hashes_at(root, commits, Path(path), kind)
        for path, kind in (("a", "blob"), ("gone", "blob"), ("sub", "tree"))
    )
    assert gone[0] == ""
    assert folder[0] == folder[1] != ""
    assert hashes_at(root, commits, Path("sub")) == ["", ""]  # a folder is no file
    assert hashes_at(root, [], Path("a")) == []
    assert contents_of(root, [*a, gone[1], a[0]]) == {
        a[0]: b"two",
        a[1]: b"one",
        gone[1]: b"x\r\n\0",
    }
    assert contents_of(root, []) == {}
    runs = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **how: runs.append(a) or run(*a, **how))
    hashes_at(root, commits * 500, Path("a"))
    assert len(runs) == 1


def test_the_day_of_a_commit_is_that_of_utc(root, monkeypatch):
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-03-01T23:30:00-05:00")
    git(root, "commit", "-q", "--allow-empty", "-m", "late in the evening in New York")
    assert day_of(root, "HEAD") == "2026-03-02"


def test_a_shallow_clone_is_known_as_one(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clones")
    git(folder, "clone", "-q", "--depth=1", f"file://{root}", "shallow")
    assert is_shallow(folder / "shallow")
    assert not is_shallow(root)


def test_a_name_that_is_no_utf8_is_shown_with_escapes(root):
    (root / os.fsdecode(b"\xff")).write_bytes(b"x")
    git(root, "add", "-A")
    assert changed_paths(root, "HEAD", None) == ["\\xff"]


def test_a_hook_that_set_git_dir_does_not_send_us_elsewhere(root, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(["git", "init", "-q"], cwd=elsewhere, check=True)
    monkeypatch.setitem(os.environ, "GIT_DIR", str(elsewhere / ".git"))
    assert commit_of(root, "HEAD~1") != commit_of(root, "HEAD")
    assert hashes_at(root, ["HEAD"], Path("a")) != [""]

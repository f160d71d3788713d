"""What Git holds: revisions, files at a revision, and which of them changed."""

import os
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pneumonia.errors import PipelineError

# A caller's Git (a hook, a rebase) sets these; they would send every question to its repository.
_OF_THE_CALLER = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


def git(root: Path, *arguments: str) -> str:
    """What `git` prints in the folder `root`, as text.

    Raises:
        subprocess.CalledProcessError: Git refused; its words are in `stderr`.
    """
    return str(_run(root, arguments, encoding="utf-8", errors="backslashreplace"))


def commit_of(root: Path, revision: str) -> str:
    """The full hash of the commit that `revision` (a branch, tag, hash, `HEAD~1` …) names.

    Raises:
        PipelineError: there is no such commit in this clone.
    """
    try:
        # --end-of-options: a revision that begins with a dash is a wrong name, not an option.
        return git(
            root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
        ).strip()
    except subprocess.CalledProcessError as error:
        raise PipelineError(
            f"expected a commit, branch or tag of this clone. Received: {revision!r}; in a shallow "
            "clone, fetch the history first: git fetch --unshallow"
        ) from error


def day_of(root: Path, commit: str) -> str:
    """The day (UTC) on which a commit was made: 2026-12-31."""
    shown = git(root, "show", "--no-patch", "--no-show-signature", "--format=%ct", commit)
    return datetime.fromtimestamp(int(shown), UTC).date().isoformat()


def is_shallow(root: Path) -> bool:
    """Whether this clone lacks older commits."""
    return git(root, "rev-parse", "--is-shallow-repository").strip() == "true"


def file_at(root: Path, revision: str | None, path: Path) -> bytes | None:
    """The bytes of `path` at a commit, or in the working tree (None); None where it is missing."""
    if revision is None:
        file = root / path
        return file.read_bytes() if file.is_file() else None
    entry = git(root, "ls-tree", revision, "--", path.as_posix())
    if entry.split()[1:2] != ["blob"]:  # mode, type, hash, path; a folder is no file
        return None
    return bytes(_run(root, ["cat-file", "blob", f"{revision}:{path.as_posix()}"]))


def changed_paths(root: Path, base: str, candidate: str | None) -> list[str]:
    """Tracked paths that differ between two commits, or `base` and the working tree (None)."""
    revisions = [base] if candidate is None else [base, candidate]
    listed = git(root, "diff", "--no-renames", "--name-only", "-z", *revisions, "--")
    return listed.split("\0")[:-1]


def hashes_at(root: Path, commits: Iterable[str], path: Path, kind: str = "blob") -> list[str]:
    """Git's hash of the file (or folder: tree) at `path` in each commit; "" where it is missing."""
    asked = "".join(f"{commit}:{path.as_posix()}\n" for commit in commits)
    answers = bytes(_run(root, ["cat-file", "--batch-check"], input=asked.encode())).decode()
    words = [line.split() for line in answers.splitlines()]
    return [word[0] if word[1:2] == [kind] else "" for word in words]


def contents_of(root: Path, hashes: Iterable[str]) -> dict[str, bytes]:
    """The bytes of each object, by its hash; thousands take one process."""
    wanted = sorted(set(hashes))
    asked = "".join(f"{name}\n" for name in wanted).encode()
    answers = bytes(_run(root, ["cat-file", "--batch"], input=asked))
    contents, start = {}, 0
    for name in wanted:  # each answer: `hash type size`, a line's end, the bytes, a line's end
        body = answers.index(b"\n", start) + 1
        end = body + int(answers[start:body].split()[2])
        contents[name] = answers[body:end]
        start = end + 1
    return contents


def _run(root: Path, arguments: Sequence[str], **how: Any) -> Any:
    """Standard output; `how` goes on to `subprocess.run`."""
    environment = {k: v for k, v in os.environ.items() if k not in _OF_THE_CALLER}
    return subprocess.run(
        ["git", *arguments], cwd=root, check=True, capture_output=True, env=environment, **how
    ).stdout

"""The team's storage: does DVC's remote hold every object that dvc.lock names?

`dvc status --cloud` cannot answer this: if the remote has the list of a directory, it assumes the
files of that directory too, and about a missing list it only warns.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# None of these packages ships types.
from botocore.exceptions import BotoCoreError
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils import dict_sha256
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError

from pneumonia.errors import PipelineError

SHOWN = 3  # of the missing paths, in a message


def completeness(root: Path, name: str | None) -> str:
    """One line on the remote `name`, or the default one, if it holds all objects of dvc.lock.

    The local cache plays no part, so a fresh clone gets the same answer. Only names and the lists
    of directories are read, no radiograph and no model. Outputs in Git (`cache: false`) do not
    count. The run-cache is reported but not required: it spares other branches a training, while
    this revision needs its objects alone.

    Raises:
        PipelineError: an object is missing; dvc.lock does not name every output; the remote is
            unknown or cannot be read, or DVC would not verify downloads from it.
    """
    with _one_line(str(root)), Repo(str(root)) as repo:
        name = name or repo.config["core"].get("remote")
        if name not in repo.config["remote"]:
            known = ", ".join(sorted(repo.config["remote"])) or "none"
            raise PipelineError(
                f"expected a remote of DVC ({known}). Received: {name or 'no default'}; "
                "`dvc remote add --default storage s3://BUCKET/PATH` makes one: docs/remote.md"
            )
        remote = repo.cloud.get_remote_odb(name)
        where = f"remote {name} ({repo.config['remote'][name]['url']})"
        # A broken download can stay in the cache under its final name, and DVC then takes half a
        # file for the whole (dvc#9641). A local folder is safe: files there are renamed.
        if remote.fs.protocol != "local" and not remote.verify:
            raise PipelineError(
                f"{where}: expected `verify = true`; without it DVC takes half a file of a broken "
                f"download for the whole. Received: none; `dvc remote modify {name} verify true`"
            )
        named = _named(repo)
        with _one_line(where):
            held = _held(remote, named)
            named |= _in_directories(remote, {path: named[path] for path in held})
            held = _held(remote, named)
            n_runs, n_stages = _in_run_cache(repo, name)
    n_objects = len({info.value for info in named.values()})
    if missing := [path for path in named if path not in held]:
        n_missing = len({named[path].value for path in missing})
        raise PipelineError(
            f"{where}: {n_missing} of the {n_objects} objects of dvc.lock are missing: "
            f"{_first(missing)}; `dvc push --run-cache` on the machine that made them sends them"
        )
    return (
        f"{where}: all {n_objects} objects of dvc.lock are there; "
        f"the run-cache has {n_runs} of {n_stages} stages"
    )


def _named(repo: Any) -> dict[str, HashInfo]:
    """Every cached output and its hash in dvc.lock; the path of a directory ends with a slash."""
    outputs = [out for out in repo.index.outs if out.use_cache]
    if unknown := [out.def_path for out in outputs if not out.hash_info]:
        raise PipelineError(
            f"dvc.lock: expected every output of dvc.yaml. Received: no {_first(unknown)}; "
            "`dvc repro` makes and names them"
        )
    if not outputs:
        raise PipelineError("dvc.yaml: expected outputs that DVC caches. Received: none")
    return {f"{out.def_path}{'/' if out.hash_info.isdir else ''}": out.hash_info for out in outputs}


def _held(remote: Any, named: dict[str, HashInfo]) -> set[str]:
    """Paths whose object is in the remote's own listing; DVC's index of it may be stale."""
    held = set(remote.oids_exist({str(info.value) for info in named.values()}))
    return {path for path, info in named.items() if info.value in held}


def _in_directories(remote: Any, named: dict[str, HashInfo]) -> dict[str, HashInfo]:
    """The files in the directories among `named`, whose lists are read from the remote."""
    return {
        f"{path}{'/'.join(key)}": file
        for path, info in named.items()
        if info.isdir
        for key, _, file in Tree.load(remote, info)
        if file is not None
    }


def _in_run_cache(repo: Any, name: str) -> tuple[int, int]:
    """The number of locked stages with a result in the remote's run-cache, and of all stages.

    `dvc push --run-cache` exits 0 even if it could not send that part.
    """
    # The run-cache lies beside `files`, at the path of an older hash.
    remote = repo.cloud.get_remote_odb(name, hash_name="md5-dos2unix")
    folders = []
    for stage in repo.index.stages:
        locked = to_single_stage_lockfile(stage)
        locked["outs"] = [out["path"] for out in locked["outs"]]
        # DVC's own function for the key of a run needs the dependencies; a fresh clone has none.
        key = dict_sha256(locked, exclude=["size", "nfiles"])
        folders.append(remote.fs.join(remote.path, "runs", key[:2], key))
    return sum(map(remote.fs.exists, folders)), len(folders)


def _first(paths: list[str]) -> str:
    """The first few of the paths, and how many more there are."""
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more


@contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Errors of DVC, the network or the store become one line that begins with `where`."""
    try:
        yield
    except (DvcException, BotoCoreError, ObjectFormatError, OSError) as error:
        raise PipelineError(f"{where}: {' '.join(str(error).split())}") from error

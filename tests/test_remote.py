"""The team's storage: a machine gets what another pushed without a run; no damage stays unnoticed.

The graph is the repository's own; its stages are replaced by a program that writes their outputs.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pneumonia.errors import PipelineError
from pneumonia.remote import _one_line, completeness
from pneumonia.store.yaml12 import load_yaml
from s3 import REGION, Line, Store
from tiny_repository import ROOT, STAGES, ask_dvc, copy_of_the_repository, hashes, ran

BUCKET, FOLDER = "example-pneumonia", "pipeline"
TRAINED = "models/finetune.keras"
DIRECTORY = "data/processed/test"

# In place of every stage. The bytes depend on the path alone; metrics must be text.
STAGE = """\
#!{python}
import random, sys, yaml
from pathlib import Path

stage = yaml.safe_load(Path("dvc.yaml").read_text())["stages"][sys.argv[-1].removeprefix("stages.")]
for kind in ("outs", "metrics", "plots"):
    for entry in stage.get(kind, []):
        path = Path(entry if isinstance(entry, str) else next(iter(entry)))
        for file in [path] if path.suffix else [path / "images.npy", path / "index.csv"]:
            file.parent.mkdir(parents=True, exist_ok=True)
            n_bytes = 4_500_000 if path.suffix == ".keras" else 500
            file.write_text(random.Random(str(file)).randbytes(n_bytes).hex())
"""

# The line between two machines is cut on purpose; without these each cut costs minutes.
TIMEOUTS = {"read_timeout": 5, "connect_timeout": 5}


def program(folder: Path, text: str) -> str:
    """A folder for the beginning of PATH, with a `python` of that text."""
    (folder / "bin").mkdir()
    python = folder / "bin/python"
    python.write_text(text)
    python.chmod(0o755)
    return str(python.parent)


def outputs(folder: Path, *stages: str) -> dict[str, bool]:
    """Every path that these stages, or all of them, write, and whether DVC caches it."""
    graph = load_yaml(folder / "dvc.yaml")["stages"]
    found = {}
    for stage in stages or STAGES:
        for kind in ("outs", "metrics", "plots"):
            for entry in graph[stage].get(kind, []):
                found[entry if isinstance(entry, str) else next(iter(entry))] = isinstance(
                    entry, str
                ) or next(iter(entry.values())).get("cache", True)
    return found


@pytest.fixture(scope="module")
def store():
    one = Store(BUCKET)
    yield one
    one.close()


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a machine that has only these credentials, and no folder of DVC's own."""
    folder = tmp_path_factory.mktemp("machine")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": "anyone",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": str(folder / "none"),  # a developer's own must not be found
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "NO_PROXY": "127.0.0.1",
    }


def git(folder: Path, *arguments: str) -> str:
    someone = ["-c", "user.name=someone", "-c", "user.email=someone@host.example"]
    return subprocess.run(
        ["git", *someone, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def use(folder: Path, name: str = "storage", **settings: object) -> Path:
    """Make a remote of that name, with these settings, the default of a clone."""
    lines = [f"    {key} = {value}\n" for key, value in settings.items()]
    (folder / ".dvc/config.local").write_text(
        f"[core]\n    remote = {name}\n['remote \"{name}\"']\n{''.join(lines)}"
    )
    return folder


def on_s3(address: str, bucket: str = BUCKET) -> dict[str, object]:
    url = f"s3://{bucket}/{FOLDER}"
    return {"url": url, "endpointurl": address, "verify": "true", **TIMEOUTS}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory, store, environment):
    """All stages ran here, are committed, and were pushed to the store."""
    folder = copy_of_the_repository(tmp_path_factory.mktemp("first"))
    stage = program(tmp_path_factory.mktemp("stage"), STAGE.format(python=sys.executable))
    done = ask_dvc(folder, "repro", environment=environment, first=stage)
    assert ran(done.stdout) == STAGES, done.stdout
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "run")
    use(folder, **on_s3(store.address))
    done = ask_dvc(folder, "push", "--run-cache", environment=environment)
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def first(pushed, store):
    """Clone A, with its full cache."""
    return use(pushed, **on_s3(store.address))


@pytest.fixture
def second(first, store, tmp_path):
    """Clone B: what Git has, an empty cache, and the same remote."""
    git(tmp_path, "clone", "-q", str(first), "second")
    return use(tmp_path / "second", **on_s3(store.address))


@pytest.fixture
def no_stage(tmp_path):
    """A folder for the beginning of PATH, with a `python` that runs nothing."""
    return program(tmp_path, "#!/bin/sh\necho 'no stage runs here' >&2\nexit 1\n")


@pytest.fixture
def line(store):
    one = Line(store.place)
    yield one
    one.close()


def contents(folder: Path, *stages: str) -> dict[str, bytes]:
    """Every file that these stages, or all of them, wrote and its bytes."""
    paths = [folder / path for path in outputs(folder, *stages)]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.is_file()}


def half_files(objects: dict[str, bytes]) -> list[str]:
    """Names of objects whose bytes do not have the md5 that the name says."""
    return [
        name
        for name, data in objects.items()
        if (parts := re.search(r"files/md5/(..)/(\w+)(\.dir)?$", name))
        and hashlib.md5(data).hexdigest() != parts[1] + parts[2]
    ]


def cached(folder: Path) -> dict[str, bytes]:
    cache = folder / ".dvc/cache"
    return {str(path): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def objects_named(folder: Path) -> dict[str, str]:
    """Key in the store of every object that dvc.lock names, and whose path it is."""
    cache, names = folder / ".dvc/cache/files/md5", {}
    is_cached = outputs(folder)
    for path, md5 in hashes(folder).items():
        if is_cached[path]:
            names[f"{md5[:2]}/{md5[2:]}"] = path
            if md5.endswith(".dir"):
                for file in json.loads((cache / md5[:2] / md5[2:]).read_bytes()):
                    names[f"{file['md5'][:2]}/{file['md5'][2:]}"] = f"{path}/{file['relpath']}"
    return {f"{FOLDER}/files/md5/{name}": path for name, path in names.items()}


def key_of(folder: Path, path: str) -> str:
    return next(key for key, named in objects_named(folder).items() if named == path)


# Another machine.


@pytest.mark.parametrize(
    ("where", "commands"),
    [("s3", ["pull --run-cache", "repro"]), ("a folder", ["repro --pull"])],
)
def test_a_machine_gets_the_outputs_of_another_without_running_a_stage(
    first, second, no_stage, environment, tmp_path, where, commands
):
    if where == "a folder":
        for clone in (first, second):
            use(clone, "folder", url=tmp_path / "storage")
        done = ask_dvc(first, "push", "--run-cache", environment=environment)
        assert done.returncode == 0, done.stdout
    for command in commands:
        done = ask_dvc(second, *command.split(), environment=environment, first=no_stage)
        assert done.returncode == 0, done.stdout
    assert "Data and pipelines are up to date." in done.stdout
    assert contents(second) == contents(first)
    assert git(second, "status", "--short") == ""


def test_without_dvc_lock_the_run_cache_restores_all_but_the_files_in_git(
    first, second, no_stage, environment
):
    # So after a conflict in dvc.lock, or where another machine ran the stages and did not commit.
    # A stage with outputs in Git runs: they are not in the run-cache that is pushed.
    restored = [stage for stage in STAGES if all(outputs(second, stage).values())]
    first_in_git = next(stage for stage in STAGES if stage not in restored)
    (second / "dvc.lock").unlink()
    done = ask_dvc(second, "repro", "--pull", environment=environment, first=no_stage)
    assert done.returncode != 0
    assert ran(done.stdout) == [first_in_git]
    assert contents(second, *restored) == contents(first, *restored)
    locked, expected = (load_yaml(folder / "dvc.lock")["stages"] for folder in (second, first))
    assert locked == {stage: expected[stage] for stage in restored}


# What goes wrong.


def assert_refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode != 0, done.stdout
    assert words in done.stdout
    assert "Traceback" not in done.stdout


def test_wrong_credentials_are_an_error_and_change_nothing(first, second, store, environment):
    before = store.objects()
    unknown = {**environment, "AWS_ACCESS_KEY_ID": "unknown"}
    with store.looking_at_keys():
        sent = ask_dvc(first, "push", "--run-cache", environment=unknown)
        pulled = ask_dvc(second, "pull", environment=unknown)
    assert_refused(sent, "The AWS Access Key Id you provided does not exist")
    assert_refused(pulled, "Forbidden")
    assert store.objects() == before
    assert cached(second) == {}


def test_a_missing_bucket_is_an_error(first, store, environment):
    use(first, **on_s3(store.address, "no-such-bucket"))
    done = ask_dvc(first, "push", environment=environment)
    assert_refused(done, "The specified bucket does not exist")


def test_an_interrupted_push_leaves_no_half_object_and_the_next_completes(
    first, store, line, environment
):
    whole = store.objects()
    store.delete(*whole)
    use(first, **on_s3(line.address))
    # Some kB are the run-cache, the directories and what else is small; two models of 9 MB follow.
    line.cut("up", 6_000_000)
    done = ask_dvc(first, "push", "--run-cache", environment=environment)
    assert_refused(done, "failed to")
    left = store.objects()
    assert half_files(left) == []
    assert set(left) < set(whole)
    line.mend()
    done = ask_dvc(first, "push", "--run-cache", environment=environment)
    assert done.returncode == 0, done.stdout
    assert store.objects() == whole


def test_an_interrupted_pull_leaves_no_half_file_and_the_next_completes(
    first, second, line, no_stage, environment
):
    use(second, **on_s3(line.address))
    line.cut("down", 6_000_000)
    done = ask_dvc(second, "pull", "--run-cache", environment=environment)
    assert_refused(done, "failed to")
    assert half_files(cached(second)) == []
    line.mend()
    done = ask_dvc(second, "pull", "--run-cache", environment=environment)
    assert done.returncode == 0, done.stdout
    assert contents(second) == contents(first)


def test_half_an_object_is_noticed_where_the_remote_is_verified(first, second, store, environment):
    # dvc#9641: a download into a pair of files that broke off stayed in the cache, read-only, and
    # every later pull and status took it for whole. The promise hangs on `verify = true`.
    key = key_of(first, f"{DIRECTORY}/images.npy")
    whole = store.get(key)
    store.put(key, whole[: len(whole) // 2])
    done = ask_dvc(second, "pull", DIRECTORY, environment=environment)
    store.put(key, whole)
    assert done.returncode != 0, done.stdout
    assert half_files(cached(second)) == []


# Who may what, as docs/remote.md gives it.


def policies() -> list[dict]:
    """The policies of docs/remote.md: of the role that reads and of the one that writes."""
    text = (ROOT / "docs/remote.md").read_text(encoding="utf-8")
    found = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    return [one for one in found if "s3:" in json.dumps(one)]


def test_the_reading_role_reads_and_cannot_write_and_the_writing_role_does_both(
    first, second, store, environment
):
    reading, writing = (store.someone_with(policy) for policy in policies())
    key, run = key_of(first, TRAINED), next(key for key in store.objects() if "/runs/" in key)
    whole = store.objects()
    store.delete(key, run)
    with store.looking_at_keys():
        refused = ask_dvc(first, "push", environment={**environment, **reading})
        sent = ask_dvc(first, "push", "--run-cache", environment={**environment, **writing})
        pulled = ask_dvc(second, "pull", "--run-cache", environment={**environment, **reading})
    assert_refused(refused, "Access Denied")
    assert sent.returncode == 0, sent.stdout
    assert pulled.returncode == 0, pulled.stdout
    assert store.objects() == whole


# Is all there?


@pytest.fixture
def machine(monkeypatch, environment):
    """The environment of `environment`, in this process."""
    for name in [*os.environ]:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_complete_remote_is_reported_with_the_number_of_objects(first, second, store, machine):
    n_objects = len(objects_named(first))
    assert completeness(second, None) == (
        f"remote storage (s3://{BUCKET}/{FOLDER}): all {n_objects} objects of dvc.lock are there; "
        f"the run-cache has {len(STAGES)} of {len(STAGES)} stages"
    )
    assert cached(second) == {}  # nothing was fetched


@pytest.mark.parametrize(
    ("cache", "lost", "told"),
    [
        ("an empty cache", TRAINED, TRAINED),
        ("an empty cache", f"{DIRECTORY}/images.npy", f"{DIRECTORY}/images.npy"),
        ("an empty cache", DIRECTORY, f"{DIRECTORY}/"),
        ("a full cache", f"{DIRECTORY}/images.npy", f"{DIRECTORY}/images.npy"),
    ],
)
def test_a_lost_object_is_named(first, second, store, machine, cache, lost, told):
    clone = second if cache == "an empty cache" else first
    key = key_of(first, lost)
    data = store.get(key)
    store.delete(key)
    try:
        with pytest.raises(PipelineError, match=rf"1 of the \d+ objects .* missing: {told};"):
            completeness(clone, None)
    finally:
        store.put(key, data)


def test_a_folder_is_checked_like_a_bucket(first, second, machine, environment, tmp_path):
    folder = tmp_path / "storage"
    for clone in (first, second):
        use(clone, "folder", url=folder)
    n = sum(outputs(first).values())
    with pytest.raises(PipelineError, match=rf"{n} of the {n} objects .* {n - 3} more; `dvc push"):
        completeness(second, None)
    ask_dvc(first, "push", environment=environment)  # without the run-cache
    told = completeness(second, "folder")
    assert f"all {len(objects_named(first))} objects" in told
    assert f"has 0 of {len(STAGES)} stages" in told


def test_a_wrong_setup_is_one_line(first, second, store, machine, monkeypatch):
    def said() -> str:
        with pytest.raises(PipelineError) as error:
            completeness(second, None)
        assert "\n" not in str(error.value)
        return str(error.value)

    right = on_s3(store.address)
    use(second, **{**right, "verify": "false"})
    assert "expected `verify = true`" in said()
    use(second, **on_s3(store.address, "no-such-bucket"))
    assert "The specified bucket does not exist" in said()
    use(second, **{**right, "endpointurl": "http://127.0.0.1:9"})  # nobody listens there
    assert "Could not connect" in said()
    use(second, **right)
    with store.looking_at_keys():
        assert "The AWS Access Key Id you provided does not exist" in said()
    key, whole = key_of(first, DIRECTORY), store.get(key_of(first, DIRECTORY))
    store.put(key, whole[:-1])  # a list of files that is none
    assert "is corrupted" in said()
    store.put(key, whole)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "Unable to locate credentials" in said()
    (second / "dvc.yaml").write_text("stages:\n  fetch: {}\n")
    assert "dvc.yaml" in said()
    (second / ".dvc/config.local").unlink()
    assert said().startswith("expected a remote of DVC (none). Received: no default;")
    with pytest.raises(PipelineError, match=r"\(none\)\. Received: elsewhere;"):
        completeness(second, "elsewhere")


def test_an_error_of_several_lines_becomes_one():
    with pytest.raises(PipelineError, match=r"^remote x: it is no use$"), _one_line("remote x"):
        raise OSError("it is\n  no use")


def test_a_lock_that_does_not_name_every_output_is_refused(second, machine):
    more = sum(outputs(second).values()) - 3
    (second / "dvc.lock").unlink()
    with pytest.raises(PipelineError, match=rf"dvc\.lock: expected every output .* {more} more;"):
        completeness(second, None)
    shutil.rmtree(second / ".dvc")
    with pytest.raises(PipelineError, match="DVC repository"):
        completeness(second, None)

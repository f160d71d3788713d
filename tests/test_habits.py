"""What guards a commit and makes a new machine ready: the hooks, and the dev container."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from pneumonia.store.yaml12 import load_yaml

ROOT = Path(__file__).parent.parent
CHECK_FILES = ROOT / ".ci/check_files.py"
HOOKS = {
    hook["id"]: hook
    for repository in load_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    for hook in repository["hooks"]
}


def checked(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CHECK_FILES, *names], cwd=folder, capture_output=True, text=True
    )


def test_every_hook_is_local_and_comes_from_the_environment_that_make_sets_up():
    # Hooks of other repositories would be downloaded, in versions that no lock holds.
    repositories = load_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    assert {hook["language"] for hook in HOOKS.values()} == {"system"}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in HOOKS.values())


def test_the_hooks_are_lint_format_schemas_and_files_and_make_check_runs_them():
    assert set(HOOKS) == {"lint", "format", "schemas", "files"}
    check = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n.PHONY")[0]
    assert "pre-commit run --all-files\n" in check
    # Once, not twice.
    assert not re.search(r"\bruff\b|pneumonia\.schemas|check_files", check)


@pytest.mark.parametrize(
    "name",
    [
        "data/raw/radiographs.zip", "models/finetune.keras", "data/split/manifest.csv",
        "src/film.JPEG", "tests/scan.dcm", "export/model.onnx", "weights.h5", "images.npy",
        ".venv/pip.log", ".dvc/cache/files/md5/00/11", "src/__pycache__/x", ".mypy_cache/x",
        ".scratch/finetune/state",
    ],
)  # fmt: skip
def test_data_models_and_caches_stay_out_of_git(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    done = checked(tmp_path, name)
    assert done.returncode == 1
    assert done.stderr == f"{name}: expected no data, model or cache in Git\n"


def test_a_file_of_one_mebibyte_may_be_committed_and_one_byte_more_may_not(tmp_path):
    (tmp_path / "whole.txt").write_bytes(bytes(1 << 20))
    (tmp_path / "more.txt").write_bytes(bytes((1 << 20) + 1))
    done = checked(tmp_path, "whole.txt", "more.txt")
    assert done.returncode == 1
    assert done.stderr == "more.txt: expected at most 1048576 bytes. Received: 1048577\n"


def test_all_that_git_tracks_here_may_be_committed():
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    names = [name for name in listed.split("\0")[:-1] if (ROOT / name).is_file()]
    done = checked(ROOT, *names)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_dev_container_installs_by_the_makefiles_own_rule():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    make, target = container["postCreateCommand"].split()
    asked = [make, "--dry-run", "--always-make", target]
    rule = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "pip install --require-hashes -r requirements.lock" in rule
    version = re.fullmatch(r"python:(3\.\d+)-\w+", container["image"])[1]
    accepted = re.search(r'requires-python = "(.+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert version in SpecifierSet(accepted)

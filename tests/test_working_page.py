"""docs/working.md is followed from top to bottom: a toy pipeline in place of the real one.

The toy has the stages, parameters and metrics of the real pipeline by name, and takes milliseconds.
DVC runs in this process, which saves a second for each of some forty commands.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.cli import main as dvc_main

from test_documents import COMMANDS, blocks, text_of

ROOT = Path(__file__).parent.parent
TOY = """\
stages:
  train_frozen:
    cmd: mkdir -p .scratch/train_frozen && echo ${train_frozen.learning_rate} > frozen.keras
    params: [train_frozen.learning_rate]
    outs: [frozen.keras]
  finetune:
    cmd: >-
      mkdir -p .scratch/finetune metrics && cp frozen.keras finetune.keras &&
      printf '{"epoch": 1, "loss": ${finetune.learning_rate}, "roc_auc": %s}'
      ${train_frozen.learning_rate} > metrics/finetune.json
    deps: [frozen.keras]
    params: [finetune.learning_rate]
    outs: [finetune.keras]
    metrics: [metrics/finetune.json]
  evaluate:
    cmd: >-
      mkdir -p metrics plots &&
      printf '{"test": {"recall": ${evaluate.target_recall}}}' > metrics/evaluate.json &&
      printf 'recall,precision\\n${evaluate.target_recall},1\\n' > plots/roc.csv
    deps: [finetune.keras]
    params: [evaluate.target_recall]
    metrics:
      - metrics/evaluate.json: {cache: false}
    plots:
      - plots/roc.csv: {cache: false, x: recall, y: precision}
"""
# DVC's own, in each of its commands.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning:dvc")

# `make` would install, and the worker of a queue would outlive the test.
LEFT_OUT = ("make", "source", "dvc queue start")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A clone of the toy with `dvc repro` done and committed on main, an origin and a remote."""
    home, clone = tmp_path / "home", tmp_path / "clone"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\nname = someone\nemail = someone@host.example\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_EDITOR", "true")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "origin"))
    run("git", "clone", "--quiet", str(tmp_path / "origin"), str(clone))
    run("git", "-C", str(clone), "switch", "--quiet", "--create", "main")
    monkeypatch.chdir(clone)
    for name in ("params.yaml", ".gitattributes"):
        shutil.copy(ROOT / name, clone)
    Path("dvc.yaml").write_text(TOY)
    ignored = (ROOT / ".gitignore").read_text()
    Path(".gitignore").write_text(
        f"{ignored}/frozen.keras\n/finetune.keras\n/metrics/finetune.json\n"
    )
    run("dvc", "init", "--quiet")
    run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    run("dvc", "repro")
    run("git", "add", "--all")
    run("git", "commit", "--quiet", "-m", "start")
    run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    return clone


def run(*words: str, status: int = 0) -> None:
    """Run one command, DVC in this process; it must end with this status."""
    if words[0] == "dvc":
        assert dvc_main(list(words[1:])) == status, shlex.join(words)
    else:
        assert subprocess.run(words).returncode == status, shlex.join(words)


def replace(old: str, new: str) -> None:
    """What a person does to params.yaml in an editor, in the first place where it stands."""
    text = Path("params.yaml").read_text()
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new, 1))


def metric(name: str) -> float:
    text = Path("metrics/finetune.json").read_text() + Path("metrics/evaluate.json").read_text()
    return float(re.search(rf'"{name}": ([\d.]+)', text).group(1))


def lines_of_the_page() -> list[str]:
    text = "\n".join(blocks(text_of("docs/working.md"), *COMMANDS))
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_the_page_can_be_followed_from_top_to_bottom(toy, capfd):
    said = {}
    for line in lines_of_the_page():
        words = shlex.split(line, comments=True)
        typed = " ".join(words)
        if typed.startswith(LEFT_OUT):
            if typed.startswith("dvc queue start"):
                run("dvc", "exp", "run", "--run-all")  # the same trials, in the foreground
            continue
        if typed == "git commit -m Raise the learning rate of the frozen phase":
            assert metric("roc_auc") == 1  # rate-2's, which was applied
        # The page says of this merge that it ends in a conflict.
        run(*words, status=1 if typed == "git merge main" else 0)
        said[typed] = capfd.readouterr().out
        if typed == "git push --set-upstream origin better":  # meanwhile, on main
            run("git", "switch", "--quiet", "main")
            run("dvc", "checkout")
            replace("target_recall: 0.98", "target_recall: 0.9")
            run("dvc", "repro")
            run("git", "add", "--all")
            run("git", "commit", "--quiet", "-m", "Lower the target")
        capfd.readouterr()

    table = next(text for typed, text in said.items() if "--sort-by" in typed)
    heading, *rows = [line for line in table.splitlines() if line.startswith("|")]
    columns = [cell.strip() for cell in heading.strip("|").split("|")]
    assert sorted(columns) == [
        "Experiment", "epoch", "loss", "roc_auc", "train_frozen.learning_rate",
    ]  # fmt: skip
    trials = [re.search(r"rate-\d", row)[0] for row in rows if "rate-" in row]
    assert trials == ["rate-2", "rate-1"]  # the higher area first
    changed = re.findall(r"^metrics/\S+ +(\S+)", said["dvc metrics diff main"], re.MULTILINE)
    assert changed == ["roc_auc"]  # the learning rate of the frozen phase
    assert (toy / "dvc_plots/index.html").exists()
    # After the conflict both changes are there: better's model under main's target.
    assert (metric("roc_auc"), metric("recall")) == (1, 0.9)
    assert subprocess.check_output(["git", "log", "-1", "--format=%P"]).split()[1:]  # a merge
    # To train from nothing gave the same again.
    assert said["dvc repro"] == "Data and pipelines are up to date.\n"


@pytest.mark.parametrize(
    "block", [b for b in blocks(text_of("docs/remote.md"), "sh") if "add" in b]
)
def test_a_remote_is_set_up_as_the_page_says(block, toy, tmp_path):
    run("dvc", "remote", "remove", "storage")
    for line in block.splitlines():
        if line.startswith(("dvc remote", "git")):
            run(*shlex.split(line))
    config = Path(".dvc/config").read_text()
    assert "remote = storage" in config
    assert ("verify = true" in config) == ("s3://" in config)
    assert subprocess.check_output(["git", "status", "--porcelain"]) == b""


def test_experiments_of_another_clone_can_be_fetched(toy, tmp_path, monkeypatch):
    run("dvc", "exp", "run", "-n", "slower", "-S", "finetune.learning_rate=0.0005", "finetune")
    run("dvc", "exp", "push", "origin", "slower")
    run("git", "clone", "--quiet", str(tmp_path / "origin"), str(tmp_path / "other"))
    monkeypatch.chdir(tmp_path / "other")
    (line,) = re.findall(r"`(git fetch origin [^`]+)`", text_of("docs/looks.md"))
    run(*shlex.split(line))
    refs = subprocess.check_output(["git", "for-each-ref", "refs/exps"], text=True)
    assert "/slower\n" in refs

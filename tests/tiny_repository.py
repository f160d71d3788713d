"""The repository with the parameters of a tiny run: all stages, really run, in about a minute."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dvc.utils.hydra import apply_overrides

from pneumonia.store.yaml12 import load_yaml

ROOT = Path(__file__).parent.parent
STAGES = [
    "fetch", "split", "preprocess", "train_frozen", "finetune", "evaluate", "plot", "examine",
]  # fmt: skip

# Some 60 phantoms of 32 pixels through a small network, once.
TINY = [
    "fetch.source=phantoms",
    "phantoms.image_size=32",
    "phantoms.share=0.01",
    "preprocess.image_size=32",
    "model.backbone=mobilenet_v2",
    "model.weights=none",
    "evaluate.n_bootstrap=50",
    "robustness.n_images=0",
    *(
        f"{phase}.{setting}"
        for phase in ("train_frozen", "finetune")
        for setting in (
            "epochs=1",
            "batch_size=16",
            "schedule=constant",
            "warmup_epochs=0",
            "precision=float32",
            # Three in four are pneumonia: some probabilities are above one half, and precision
            # is defined, however little was learned.
            "class_weights=none",
        )
    ),
]


def ask_dvc(
    folder: Path, *arguments: str, environment: Mapping[str, str] = os.environ, first: str = ""
) -> subprocess.CompletedProcess[str]:
    """DVC's exit status, and all it and the stages say; each folder has a cache of its own.

    Programs are looked for in the folder `first`, if any, then beside this Python, then in PATH.
    """
    folders = [first, str(Path(sys.executable).parent), environment["PATH"]]
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env={
            **environment,
            "PATH": os.pathsep.join(filter(None, folders)),
            "DVC_NO_ANALYTICS": "1",  # it would look for an address outside
        },
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def dvc(folder: Path, *arguments: str) -> str:
    """What DVC and the stages say; it must succeed."""
    done = ask_dvc(folder, *arguments)
    assert done.returncode == 0, done.stdout
    return done.stdout


def ran(said: str) -> list[str]:
    """The stages that DVC ran, in the order of the pipeline: it runs the last two in any."""
    return [stage for stage in STAGES if f"Running stage '{stage}'" in said]


def copy_of_the_repository(folder: Path) -> Path:
    """What the pipeline needs of it, with the parameters of a tiny run, as a fresh checkout."""
    for name in ("params.yaml", "dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    apply_overrides(folder / "params.yaml", TINY)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    dvc(folder, "init", "-q")
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    someone = ["-c", "user.name=someone", "-c", "user.email=someone@host.example"]
    subprocess.run(["git", *someone, "commit", "-qm", "start"], cwd=folder, check=True)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """md5 of every output in dvc.lock."""
    lock = load_yaml(folder / "dvc.lock")
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}

"""`predict` and `export` on a terminal: their own lines alone, and one line on Ctrl-C."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from test_export import a_run, by_mean_grey

ROOT = Path(__file__).parents[2]
PREDICT = ("predict", "dark.png", "none.png", "--model", "finetune.keras")
EXPORT = ("export", "--format", "onnx", "--model", "finetune.keras")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout of the pipeline with a model that is quick to load, and an image."""
    folder = tmp_path_factory.mktemp("checkout")
    a_run(folder, by_mean_grey())
    Image.new("L", (40, 50)).save(folder / "dark.png")
    (folder / "recipes").mkdir()
    (folder / "dvc.yaml").touch()
    someone = ["-c", "user.name=someone", "-c", "user.email=someone@host.example"]
    for command in (["init", "-q"], ["add", "dvc.yaml"], [*someone, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    environment = {key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "pneumonia.cli", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment | {"PYTHONPATH": str(ROOT / "src")},
        # Where the tests run in the background, SIGINT may be ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def test_predict_prints_its_own_lines_and_nothing_else(checkout):
    output, errors = (process := start(checkout, *PREDICT)).communicate()
    assert (process.returncode, errors) == (1, "")
    lines = output.splitlines()
    assert len(lines) == 6
    assert lines[0] == "probability  verdict    radiograph"
    assert lines[1].split() == ["0.119203", "pneumonia", "dark.png"]  # 1 / (1 + e²)
    assert lines[2].split()[:2] == ["warning,", "blank:"]
    assert lines[-1].startswith("1 of 2 answered; pneumonia from 0.118511 on.")


def test_export_prints_its_own_lines_and_nothing_else(checkout):
    output, errors = (process := start(checkout, *EXPORT)).communicate()
    assert (process.returncode, errors) == (0, "")
    assert output.startswith(f"{checkout}/models/export/onnx\n")
    assert output.endswith("Research software. Not for diagnosis.\n")
    assert len(output.splitlines()) == 5


@pytest.mark.parametrize("command", [PREDICT, EXPORT], ids=["predict", "export"])
def test_ctrl_c_ends_with_one_line_and_status_130(checkout, command):
    point = checkout / "operating_point.json"
    kept = point.rename(checkout / "kept.json")
    os.mkfifo(point)
    try:
        process = start(checkout, *command)
        with point.open("w"):  # returns when the command opens it too: it is at work
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate()
    finally:
        kept.rename(point)
    assert (process.returncode, output, errors) == (130, "", "interrupted\n")

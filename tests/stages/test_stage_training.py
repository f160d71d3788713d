"""Both training stages, whole: what they hand on, and that a kill changes nothing."""

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from pneumonia.errors import PipelineError
from pneumonia.store.arrays import open_split
from pneumonia.training.fit import validation_metrics
from pneumonia.training.model_files import load_classifier, predict_probabilities
from stages import finetune, train_frozen
from training_root import write_params, write_root

# Each phase builds its graphs again, which a busy machine takes minutes for.
pytestmark = pytest.mark.timeout(900)

SRC = Path(__file__).parents[2] / "src"
# With these the lowest validation loss comes early, and patience runs out before the epochs do.
STOPS_EARLY = {"finetune__patience": 3, "finetune__learning_rate": 0.03}


def hashes(root: Path, stage: str) -> dict[str, str]:
    files = [root / f"models/{stage}.keras", *(root / "metrics").rglob(f"{stage}/**/*.tsv")]
    files += root.glob(f"metrics/{stage}.json")
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


def run(root: Path, stage: str, kill_after: str | None = None) -> str:
    """Run a stage as DVC does and return what it says; SIGKILL it once it has said `kill_after`."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(SRC)},
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(600, process.kill)
    watchdog.start()
    said = ""
    for line in process.stderr:
        said += line
        if kill_after is not None and kill_after in line:
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    process.wait()
    watchdog.cancel()
    assert process.returncode == (0 if kill_after is None else -signal.SIGKILL), said
    return said


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A root in which both phases ran without a disturbance."""
    root = write_root(tmp_path_factory.mktemp("undisturbed") / "root", **STOPS_EARLY)
    train_frozen.main(root)
    finetune.main(root)
    return root


@pytest.fixture
def root(undisturbed, tmp_path):
    """A root in which the frozen phase is done and fine-tuning is not."""
    shutil.copytree(undisturbed, tmp_path / "root")
    shutil.rmtree(tmp_path / "root/metrics/finetune")
    shutil.rmtree(tmp_path / "root/.scratch/finetune")
    (tmp_path / "root/models/finetune.keras").unlink()
    return tmp_path / "root"


def rows(root: Path, stage: str, metric: str) -> list[float]:
    lines = (root / f"metrics/{stage}/plots/metrics/{metric}.tsv").read_text().splitlines()
    assert lines[0] == f"step\t{metric.split('/')[1]}"
    assert [int(line.split("\t")[0]) for line in lines[1:]] == list(range(len(lines) - 1))
    return [float(line.split("\t")[1]) for line in lines[1:]]


def handed_on(root: Path) -> dict:
    return json.loads((root / "metrics/finetune.json").read_text())


def test_early_stopping_stops_patience_epochs_after_the_lowest_validation_loss(undisturbed):
    losses = rows(undisturbed, "finetune", "eval/loss")
    assert len(losses) == int(np.argmin(losses)) + 1 + 3 < 8
    for metric in ("train/loss", "train/accuracy", "eval/accuracy", "eval/roc_auc"):
        assert len(rows(undisturbed, "finetune", metric)) == len(losses)


@pytest.mark.parametrize("stage", ["train_frozen", "finetune"])
def test_the_model_handed_on_is_the_one_of_the_lowest_validation_loss(undisturbed, stage):
    validation = open_split(undisturbed / "data/processed/validation")
    y_prob = predict_probabilities(
        load_classifier(undisturbed / f"models/{stage}.keras"), validation.images
    )
    measured = validation_metrics(validation.labels, y_prob)
    losses = rows(undisturbed, stage, "eval/loss")
    assert measured["eval/loss"] == pytest.approx(min(losses), abs=1e-6)
    if stage == "finetune":
        assert handed_on(undisturbed) == {
            "epoch": int(np.argmin(losses)) + 1,
            "loss": round(measured["eval/loss"], 6),
            "roc_auc": round(measured["eval/roc_auc"], 6),
        }


def test_the_frozen_phase_leaves_the_backbone_as_it_was(undisturbed, tmp_path):
    """The seed makes the random backbone; with 0 epochs it is handed on as it was made."""
    other = write_root(tmp_path / "other", train_frozen__epochs=0)
    train_frozen.main(other)
    trained, made = (
        load_classifier(folder / "models/train_frozen.keras").get_weights()
        for folder in (undisturbed, other)
    )
    assert all((a == b).all() for a, b in zip(trained[:-2], made[:-2], strict=True))
    assert (trained[-2] != made[-2]).any()  # the dense unit


def test_a_killed_phase_ends_with_the_bytes_of_an_undisturbed_one(undisturbed, root):
    """Killed one epoch before patience runs out: the wait and the best weights must be known."""
    run(root, "finetune", kill_after="epoch 3/8: loss")
    said = run(root, "finetune")
    assert "resuming after epoch 3 of 8" in said
    assert "epoch 4/8: loss" in said
    assert hashes(root, "finetune") == hashes(undisturbed, "finetune")


def test_a_killed_phase_ends_with_the_same_bytes_under_every_handle_of_training(root, tmp_path):
    """Averaged weights, clipped gradients, crops, noise and blur; the last epoch is handed on."""
    write_params(
        root,
        finetune__epochs=3,
        finetune__select="last",
        finetune__ema_decay=0.9,
        finetune__clip_norm=1.0,
        augmentation__crop_area_min=0.3,
        augmentation__crop_aspect=1.3,
        augmentation__noise=0.05,
        augmentation__blur=1.0,
    )
    whole = shutil.copytree(root, tmp_path / "whole")
    finetune.main(whole)
    assert handed_on(whole)["epoch"] == 3
    run(root, "finetune", kill_after="epoch 1/3: loss")
    assert "resuming after epoch 1 of 3" in run(root, "finetune")
    assert hashes(root, "finetune") == hashes(whole, "finetune")
    # Not the weights that were trained last, but their average.
    validation = open_split(root / "data/processed/validation")
    y_prob = predict_probabilities(
        load_classifier(root / "models/finetune.keras"), validation.images
    )
    measured = validation_metrics(validation.labels, y_prob)
    assert handed_on(root)["loss"] == pytest.approx(measured["eval/loss"], abs=1e-5)


def test_a_stage_says_its_own_lines_only(root):
    write_params(root, finetune__epochs=0, finetune__warmup_epochs=0)
    said = run(root, "finetune").splitlines()
    assert said
    assert [line for line in said if not line.startswith("finetune: ")] == []


def test_ctrl_c_ends_a_stage_with_one_line_and_status_130(root):
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.finetune"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(SRC)},
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = [process.stderr.readline()]  # counts of images: Keras has started
    process.send_signal(signal.SIGINT)
    lines += process.stderr.readlines()
    assert process.wait(60) == 130
    assert [line for line in lines if not line.startswith("finetune: ")] == ["interrupted\n"]


def test_a_finished_phase_whose_outputs_are_gone_is_not_trained_again(undisturbed, root, caplog):
    """`dvc repro` that was killed while its stage went on deletes the outputs and starts again."""
    shutil.copytree(undisturbed / ".scratch/finetune", root / ".scratch/finetune")
    with caplog.at_level(logging.INFO):
        finetune.main(root)
    assert "resuming after epoch 4 of 8" in caplog.text
    assert "epoch 5/8" not in caplog.text
    assert hashes(root, "finetune") == hashes(undisturbed, "finetune")


@pytest.fixture(scope="module")
def spoiled(undisturbed, tmp_path_factory):
    """Fine-tuning again over a finished one, at a rate at which the loss can only rise."""
    folder = tmp_path_factory.mktemp("spoiled") / "root"
    shutil.copytree(undisturbed, folder)
    write_params(folder, finetune__epochs=2, finetune__learning_rate=0.5)
    finetune.main(folder)
    return folder


def test_a_changed_parameter_starts_afresh(spoiled, undisturbed):
    assert (spoiled / ".scratch/finetune/state.npz").exists()
    losses = rows(spoiled, "finetune", "train/loss")
    assert len(losses) == 2
    assert losses[0] != rows(undisturbed, "finetune", "train/loss")[0]


def test_fine_tuning_never_hands_on_a_model_worse_than_the_one_it_was_given(spoiled):
    given, result = (
        load_classifier(spoiled / f"models/{stage}.keras").get_weights()
        for stage in ("train_frozen", "finetune")
    )
    assert all((a == b).all() for a, b in zip(given, result, strict=True))
    about = handed_on(spoiled)
    assert min(rows(spoiled, "finetune", "eval/loss")) > about["loss"]
    assert about["epoch"] == 0


def test_no_epochs_hand_the_model_on_unchanged(root):
    write_params(root, finetune__epochs=0, finetune__warmup_epochs=0)
    finetune.main(root)
    given, result = (
        load_classifier(root / f"models/{stage}.keras").get_weights()
        for stage in ("train_frozen", "finetune")
    )
    assert all((a == b).all() for a, b in zip(given, result, strict=True))
    assert (root / "metrics/finetune/plots/metrics").is_dir()  # DVC expects it
    assert handed_on(root)["epoch"] == 0


def test_a_training_that_diverges_stops_with_one_line(root):
    write_params(
        root,
        finetune__epochs=1,
        finetune__learning_rate=1e30,
        finetune__schedule="constant",
        finetune__warmup_epochs=0,
    )
    with pytest.raises(PipelineError, match=r"the training diverged\. Lower the learning rate"):
        finetune.main(root)
    assert not (root / "models/finetune.keras").exists()

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
from types import ModuleType

import numpy as np
import pytest

from pneumonia.errors import PipelineError
from pneumonia.store.arrays import open_split
from pneumonia.training.fit import validation_metrics
from pneumonia.training.model_files import load_classifier, predict_probabilities
from stages import finetune, train_frozen
from training_root import write_params, write_root

# Each phase builds its graphs anew, which a busy machine takes minutes for.
pytestmark = pytest.mark.timeout(900)

SRC = Path(__file__).parents[2] / "src"
# With these the lowest validation loss comes early, and patience runs out before the epochs do.
STOPS_EARLY = {"finetune__patience": 3, "finetune__learning_rate": 0.03}


def hashes(root: Path, stage: str) -> dict[str, str]:
    files = [root / f"models/{stage}.keras", *(root / "metrics" / stage).rglob("*.*")]
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


def in_this_process(stage: ModuleType, root: Path) -> None:
    """Run a stage without waiting for another TensorFlow to start."""
    # A stage is one process; it imports this module once and forgets its name.
    sys.modules.pop("pneumonia.training.batches", None)
    stage.main(root)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A root in which both phases ran without a disturbance."""
    root = write_root(tmp_path_factory.mktemp("undisturbed") / "root", **STOPS_EARLY)
    in_this_process(train_frozen, root)
    in_this_process(finetune, root)
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


def summary(root: Path, stage: str) -> dict:
    return json.loads((root / f"metrics/{stage}/metrics.json").read_text())


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
    about = summary(undisturbed, stage)
    losses = rows(undisturbed, stage, "eval/loss")
    assert about["epochs"] == len(losses)
    assert about["best_epoch"] == int(np.argmin(losses)) + 1
    assert about["best"]["loss"] == min(losses)
    assert measured["eval/loss"] == pytest.approx(min(losses), abs=1e-6)


def test_the_frozen_phase_leaves_the_backbone_as_it_was(undisturbed, tmp_path):
    """The seed makes the random backbone; with 0 epochs it is handed on as it was made."""
    other = write_root(tmp_path / "other", train_frozen__epochs=0)
    in_this_process(train_frozen, other)
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


def test_a_finished_phase_whose_outputs_are_gone_is_not_trained_again(undisturbed, root, caplog):
    """`dvc repro` that was killed while its stage went on deletes the outputs and starts again."""
    shutil.copytree(undisturbed / ".scratch/finetune", root / ".scratch/finetune")
    with caplog.at_level(logging.INFO):
        in_this_process(finetune, root)
    assert "resuming after epoch 4 of 8" in caplog.text
    assert "epoch 5/8" not in caplog.text
    assert hashes(root, "finetune") == hashes(undisturbed, "finetune")


@pytest.fixture(scope="module")
def spoiled(undisturbed, tmp_path_factory):
    """Fine-tuning again over a finished one, at a rate at which the loss can only rise."""
    folder = tmp_path_factory.mktemp("spoiled") / "root"
    shutil.copytree(undisturbed, folder)
    write_params(folder, finetune__epochs=2, finetune__learning_rate=0.5)
    in_this_process(finetune, folder)
    return folder


def test_a_changed_parameter_starts_afresh(spoiled, undisturbed):
    assert (spoiled / ".scratch/finetune/state.npz").exists()
    losses = rows(spoiled, "finetune", "train/loss")
    assert len(losses) == 2
    assert losses[0] != rows(undisturbed, "finetune", "train/loss")[0]


def test_fine_tuning_never_hands_on_a_model_worse_than_the_one_it_was_given(spoiled):
    given, handed_on = (
        load_classifier(spoiled / f"models/{stage}.keras").get_weights()
        for stage in ("train_frozen", "finetune")
    )
    assert all((a == b).all() for a, b in zip(given, handed_on, strict=True))
    about = summary(spoiled, "finetune")
    assert min(rows(spoiled, "finetune", "eval/loss")) > about["best"]["loss"]
    assert about["best_epoch"] == 0


def test_no_epochs_hand_the_model_on_unchanged(root):
    write_params(root, finetune__epochs=0, finetune__warmup_epochs=0)
    in_this_process(finetune, root)
    given, handed_on = (
        load_classifier(root / f"models/{stage}.keras").get_weights()
        for stage in ("train_frozen", "finetune")
    )
    assert all((a == b).all() for a, b in zip(given, handed_on, strict=True))
    assert (root / "metrics/finetune/plots/metrics").is_dir()  # DVC expects it
    assert summary(root, "finetune")["epochs"] == 0


def test_a_training_that_diverges_stops_with_one_line(root):
    write_params(
        root,
        finetune__epochs=1,
        finetune__learning_rate=1e30,
        finetune__schedule="constant",
        finetune__warmup_epochs=0,
    )
    with pytest.raises(PipelineError, match=r"the training diverged\. Lower the learning rate"):
        in_this_process(finetune, root)
    assert not (root / "models/finetune.keras").exists()

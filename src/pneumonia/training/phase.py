"""What both training stages do: enter a phase, train, and write the model and its curves.

DVCLive is imported inside the function that needs it.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumonia.quiet import start_keras
from pneumonia.store.arrays import IMAGES, INDEX, open_split
from pneumonia.store.files import write_json
from pneumonia.training.augmentation import AugmentationParams
from pneumonia.training.fit import PhaseParams, duration, fit, is_better, validation_metrics
from pneumonia.training.model_files import predict_probabilities, save_classifier
from pneumonia.training.network import ModelParams, build_classifier
from pneumonia.training.state import StateFile, exclusive, fingerprint


@dataclass(frozen=True)
class PhaseFiles:
    """Where a phase reads and writes."""

    train: Path  # folder of a split
    validation: Path  # folder of a split
    given: Path | None  # the file that the phase starts from: pretrained weights or a model
    model: Path  # the `.keras` file it hands on
    curves: Path  # DVCLive's folder
    metrics: Path | None  # the JSON file of what validation says of the model handed on
    scratch: Path  # resumable state, ignored by Git and DVC


def run_phase(
    files: PhaseFiles,
    enter: Callable[[Any], None],
    model: ModelParams,
    augmentation: AugmentationParams,
    params: PhaseParams,
    seed: int,
    log: logging.Logger,
) -> None:
    """Train one phase; write the best of the models it saw, the given one included, and its curves.

    A phase never hands on a model that is worse than the one it was given, by what `params.select`
    compares; the last epoch is handed on unseen.

    Args:
        files: where it reads and writes.
        enter: makes of a newly built classifier the one that the phase starts from.
        model: the network.
        augmentation: ranges of the random changes.
        params: how the phase trains.
        seed: of everything random.
        log: the stage's logger.

    Raises:
        PipelineError: another process trains here, an input is broken, the training diverged.
    """
    from dvclive import Live

    keras = start_keras()
    with exclusive(files.scratch):
        started = time.monotonic()
        train, validation = open_split(files.train), open_split(files.validation)
        log.info(
            "%d training images (%d pneumonia), %d validation images (%d pneumonia), %d pixels",
            len(train.labels), train.labels.sum(),
            len(validation.labels), validation.labels.sum(), train.image_size,
        )  # fmt: skip

        def build(precision: str) -> Any:
            keras.utils.set_random_seed(seed)
            classifier = build_classifier(model, train.image_size, precision)
            enter(classifier)
            return classifier

        inputs = [folder / name for folder in (files.train, files.validation)
                  for name in (IMAGES, INDEX)]  # fmt: skip
        inputs += [files.given] if files.given else []
        state = StateFile(
            files.scratch / "state.npz",
            fingerprint([model, augmentation, params, seed], inputs),
        )
        # DVCLive clears its folder when it starts; the rows of a resumed phase are written again.
        with Live(str(files.curves), dvcyaml=False, save_dvc_exp=False) as live:

            def write_row(row: dict[str, float]) -> None:
                for name, value in row.items():
                    live.log_metric(name, value)
                live.next_step()

            best, progress = fit(
                build, train, validation, params, augmentation, seed, state, write_row, log
            )
            # Built again, so that the file does not depend on what else this process has built.
            keras.utils.clear_session()
            classifier = build("float32")
            given = validation_metrics(
                validation.labels, predict_probabilities(classifier, validation.images)
            )
            handed_on, whose = given, "the model that came in"
            if progress.history:
                selected = progress.history[progress.best_epoch]
                if is_better(selected, given, params.select):
                    handed_on, whose = selected, f"epoch {progress.best_epoch + 1}"
                    classifier.set_weights(best)
        # With 0 epochs there are no curves, but DVC expects their folder.
        (files.curves / "plots" / "metrics").mkdir(parents=True, exist_ok=True)
        save_classifier(classifier, files.model)
        if files.metrics is not None:
            about = {
                # 1 is the first epoch, 0 the model that came in.
                "epoch": 0 if handed_on is given else progress.best_epoch + 1,
                "loss": round(handed_on["eval/loss"], 6),
                "roc_auc": round(handed_on["eval/roc_auc"], 6),
            }
            write_json(files.metrics, about)
        log.info(
            "%d epochs, handed on: %s; validation loss %.4f, accuracy %.4f, AUC %.4f; %s",
            progress.epoch,
            whose,
            handed_on["eval/loss"], handed_on["eval/accuracy"], handed_on["eval/roc_auc"],
            duration(time.monotonic() - started),
        )  # fmt: skip

"""The epochs of one phase: fit, validate, save the state, stop early.

Everything that a phase knows is saved after every epoch; the order of the data and the augmentation
are functions of (seed, epoch, step). So a phase that was killed and started again ends, on the CPU,
with the bytes of one that was not.

Keras is imported inside the functions that need it: checking parameters starts no TensorFlow.
"""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score
from tqdm import tqdm

from pneumonia.errors import PipelineError
from pneumonia.store.arrays import Split
from pneumonia.store.params import check
from pneumonia.training.augmentation import AugmentationParams, augmented
from pneumonia.training.model_files import predict_probabilities
from pneumonia.training.state import Progress, StateFile

# Where nobody watches a bar, a line this often says how far a long epoch is.
SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class PhaseParams:
    """How one phase trains."""

    epochs: int  # at most; 0 hands the model on unchanged
    batch_size: int
    optimizer: Literal["adam", "adamw"]
    learning_rate: float  # peak of the schedule
    schedule: Literal["constant", "cosine"]  # cosine falls to zero at the last epoch
    warmup_epochs: int  # cosine only: linear rise from zero
    weight_decay: float  # adamw only; not on biases and BatchNorm
    patience: int  # epochs without a lower validation loss before stopping
    class_weights: Literal["none", "balanced"]
    label_smoothing: float  # in [0, 1)
    precision: Literal["float32", "mixed_bfloat16"]  # float16 would need loss scaling

    def __post_init__(self) -> None:
        check(self.epochs >= 0, "epochs", "be at least 0", self.epochs)
        check(self.batch_size >= 1, "batch_size", "be at least 1", self.batch_size)
        check(self.learning_rate > 0, "learning_rate", "be above 0", self.learning_rate)
        check(self.warmup_epochs >= 0, "warmup_epochs", "be at least 0", self.warmup_epochs)
        check(self.warmup_epochs == 0 or self.schedule == "cosine", "warmup_epochs",
              "be 0 unless schedule is cosine", self.warmup_epochs)  # fmt: skip
        check(self.warmup_epochs == 0 or self.warmup_epochs < self.epochs, "warmup_epochs",
              f"be below epochs ({self.epochs})", self.warmup_epochs)  # fmt: skip
        check(self.weight_decay >= 0, "weight_decay", "be at least 0", self.weight_decay)
        check(self.weight_decay == 0 or self.optimizer == "adamw", "weight_decay",
              "be 0 unless optimizer is adamw", self.weight_decay)  # fmt: skip
        check(self.patience >= 1, "patience", "be at least 1", self.patience)
        check(0 <= self.label_smoothing < 1, "label_smoothing", "be in [0, 1)",
              self.label_smoothing)  # fmt: skip


def validation_metrics(y_true: NDArray[np.int64], y_prob: NDArray[np.float64]) -> dict[str, float]:
    """Loss, accuracy at 0.5 and ROC-AUC, under the names of DVCLive, where `eval` is validation.

    The loss is the plain binary cross-entropy, without class weights or label smoothing, so that
    it compares across phases and recipes.

    Args:
        y_true: (n_images,) int; 1 = pneumonia, 0 = normal.
        y_prob: (n_images,) float; P(pneumonia) in [0, 1].
    """
    # As Keras does: a probability of exactly 0 or 1 must not cost infinity.
    clipped = np.clip(y_prob, 1e-7, 1 - 1e-7)
    return {
        "eval/loss": float(log_loss(y_true, clipped, labels=[0, 1])),
        "eval/accuracy": float(np.mean((y_prob >= 0.5) == (y_true == 1))),
        "eval/roc_auc": float(roc_auc_score(y_true, y_prob)),
    }


def balanced_class_weights(labels: NDArray[np.int64]) -> tuple[float, float]:
    """Weights (normal, pneumonia) that make both classes count the same: n / (2 n_class)."""
    n_normal, n_pneumonia = int(np.sum(labels == 0)), int(np.sum(labels == 1))
    return len(labels) / (2 * n_normal), len(labels) / (2 * n_pneumonia)


def fit(
    build: Callable[[str], Any],
    train: Split,
    validation: Split,
    params: PhaseParams,
    augmentation: AugmentationParams,
    seed: int,
    state: StateFile,
    on_epoch: Callable[[dict[str, float]], None],
    log: logging.Logger,
) -> tuple[list[NDArray[Any]], Progress]:
    """Train until the last epoch or until the validation loss has not fallen for `patience` epochs.

    Args:
        build: from a precision to a classifier as it enters the phase; called once or twice.
        train: what is learned from, augmented.
        validation: what stops the phase; never augmented, always in float32.
        params: how.
        augmentation: ranges of the random changes.
        seed: of order and augmentation.
        state: where the phase resumes from and saves to.
        on_epoch: receives a row of the history for every epoch, resumed ones included.
        log: one line an epoch goes here.

    Returns:
        The weights of the epoch with the lowest validation loss (as `get_weights` gives them; those
        that came in if no epoch was run), and what the phase knows at its end.
    """
    classifier = build("float32")
    if params.epochs == 0:
        return classifier.get_weights(), Progress()
    # Mixed precision trains a twin. Validation and the file stay in float32, so that what is
    # measured during training is what the saved model gives.
    network = classifier if params.precision == "float32" else build(params.precision)
    network.set_weights(classifier.get_weights())
    batches_per_epoch = -(-len(train.labels) // params.batch_size)
    trainer = compiled_trainer(network, train.image_size, augmentation, params, batches_per_epoch)
    variables = trainer.variables + trainer.optimizer.variables

    progress, best = state.load(variables)
    for row in progress.history:
        on_epoch(row)
    if progress.epoch:
        log.info("resuming after epoch %d of %d", progress.epoch, params.epochs)
    class_weights = (
        balanced_class_weights(train.labels) if params.class_weights == "balanced" else (1.0, 1.0)
    )

    from pneumonia.training.batches import TrainingBatches

    while progress.epoch < params.epochs and progress.wait < params.patience:
        epoch, started = progress.epoch, time.monotonic()
        batches = TrainingBatches(
            train, params.batch_size, class_weights, augmentation, seed, epoch
        )
        title = f"epoch {epoch + 1}/{params.epochs}"
        fitted = trainer.fit(
            batches,
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,  # TrainingBatches orders the images itself
            verbose=0,
            callbacks=[progress_callback(title, len(train.labels), params.batch_size, log)],
        ).history
        trained = time.monotonic() - started
        if network is not classifier:
            classifier.set_weights(network.get_weights())
        y_prob = predict_probabilities(classifier, validation.images)
        if not np.isfinite(y_prob).all():
            raise PipelineError(
                f"epoch {epoch + 1}: the model gives probabilities that are not numbers: the "
                f"training diverged. Lower the learning rate. Received: {params.learning_rate}"
            )
        row = {
            "train/loss": float(fitted["loss"][-1]),
            "train/accuracy": float(fitted["accuracy"][-1]),
            **validation_metrics(validation.labels, y_prob),
        }
        lowest = min((r["eval/loss"] for r in progress.history), default=float("inf"))
        if row["eval/loss"] < lowest:
            best, progress.best_epoch, progress.wait = classifier.get_weights(), epoch, 0
        else:
            progress.wait += 1
        progress.history.append(row)
        progress.epoch += 1
        state.save(variables, progress, best)
        on_epoch(row)
        left = (params.epochs - progress.epoch) * (time.monotonic() - started)
        log.info(
            "%s: loss %.4f, accuracy %.4f; validation loss %.4f, accuracy %.4f, AUC %.4f%s; "
            "%.0f images/s, at most %s left",
            title,
            row["train/loss"],
            row["train/accuracy"],
            row["eval/loss"],
            row["eval/accuracy"],
            row["eval/roc_auc"],
            " (lowest loss)" if progress.wait == 0 else "",
            len(train.labels) / trained,
            duration(left),
        )
    return best, progress


def compiled_trainer(
    network: Any,
    image_size: int,
    augmentation: AugmentationParams,
    params: PhaseParams,
    batches_per_epoch: int,
) -> Any:
    """The network behind its augmentation, with optimiser and loss, ready to fit `TrainingBatches`.

    The augmentation wraps the network here and is never saved in it.
    """
    import keras

    inputs = {
        "radiograph": keras.Input((image_size, image_size, 1), dtype="uint8", name="radiograph"),
        "affine": keras.Input((8,), dtype="float32", name="affine"),
        "tone": keras.Input((3,), dtype="float32", name="tone"),
    }
    changed = augmented(inputs["radiograph"], inputs["affine"], inputs["tone"], augmentation.fill)
    trainer = keras.Model(inputs, network(changed), name="trainer")

    total = params.epochs * batches_per_epoch
    warmup = params.warmup_epochs * batches_per_epoch
    rate: Any = params.learning_rate
    if params.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else params.learning_rate,
            decay_steps=total - warmup,
            warmup_target=params.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if params.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=params.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    else:
        optimizer = keras.optimizers.Adam(rate)
    trainer.compile(
        optimizer=optimizer,
        loss=keras.losses.BinaryCrossentropy(label_smoothing=params.label_smoothing),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy")],
        # TensorFlow's XLA has no kernel for the affine transform.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    trainer.optimizer.build(trainer.trainable_variables)  # so that its state can be restored
    return trainer


def progress_callback(title: str, n_images: int, batch_size: int, log: logging.Logger) -> Any:
    """A Keras callback: a bar on a terminal, elsewhere a plain line every half minute."""
    import keras

    class Bar(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
        # Keras passes `logs` by name.
        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
            self.bar = tqdm(
                total=n_images, desc=title, unit=" images", leave=False,
                disable=not sys.stderr.isatty(),
            )  # fmt: skip
            self.started = self.said = time.monotonic()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            done = min((batch + 1) * batch_size, n_images)
            self.bar.update(done - self.bar.n)
            now = time.monotonic()
            if self.bar.disable and now - self.said > SECONDS_BETWEEN_LINES:
                self.said = now
                rate = done / (now - self.started)
                log.info(
                    "%s: %d of %d images, %.0f images/s, %s left in this epoch",
                    title, done, n_images, rate, duration((n_images - done) / rate),
                )  # fmt: skip

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
            self.bar.close()

    return Bar()


def duration(seconds: float) -> str:
    """A length of time in words: `2 h 05 min`, `3 min 20 s`, `45 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

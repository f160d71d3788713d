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
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from sklearn.metrics import log_loss, roc_auc_score
from tqdm import tqdm

from pneumonia.errors import PipelineError
from pneumonia.store.arrays import Split
from pneumonia.store.params import Section, require
from pneumonia.training.augmentation import AugmentationParams, augmented, blurred
from pneumonia.training.model_files import predict_probabilities
from pneumonia.training.state import Progress, StateFile

# Where nobody watches a bar, a line this often says how far a long epoch is.
SECONDS_BETWEEN_LINES = 30.0

_SELECTED = {"lowest_loss": " (lowest loss)", "best_auc": " (best AUC)", "last": ""}


class PhaseParams(Section):
    """How one phase trains."""

    epochs: int = Field(ge=0, le=10_000, description="at most; 0 hands the model on unchanged")
    batch_size: int = Field(ge=1, le=65_536)
    optimizer: Literal["adam", "adamw"]
    learning_rate: float = Field(gt=0, description="peak of the schedule")
    schedule: Literal["constant", "cosine"] = Field(
        description="cosine falls to zero at the last epoch"
    )
    warmup_epochs: int = Field(ge=0, le=10_000, description="cosine only: linear rise from zero")
    weight_decay: float = Field(ge=0, description="adamw only; not on biases and BatchNorm")
    clip_norm: float = Field(ge=0, description="largest norm of all gradients together; 0 is off")
    ema_decay: float = Field(
        ge=0,
        lt=1,
        description="of weights averaged over steps, for validation and the file; 0 is off",
    )
    select: Literal["lowest_loss", "best_auc", "last"] = Field(
        description="the epoch handed on, by validation"
    )
    patience: int = Field(
        ge=1,
        le=10_000,
        description="epochs without a better one, as `select` has it, before stopping",
    )
    class_weights: Literal["none", "balanced"]
    label_smoothing: float = Field(ge=0, lt=1)
    precision: Literal["float32", "mixed_bfloat16"]  # float16 would need loss scaling

    @model_validator(mode="after")
    def _rules_between_fields(self) -> Self:
        require(self.warmup_epochs == 0 or self.schedule == "cosine", "warmup_epochs",
                "be 0 unless schedule is cosine", self.warmup_epochs)  # fmt: skip
        require(self.warmup_epochs == 0 or self.warmup_epochs < self.epochs, "warmup_epochs",
                f"be below epochs ({self.epochs})", self.warmup_epochs)  # fmt: skip
        require(self.weight_decay == 0 or self.optimizer == "adamw", "weight_decay",
                "be 0 unless optimizer is adamw", self.weight_decay)  # fmt: skip
        require(self.select != "last" or self.patience >= self.epochs, "patience",
                f"be at least epochs ({self.epochs}) where select is last",
                self.patience)  # fmt: skip
        return self


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


def is_better(row: dict[str, float], than: dict[str, float], select: str) -> bool:
    """Whether the model of `row` is handed on rather than that of `than`, an earlier one."""
    if select == "best_auc":
        return row["eval/roc_auc"] > than["eval/roc_auc"]
    return select == "last" or row["eval/loss"] < than["eval/loss"]


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
    """Train until the last epoch or until none of `patience` epochs was better than one before.

    With `ema_decay`, validation and the result have the average of the trained weights over all
    steps. BatchNorm's statistics are running averages already and are taken as they are.

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
        The weights of the selected epoch (as `get_weights` gives them; those that came in if no
        epoch was run), and what the phase knows at its end.
    """
    classifier = build("float32")
    if params.epochs == 0:
        return classifier.get_weights(), Progress()
    # Mixed precision trains a twin. Validation and the file stay in float32, so that what is
    # measured during training is what the saved model gives.
    twin = params.precision != "float32" or params.ema_decay > 0
    network = build(params.precision) if twin else classifier
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
        bar = progress_callback(title, len(train.labels), params.batch_size, log)
        fitted = trainer.fit(
            batches,
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,  # TrainingBatches orders the images itself
            verbose=0,
            callbacks=[bar],
        ).history
        validated = time.monotonic()
        if twin:
            classifier.set_weights(network.get_weights())
            trainer.average_into(classifier.trainable_variables)
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
        if not progress.history or is_better(
            row, progress.history[progress.best_epoch], params.select
        ):
            best, progress.best_epoch, progress.wait = classifier.get_weights(), epoch, 0
        else:
            progress.wait += 1
        progress.history.append(row)
        progress.epoch += 1
        state.save(variables, progress, best)
        on_epoch(row)
        rate = bar.rate() or len(train.labels) / (validated - started)
        an_epoch = len(train.labels) / rate + time.monotonic() - validated
        left = (params.epochs - progress.epoch) * an_epoch
        log.info(
            "%s: loss %.4f, accuracy %.4f; validation loss %.4f, accuracy %.4f, AUC %.4f%s; "
            "%.0f images/s, at most %s left",
            title,
            row["train/loss"],
            row["train/accuracy"],
            row["eval/loss"],
            row["eval/accuracy"],
            row["eval/roc_auc"],
            _SELECTED[params.select] if progress.wait == 0 else "",
            rate,
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
    if augmentation.blur:
        inputs["blur"] = keras.Input((1,), dtype="float32", name="blur")
        changed = blurred(changed, inputs["blur"], augmentation.blur)
    if augmentation.noise:
        inputs["noise"] = keras.Input((image_size, image_size, 1), dtype="float32", name="noise")
        changed = keras.ops.clip(changed + inputs["noise"], 0.0, 255.0)
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
    options: dict[str, Any] = {}
    if params.clip_norm:
        options["global_clipnorm"] = params.clip_norm
    if params.ema_decay:
        options |= {"use_ema": True, "ema_momentum": params.ema_decay}
    if params.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=params.weight_decay, **options)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    else:
        optimizer = keras.optimizers.Adam(rate, **options)
    trainer.compile(
        optimizer=optimizer,
        loss=keras.losses.BinaryCrossentropy(label_smoothing=params.label_smoothing),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy")],
        # TensorFlow's XLA has no kernel for the affine transform.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    trainer.optimizer.build(trainer.trainable_variables)  # so that its state can be restored
    # Keras would put the averages in place of the weights at the end of every `fit`, and go on
    # from there; here that is an epoch.
    trainer.average_into = optimizer.finalize_variable_values
    optimizer.finalize_variable_values = lambda _: None
    _build_loss_and_metrics(trainer)
    return trainer


def _build_loss_and_metrics(trainer: Any) -> None:
    """Make their variables now: `fit` would trace the whole network once more only for them."""
    nothing = np.zeros((1, 1), np.float32)
    trainer.compute_loss(y=nothing, y_pred=nothing)
    trainer.compute_metrics(None, nothing, nothing)
    trainer.reset_metrics()


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
            self.said = time.monotonic()
            self.first = self.done = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            done = self.done = min((batch + 1) * batch_size, n_images)
            self.now = time.monotonic()
            if not self.first:  # the graph was built within it: it says nothing about the rest
                self.first, self.since = done, self.now
                self.bar.reset()
                self.bar.initial = self.bar.n = done
                return
            self.bar.update(done - self.bar.n)
            rate = self.rate()
            if self.bar.disable and rate and self.now - self.said > SECONDS_BETWEEN_LINES:
                self.said = self.now
                log.info(
                    "%s: %d of %d images, %.0f images/s, %s left in this epoch",
                    title, done, n_images, rate, duration((n_images - done) / rate),
                )  # fmt: skip

        def rate(self) -> float | None:
            """Images a second after the first batch; None where there was no second one."""
            seconds = self.now - self.since
            return (self.done - self.first) / seconds if self.done > self.first else None

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
            self.bar.close()

    return Bar()


def duration(seconds: float) -> str:
    """A length of time in words: `2 h 05 min`, `3 min 20 s`, `45 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

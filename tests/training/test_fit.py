"""The parts of a training phase, each on its own; test_stage_training.py has the phases whole."""

import logging
import math
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumonia.errors import PipelineError
from pneumonia.store.arrays import open_split
from pneumonia.store.params import as_section
from pneumonia.training import fit as fit_module
from pneumonia.training import state as state_module
from pneumonia.training.augmentation import AugmentationParams
from pneumonia.training.fit import (
    PhaseParams,
    balanced_class_weights,
    compiled_trainer,
    duration,
    is_better,
    progress_callback,
    validation_metrics,
)
from pneumonia.training.state import Progress, StateFile, exclusive, fingerprint
from training_root import PARAMS, write_root

AUGMENTATION = as_section(PARAMS["augmentation"], "augmentation", AugmentationParams)
PHASE = as_section(PARAMS["finetune"], "finetune", PhaseParams)
log = logging.getLogger("test")


def test_both_classes_weigh_the_same_in_all():
    # 1 normal, 3 pneumonia: 4 / (2 × 1) and 4 / (2 × 3)
    assert balanced_class_weights(np.array([0, 1, 1, 1])) == (2.0, 4 / 6)


def test_validation_is_measured_with_the_plain_cross_entropy():
    y_true = np.array([0, 0, 1, 1])
    y_prob = np.array([0.2, 0.6, 0.5, 0.9])
    metrics = validation_metrics(y_true, y_prob)
    # -(log 0.8 + log 0.4 + log 0.5 + log 0.9) / 4
    expected = -(math.log(0.8) + math.log(0.4) + math.log(0.5) + math.log(0.9)) / 4
    assert metrics["eval/loss"] == pytest.approx(expected)
    assert metrics["eval/accuracy"] == 3 / 4  # 0.6 is called pneumonia and is not; 0.5 is >= 0.5
    assert metrics["eval/roc_auc"] == 3 / 4  # of the pairs, only (0.6, 0.5) is the wrong way round


def test_a_probability_of_exactly_zero_does_not_cost_infinity():
    metrics = validation_metrics(np.array([0, 1]), np.array([1.0, 0.0]))
    assert metrics["eval/loss"] == pytest.approx(-math.log(1e-7), rel=1e-3)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_a_length_of_time_in_words(seconds, words):
    assert duration(seconds) == words


@pytest.fixture
def batches(tmp_path):
    from pneumonia.training.batches import TrainingBatches

    split = open_split(write_root(tmp_path / "root") / "data/processed/train")

    def make(epoch, seed=5, batch_size=16):
        return TrainingBatches(split, batch_size, (2.0, 0.5), AUGMENTATION, seed, epoch)

    make.split = split
    return make


def test_an_epoch_is_every_image_once_in_another_order_and_its_last_batch_is_filled_up(batches):
    def order(epoch):
        films = np.concatenate([b[0]["radiograph"] for b in iterate(batches(epoch))])
        assert films.shape == (64, 32, 32, 1)  # 20 normal, 30 pneumonia, 14 once more
        assert films.dtype == np.uint8
        assert (films[50:] == films[:14]).all()
        return [film.tobytes() for film in films[:50]]

    everything = sorted(film.tobytes() for film in batches.split.images)
    assert sorted(order(0)) == everything
    assert sorted(order(1)) == everything
    assert order(0) != order(1)


def iterate(batches):
    assert len(batches) == 4  # 16 + 16 + 16 + 2, and 14 to fill it up
    return [batches[step] for step in range(len(batches))]


def test_a_batch_depends_on_seed_epoch_and_step_and_on_nothing_asked_before(batches):
    third = iterate(batches(epoch=7))[2]
    alone = batches(epoch=7)[2]
    for name, values in third[0].items():
        np.testing.assert_array_equal(values, alone[0][name])
    assert (batches(epoch=8)[2][0]["affine"] != alone[0]["affine"]).any()
    assert (batches(epoch=7)[1][0]["affine"] != alone[0]["affine"]).any()
    assert (batches(epoch=7, seed=6)[2][0]["affine"] != alone[0]["affine"]).any()


def test_a_split_smaller_than_a_batch_fills_one(batches):
    (batch,) = [batches(0, batch_size=120)[step] for step in range(len(batches(0, batch_size=120)))]
    films = batch[0]["radiograph"]
    assert len(films) == 120
    assert (films[:50] == films[50:100]).all()
    # The changes are drawn again for each.
    assert (batch[0]["affine"][:50] != batch[0]["affine"][50:100]).any()


def test_labels_and_class_weights_go_with_their_images(batches):
    for inputs, labels, weights in iterate(batches(0)):
        # In the tiny root pneumonia has a bright middle: its mean there is above 80, else near 60.
        bright = inputs["radiograph"][:, 8:24, 8:24].mean(axis=(1, 2, 3)) > 90
        assert labels.shape == (len(bright), 1)
        assert (labels[:, 0] == bright).all()
        assert weights.tolist() == [0.5 if b else 2.0 for b in bright]


@pytest.fixture(scope="module")
def network():
    import keras

    return keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1, "sigmoid")]
    )


@pytest.mark.parametrize(
    ("schedule", "warmup", "rates"),
    [
        # 2 epochs of 10 steps; rate at the first, the 5th and the last step but one
        ("constant", 0, {0: 0.01, 5: 0.01, 19: 0.01}),
        # half-way down a cosine is half the rate; near the end almost nothing is left
        ("cosine", 0, {0: 0.01, 10: 0.005, 20: 0.0}),
        # 1 epoch up in a line, then down over the other: half-way up, the peak, half-way, the end
        ("cosine", 1, {0: 0.0, 5: 0.005, 10: 0.01, 15: 0.005, 20: 0.0}),
    ],
)
def test_the_learning_rate_follows_its_schedule(network, schedule, warmup, rates):
    params = PHASE.model_copy(
        update={"epochs": 2, "learning_rate": 0.01, "schedule": schedule, "warmup_epochs": warmup}
    )
    trainer = compiled_trainer(network, 8, AUGMENTATION, params, batches_per_epoch=10)
    for step, rate in rates.items():
        trainer.optimizer.iterations.assign(step)
        assert float(trainer.optimizer.learning_rate) == pytest.approx(rate, abs=1e-7)


def test_weight_decay_spares_biases_and_batchnorm(network):
    import keras

    trainer = compiled_trainer(network, 8, AUGMENTATION, PHASE, batches_per_epoch=1)
    assert isinstance(trainer.optimizer, keras.optimizers.AdamW)
    spared = {w.name: not trainer.optimizer._use_weight_decay(w) for w in trainer.trainable_weights}
    assert spared == {"kernel": False, "bias": True}


def test_smoothed_labels_enter_the_training_loss(network):
    params = PHASE.model_copy(update={"label_smoothing": 0.1})
    trainer = compiled_trainer(network, 8, AUGMENTATION, params, batches_per_epoch=1)
    # 1 becomes 0.95: -(0.95 log 0.8 + 0.05 log 0.2)
    expected = -(0.95 * math.log(0.8) + 0.05 * math.log(0.2))
    loss = trainer.loss(np.array([[1.0]]), np.array([[0.8]]))
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def variables(*values):
    import keras

    return [keras.Variable(np.array(value, np.float32)) for value in values]


def test_a_state_comes_back_whole(tmp_path):
    saved = variables([1, 2], [[3]])
    progress = Progress(epoch=3, wait=1, best_epoch=1, history=[{"eval/loss": 0.5}] * 3)
    StateFile(tmp_path / "state.npz", "f").save(saved, progress, [np.array([7.0]), np.array([8])])
    loaded = variables([0, 0], [[0]])
    back, best = StateFile(tmp_path / "state.npz", "f").load(loaded)
    assert back == progress
    assert [np.asarray(v).tolist() for v in loaded] == [[1, 2], [[3]]]
    assert [b.tolist() for b in best] == [[7.0], [8]]


def test_a_state_of_another_fingerprint_is_no_state(tmp_path):
    StateFile(tmp_path / "state.npz", "f").save(variables([1]), Progress(epoch=3), [])
    untouched = variables([5])
    assert StateFile(tmp_path / "state.npz", "g").load(untouched) == (Progress(), [])
    assert np.asarray(untouched[0]).tolist() == [5]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def altered(data: bytes) -> bytes:
    # The 7s of the saved weights, as float32.
    assert data.count(np.float32(7).tobytes() * 9) == 1
    return data.replace(np.float32(7).tobytes() * 9, np.float32(8).tobytes() * 9)


@pytest.mark.parametrize("damage", [cut, altered, lambda _: b"", lambda _: b"no zip"])
def test_a_damaged_state_is_one_line_that_names_it_and_nothing_is_set(tmp_path, damage):
    path = tmp_path / "state.npz"
    state = StateFile(path, "f")
    state.save(variables([1, 2], [7] * 9), Progress(epoch=3), [])
    path.write_bytes(damage(path.read_bytes()))
    untouched = variables([5, 5], [0] * 9)
    with pytest.raises(PipelineError, match=r"state\.npz: expected .* delete it"):
        state.load(untouched)
    assert np.asarray(untouched[0]).tolist() == [5, 5]


def test_more_best_weights_than_ten_keep_their_order(tmp_path):
    best = [np.array([i]) for i in range(12)]
    state = StateFile(tmp_path / "state.npz", "f")
    state.save([], Progress(), best)
    assert [int(b[0]) for b in state.load([])[1]] == list(range(12))


def test_the_fingerprint_tells_a_parameter_and_a_byte_of_an_input(tmp_path):
    file = tmp_path / "images.npy"
    file.write_bytes(b"a")
    first = fingerprint([PHASE], [file])
    assert fingerprint([PHASE], [file]) == first
    assert fingerprint([PHASE.model_copy(update={"patience": 4})], [file]) != first
    file.write_bytes(b"b")
    assert fingerprint([PHASE], [file]) != first


def test_the_fingerprint_tells_the_code_that_a_training_depends_on_and_no_other(
    tmp_path, monkeypatch
):
    package = tmp_path / "pneumonia"
    shutil.copytree(Path(state_module.__file__).parents[1], package)
    monkeypatch.setattr(state_module, "__file__", str(package / "training" / "state.py"))
    first = fingerprint([], [])
    for name in ("errors.py", "quiet.py", "progress.py", "gate/verdict.py"):
        (package / name).write_text("# changed")
    assert fingerprint([], []) == first
    for name in ("store/files.py", "training/batches.py", "data/remote_file.py"):
        before = fingerprint([], [])
        with (package / name).open("a") as file:
            file.write("# changed")
        assert fingerprint([], []) != before


def hold(folder, ready, release):
    with exclusive(folder):
        ready.set()
        release.wait(30)


def test_a_second_training_in_the_same_scratch_folder_gets_one_line(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, release))
    other.start()
    assert ready.wait(60)
    with pytest.raises(PipelineError) as error, exclusive(tmp_path):
        pass
    assert f"another training (process {other.pid}) works here" in str(error.value)
    release.set()
    other.join()
    with exclusive(tmp_path):  # free again
        pass


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": -1}, "epochs must be in [0, 10000]. Received: -1"),
        ({"batch_size": 0}, "batch_size must be in [1, 65536]. Received: 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0. Received: 0.0"),
        ({"warmup_epochs": 8}, "warmup_epochs must be below epochs (8). Received: 8"),
        (
            {"schedule": "constant"},
            "warmup_epochs must be 0 unless schedule is cosine. Received: 1",
        ),
        ({"optimizer": "adam"}, "weight_decay must be 0 unless optimizer is adamw. Received: 0.01"),
        ({"patience": 0}, "patience must be in [1, 10000]. Received: 0"),
        (
            {"select": "last", "patience": 7},
            "patience must be at least epochs (8) where select is last. Received: 7",
        ),
        ({"ema_decay": 1.0}, "ema_decay must be in [0, 1). Received: 1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be in [0, 1). Received: 1.0"),
    ],
)
def test_a_phase_that_cannot_be_is_refused(change, sentence):
    with pytest.raises(PipelineError) as error:
        as_section(PHASE.model_dump() | change, "finetune", PhaseParams)
    assert str(error.value) == f"finetune.{sentence}"


@given(st.lists(st.sampled_from([0, 1]), min_size=2).filter(lambda ls: len(set(ls)) == 2))
def test_balanced_weights_keep_the_number_of_images(labels):
    labels = np.array(labels)
    weights = np.array(balanced_class_weights(labels))
    assert weights[labels].sum() == pytest.approx(len(labels))
    assert weights[0] * (labels == 0).sum() == pytest.approx(weights[1] * (labels == 1).sum())


def batches_of(network_size=8):
    rng = np.random.default_rng(0)
    still = {"affine": np.array([[1, 0, 0, 0, 1, 0, 0, 0]] * 4, np.float32),
             "tone": np.array([[1, 1, 0]] * 4, np.float32)}  # fmt: skip
    films = rng.integers(0, 256, (4, network_size, network_size, 1)).astype(np.uint8)
    return {"radiograph": films, **still}, np.array([[0.0], [1], [1], [0]], np.float32)


def a_network(seed=1):
    import keras

    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dense(1, "sigmoid"),
        ]
    )


def test_averaged_weights_are_those_counted_by_hand_and_the_trained_ones_go_on():
    params = PHASE.model_copy(update={"ema_decay": 0.75})
    trained, given = a_network(), a_network()
    trainer = compiled_trainer(trained, 8, AUGMENTATION, params, batches_per_epoch=4)
    x, y = batches_of()
    kernels = []
    for _ in range(3):  # three epochs of one step
        trainer.fit(x, y, verbose=0)
        kernels.append(np.asarray(trained.trainable_variables[0]))
    trainer.average_into(given.trainable_variables)
    # the first step starts the average: a1 = k1, a2 = 3/4 a1 + 1/4 k2, a3 = 3/4 a2 + 1/4 k3
    expected = 0.75 * (0.75 * kernels[0] + 0.25 * kernels[1]) + 0.25 * kernels[2]
    np.testing.assert_allclose(np.asarray(given.trainable_variables[0]), expected, rtol=1e-5)
    plain = a_network()
    other = compiled_trainer(
        plain, 8, AUGMENTATION, PHASE.model_copy(update={"ema_decay": 0.0}), batches_per_epoch=4
    )
    for _ in range(3):
        other.fit(x, y, verbose=0)
    np.testing.assert_array_equal(np.asarray(plain.trainable_variables[0]), kernels[2])


@pytest.mark.parametrize("clip_norm", [0.0, 0.001])
def test_gradients_are_clipped_by_their_common_norm(clip_norm):
    params = PHASE.model_copy(update={"clip_norm": clip_norm})
    trainer = compiled_trainer(a_network(), 8, AUGMENTATION, params, batches_per_epoch=4)
    assert trainer.optimizer.global_clipnorm == (clip_norm or None)


ROWS = [
    {"eval/loss": 0.5, "eval/roc_auc": 0.9},
    {"eval/loss": 0.4, "eval/roc_auc": 0.8},
    {"eval/loss": 0.4, "eval/roc_auc": 0.9},
]


@pytest.mark.parametrize(
    ("select", "better"),
    [
        ("lowest_loss", (True, False)),  # 0.4 after 0.5; a tie leaves the first
        ("best_auc", (False, True)),
        ("last", (True, True)),
    ],
)
def test_what_select_calls_better(select, better):
    first, second, third = ROWS
    assert (is_better(second, first, select), is_better(third, second, select)) == better


def test_time_left_leaves_out_the_graph_of_the_first_batch(monkeypatch, caplog):
    clock = iter([0.0, 100.0, 101.0, 140.0])  # 100 s of graph, then 10 images a second
    monkeypatch.setattr(fit_module.time, "monotonic", lambda: next(clock))
    bar = progress_callback("epoch 1/3", 1000, 10, log)
    with caplog.at_level(logging.INFO):
        bar.on_train_begin()
        bar.on_train_batch_end(0)
        assert bar.rate() is None
        bar.on_train_batch_end(1)
        assert bar.rate() == 10
        bar.on_train_batch_end(40)
    assert bar.rate() == 10
    assert [record.message for record in caplog.records] == [
        "epoch 1/3: 20 of 1000 images, 10 images/s, 1 min 38 s left in this epoch",
        "epoch 1/3: 410 of 1000 images, 10 images/s, 59 s left in this epoch",
    ]

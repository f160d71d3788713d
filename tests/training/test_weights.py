"""Pretrained weights: had from a mirror or refused in one line, before any other work."""

import dataclasses
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pneumonia.errors import PipelineError
from pneumonia.training import weights
from pneumonia.training.network import ModelParams, backbone_of, build_classifier, load_pretrained
from pneumonia.training.pretrained import obtain_weights
from pneumonia.training.weights import WEIGHTS
from training_root import write_root

SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


def test_no_weights_need_no_file(keras_home):
    assert obtain_weights("efficientnet_v2_s", "none") is None
    assert not keras_home.exists()


def test_every_backbone_has_an_imagenet_record_that_can_be_recognised():
    assert set(WEIGHTS) == {"efficientnet_v2_s", "mobilenet_v2"}
    for records in WEIGHTS.values():
        assert "imagenet" in records
        for record in records.values():
            remote = record.remote
            assert remote.sha256 or remote.md5 or remote.n_bytes
            assert record.licence
            assert record.citation


IMAGENET = ModelParams(
    backbone="efficientnet_v2_s", weights="imagenet", dropout=0.0, pixel_divisor=1.0
)
FILE = WEIGHTS["efficientnet_v2_s"]["imagenet"].remote.file


def write_published_format(path, classifier):
    """The weights of a backbone in the format of Keras' published files (HDF5 of Keras 2).

    Keras has two loaders and chooses by name: `.weights.h5` is its own new format, any other
    `.h5` this one.
    """
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, backbone_of(classifier))


def seeded_classifier(seed, params=IMAGENET):
    import keras

    keras.utils.set_random_seed(seed)
    return build_classifier(params, 32)


def test_weights_of_our_own_in_the_same_format_go_the_whole_way(tmp_path, keras_home, monkeypatch):
    """Mirror, check, Keras' folder, backbone: all but the hash is as with the published file."""
    giver = seeded_classifier(1)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    write_published_format(mirror / FILE, giver)
    record = WEIGHTS["efficientnet_v2_s"]["imagenet"]
    md5 = hashlib.md5((mirror / FILE).read_bytes()).hexdigest()
    monkeypatch.setitem(
        weights.WEIGHTS["efficientnet_v2_s"],
        "imagenet",
        dataclasses.replace(record, remote=dataclasses.replace(record.remote, md5=md5)),
    )
    monkeypatch.setenv("PNEUMONIA_MIRROR", str(mirror))

    path = obtain_weights("efficientnet_v2_s", "imagenet")
    assert path == keras_home / "models" / FILE
    taker = seeded_classifier(2)
    load_pretrained(taker, path)
    for given, taken in zip(
        backbone_of(giver).get_weights(), backbone_of(taker).get_weights(), strict=True
    ):
        assert (given == taken).all()


def test_published_weights_of_another_backbone_or_cut_short_are_one_line(tmp_path):
    mobilenet = IMAGENET.model_copy(update={"backbone": "mobilenet_v2"})
    write_published_format(tmp_path / FILE, seeded_classifier(1))
    cut = tmp_path / "cut.h5"
    cut.write_bytes((tmp_path / FILE).read_bytes()[:5000])
    taker = seeded_classifier(2, mobilenet)
    for path in (tmp_path / FILE, cut):
        with pytest.raises(PipelineError) as error:
            load_pretrained(taker, path)
        assert str(error.value).startswith(f"{path}: expected weights of the backbone")
        assert "\n" not in str(error.value)


def test_a_wrong_file_in_the_mirror_is_refused(tmp_path, keras_home, monkeypatch):
    (tmp_path / "efficientnetv2-s_notop.h5").write_bytes(b"not these weights")
    monkeypatch.setenv("PNEUMONIA_MIRROR", str(tmp_path))
    with pytest.raises(PipelineError, match="expected md5 af0682fb74e8c54910f2d4393339c070"):
        obtain_weights("efficientnet_v2_s", "imagenet")
    assert not list(keras_home.rglob("*.h5"))


def test_a_file_known_by_its_size_alone_is_refused_when_cut_short(
    tmp_path, keras_home, monkeypatch
):
    remote = WEIGHTS["mobilenet_v2"]["imagenet"].remote
    (tmp_path / remote.file).write_bytes(b"0" * 1000)
    monkeypatch.setenv("PNEUMONIA_MIRROR", str(tmp_path))
    with pytest.raises(PipelineError, match=r"expected 9406464 bytes\. Received: 1000 bytes"):
        obtain_weights("mobilenet_v2", "imagenet")


def test_without_mirror_or_network_the_stage_stops_first_with_one_line(tmp_path):
    """The parameters ask for weights; there are no images to train on, and it never gets there."""
    root = tmp_path / "root"
    write_root(root, model__backbone="efficientnet_v2_s", model__weights="imagenet")
    for folder in ("train", "validation"):
        for file in (root / "data/processed" / folder).iterdir():
            file.unlink()
    environment = os.environ | {
        "PYTHONPATH": str(SRC),
        "KERAS_HOME": str(tmp_path / "keras"),
        # Nothing listens there: what a machine without internet answers, at once.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    environment.pop("PNEUMONIA_MIRROR", None)
    started = time.monotonic()
    stage = subprocess.run(
        [sys.executable, "-m", "stages.train_frozen"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert stage.returncode == 1
    error = [line for line in stage.stderr.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert "efficientnetv2-s_notop.h5" in error[0]
    assert "PNEUMONIA_MIRROR" in error[0]
    assert "Traceback" not in stage.stderr
    assert time.monotonic() - started < 60
    assert not (root / ".scratch").exists()
    assert not (root / "models").exists()


@pytest.mark.real("mobilenet_v2_1.0_224_no_top_bnfolded.weights.h5")
def test_the_folded_mobilenet_of_the_mirror_fills_every_layer(keras_home):
    params = ModelParams(
        backbone="mobilenet_v2",
        weights="mobilenet_v2_imagenet_folded",
        dropout=0.0,
        pixel_divisor=1.0,
    )
    path = obtain_weights("mobilenet_v2", "mobilenet_v2_imagenet_folded")
    classifier = build_classifier(params, 224)
    before = [np.asarray(w) for w in backbone_of(classifier).weights]
    load_pretrained(classifier, path)
    named = {"kernel": [], "gamma": [], "beta": [], "moving_mean": [], "moving_variance": []}
    for old, weight in zip(before, backbone_of(classifier).weights, strict=True):
        named[weight.name].append((old, np.asarray(weight)))
    # 52 convolutions, each with its BatchNorm folded in: scale 1, mean 0, variance 1 - epsilon,
    # and the folded bias as offset.
    assert {name: len(pairs) for name, pairs in named.items()} == dict.fromkeys(named, 52)
    assert all((old != new).any() for old, new in named["kernel"] + named["beta"])
    assert all((new == 1).all() for _, new in named["gamma"])
    assert all((new == 0).all() for _, new in named["moving_mean"])
    assert all((abs(new - 0.999) < 1e-6).all() for _, new in named["moving_variance"])

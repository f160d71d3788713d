"""Pretrained weights: had from a mirror or refused in one line, before any other work."""

import dataclasses
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pneumonia import weights
from pneumonia.downloads import Remote
from pneumonia.errors import PipelineError
from pneumonia.model import ModelParams, backbone_of, build_classifier, load_pretrained
from pneumonia.weights import WEIGHTS, obtain_weights
from training_root import write_root

SRC = Path(__file__).parent.parent / "src"


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


def test_weights_of_our_own_in_the_same_format_go_the_whole_way(tmp_path, keras_home, monkeypatch):
    """Mirror, check, Keras' folder, backbone: as with Keras' own file, on one of our own."""
    import keras

    params = ModelParams("efficientnet_v2_s", "imagenet", dropout=0.0, pixel_divisor=1.0)
    keras.utils.set_random_seed(1)
    giver = build_classifier(params, 32)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    backbone_of(giver).save_weights(mirror / "own.weights.h5")
    data = (mirror / "own.weights.h5").read_bytes()
    own = Remote("own.weights.h5", None, hashlib.sha256(data).hexdigest(), None, len(data))
    record = dataclasses.replace(WEIGHTS["efficientnet_v2_s"]["imagenet"], remote=own)
    monkeypatch.setitem(weights.WEIGHTS["efficientnet_v2_s"], "imagenet", record)
    monkeypatch.setenv("PNEUMONIA_MIRROR", str(mirror))

    path = obtain_weights("efficientnet_v2_s", "imagenet")
    assert path == keras_home / "models" / "own.weights.h5"
    keras.utils.set_random_seed(2)
    taker = build_classifier(params, 32)
    load_pretrained(taker, path)
    for given, taken in zip(
        backbone_of(giver).get_weights(), backbone_of(taker).get_weights(), strict=True
    ):
        assert (given == taken).all()


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


@pytest.mark.real
def test_the_folded_mobilenet_of_the_mirror_fills_every_layer(keras_home):
    import numpy as np

    params = ModelParams("mobilenet_v2", "mobilenet_v2_imagenet_folded", 0.0, 1.0)
    path = obtain_weights("mobilenet_v2", "mobilenet_v2_imagenet_folded")
    classifier = build_classifier(params, 224)
    before = backbone_of(classifier).get_weights()
    load_pretrained(classifier, path)
    kernels = [
        (old, new)
        for old, new in zip(before, backbone_of(classifier).get_weights(), strict=True)
        if old.ndim == 4
    ]
    assert len(kernels) == 52
    assert all((old != new).any() for old, new in kernels)
    assert all(np.isfinite(new).all() for _, new in kernels)

"""A tiny root that both training stages can run in: bright squares are pneumonia, dark are not."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

SIZE = 32
PARAMS = {
    "seed": 5,
    "model": {
        "backbone": "mobilenet_v2",
        "weights": "none",
        "dropout": 0.2,
        "pixel_divisor": 1.0,
    },
    "augmentation": {
        "rotation_degrees": 10.0,
        "shift": 0.1,
        "shear_degrees": 5.0,
        "zoom_min": 0.9,
        "zoom_max": 1.1,
        "aspect": 0.1,
        "crop_area_min": 0.8,
        "crop_area_max": 1.0,
        "crop_aspect": 1.0,
        "flip": True,
        "fill": "constant",
        "gamma": 0.1,
        "brightness": 0.1,
        "contrast": 0.1,
        "noise": 0.0,
        "blur": 0.0,
    },
    "train_frozen": {
        "epochs": 2,
        "batch_size": 16,
        "optimizer": "adam",
        "learning_rate": 0.01,
        "schedule": "constant",
        "warmup_epochs": 0,
        "weight_decay": 0.0,
        "clip_norm": 0.0,
        "ema_decay": 0.0,
        "select": "lowest_loss",
        "patience": 5,
        "class_weights": "balanced",
        "label_smoothing": 0.0,
        "precision": "float32",
    },
}
PARAMS["finetune"] = {
    **PARAMS["train_frozen"],
    "epochs": 8,
    "optimizer": "adamw",
    "schedule": "cosine",
    "warmup_epochs": 1,
    "weight_decay": 0.01,
    "label_smoothing": 0.05,
    "precision": "mixed_bfloat16",
}


def write_params(root: Path, **changes: object) -> None:
    """params.yaml of the tiny root; `finetune__epochs=3` changes one leaf."""
    params = {
        name: dict(value) if isinstance(value, dict) else value for name, value in PARAMS.items()
    }
    for key, value in changes.items():
        section, leaf = key.split("__")
        params[section][leaf] = value
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def write_split(folder: Path, n_normal: int, n_pneumonia: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.array([0] * n_normal + [1] * n_pneumonia)
    images = rng.integers(0, 120, (len(labels), SIZE, SIZE))
    images[labels == 1, 8:24, 8:24] += 60
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images.astype(np.uint8))
    pd.DataFrame(
        {
            "name": [f"train/X/{i}.jpeg" for i in range(len(labels))],
            "label": labels,
            "kind": np.where(labels == 1, "viral", "normal"),
            "patient_id": [f"person{i}_virus" for i in range(len(labels))],
        }
    ).to_csv(folder / "index.csv", index=False)


def write_root(root: Path, **changes: object) -> Path:
    """The folder `root` with parameters and two small splits: 20 + 30 and 8 + 12 images."""
    root.mkdir(parents=True, exist_ok=True)
    write_params(root, **changes)
    write_split(root / "data/processed/train", 20, 30, seed=1)
    write_split(root / "data/processed/validation", 8, 12, seed=2)
    return root

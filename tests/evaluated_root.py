"""A tiny root in which evaluate, plot and examine can run: the model is an image's mean grey."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

N_IMAGES = {"validation": 48, "test": 60, "train": 30}
CURVES = ("train/loss", "train/accuracy", "eval/loss", "eval/accuracy", "eval/roc_auc")


def mean_grey(classifier: object, images: np.ndarray) -> np.ndarray:
    """P(pneumonia) of a model that goes by brightness alone."""
    return images.mean(axis=(1, 2)) / 255


def write_split(root: Path, split: str, random: np.random.Generator) -> None:
    """Every third image is normal; two images a patient; pneumonia is brighter, with errors."""
    folder = root / "data/processed" / split
    folder.mkdir(parents=True)
    number = np.arange(N_IMAGES[split])
    label = (number % 3 > 0).astype(int)
    grey = np.clip(random.normal(105 + 45 * label, 30), 0, 255).astype(np.uint8)
    grey[0] = 51  # a probability of 0.2, to be written as 0.200000
    np.save(folder / "images.npy", np.tile(grey[:, None, None], (1, 8, 8)))
    pd.DataFrame(
        {
            "name": [f"{split}/image{n:03}.jpeg" for n in number],
            "label": label,
            "kind": np.array(["normal", "bacterial", "viral"])[number % 3],
            "patient_id": [f"{split}child{n // 6}-{n % 3}" for n in number],
            "width": 8,
            "height": 8,
            "mode": "L",
        }
    ).to_csv(folder / "index.csv", index=False)


def write_curves(root: Path, phase: str, n_epochs: int) -> None:
    """DVCLive's files of one phase."""
    for curve in CURVES:
        file = root / f"metrics/{phase}/plots/metrics/{curve}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{step}\t{0.5 + step / 10}\n" for step in range(n_epochs))
        file.write_text(f"step\t{file.stem}\n{rows}")


def write_params(root: Path, source: str, target_recall: float = 0.9, n_images: int = 20) -> None:
    params = {
        "seed": 7,
        "fetch": {"source": source, "archive": None, "sha256": None},
        "evaluate": {"target_recall": target_recall, "n_bootstrap": 100},
        "robustness": {"n_images": n_images},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def write_root(root: Path) -> Path:
    """All that the three stages read, but what one of them writes for the next."""
    random = np.random.default_rng(3)
    for split in N_IMAGES:
        write_split(root, split, random)
    write_curves(root, "train_frozen", 1)
    write_curves(root, "finetune", 4)
    write_params(root, "phantoms")
    return root


def written(root: Path) -> dict[str, bytes]:
    """Every file under the root that is no input, by its path."""
    inputs = ("data/", "params.yaml", "metrics/train_frozen/", "metrics/finetune/")
    files = {file.relative_to(root).as_posix(): file for file in sorted(root.rglob("*"))}
    return {
        path: file.read_bytes()
        for path, file in files.items()
        if file.is_file() and not path.startswith(inputs)
    }


def declared(stage: str) -> list[str]:
    """The outputs of a stage, as dvc.yaml has them."""
    of_stage = yaml.safe_load((Path(__file__).parents[1] / "dvc.yaml").read_text())["stages"][stage]
    entries = [e for kind in ("outs", "metrics", "plots") for e in of_stage.get(kind, [])]
    return sorted(entry if isinstance(entry, str) else next(iter(entry)) for entry in entries)

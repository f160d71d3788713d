"""Stage `preprocess`: decode the radiographs into memory-mappable arrays, one a split.

Reads   data/raw/radiographs.zip   the bytes of its images
        data/split/manifest.csv    which image belongs to which split
Writes  data/processed/{train,validation,test}/
            images.npy             (n, height, width) uint8, greyscale
            index.csv              name, label, kind, patient_id, width, height, mode: same order
Params  preprocess
"""

import logging
import time
from functools import partial
from pathlib import Path

from pneumonia.data.images import PreprocessParams, replacing_folders, write_split
from pneumonia.errors import run_stage
from pneumonia.progress import reported
from pneumonia.store.files import read_table
from pneumonia.store.params import load_section

ARCHIVE = Path("data/raw/radiographs.zip")
MANIFEST = Path("data/split/manifest.csv")
TRAIN = Path("data/processed/train")
VALIDATION = Path("data/processed/validation")
TEST = Path("data/processed/test")

log = logging.getLogger("preprocess")


def main(root: Path = Path()) -> None:
    """Write all three splits, or none."""
    started = time.monotonic()
    params = load_section(root / "params.yaml", "preprocess", PreprocessParams)
    text = ("name", "member", "kind", "patient_id", "split")
    manifest = read_table(root / MANIFEST, text)
    folders = [TRAIN, VALIDATION, TEST]
    with replacing_folders([root / folder for folder in folders]) as places:
        for folder, place in zip(folders, places, strict=True):
            rows = manifest[manifest["split"] == folder.name]
            what = f"{folder.name} images decoded"
            seen = partial(reported, n_items=len(rows), what=what, log=log)
            write_split(root / ARCHIVE, rows, place, params, seen)
            counts = rows["kind"].value_counts(sort=False).to_dict()
            log.info("%s: %d images: %s", folder.name, len(rows), counts)
    log.info("%s; took %.1f s", params, time.monotonic() - started)


if __name__ == "__main__":
    run_stage(main)

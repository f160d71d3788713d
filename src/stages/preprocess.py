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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from pneumonia.artifacts import read_table
from pneumonia.errors import run_stage
from pneumonia.images import PreprocessParams, replacing_folders, write_split
from pneumonia.params import load_section

ARCHIVE = Path("data/raw/radiographs.zip")
MANIFEST = Path("data/split/manifest.csv")
TRAIN = Path("data/processed/train")
VALIDATION = Path("data/processed/validation")
TEST = Path("data/processed/test")

SECONDS_BETWEEN_LINES = 10  # where there is no terminal for a bar

log = logging.getLogger("preprocess")


def main(root: Path = Path()) -> None:
    """Write all three splits, or none."""
    started = time.monotonic()
    params = load_section(root / "params.yaml", "preprocess", PreprocessParams)
    text = ("name", "member", "kind", "patient_id", "split")
    manifest = read_table(root / MANIFEST, text)
    folders = [TRAIN, VALIDATION, TEST]
    with replacing_folders([root / folder for folder in folders]) as partials:
        for folder, partial in zip(folders, partials, strict=True):
            rows = manifest[manifest["split"] == folder.name]
            with _progress(folder.name, len(rows)) as advance:
                write_split(root / ARCHIVE, rows, partial, params, advance)
            counts = rows["kind"].value_counts(sort=False).to_dict()
            log.info("%s: %d images: %s", folder.name, len(rows), counts)
    log.info("%s; took %.1f s", params, time.monotonic() - started)


@contextmanager
def _progress(split: str, n_images: int) -> Iterator[Callable[[], None]]:
    """What to call after each image: a bar on a terminal, elsewhere a line now and then."""
    n_done, said = 0, time.monotonic()
    # disable=None: no bar off a terminal.
    with tqdm(total=n_images, desc=split, unit=" images", leave=False, disable=None) as bar:

        def advance() -> None:
            nonlocal n_done, said
            n_done += 1
            bar.update()
            if bar.disable and time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                log.info("%s: %d of %d images", split, n_done, n_images)

        yield advance


if __name__ == "__main__":
    run_stage(main)

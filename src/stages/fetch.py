"""Stage `fetch`: receive, derive or draw the archive of radiographs and verify it.

Reads   nothing that DVC knows; a mirror, an address or the user's own archive
Writes  data/raw/radiographs.zip  {train,test}/{NORMAL,PNEUMONIA}/ and the images in them
Params  seed, fetch, phantoms
"""

import logging
import time
from pathlib import Path

from pneumonia.data.archive import list_radiographs
from pneumonia.data.datasets import FetchParams
from pneumonia.data.phantoms import PhantomParams
from pneumonia.data.sources import as_text, counts_of, receive
from pneumonia.errors import run_stage
from pneumonia.store.params import Seed, load_section

PARAMS = Path("params.yaml")
ARCHIVE = Path("data/raw/radiographs.zip")
WORK = Path(".scratch/fetch")

log = logging.getLogger("fetch")


def main(root: Path = Path()) -> None:
    """Run the stage in the repository at `root`."""
    started = time.perf_counter()
    params = load_section(root / PARAMS, "fetch", FetchParams)
    phantoms = load_section(root / PARAMS, "phantoms", PhantomParams)
    seed = load_section(root / PARAMS, "seed", Seed)
    log.info("source: %s", params.source)
    receive(params, phantoms, seed, root / ARCHIVE, root / WORK)
    radiographs = list_radiographs(root / ARCHIVE)
    log.info("%d images: %s", len(radiographs), as_text(counts_of(radiographs)))
    log.info("done in %.0f s", time.perf_counter() - started)


if __name__ == "__main__":
    run_stage(main)

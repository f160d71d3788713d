"""Stage `split`: send every patient, with all their images, to one of three splits.

Reads   data/raw/radiographs.zip   the listing, and the bytes of its images
Writes  data/split/manifest.csv    name, member, label, kind, patient_id, split, sha256
        data/split/duplicates.csv  group, sha256, name, patient_id, label, split: identical images
Params  split, seed
"""

import hashlib
import logging
import time
from pathlib import Path

from pneumonia.data.archive import list_radiographs, open_archive, read_member
from pneumonia.data.splits import (
    SplitParams,
    assign_splits,
    duplicate_groups,
    groups_across,
    split_notes,
)
from pneumonia.errors import run_stage
from pneumonia.store.files import write_table
from pneumonia.store.params import Seed, load_section

ARCHIVE = Path("data/raw/radiographs.zip")
MANIFEST = Path("data/split/manifest.csv")
DUPLICATES = Path("data/split/duplicates.csv")

log = logging.getLogger("split")


def main(root: Path = Path()) -> None:
    """Write the manifest and the audit of byte-identical images."""
    started = time.monotonic()
    params = load_section(root / "params.yaml", "split", SplitParams)
    seed = load_section(root / "params.yaml", "seed", Seed)
    manifest = assign_splits(list_radiographs(root / ARCHIVE), params, seed)
    log.info("%d images by strategy %s; reading their bytes", len(manifest), params.strategy)
    with open_archive(root / ARCHIVE) as archive:
        manifest["sha256"] = [
            hashlib.sha256(read_member(archive, member)).hexdigest()
            for member in manifest["member"]
        ]
    duplicates = duplicate_groups(manifest)
    write_table(root / MANIFEST, manifest)
    write_table(root / DUPLICATES, duplicates)

    for split, rows in manifest.groupby("split", sort=False):
        log.info(
            "%s: %d images: %s", split, len(rows), rows["kind"].value_counts(sort=False).to_dict()
        )
    for note in split_notes(manifest, params):
        log.info(note)
    log.info("%d groups of identical images, see %s", duplicates["group"].nunique(), DUPLICATES)
    for column in ("split", "label", "patient_id"):
        for names in groups_across(duplicates, column):
            log.warning("WARNING: identical images, more than one %s: %s", column, ", ".join(names))
    log.info("took %.1f s", time.monotonic() - started)


if __name__ == "__main__":
    run_stage(main)

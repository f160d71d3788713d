"""Which radiograph is for training, for validation, for the test: patients are never divided."""

import re
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from pneumonia.data.names import CLASSES, Radiograph
from pneumonia.errors import PipelineError
from pneumonia.store.params import Section

SPLITS = ("train", "validation", "test")
COLUMNS = ["name", "member", "label", "kind", "patient_id", "split"]

# Keeps the split's random numbers apart from those of other stages with the same seed.
_STREAM = int.from_bytes(b"split")


class SplitParams(Section):
    """Section `split` of params.yaml."""

    strategy: Literal["paper", "patient", "block"]
    validation_share: float = Field(
        gt=0, lt=1, description="of the train folder's images, per class"
    )
    block_start: int = Field(
        ge=0,
        le=1_000_000,
        description="block only: where validation begins, in patients of each class",
    )


def assign_splits(radiographs: list[Radiograph], params: SplitParams, seed: int) -> pd.DataFrame:
    """The split of every radiograph: a row each, sorted by name, no patient in two splits.

    The test folder is test, always. Of the train folder's n images of a class, int(share * n) are
    validation, as Keras' `validation_split` counts:

    - `paper`: the first file names in sorted order; this rebuilds the authors' 4,710 / 522.
    - `patient`: patients drawn at random, apportioned to the kinds (bacterial, viral) by their
      images. Exact whenever whole patients can give that number, else the nearest number below.
    - `block`: patients with neighbouring numbers, from `block_start` on; see `_block`.

    Args:
        radiographs: all of the archive.
        params: section `split`.
        seed: `patient` draws with it; the others ignore it.

    Returns:
        Columns name, member, label (1 = pneumonia), kind, patient_id, split.

    Raises:
        PipelineError: a patient is in both folders or both classes, whole patients cannot give the
            validation split, or a class has no image in it.
    """
    table = pd.DataFrame(sorted(radiographs), columns=[*COLUMNS[:-1], "folder"])
    for column in ("folder", "label"):
        _refuse_patients_across(table, column)

    table["split"] = table["folder"]
    for label, word in enumerate(CLASSES):
        rows = table[(table["folder"] == "train") & (table["label"] == label)]
        n_wanted = int(params.validation_share * len(rows))
        if params.strategy == "paper":
            chosen = _first_names(rows, n_wanted)
        elif params.strategy == "patient":
            rng = np.random.default_rng([seed, _STREAM, label])
            chosen = _drawn_patients(rows, n_wanted, rng)
        else:
            chosen = _block(rows, n_wanted, params.block_start)
        if not chosen.any():
            raise PipelineError(
                f"split.validation_share: {params.validation_share} of the train folder's "
                f"{len(rows)} {word} images gives no image to validation"
            )
        table.loc[rows.index[chosen], "split"] = "validation"
    return table[COLUMNS]


def split_notes(table: pd.DataFrame, params: SplitParams) -> list[str]:
    """What a reader should know about the validation split, as sentences, from the split itself.

    Args:
        table: what `assign_splits` returned for `params`.
        params: section `split`.
    """
    notes = []
    for label, word in enumerate(CLASSES):
        rows = table[(table["label"] == label) & (table["split"] != "test")]
        validation = rows["split"] == "validation"
        n_wanted, n_got = int(params.validation_share * len(rows)), int(validation.sum())
        if n_got < n_wanted:
            notes.append(
                f"{word}: {n_got} validation images, not {n_wanted}: "
                "whole patients come no nearer from below"
            )
        if params.strategy == "block":
            patients = _patients_in_order(rows)
            inside = patients.index.isin(rows.loc[validation, "patient_id"])
            start = int(inside.argmax())
            moved = "" if start == params.block_start else f", moved from {params.block_start}"
            notes.append(
                f"{word}: validation begins at patient {start} of {len(patients)}{moved}: "
                f"{patients.index[start]} to {patients.index[inside][-1]}"
            )
    return notes


def duplicate_groups(manifest: pd.DataFrame) -> pd.DataFrame:
    """The images whose bytes another image has too, group by group in the order of names.

    Args:
        manifest: one row an image, with columns name, patient_id, label, split, sha256.

    Returns:
        Columns group (from 1), sha256, name, patient_id, label, split; no row if no bytes repeat.
    """
    repeated = manifest[manifest["sha256"].duplicated(keep=False)].sort_values("name")
    group = repeated.groupby("sha256", sort=False).ngroup() + 1
    table = repeated.assign(group=group).sort_values(["group", "name"], ignore_index=True)
    return table[["group", "sha256", "name", "patient_id", "label", "split"]]


def groups_across(duplicates: pd.DataFrame, column: str) -> list[list[str]]:
    """The names in each group of identical images that has several values in `column`.

    Args:
        duplicates: what `duplicate_groups` returned.
        column: `split`: the audit's leaks; `label`: contradictions; `patient_id`: one film, two
            patients.
    """
    return [
        rows["name"].tolist()
        for _, rows in duplicates.groupby("group")
        if rows[column].nunique() > 1
    ]


def _refuse_patients_across(table: pd.DataFrame, column: str) -> None:
    """Stop if a patient has images with different values of `column`."""
    values = table.groupby("patient_id")[column].unique()
    torn = values[values.map(len) > 1]
    if len(torn):
        received = " and ".join(map(str, torn.iloc[0]))
        raise PipelineError(
            f"a patient must have one {column}, or no split can keep patients whole. "
            f"Received: {torn.index[0]} with {received} ({len(torn)} such patients)"
        )


def _first_names(rows: pd.DataFrame, n_wanted: int) -> pd.Series:
    """(n_images,) bool; the first `n_wanted` images, where that divides no patient."""
    chosen = pd.Series(np.arange(len(rows)) < n_wanted, index=rows.index)
    share = chosen.groupby(rows["patient_id"]).mean()
    divided = share.index[(share > 0) & (share < 1)]
    if len(divided):
        patient = divided[0]
        own = rows["patient_id"] == patient
        raise PipelineError(
            f"split.strategy: paper would divide patient {patient}: the first {n_wanted} file "
            f"names hold {int(chosen[own].sum())} of {int(own.sum())} images. "
            "Accepted here: patient, block"
        )
    return chosen


def _drawn_patients(rows: pd.DataFrame, n_wanted: int, rng: np.random.Generator) -> pd.Series:
    """(n_images,) bool; random whole patients, by kind if the exact number allows it."""
    quotas = _apportioned(rows["kind"].value_counts().sort_index(), n_wanted)
    chosen = {
        patient
        for kind, quota in quotas.items()
        for patient in _whole_patients(rows[rows["kind"] == kind], quota, rng)
    }
    if rows["patient_id"].isin(chosen).sum() < n_wanted:
        # The exact number goes before the exact kinds.
        chosen = set(_whole_patients(rows, n_wanted, rng))
    return rows["patient_id"].isin(chosen)


def _apportioned(counts: pd.Series, n_wanted: int) -> dict[str, int]:
    """`n_wanted` shared out to kinds of these sizes, by largest remainder."""
    exact = counts * n_wanted / counts.sum()
    seats = exact.astype(int)
    # A stable sort: equal remainders go in the order of the kinds' names.
    first = (seats - exact).sort_values(kind="stable").index[: n_wanted - seats.sum()]
    seats[first] += 1
    return {str(kind): int(n) for kind, n in seats.items()}


def _whole_patients(rows: pd.DataFrame, n_wanted: int, rng: np.random.Generator) -> list[str]:
    """Patients at random, with `n_wanted` images together, or else the nearest number below.

    Subset sum by dynamic programming over the shuffled patients. It takes them from the shortest
    beginning of the shuffled order that can give the number, so all but a few of that beginning.
    """
    sizes = rows["patient_id"].value_counts().sort_index()
    sizes = sizes.iloc[rng.permutation(len(sizes))]
    # Bit n of `reachable`: some of the patients so far have n images together. `last[n]`: the one
    # whose arrival first made it so; the others needed for n came before, so walking back is sound.
    reachable, limit = 1, (1 << (n_wanted + 1)) - 1
    last: dict[int, int] = {}
    for position, size in enumerate(sizes):
        new = (reachable << size) & limit & ~reachable
        reachable |= new
        while new:
            n = new.bit_length() - 1
            last[n] = position
            new ^= 1 << n
    chosen = []
    n = reachable.bit_length() - 1
    while n:
        chosen.append(str(sizes.index[last[n]]))
        n -= int(sizes.iloc[last[n]])
    return chosen


def _patients_in_order(rows: pd.DataFrame) -> pd.Series:
    """Images of each patient, the patients in the order of their numbers (…9, 10…), then ids.

    The number goes before the kind: the block then holds neighbours of every kind, as the test
    folder does (bacterial 78 to 175, viral 1 to 79), and not bacterial patients alone.
    """
    sizes = rows["patient_id"].value_counts()
    # The last digits are the patient's: in NORMAL2-IM-0115 the 2 belongs to the series.
    return sizes[
        sorted(sizes.index, key=lambda id_: ([*map(int, re.findall(r"\d+", id_))][-1:], id_))
    ]


def _block(rows: pd.DataFrame, n_wanted: int, block_start: int) -> pd.Series:
    """(n_images,) bool; neighbouring patients with exactly `n_wanted` images.

    The block begins at patient `block_start`, or else at the next one (after the last comes the
    first) from which whole patients give the exact number without passing the end of the order.
    """
    patients = _patients_in_order(rows)
    if block_start >= len(patients):
        raise PipelineError(
            f"split.block_start must be below {len(patients)}, the patients of kind "
            f"{' or '.join(sorted(set(rows['kind'])))}. Received: {block_start}"
        )
    ends = patients.to_numpy().cumsum()
    begins = ends - patients.to_numpy()
    possible = np.flatnonzero(np.isin(begins + n_wanted, ends))
    if not len(possible):
        raise PipelineError(
            f"split.strategy: no block of whole patients holds exactly {n_wanted} of {len(rows)} "
            f"images of kind {' or '.join(sorted(set(rows['kind'])))}. "
            "Accepted here: another split.validation_share, or strategy patient"
        )
    start = possible[np.searchsorted(possible, block_start) % len(possible)]
    inside = (begins >= begins[start]) & (ends <= begins[start] + n_wanted)
    return rows["patient_id"].isin(patients.index[inside])

"""Synthetic radiographs in the study's layout and names: which there are, and their files.

They are the offline demonstration and the tests' data. How one is drawn: `phantom_drawing`.
"""

import io
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field

from pneumonia.data.ahead import ahead
from pneumonia.data.datasets import STUDY_COUNTS
from pneumonia.data.phantom_drawing import draw_phantom
from pneumonia.store.params import Section

# Share of patients with 1, 2, 3 … images; close to the study's train folder.
SHARES_BY_SIZE = {
    "normal": (0.94, 0.01, 0.045, 0.005),
    "bacterial": (0.68, 0.14, 0.06, 0.035, 0.03, 0.025, 0.015, 0.01, *[0] * 5, 0.005),
    "viral": (0.87, 0.095, 0.02, 0, 0.01, *[0] * 3, 0.005),
}
LEAST_IMAGES = 2  # of a kind in a folder, however small the share
PAPER_VALIDATION_SHARE = 0.1

# Stand behind the seed, so that no generator repeats another's numbers; see `phantom_drawing`.
_TABLE, _FILE = 0, 5

_WORTH_A_POOL = 200  # fewer phantoms are drawn before the processes have started


class PhantomParams(Section):
    """How many phantoms, and how large."""

    image_size: int = Field(ge=32, le=1024, description="pixels a side")
    share: float = Field(gt=0, le=1, description="of the study's 5,856 images")


class PhantomFile(NamedTuple):
    """One phantom of the archive."""

    member: str  # its path in the archive
    kind: str  # normal, bacterial, viral
    patient: int  # counts the patients of all kinds and folders from 0
    image: int  # counts the patient's images from 0


def phantom_entries(params: PhantomParams, seed: int) -> Iterator[tuple[str, bytes]]:
    """Member path and greyscale JPEG of every phantom, sorted by member path.

    The same `params` and `seed` give the same bytes, however many processes draw.
    """
    files = list_phantoms(params.share, seed)
    items = ((file, params.image_size, seed) for file in files)
    n_workers = min(os.cpu_count() or 1, 16)
    if len(files) < _WORTH_A_POOL or n_workers == 1:
        return (phantom_entry(*item) for item in items)
    # Never fork: the caller may hold threads (TensorFlow's, tqdm's), and their locks.
    context = multiprocessing.get_context("spawn")
    return ahead(phantom_entry, items, 64 * n_workers, ProcessPoolExecutor(n_workers, context))


def phantom_entry(file: PhantomFile, image_size: int, seed: int) -> tuple[str, bytes]:
    """Member path and greyscale JPEG of one phantom."""
    rng = np.random.default_rng([seed, _FILE, file.patient, file.image])
    pixels = draw_phantom(file.kind, image_size, seed, file.patient, file.image).pixels
    jpeg = io.BytesIO()
    # The quality varies, or the size of a file would give its kind away.
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=int(rng.integers(70, 91)))
    return file.member, jpeg.getvalue()


def list_phantoms(share: float, seed: int) -> list[PhantomFile]:
    """The phantoms to draw: `share` of each kind in each folder, sorted by member path.

    A patient lies in one folder, and the paper's validation rule, which takes the first tenth of a
    class's file names in sorted order, divides no patient: the sorted names of each class are given
    to two groups of patients, and the first group has exactly a tenth of the images.
    """
    rng = np.random.default_rng([seed, _TABLE])
    files: list[PhantomFile] = []
    first_number = dict.fromkeys(("person", "IM-", "NORMAL2-IM-"), 1)
    n_patients = 0
    for folder in ("test", "train"):  # test has the low numbers, a stretch of its own
        for class_name, kinds in (("NORMAL", ("normal",)), ("PNEUMONIA", ("bacterial", "viral"))):
            n_images = {
                kind: max(LEAST_IMAGES, round(share * STUDY_COUNTS[folder, kind])) for kind in kinds
            }
            groups = _two_groups(n_images, rng)
            n_names = [max(len(sizes) for sizes in group.values()) for group in groups]
            names = iter(_names_in_order(class_name, sum(n_names), first_number))
            running: Counter[str] = Counter()
            for group, n in zip(groups, n_names, strict=True):
                group_names = list(islice(names, n))
                for kind, sizes in group.items():
                    for name, size in zip(group_names, sizes, strict=False):
                        for image in range(size):
                            running[kind] += 1
                            file = _file_name(name, kind, image, size, running[kind])
                            member = f"chest_xray/{folder}/{class_name}/{file}.jpeg"
                            files.append(PhantomFile(member, kind, n_patients, image))
                        n_patients += 1
    return sorted(files)


def _two_groups(n_images: dict[str, int], rng: np.random.Generator) -> list[dict[str, list[int]]]:
    """Images of each patient, by kind: of the first tenth of a class, and of the rest."""
    left = int(PAPER_VALIDATION_SHARE * sum(n_images.values()))
    first = {}
    for kind, n in n_images.items():
        first[kind] = min(left, round(PAPER_VALIDATION_SHARE * n))
        left -= first[kind]
    # Rounding may leave an image or two; the larger kind takes them.
    first[max(n_images, key=lambda kind: n_images[kind])] += left
    rest = {kind: n - first[kind] for kind, n in n_images.items()}
    return [
        {kind: _patient_sizes(kind, n, rng) for kind, n in group.items()} for group in (first, rest)
    ]


def _patient_sizes(kind: str, n_images: int, rng: np.random.Generator) -> list[int]:
    """Numbers of images of as many patients as have `n_images` together."""
    shares = SHARES_BY_SIZE[kind]
    drawn = rng.choice(np.arange(1, len(shares) + 1), size=n_images, p=shares)
    # The last patient has the images that are left.
    sizes = np.diff(np.minimum(np.cumsum(drawn), n_images), prepend=0)
    return [int(size) for size in sizes if size]


def _names_in_order(class_name: str, n: int, first_number: dict[str, int]) -> list[str]:
    """`n` unused patient names, in the order in which their files sort; counts them as used.

    Pneumonia's numbers have no leading zeros, so that `person1000_` sorts before `person100_`.
    """
    shares = (
        {"person": n} if class_name == "PNEUMONIA" else {"IM-": (n + 1) // 2, "NORMAL2-IM-": n // 2}
    )
    names = []
    for prefix, count in shares.items():
        numbers = range(first_number[prefix], first_number[prefix] + count)
        first_number[prefix] += count
        names += [f"{prefix}{i}_" if prefix == "person" else f"{prefix}{i:04d}-" for i in numbers]
    return sorted(names)


def _file_name(patient: str, kind: str, image: int, n_images: int, running: int) -> str:
    """A file name in the study's grammar."""
    if kind != "normal":
        return f"{patient}{'bacteria' if kind == 'bacterial' else 'virus'}_{running}"
    return f"{patient}0001" if n_images == 1 else f"{patient}0001-{image + 1:04d}"

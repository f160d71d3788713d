"""Synthetic chest radiographs of children, drawn from geometry, in the study's layout and names.

They are the offline demonstration and the tests' data. They imitate what a frontal film shows, not
what disease does to it: no figure made on them says anything about patients.

Separate random streams draw the patient's body (the same on each of the patient's films), the
disease, and the film itself (positioning, exposure, noise). So the same film can be drawn healthy
and ill, and the difference is the disease alone; and every film can be drawn without the others.
"""

import io
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pydantic
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from pneumonia.store.params import Section

# A picture in the making, (image_size, image_size), float32.
Field = NDArray[np.floating]

# Images of each kind in each folder of the study's archive.
STUDY = {
    "train": {"normal": 1349, "bacterial": 2538, "viral": 1345},
    "test": {"normal": 234, "bacterial": 242, "viral": 148},
}
# Share of patients with so many images; close to the study's train folder.
IMAGES_A_PATIENT = {
    "normal": {1: 0.94, 2: 0.01, 3: 0.045, 4: 0.005},
    "bacterial": {
        1: 0.68,
        2: 0.14,
        3: 0.06,
        4: 0.035,
        5: 0.03,
        6: 0.025,
        7: 0.015,
        8: 0.01,
        14: 0.005,
    },
    "viral": {1: 0.87, 2: 0.095, 3: 0.02, 5: 0.01, 9: 0.005},
}
LEAST_IMAGES = 2  # of a kind in a folder, however small the share
PAPER_VALIDATION_SHARE = 0.1

# What a generator is for; it stands behind the seed, so that streams never meet.
_TABLE, _BODY, _DISEASE, _EXTENT, _FILM, _FILE = range(6)

_CHUNK = 48  # films a task; large enough that passing tasks between processes costs nothing
_WORTH_A_POOL = 4 * _CHUNK  # fewer films are drawn before the processes have started


class PhantomParams(Section):
    """How many phantoms, and how large."""

    image_size: int = pydantic.Field(ge=32, le=1024, description="pixels a side")
    share: float = pydantic.Field(gt=0, le=1, description="of the study's 5,856 images")


class Film(NamedTuple):
    """One image to draw."""

    member: str  # its path in the archive
    kind: str  # normal, bacterial, viral
    patient: int  # counts the patients of all kinds and folders from 0
    image: int  # counts the patient's images from 0


class Phantom(NamedTuple):
    """One drawn film and where its lungs are."""

    pixels: NDArray[np.uint8]  # (image_size, image_size), [0, 255], bright = dense
    lungs: Field  # (image_size, image_size), [0, 1]: 1 in aerated lung, soft at its edge


def phantom_entries(params: PhantomParams, seed: int) -> Iterator[tuple[str, bytes]]:
    """Member path and greyscale JPEG of every phantom, sorted by member path.

    The same `params` and `seed` give the same bytes, however many processes draw.
    """
    films = phantom_films(params.share, seed)
    return _drawn(films, params.image_size, seed)


def phantom_films(share: float, seed: int) -> list[Film]:
    """What to draw: `share` of each kind in each folder, sorted by member path.

    A patient lies in one folder, and the paper's validation rule, which takes the first tenth of a
    class's file names in sorted order, divides no patient. It cannot: the names of each class are
    dealt out in sorted order to two groups of patients, of which the first has exactly a tenth of
    the images.
    """
    rng = np.random.default_rng([seed, _TABLE])
    films: list[Film] = []
    first_number = dict.fromkeys(("person", "IM-", "NORMAL2-IM-"), 1)
    n_patients = 0
    for folder in ("test", "train"):  # test has the low numbers, a stretch of its own
        n_images = {kind: max(LEAST_IMAGES, round(share * n)) for kind, n in STUDY[folder].items()}
        for class_name, kinds in (("NORMAL", ("normal",)), ("PNEUMONIA", ("bacterial", "viral"))):
            groups = _two_groups({kind: n_images[kind] for kind in kinds}, rng)
            n_needed = [max(len(sizes) for sizes in group.values()) for group in groups]
            names = _names_in_order(class_name, sum(n_needed), first_number)
            dealt = (names[: n_needed[0]], names[n_needed[0] :])
            running = dict.fromkeys(kinds, 0)
            for group, group_names in zip(groups, dealt, strict=True):
                for kind in kinds:
                    for name, size in zip(group_names, group[kind], strict=False):
                        for image in range(size):
                            running[kind] += 1
                            file = _file_name(name, kind, image, size, running[kind])
                            member = f"chest_xray/{folder}/{class_name}/{file}.jpeg"
                            films.append(Film(member, kind, n_patients, image))
                        n_patients += 1
    return sorted(films)


def _two_groups(
    n_images: dict[str, int], rng: np.random.Generator
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Images of each patient, by kind: of the first tenth of a class, and of the rest."""
    total = sum(n_images.values())
    left = int(PAPER_VALIDATION_SHARE * total)
    first = {}
    for kind, n in n_images.items():
        first[kind] = min(left, round(PAPER_VALIDATION_SHARE * n))
        left -= first[kind]
    # Rounding may leave an image or two; the larger kind takes them.
    first[max(n_images, key=lambda kind: n_images[kind])] += left
    return (
        {kind: _patient_sizes(kind, n, rng) for kind, n in first.items()},
        {kind: _patient_sizes(kind, n - first[kind], rng) for kind, n in n_images.items()},
    )


def _patient_sizes(kind: str, n_images: int, rng: np.random.Generator) -> list[int]:
    """Numbers of images of as many patients as have `n_images` together."""
    sizes = list(IMAGES_A_PATIENT[kind])
    drawn = rng.choice(sizes, size=n_images, p=list(IMAGES_A_PATIENT[kind].values()))
    # The last patient has what is left.
    held = np.diff(np.minimum(np.cumsum(drawn), n_images), prepend=0)
    return [int(n) for n in held if n]


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


def _drawn(films: list[Film], image_size: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """The films in their order, drawn on all cores, a bounded number ahead of the reader."""
    n_workers = min(os.cpu_count() or 1, 16)
    if len(films) < _WORTH_A_POOL or n_workers == 1:
        for film in films:
            yield film.member, film_bytes(film, image_size, seed)
        return
    chunks = (films[i : i + _CHUNK] for i in range(0, len(films), _CHUNK))
    # Never fork: the caller may hold threads (TensorFlow's, tqdm's), and their locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
        ahead: deque[Future[list[tuple[str, bytes]]]] = deque()
        try:
            for chunk in chunks:
                ahead.append(pool.submit(_draw_chunk, chunk, image_size, seed))
                if len(ahead) > 2 * n_workers:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:  # the reader stopped early: let the rest go
            pool.shutdown(wait=False, cancel_futures=True)


def _draw_chunk(films: list[Film], image_size: int, seed: int) -> list[tuple[str, bytes]]:
    return [(film.member, film_bytes(film, image_size, seed)) for film in films]


def film_bytes(film: Film, image_size: int, seed: int) -> bytes:
    """One phantom as a greyscale JPEG."""
    rng = np.random.default_rng([seed, _FILE, film.patient, film.image])
    pixels = draw_phantom(film.kind, image_size, seed, film.patient, film.image).pixels
    file = io.BytesIO()
    # The quality varies, lest the size of a file tell its kind.
    Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(70, 91)))
    return file.getvalue()


# --- Drawing -------------------------------------------------------------------------------------
# Lengths are in half-widths of an ideally placed film: x from -1 (the patient's right, which is on
# the left of the film) to 1, y from -1 (top) to 1. Densities are in units of the film's range: 0 is
# air outside the body, about 1 the densest bone.


@dataclass(frozen=True)
class _Body:
    """One child, lengths as above."""

    width: float  # half-width of the rib cage at its base
    apex: float  # y of the tops of the lungs
    base: float  # y where the diaphragm meets the rib cage
    dome: float  # how far the right dome rises above `base`
    left_drop: float  # how much lower the left dome is
    fat: float  # soft tissue outside the ribs
    heart_left: float  # how far the heart reaches from the midline
    heart_right: float
    mediastinum: float  # half-width above the heart
    thymus: float  # how much it widens there
    spine: float  # half-width
    bend: float  # of the spine, sideways
    rib_count: float  # over the height of the lungs
    rib_phase: float  # in ribs
    rib_drop: float  # how far a rib falls from the spine to the side
    bone: float  # density of bones
    air: float  # how much darker lungs are than soft tissue
    clavicle: float  # y at the breastbone, below the apex
    clavicle_rise: float  # up to the shoulder
    arm: float  # y where the upper arm leaves the film, below the apex
    stomach: float  # gas under the left dome, 0 to 1
    vessels: float  # density of the vessels

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Body":
        between = rng.uniform
        return cls(
            width=between(0.66, 0.80),
            apex=between(-0.86, -0.70),
            base=between(0.50, 0.68),
            dome=between(0.16, 0.30),
            left_drop=between(0.02, 0.08),
            fat=between(0.07, 0.16),
            heart_left=between(0.38, 0.52),
            heart_right=between(0.19, 0.27),
            mediastinum=between(0.10, 0.16),
            thymus=between(-0.03, 0.10),
            spine=between(0.075, 0.095),
            bend=between(-0.03, 0.03),
            rib_count=between(8.3, 9.8),
            rib_phase=between(0, 1),
            rib_drop=between(0.10, 0.26),
            bone=between(0.12, 0.19),
            air=between(0.28, 0.40),
            clavicle=between(0.06, 0.18),
            clavicle_rise=between(0.05, 0.20),
            arm=between(-0.35, 0.9),
            stomach=max(0.0, between(-0.6, 1.0)),
            vessels=between(0.05, 0.13),
        )


class _Pose:
    """How the child lies on the film: where body points fall, and what stands at each pixel."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        angle = rng.normal(0, 0.035)
        self.size = size
        self.scale = np.array([rng.uniform(0.92, 1.16), rng.uniform(0.94, 1.12)])
        self.shift = rng.normal(0, 0.045, size=2)
        self.turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def pixels_of(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Columns and rows, in pixels, of (..., 2) body points; pixel centres are whole numbers."""
        placed: NDArray[np.float64] = (points * self.scale) @ self.turn.T + self.shift
        return (placed + 1) * (self.size / 2) - 0.5

    def points_of_pixels(self) -> tuple[Field, Field]:
        """Where in the body each pixel lies: x and y, each (size, size)."""
        steps = (np.arange(self.size) + 0.5) * (2 / self.size) - 1
        across, down = steps - self.shift[0], steps[:, None] - self.shift[1]
        x = (self.turn[0, 0] * across + self.turn[1, 0] * down) / self.scale[0]
        y = (self.turn[0, 1] * across + self.turn[1, 1] * down) / self.scale[1]
        return x.astype(np.float32), y.astype(np.float32)


def draw_phantom(kind: str, image_size: int, seed: int, patient: int, image: int) -> Phantom:
    """Image `image` of patient `patient`, drawn as one of `kind`.

    Only the disease depends on `kind`: body, positioning, exposure and noise are the same for all.
    """
    body_rng = np.random.default_rng([seed, _BODY, patient])
    film_rng = np.random.default_rng([seed, _FILM, patient, image])
    body = _Body.draw(body_rng)
    pose = _Pose(image_size, film_rng)
    chest = _Chest(body, pose)
    vessels = body.vessels * _lines(_tree(body_rng, n_branches=9, length=0.5), pose)

    filled = texture = np.zeros_like(chest.x)
    if kind != "normal":
        draw_disease = {"bacterial": _consolidation, "viral": _interstitial}[kind]
        filled, texture = draw_disease(
            chest,
            np.random.default_rng([seed, _DISEASE, patient]),
            np.random.default_rng([seed, _EXTENT, patient, image]),
        )
    density = chest.without_air - body.air * chest.aeration * (1 - filled)
    density += chest.lungs * (vessels * (1 - filled) + texture) + chest.bones
    return Phantom(_exposed(density, chest.inside, film_rng), chest.lungs)


def _ramp(distance: Field, edge: float) -> Field:
    """1 well inside (distance above edge / 2), 0 well outside, linear between."""
    ramp: Field = distance / edge + 0.5
    return np.clip(ramp, 0, 1, out=ramp)


def _bell(distance: Field, width: float) -> Field:
    """1 at distance 0, falling to 0 beyond a few widths."""
    bell: Field = np.exp(-np.square(distance / width))
    return bell


def _segment(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float]) -> Field:
    """Distance of each pixel from a line segment."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
    distance: Field = np.sqrt(np.square(x - x0 - along * dx) + np.square(y - y0 - along * dy))
    return distance


def _rib(phase: Field, half_width: float) -> Field:
    """A bone of `half_width` about phase 0, its edges denser than its middle."""
    bone: Field = _ramp(half_width - np.abs(phase), 0.10) * (
        0.6 + 0.4 * np.square(phase / half_width)
    )
    return bone


def _fraction(phase: Field) -> Field:
    """Distance of a running phase from its nearest whole number, in [-0.5, 0.5]."""
    return phase - np.rint(phase)


class _Chest:
    """The healthy chest of one child at every pixel of one film, as (size, size) fields."""

    without_air: Field  # density of all but air and bones
    aeration: Field  # share of `body.air` to take away
    bones: Field  # density to add
    lungs: Field  # 1 in lung that nothing hides
    inside: Field  # 1 in the body

    def __init__(self, body: _Body, pose: _Pose) -> None:
        self.body, self.pose = body, pose
        x, y = pose.points_of_pixels()
        x = x - body.bend * np.cos(2.2 * y)  # everything follows the spine
        self.x, self.y = x, y
        side = np.abs(x)
        left = (x > 0).astype(np.float32)

        # The rib cage: half its width at each height.
        height = body.base - body.apex
        level = np.clip((body.base - y) / height, 0, 1)  # 0 at the base, 1 at the apex
        narrow = 0.36 * body.width
        cage = narrow + (body.width - narrow) * np.sqrt(1 - level * level * level)
        below_apex = _ramp(y - body.apex, 0.10)

        # The heart and the great vessels: how far they reach to either side.
        down = np.clip((y - body.apex - 0.30 * height) / (0.62 * height), 0, 1.15)
        swell = np.sin(1.65 * down)
        swell *= swell
        bulge = body.thymus * _bell(y - (body.apex + 0.30 * height), 0.2)
        reach_left = body.mediastinum + (body.heart_left - body.mediastinum) * swell + 0.3 * bulge
        reach_right = body.mediastinum + (body.heart_right - body.mediastinum) * swell + bulge
        reach = reach_right + left * (reach_left - reach_right) - 0.05 * np.square(level * level)
        hidden = _ramp(reach - side, 0.07)

        # The diaphragm: a dome each side, the right one higher.
        curve = np.square((side - 0.42 * body.width) / (0.64 * body.width))
        dome = body.base - body.dome + body.left_drop * left + body.dome * np.minimum(curve, 1.4)
        chest = _ramp(cage - side, 0.035) * _ramp(dome - y, 0.05) * below_apex
        depth = np.clip((cage - side) / 0.22, 0.25, 1)  # the lung thins towards its side
        self.aeration = chest * (1 - 0.80 * hidden) * (0.55 + 0.45 * depth)
        hilum = _bell(np.hypot(side - reach, 0.7 * (y - body.apex - 0.42 * height)), 0.11)
        self.aeration *= 1 - 2.5 * body.vessels * hilum
        self.lungs = chest * (1 - hidden)

        # What lies around: trunk, neck, shoulders, arms.
        trunk = cage + body.fat * (1 + 0.9 * level)
        shoulder = _segment(side, y, (0.10, body.apex - 0.24), (0.74, body.apex + 0.10))
        arm = _segment(side, y, (0.76, body.apex + 0.16), (1.35, body.apex + body.arm))
        outline = np.maximum(
            np.minimum(trunk - side, y - body.apex),
            np.maximum(0.15 - shoulder, 0.19 - arm),
        )
        neck = 0.26 - side + 0.5 * np.clip(body.apex - y, -0.4, 0)
        self.inside = _ramp(np.maximum(outline, neck), 0.03)
        thickness = np.sqrt(np.clip(1 - np.square(side / (body.width + body.fat)), 0.12, 1))
        thickness = np.maximum(thickness, 0.75 * np.clip((0.20 - arm) / 0.20, 0, 1))
        abdomen = _ramp(y - dome, 0.10) * _ramp(cage - side, 0.10)
        gas_y = body.base - body.dome + body.left_drop + 0.15
        gas = _ramp(1 - np.hypot((x - 0.34) / 0.18, (y - gas_y) / 0.09), 0.8)
        windpipe = _bell(x, 0.05) * _ramp(body.apex + 0.36 * height - y, 0.15)
        self.without_air = self.inside * (0.26 + 0.32 * thickness) - 0.06 * windpipe
        self.without_air += (
            abdomen * (0.09 - 0.15 * body.stomach * gas) + 0.04 * hidden * below_apex
        )

        # Bones.
        spacing = height / body.rib_count
        lateral = np.clip(side / cage, 0, 1.1)
        run = (y - body.apex) / spacing + body.rib_phase
        fall = body.rib_drop * lateral * lateral * lateral - 0.05 * np.sin(np.pi * lateral)
        behind = _rib(_fraction(run - fall / spacing), 0.22)
        before = _rib(_fraction(run - (0.60 * (1 - lateral) + body.rib_drop) / spacing), 0.22)
        before *= _ramp(lateral - 0.5, 0.35)
        cover = 1 - 0.5 * hidden - 0.75 * abdomen
        ribs = _ramp(cage + 0.02 - side, 0.04) * (0.85 * behind + 0.40 * before) * cover
        ribs += 0.55 * _bell(cage - side, 0.022) * (0.3 + behind) * (1 - 0.7 * abdomen)
        vertebrae = 0.75 + 0.25 * np.cos(2 * np.pi / 0.86 * run)
        spine = _ramp(body.spine - side, 0.03) + 0.5 * _bell(side - 0.6 * body.spine, 0.016)
        outwards = (side - 0.1) / 0.55
        bar = body.apex + body.clavicle - body.clavicle_rise * outwards
        bar -= 0.025 * np.sin(2 * np.pi * outwards)
        clavicle = (
            _rib((y - bar) / 0.16, 0.17) * _ramp(side - 0.09, 0.04) * _ramp(0.68 - side, 0.06)
        )
        humerus = _ramp(0.07 - arm, 0.03) * (0.7 + 0.3 * _bell(arm - 0.06, 0.02))
        blade = _segment(side, y, (0.66, body.apex + 0.16), (body.width + 0.02, body.apex + 0.66))
        scapula = _bell(blade, 0.05) * (1 - 0.6 * chest)
        self.bones = (body.bone * self.inside) * (
            below_apex * ribs
            + (0.55 * spine) * vertebrae
            + 0.8 * clavicle
            + 0.9 * humerus
            + 0.35 * scapula
        )


def _tree(rng: np.random.Generator, n_branches: int, length: float) -> NDArray[np.float64]:
    """Lines that branch from both hila outwards: (n_lines, 4 points, 3) of x, y and width."""
    side = np.repeat([-1.0, 1.0], n_branches)
    roots = np.stack([0.17 * side, -0.10 + 0.03 * side], axis=1)
    roots += rng.normal(0, 0.025, roots.shape)
    angle = np.tile(np.linspace(-1.2, 1.4, n_branches), 2) + rng.normal(0, 0.12, len(side))
    branches = _wandering(roots, angle, side, length * rng.uniform(0.5, 1.2, len(side)), 0.020, rng)
    trees = [branches]
    for point, bend in ((1, 0.6), (2, -0.6)):
        reach = length * rng.uniform(0.3, 0.7, len(side))
        bends = angle + bend * rng.choice([-1, 1], len(side))
        trees.append(_wandering(branches[:, point, :2], bends, side, reach, 0.012, rng))
    return np.concatenate(trees)


def _wandering(
    starts: NDArray[np.float64],
    angles: NDArray[np.float64],
    side: NDArray[np.float64],
    lengths: NDArray[np.float64],
    width: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Tapering lines from (n, 2) `starts`: (n, 4 points, 3) of x, y and width."""
    turning = angles[:, None] + np.cumsum(rng.normal(0, 0.18, (len(starts), 3)), axis=1)
    steps = np.stack([side[:, None] * np.cos(turning), np.sin(turning)], axis=2)
    steps *= lengths[:, None, None] / 3
    points = np.cumsum(np.concatenate([starts[:, None], steps], axis=1), axis=1)
    widths = np.broadcast_to(np.linspace(width, 0.35 * width, 4)[:, None], (len(starts), 4, 1))
    return np.concatenate([points, widths], axis=2)


def _lines(lines: NDArray[np.float64], pose: _Pose) -> Field:
    """Lines of x, y and width as a soft picture in [0, 1]."""
    # Drawn twice as large, then averaged: no stairs.
    picture = Image.new("L", (2 * pose.size, 2 * pose.size))
    draw = ImageDraw.Draw(picture)
    corners = (2 * pose.pixels_of(lines[:, :, :2]) + 0.5).reshape(len(lines), -1).tolist()
    # A line thinner than a pixel is drawn a pixel wide and fainter.
    widths = lines[:, :, 2] * pose.size
    whole = np.maximum(1, np.rint(widths)).astype(int)
    greys = (255 * np.minimum(1, widths / whole)).astype(int).tolist()
    for xy, width, grey in zip(corners, whole.tolist(), greys, strict=True):
        for i in range(len(width) - 1):
            draw.line(xy[2 * i : 2 * i + 4], fill=grey[i], width=width[i])
    soft = np.asarray(picture.reduce(2), np.float32) / 255
    return gaussian_filter(soft, 0.004 * pose.size)


def _clouds(size: int, grain: float, rng: np.random.Generator) -> Field:
    """Smooth noise, (size, size), mean 0 and deviation 1; `grain` in half-widths of the film."""
    # Drawn no finer than its grain needs, then enlarged: blurring is what costs.
    coarse = min(size, max(8, round(6 / grain)))
    noise = gaussian_filter(
        rng.standard_normal((coarse, coarse), dtype=np.float32), grain * coarse / 2, mode="wrap"
    )
    noise /= noise.std()
    if coarse == size:
        return noise
    picture = Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def _consolidation(
    chest: _Chest, rng: np.random.Generator, extent: np.random.Generator
) -> tuple[Field, Field]:
    """Share of the air that fluid has replaced, in one lobe or two of one lung; no texture.

    Args:
        chest: the healthy chest.
        rng: the patient's; gives side, lobes and opacity.
        extent: the film's; how far it has come on that day.
    """
    body = chest.body
    side = float(rng.choice([-1.0, 1.0]))
    lobes = rng.permutation(3)[: 1 + int(rng.random() < 0.4)]  # upper, middle, lower
    lumps = 0.16 * _clouds(chest.pose.size, 0.10, extent)
    filled = np.zeros_like(chest.x)
    for lobe in lobes:
        y = body.apex + (body.base - body.apex) * (0.24 + 0.25 * lobe + rng.uniform(-0.05, 0.05))
        x = side * body.width * rng.uniform(0.45, 0.70)
        size = extent.uniform(0.85, 1.15)
        across, down = size * rng.uniform(0.26, 0.42), size * rng.uniform(0.22, 0.34)
        opacity = rng.uniform(0.75, 1.0)
        distance = np.sqrt(np.square((chest.x - x) / across) + np.square((chest.y - y) / down))
        filled = np.maximum(filled, opacity * _ramp(0.95 - distance + lumps, 0.6))
    filled *= _ramp(side * chest.x, 0.05)  # never in the other lung
    return filled, np.zeros_like(filled)


def _interstitial(
    chest: _Chest, rng: np.random.Generator, extent: np.random.Generator
) -> tuple[Field, Field]:
    """Share of the air lost to haze, and density of streaks and a fine net, in both lungs.

    Args:
        chest: the healthy chest.
        rng: the patient's; gives strength and streaks.
        extent: the film's; gives the net, and how far it has come on that day.
    """
    size = chest.pose.size
    strength = rng.uniform(0.75, 1.25) * extent.uniform(0.85, 1.15)
    streaks = _lines(_tree(rng, n_branches=15, length=0.42), chest.pose)
    near = np.exp(-np.hypot((np.abs(chest.x) - 0.22) / 0.5, (chest.y + 0.05) / 0.6))
    net = np.clip(0.8 - np.abs(_clouds(size, 0.028, extent)), 0, 1)
    mottle = np.clip(_clouds(size, 0.05, extent), 0, 2)
    patches = np.clip(0.9 + 0.4 * _clouds(size, 0.20, extent), 0.2, 1.6)
    texture = 0.11 * streaks + (0.10 * net + 0.06 * mottle) * patches * (0.4 + near)
    haze = np.clip(0.30 * strength * near * patches, 0, 0.5)
    return haze, strength * texture


def _exposed(density: Field, inside: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The film of a field of densities: exposure, blur, grain, letter."""
    size = len(density)
    black, white = rng.uniform(-0.02, 0.10), rng.uniform(0.62, 0.86)
    steps = np.linspace(-1, 1, size, dtype=np.float32)
    across, down = rng.uniform(-0.05, 0.05, size=2).tolist()
    density = density + inside * (across * steps + down * steps[:, None])
    film = np.clip((density - black) / (white - black), 0, None)
    film = film ** np.exp(rng.normal(0, 0.2)).item()
    film = film / np.sqrt(np.sqrt(1 + np.square(np.square(film))))  # never quite white
    film = gaussian_filter(film, rng.uniform(0.002, 0.006) * size)
    grain = np.exp(rng.normal(np.log(0.010), 0.5)).item()
    film += grain * (0.3 + film) * rng.standard_normal(film.shape, dtype=np.float32)
    pixels = np.clip(255 * film + 0.5, 0, 255).astype(np.uint8)
    return _lettered(pixels, rng) if rng.random() < 0.85 else pixels


def _lettered(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The film with the R that marks the patient's right burned in, near its upper left corner."""
    size = len(pixels)
    letter = Image.new("L", (40, 56))
    draw = ImageDraw.Draw(letter)
    draw.line((7, 4, 7, 52), fill=255, width=8)
    draw.rounded_rectangle((3, 4, 35, 32), 10, outline=255, width=8)
    draw.line((18, 30, 33, 52), fill=255, width=9)
    height = max(5, round(size * rng.uniform(0.045, 0.085)))
    letter = letter.resize((round(height * 40 / 56), height), Image.Resampling.BOX)
    corner = round(size * rng.uniform(0.02, 0.09)), round(size * rng.uniform(0.02, 0.33))
    film = Image.fromarray(pixels)
    film.paste(round(rng.uniform(190, 255)), corner, mask=letter)
    return np.asarray(film)

"""Synthetic chest radiographs of children, drawn from geometry.

They imitate what a frontal radiograph shows, not what disease does to it: a metric measured on them
says nothing about patients.

Separate streams of random numbers draw the patient's body (the same on each of the patient's
images), the disease, and the image itself (positioning, exposure, noise). So an image can be drawn
healthy and ill, and the difference is the disease alone; and each can be drawn without the others.

Lengths are in half-widths of an ideally placed image: x from -1 (the patient's right, which is on
the image's left) to 1, y from -1 (top) to 1. Densities are in units of the image's range: 0 is air
outside the body, about 1 the densest bone.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

# An image in the making, (image_size, image_size), float32.
Field = NDArray[np.floating]

# What a generator is for; it stands behind the seed, so that streams never meet. 0 and 5 belong to
# `phantoms`.
_BODY, _DISEASE, _EXTENT, _IMAGE = 1, 2, 3, 4

# A child's body is drawn evenly from these ranges, in this order.
_BODY_RANGES = {
    "width": (0.66, 0.80),  # half-width of the rib cage at its base
    "apex": (-0.86, -0.70),  # y of the tops of the lungs
    "base": (0.50, 0.68),  # y where the diaphragm meets the rib cage
    "dome": (0.16, 0.30),  # how far the right dome rises above `base`
    "left_drop": (0.02, 0.08),  # how much lower the left dome is
    "fat": (0.07, 0.16),  # soft tissue outside the ribs
    "heart_left": (0.38, 0.52),  # how far the heart reaches from the midline
    "heart_right": (0.19, 0.27),
    "mediastinum": (0.10, 0.16),  # half-width above the heart
    "thymus": (-0.03, 0.10),  # how much it widens there
    "spine": (0.075, 0.095),  # half-width
    "bend": (-0.03, 0.03),  # of the spine, sideways
    "rib_count": (8.3, 9.8),  # over the height of the lungs
    "rib_phase": (0, 1),  # in ribs
    "rib_drop": (0.10, 0.26),  # how far a rib falls from the spine to the side
    "bone": (0.12, 0.19),  # density of bones
    "air": (0.28, 0.40),  # how much darker lungs are than soft tissue
    "clavicle": (0.06, 0.18),  # y at the breastbone, below the apex
    "clavicle_rise": (0.05, 0.20),  # up to the shoulder
    "arm": (-0.35, 0.9),  # y where the upper arm leaves the image, below the apex
    "stomach": (-0.6, 1.0),  # gas under the left dome; none below 0
    "vessels": (0.05, 0.13),  # density of the vessels
}


class Phantom(NamedTuple):
    """One drawn image and where its lungs are."""

    pixels: NDArray[np.uint8]  # (image_size, image_size), [0, 255], bright = dense
    lungs: Field  # (image_size, image_size), [0, 1]: 1 in aerated lung, soft at its edge


def draw_phantom(kind: str, image_size: int, seed: int, patient: int, image: int) -> Phantom:
    """Image `image` of patient `patient`, drawn as one of `kind`.

    Only the disease depends on `kind`: body, positioning, exposure and noise are the same for all.
    """
    body_rng = np.random.default_rng([seed, _BODY, patient])
    image_rng = np.random.default_rng([seed, _IMAGE, patient, image])
    body = _drawn_body(body_rng)
    pose = _Pose(image_size, image_rng)
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
    return Phantom(_exposed(density, chest.inside, image_rng), chest.lungs)


def _drawn_body(rng: np.random.Generator) -> SimpleNamespace:
    """One child: a float of each of `_BODY_RANGES`."""
    body = SimpleNamespace(**{name: rng.uniform(*ends) for name, ends in _BODY_RANGES.items()})
    body.stomach = max(0.0, body.stomach)
    return body


class _Pose:
    """How the child is placed: which pixel shows which point of the body."""

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
    """The healthy chest of one child at every pixel of one image, as (size, size) fields.

    Attributes:
        without_air: density of all but air and bones.
        aeration: share of `body.air` to take away.
        bones: density to add.
        lungs: 1 in lung that nothing hides.
        inside: 1 in the body.
    """

    def __init__(self, body: SimpleNamespace, pose: _Pose) -> None:
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

    def tapering(starts: Any, angles: Any, lengths: Any, width: float) -> NDArray[np.float64]:
        """Wandering lines from (n, 2) `starts`."""
        turning = angles[:, None] + np.cumsum(rng.normal(0, 0.18, (len(starts), 3)), axis=1)
        steps = np.stack([side[:, None] * np.cos(turning), np.sin(turning)], axis=2)
        steps *= lengths[:, None, None] / 3
        points = np.cumsum(np.concatenate([starts[:, None], steps], axis=1), axis=1)
        widths = np.broadcast_to(np.linspace(width, 0.35 * width, 4)[:, None], (len(starts), 4, 1))
        return np.concatenate([points, widths], axis=2)

    roots = np.stack([0.17 * side, -0.10 + 0.03 * side], axis=1)
    roots += rng.normal(0, 0.025, roots.shape)
    angle = np.tile(np.linspace(-1.2, 1.4, n_branches), 2) + rng.normal(0, 0.12, len(side))
    branches = tapering(roots, angle, length * rng.uniform(0.5, 1.2, len(side)), 0.020)
    trees = [branches]
    for point, bend in ((1, 0.6), (2, -0.6)):
        reach = length * rng.uniform(0.3, 0.7, len(side))
        bends = angle + bend * rng.choice([-1, 1], len(side))
        trees.append(tapering(branches[:, point, :2], bends, reach, 0.012))
    return np.concatenate(trees)


def _lines(lines: NDArray[np.float64], pose: _Pose) -> Field:
    """Lines of x, y and width, drawn softly: (size, size) in [0, 1]."""
    # Drawn twice as large, then averaged: no stairs.
    image = Image.new("L", (2 * pose.size, 2 * pose.size))
    draw = ImageDraw.Draw(image)
    corners = (2 * pose.pixels_of(lines[:, :, :2]) + 0.5).reshape(len(lines), -1).tolist()
    # A line thinner than a pixel is drawn a pixel wide and fainter.
    widths = lines[:, :, 2] * pose.size
    whole = np.maximum(1, np.rint(widths)).astype(int)
    greys = (255 * np.minimum(1, widths / whole)).astype(int).tolist()
    for xy, width, grey in zip(corners, whole.tolist(), greys, strict=True):
        for i in range(len(width) - 1):
            draw.line(xy[2 * i : 2 * i + 4], fill=grey[i], width=width[i])
    soft = np.asarray(image.reduce(2), np.float32) / 255
    return gaussian_filter(soft, 0.004 * pose.size)


def _clouds(size: int, grain: float, rng: np.random.Generator) -> Field:
    """Smooth noise, (size, size), mean 0 and deviation 1; `grain` in half-widths of the image."""
    # Drawn no finer than its grain needs, then enlarged: blurring is what costs.
    coarse = min(size, max(8, round(6 / grain)))
    noise = gaussian_filter(
        rng.standard_normal((coarse, coarse), dtype=np.float32), grain * coarse / 2, mode="wrap"
    )
    noise /= noise.std()
    if coarse == size:
        return noise
    return np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC))


def _consolidation(
    chest: _Chest, rng: np.random.Generator, extent: np.random.Generator
) -> tuple[Field, Field]:
    """Share of the air that fluid has replaced, in one lobe or two of one lung; no texture.

    The patient's `rng` gives side, lobes and opacity, the image's `extent` how far it has spread.
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

    The patient's `rng` gives strength and streaks, the image's `extent` the net and the spread.
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
    """The image of a field of densities: exposure, blur, grain, letter."""
    size = len(density)
    black, white = rng.uniform(-0.02, 0.10), rng.uniform(0.62, 0.86)
    steps = np.linspace(-1, 1, size, dtype=np.float32)
    across, down = rng.uniform(-0.05, 0.05, size=2).tolist()
    density = density + inside * (across * steps + down * steps[:, None])
    image = np.clip((density - black) / (white - black), 0, None)
    image = image ** np.exp(rng.normal(0, 0.2)).item()
    image = image / np.sqrt(np.sqrt(1 + np.square(np.square(image))))  # never quite white
    image = gaussian_filter(image, rng.uniform(0.002, 0.006) * size)
    grain = np.exp(rng.normal(np.log(0.010), 0.5)).item()
    image += grain * (0.3 + image) * rng.standard_normal(image.shape, dtype=np.float32)
    pixels = np.clip(255 * image + 0.5, 0, 255).astype(np.uint8)
    return _lettered(pixels, rng) if rng.random() < 0.85 else pixels


def _lettered(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image with the R that marks the patient's right, near its upper left corner."""
    size = len(pixels)
    letter = Image.new("L", (40, 56))
    draw = ImageDraw.Draw(letter)
    draw.line((7, 4, 7, 52), fill=255, width=8)
    draw.rounded_rectangle((3, 4, 35, 32), 10, outline=255, width=8)
    draw.line((18, 30, 33, 52), fill=255, width=9)
    height = max(5, round(size * rng.uniform(0.045, 0.085)))
    letter = letter.resize((round(height * 40 / 56), height), Image.Resampling.BOX)
    corner = round(size * rng.uniform(0.02, 0.09)), round(size * rng.uniform(0.02, 0.33))
    image = Image.fromarray(pixels)
    image.paste(round(rng.uniform(190, 255)), corner, mask=letter)
    return np.asarray(image)

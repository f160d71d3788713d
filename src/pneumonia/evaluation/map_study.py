"""Do the maps show what the model learned, and how much of them lies at the border of the image?

Two studies of the class activation maps of test: `sanity` compares them with maps of random
weights, `border` measures what lies outside the middle of the image.

Maps are (n_images, map_height, map_width) float32, images (n_images, height, width) uint8 in
[0, 255], possibly memory-mapped. Keras is imported inside the functions that need it.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from pneumonia.evaluation.activation_maps import (
    activation_maps,
    feature_model,
    weighted_features,
)

# What a verdict can be, errors first.
OUTCOMES = ("false_negative", "false_positive", "true_positive", "true_negative")
MISSED, FALSE_ALARM, CAUGHT, CLEARED = OUTCOMES
BORDER = 1 / 8  # of the side, on each of the four
EVEN_BORDER_SHARE = 1 - (1 - 2 * BORDER) ** 2
N_SANITY = 200  # images of the sanity check
N_DRAWS = 20  # its random heads
N_CHANCE = 10_000  # pairs of unrelated maps
SIMILARITIES = ("head_randomised", "backbone_randomised", "another_image", "chance")
COLUMNS = ("study", "group", "n_images", "median", "q1", "q3", "note")
# The stages share one seed; no two draws are one another's continuation.
_STREAM = 8
_HEAD, _BACKBONE = 0, 1
# Weights that are no kernels, by Keras' names, before any training.
_UNTRAINED = {"bias": 0, "beta": 0, "moving_mean": 0, "gamma": 1, "moving_variance": 1}


@dataclass(frozen=True)
class MapStudy:
    """Maps of test, and what was measured on them."""

    table: pd.DataFrame  # the content of metrics/activation_maps.csv, with `COLUMNS`
    maps: NDArray[np.float32]  # in logits, of all test images
    head: NDArray[np.float32]  # of the shown images, head random
    backbone: NDArray[np.float32]  # of the shown images, head and backbone random


def map_study(
    classifier: Any,
    images: NDArray[np.uint8],
    kinds: NDArray[np.str_],
    outcome: NDArray[np.str_],
    shown: NDArray[np.intp],
    seed: int,
) -> MapStudy:
    """Both studies, and the maps of random weights that a plot shows.

    Args:
        classifier: as `load_classifier` returns.
        images: all of test.
        kinds: (n_images,) text: normal, bacterial, viral.
        outcome: (n_images,) text, as `outcomes` gives it.
        shown: (n_shown,) int, places of the images whose maps of random weights are shown.
        seed: of params.yaml.

    Raises:
        PipelineError: as `activation_maps`.
    """
    maps = activation_maps(classifier, images)
    sample = sanity_places(kinds)
    # One pass for what is measured and what is shown: each compiles a backbone of its own.
    asked = images[np.concatenate([sample, shown])]
    head = randomised_maps(classifier, asked, "head", seed)
    backbone = randomised_maps(classifier, asked, "backbone", seed)
    randomised = head[:, : len(sample)], backbone[:, : len(sample)]
    sanity = similarities(maps[sample], *randomised)
    constant = [int((np.ptp(drawn, axis=(2, 3)) == 0).sum()) for drawn in randomised]
    notes = (
        f"{len(head)} random heads; {constant[0]} constant maps",
        f"the same heads, one random backbone; {constant[1]} constant maps",
        "each pair of images, trained model",
        f"{N_CHANCE:,} pairs of maps without any relation",
    )
    rows = border_rows(maps, outcome) + [
        ("sanity", key, len(sample), *_quartiles(sanity[key]), note)
        for key, note in zip(SIMILARITIES, notes, strict=True)
    ]
    return MapStudy(
        pd.DataFrame(rows, columns=list(COLUMNS)),
        maps,
        head[0, len(sample) :],
        backbone[0, len(sample) :],
    )


def randomised_maps(
    classifier: Any,
    images: NDArray[np.uint8],
    what: Literal["head", "backbone"],
    seed: int,
    n_draws: int = N_DRAWS,
    batch_size: int = 64,
) -> NDArray[np.float32]:
    """Maps of the same radiographs under random weights, `n_draws` times.

    The cascade of Adebayo et al. (Sanity Checks for Saliency Maps, NeurIPS 2018) in two steps:
    the head, then the backbone too. One head alone would say little: in a coarse map it may agree
    or disagree with the trained one on nearly all images by chance. Heads are cheap, so there are
    many; the backbone is drawn once. The classifier itself is left as it is.

    `what` is random: the dense unit alone (head), or all of the network (backbone), with the same
    heads. What comes back is (n_draws, *maps); only the order of the places within a map means
    anything.
    """
    features = feature_model(classifier)
    if what == "backbone":
        features = randomised(features, seed)
    n_channels = features.output_shape[-1]
    rng = np.random.default_rng([seed, _STREAM, _HEAD])
    heads = rng.standard_normal((n_channels, n_draws)) / np.sqrt(n_channels)
    return weighted_features(features, heads.astype(np.float32), images, batch_size)


def randomised(model: Any, seed: int) -> Any:
    """A copy of a Keras model with all weights as before any training, drawn from `seed`.

    Kernels are normal with variance 1 / fan-in, which keeps the activations finite at any depth
    without BatchNorm's help (LeCun et al., Efficient BackProp, 1998); BatchNorm neither shifts nor
    scales; biases are 0. NumPy draws: the same weights on any backend, and no global seed.
    """
    import keras

    copy = keras.models.clone_model(model)
    rng = np.random.default_rng([seed, _STREAM, _BACKBONE])
    for weight in copy.weights:
        if weight.name == "kernel":
            # A channel of a depthwise layer, whose kernel is (h, w, n, 1), sees itself alone.
            depthwise = len(weight.shape) == 4 and weight.shape[-1] == 1
            seen = weight.shape[:2] if depthwise else weight.shape[:-1]
            drawn = rng.standard_normal(weight.shape) / np.sqrt(np.prod(seen))
        else:
            drawn = np.full(weight.shape, _UNTRAINED[weight.name])
        weight.assign(drawn.astype(np.float32))
    return copy


def similarity(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Spearman's rank correlation of two maps of each image; 0 where either map is constant.

    (n_images,) float64 in [-1, 1]. A constant map ranks no place above another, so it agrees with
    nothing, itself included.
    """
    return np.asarray((_unit_ranks(a) * _unit_ranks(b)).sum(axis=1))


def similarities(
    trained: NDArray[np.float32], head: NDArray[np.float32], backbone: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """How like the trained model's maps others are, as absolute rank correlations in [0, 1].

    Absolute, because a random head and its negative are equally likely: with signs the median is 0
    whatever the maps show. Two references stand beside them. `another_image`: maps of two images
    under the trained model; where these are alike, a map says more about the model than about the
    image. `chance`: maps whose places are independent, so what so few places give by luck.

    `trained` are maps of two images at least, `head` and `backbone` (n_draws, *maps) of
    `randomised_maps`. Each key of `SIMILARITIES` has (n,) float64: n_draws * n_images of the
    randomised ones, a value for each pair of images, and `N_CHANCE` of chance.
    """
    ranks = _unit_ranks(trained)
    unrelated = np.random.default_rng(_STREAM).random((2, N_CHANCE, *trained.shape[1:]))
    found = (
        np.concatenate([similarity(trained, maps) for maps in head]),
        np.concatenate([similarity(trained, maps) for maps in backbone]),
        (ranks @ ranks.T)[np.triu_indices(len(ranks), k=1)],
        similarity(*unrelated),
    )
    return {key: np.abs(values) for key, values in zip(SIMILARITIES, found, strict=True)}


def border_shares(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of what pushes towards pneumonia that lies in the border of the image.

    (n,) float64 in [0, 1], n the images with a place above 0; an even map has `EVEN_BORDER_SHARE`.
    The border is the outer `BORDER` of each side, where collimation, letters, arms and neck are
    more often than lung. That is all it knows: no lung masks exist here, much of the lung may lie
    in it and much else outside it. A place that the border's line cuts counts by its area, so a
    coarse map can come no closer to 0 or 1 than its grid allows (3 × 3: at most 0.61).
    """
    positive = np.maximum(maps, 0).astype(np.float64)
    total = positive.sum(axis=(1, 2))
    inner = np.outer(_inner(maps.shape[1]), _inner(maps.shape[2]))
    some = total > 0
    return np.asarray((positive * (1 - inner)).sum(axis=(1, 2))[some] / total[some])


def border_rows(
    maps: NDArray[np.float32], outcome: NDArray[np.str_]
) -> list[tuple[str, str, int, float, float, float, str]]:
    """Rows with `COLUMNS`: quartiles of the border's share, an outcome a row.

    n_images are those with a place above 0; an outcome without any has no row.
    """
    shares = {key: border_shares(maps[outcome == key]) for key in OUTCOMES}
    note = f"of {{n}} images, those with a place above 0; an even map has {EVEN_BORDER_SHARE}"
    return [
        ("border", key, len(of), *_quartiles(of), note.format(n=int((outcome == key).sum())))
        for key, of in shares.items()
        if len(of)
    ]


def outcomes(
    y_true: NDArray[np.int_], y_prob: NDArray[np.float64], threshold: float
) -> NDArray[np.str_]:
    """(n_images,) text: one of `OUTCOMES`, from (n_images,) truths and P."""
    called = y_prob >= threshold
    return np.where(
        y_true == 1, np.where(called, CAUGHT, MISSED), np.where(called, FALSE_ALARM, CLEARED)
    )


def sanity_places(kinds: NDArray[np.str_], n: int = N_SANITY) -> NDArray[np.intp]:
    """(min(n, n_images),) int: every kth image, ordered by kind, so each kind has its share."""
    in_order = np.argsort(kinds, kind="stable")
    every = np.linspace(0, len(kinds) - 1, min(n, len(kinds))).astype(int)
    return np.asarray(in_order[every])


def _unit_ranks(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n_images, n_places): ranks less their mean, of length 1; all 0 for a constant map."""
    ranks = np.asarray(rankdata(maps.reshape(len(maps), -1), axis=1))
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.sqrt((ranks * ranks).sum(axis=1, keepdims=True))
    return np.asarray(np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0))


def _inner(n_places: int) -> NDArray[np.float64]:
    """(n_places,) share of each place, along one side, that is not border."""
    edges = np.linspace(0, 1, n_places + 1)
    within = np.minimum(edges[1:], 1 - BORDER) - np.maximum(edges[:-1], BORDER)
    return np.asarray(np.maximum(within, 0) * n_places)


def _quartiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median and quartiles of what was measured; they are no interval."""
    q1, median, q3 = (round(float(q), 6) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return median, q1, q3

"""Where the model looks: class activation maps, and whether they depend on what was learned.

A map is as coarse as the backbone's last feature map (a 32nd of the film's side), and each of its
places sees a part of the film far larger than itself. No lung masks exist here: nothing in this
module can say that the model looks at the lungs, only where on the film its evidence is summed.

Keras is imported inside the functions that need it.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import rankdata

from pneumonia.errors import PipelineError

SCHEMA = 1
# Names of a film's outcome, as `figures.OUTCOMES` has them.
OUTCOMES = ("false_negative", "false_positive", "true_positive", "true_negative")
MISSED, FALSE_ALARM, CAUGHT, CLEARED = OUTCOMES
BORDER = 1 / 8  # of the side, on each of the four
N_SANITY = 200  # images of the sanity check
N_DRAWS = 20  # its random heads
SIMILARITIES = ("head_randomised", "backbone_randomised", "another_film", "chance")
# Okabe and Ito's vermillion and blue (`drawing` has them as text; it would bring matplotlib here).
TOWARDS_PNEUMONIA, TOWARDS_NORMAL = (213, 94, 0), (0, 114, 178)
OPACITY = 0.6  # of the strongest colour: the film stays visible beneath it
# The stages share one seed; no two draws are one another's continuation.
_STREAM = 8
_HEAD, _BACKBONE = 0, 1
# Weights that are no kernels, by Keras' names, before any training.
_UNTRAINED = {"bias": 0, "beta": 0, "moving_mean": 0, "gamma": 1, "moving_variance": 1}


def activation_maps(
    classifier: Any, images: NDArray[np.uint8], batch_size: int = 64
) -> NDArray[np.float32]:
    """Class activation map of each radiograph: what each place adds to the logit of pneumonia.

    The last feature map's channels, weighted by the dense unit's weights, and its bias at every
    place (Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016). The mean
    of a map is the logit, so the sigmoid of the mean is P(pneumonia). After global average pooling
    and one dense unit, Grad-CAM without its final ReLU (Selvaraju et al., ICCV 2017) is the same
    map up to a factor and the bias; no gradients are needed.

    Args:
        classifier: as `load_classifier` returns.
        images: (n_images, height, width) uint8 in [0, 255], possibly memory-mapped.
        batch_size: images in memory at a time.

    Returns:
        (n_images, map_height, map_width) float32, in logits; above 0 is towards pneumonia.

    Raises:
        PipelineError: the classifier does not end in global average pooling and one dense unit.
    """
    kernel, bias = _layer(classifier, "pneumonia").get_weights()
    features = _feature_model(classifier)
    maps: NDArray[np.float32] = _maps(features, kernel, images, batch_size)[0] + bias[0]
    return maps


def randomised_maps(
    classifier: Any,
    images: NDArray[np.uint8],
    what: Literal["head", "backbone"],
    seed: int,
    n_draws: int = N_DRAWS,
    batch_size: int = 64,
) -> NDArray[np.float32]:
    """Maps of the same radiographs after weights were drawn anew, `n_draws` times.

    The cascade of Adebayo et al. (Sanity Checks for Saliency Maps, NeurIPS 2018) in two steps:
    the head, then the backbone too. One head alone would tell little: in a coarse map it may agree
    or disagree with the trained one on nearly all films by chance. Heads are cheap, so there are
    many; the backbone is drawn once. The classifier itself is left as it is.

    Args:
        classifier: as `load_classifier` returns.
        images: (n_images, height, width) uint8 in [0, 255], possibly memory-mapped.
        what: head: the dense unit alone; backbone: all of the network.
        seed: of params.yaml; the same seed, the same heads for both.
        n_draws: heads.
        batch_size: images in memory at a time.

    Returns:
        (n_draws, n_images, map_height, map_width) float32; only their order within a map means
        anything.

    Raises:
        PipelineError: as `activation_maps`.
    """
    features = _feature_model(classifier)
    if what == "backbone":
        features = randomised(features, seed)
    n_channels = features.output_shape[-1]
    rng = np.random.default_rng([seed, _STREAM, _HEAD])
    heads = rng.standard_normal((n_channels, n_draws)) / np.sqrt(n_channels)
    return _maps(features, heads.astype(np.float32), images, batch_size)


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

    A constant map ranks no place above another, so it agrees with nothing, itself included;
    `summary` counts them.

    Args:
        a: (n_images, map_height, map_width) float.
        b: the same shape.

    Returns:
        (n_images,) float64 in [-1, 1].
    """
    return np.asarray((_unit_ranks(a) * _unit_ranks(b)).sum(axis=1))


def similarities(
    trained: NDArray[np.float32], head: NDArray[np.float32], backbone: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """How like the trained model's maps others are, as absolute rank correlations in [0, 1].

    Absolute, because a random head and its negative are equally likely: with signs the median is 0
    whatever the maps show. Two references stand beside them. `another_film`: maps of two films
    under the trained model; where these are alike, a map tells more of the model than of the
    film. `chance`: maps whose places are independent, so what so few places give by luck.

    Args:
        trained: (n_images, map_height, map_width), of `activation_maps`; two images at least.
        head: (n_draws, n_images, map_height, map_width), of `randomised_maps`.
        backbone: the same.

    Returns:
        Key of `SIMILARITIES` -> (n,) float64: n_draws * n_images of the randomised ones, a value
        for each pair of films, and 10,000 of chance.
    """
    ranks = _unit_ranks(trained)
    pairs = np.triu_indices(len(ranks), k=1)
    unrelated = np.random.default_rng(_STREAM).random((2, 10_000, *trained.shape[1:]))
    found = (
        np.concatenate([similarity(trained, maps) for maps in head]),
        np.concatenate([similarity(trained, maps) for maps in backbone]),
        (ranks @ ranks.T)[pairs],
        similarity(*unrelated),
    )
    return {key: np.abs(values) for key, values in zip(SIMILARITIES, found, strict=True)}


def border_shares(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of what pushes towards pneumonia that lies in the film's outer border.

    The border is the outer `BORDER` of each side, where collimation, letters, arms and neck are
    more often than lung. That is all it knows: no lung masks exist here, much of the lung may lie
    in it and much else outside it. A place that the border's line cuts counts by its area, so a
    coarse map can come no closer to 0 or 1 than its grid allows (3 × 3: at most 0.61).

    Args:
        maps: (n_images, map_height, map_width) float, of `activation_maps`.

    Returns:
        (n,) float64 in [0, 1], n the images with a place above 0, in their order; an even map has
        `even_border_share()`.
    """
    positive = np.maximum(maps, 0).astype(np.float64)
    total = positive.sum(axis=(1, 2))
    inner = np.outer(_inner(maps.shape[1]), _inner(maps.shape[2]))
    some = total > 0
    return np.asarray((positive * (1 - inner)).sum(axis=(1, 2))[some] / total[some])


def even_border_share() -> float:
    """The border's share of the film's area: 0.4375."""
    return 1 - (1 - 2 * BORDER) ** 2


def outcomes(
    y_true: NDArray[np.int_], y_prob: NDArray[np.float64], threshold: float
) -> NDArray[np.str_]:
    """(n_images,) text: each film's key of `figures.OUTCOMES`, from (n_images,) truths and P."""
    called = y_prob >= threshold
    return np.where(
        y_true == 1, np.where(called, CAUGHT, MISSED), np.where(called, FALSE_ALARM, CLEARED)
    )


def sanity_places(kinds: NDArray[np.str_], n: int = N_SANITY) -> NDArray[np.intp]:
    """Places of about `n` images, each kind in its share: every so-manieth in the order of kinds.

    Args:
        kinds: (n_images,) text: normal, bacterial, viral.
        n: images wanted; all, where there are no more.

    Returns:
        (min(n, n_images),) int, places in `kinds`.
    """
    in_order = np.argsort(kinds, kind="stable")
    every = np.linspace(0, len(kinds) - 1, min(n, len(kinds))).astype(int)
    return np.asarray(in_order[every])


def summary(
    maps: NDArray[np.float32],
    outcome: NDArray[np.str_],
    alike: Mapping[str, NDArray[np.float64]],
    randomised: Mapping[str, NDArray[np.float32]],
    source: str,
    seed: int,
) -> dict[str, Any]:
    """The content of metrics/maps.json: counts, medians and quartiles; floats have six decimals.

    Quartiles are plain ones, of the images or pairs that were measured; they are no interval. An
    outcome none of whose films has a place above 0 has counts alone.

    Args:
        maps: (n_images, map_height, map_width), of all test images.
        outcome: (n_images,) text, as `outcomes` gives it.
        alike: as `similarities` gives it.
        randomised: head and backbone -> what `randomised_maps` gave.
        source: name of the data source.
        seed: of the draws.
    """
    n_draws, n_sanity = randomised["head"].shape[:2]
    return {
        "schema": SCHEMA,
        "source": source,
        "seed": seed,
        "n_images": len(maps),
        "map_height": maps.shape[1],
        "map_width": maps.shape[2],
        "border": {
            "width": BORDER,
            "even_share": even_border_share(),
            **{key: _border(maps[outcome == key]) for key in OUTCOMES if (outcome == key).any()},
        },
        "sanity": {
            "n_images": n_sanity,
            "n_draws": n_draws,
            **{
                f"n_constant_{what}": int((np.ptp(drawn, axis=(2, 3)) == 0).sum())
                for what, drawn in randomised.items()
            },
            **{key: _quartiles(alike[key]) for key in SIMILARITIES},
        },
    }


def overlay(
    image: NDArray[np.uint8], activation: NDArray[np.float32], limit: float | None = None
) -> NDArray[np.uint8]:
    """The film in grey with its map over it: vermillion towards pneumonia, blue towards normal.

    The map is enlarged bilinearly. A place at 0 keeps the film's grey; colour grows in proportion
    to the logits, to `OPACITY` at `limit` and beyond. The two colours are Okabe and Ito's, told
    apart by colour-blind readers.

    Args:
        image: (height, width) uint8 in [0, 255].
        activation: (map_height, map_width) float32, in logits, of `activation_maps`.
        limit: logits at full colour, above 0; the same for all films that are to be compared.
            None: the largest magnitude in this map, so that the colours of two films cannot be
            compared.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    height, width = image.shape
    small = Image.fromarray(activation.astype(np.float32))
    enlarged = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    full = float(np.abs(activation).max()) if limit is None else limit
    # A map of zeros has no colour to scale.
    share = enlarged / full if full else np.zeros_like(enlarged)
    opacity = (OPACITY * np.clip(np.abs(share), 0, 1))[..., None]
    colour = np.where(share[..., None] > 0, TOWARDS_PNEUMONIA, TOWARDS_NORMAL)
    mixed = (1 - opacity) * image[..., None] + opacity * colour
    return np.rint(mixed).astype(np.uint8)


# The same model again while batches of one classifier come in: a new one compiles a graph anew. It
# shares the classifier's layers, so it is never behind its weights.
@lru_cache(maxsize=1)
def _feature_model(classifier: Any) -> Any:
    """The model from pixels to the last feature map, (n, map_height, map_width, n_channels)."""
    import keras

    return keras.Model(classifier.inputs[0], _layer(classifier, "pooled").input)


def _layer(classifier: Any, name: str) -> Any:
    found = {layer.name: layer for layer in classifier.layers}
    if name not in found:
        raise PipelineError(
            "activation maps need a classifier that this pipeline built, with a layer named "
            f"{name}. Received: {', '.join(found)}"
        )
    return found[name]


def _maps(
    features: Any, heads: NDArray[np.float32], images: NDArray[np.uint8], batch_size: int
) -> NDArray[np.float32]:
    """(n_heads, n_images, map_height, map_width): the features weighted by (n_channels, n_heads).

    Each batch keeps its maps alone: the features of a test set would take a hundred times more.
    """
    maps = []
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size], dtype=np.float32)[..., None]
        n_images = len(batch)
        if n_images < batch_size:
            # A batch of another size would compile the graph a second time.
            batch = np.pad(batch, ((0, batch_size - n_images), (0, 0), (0, 0), (0, 0)))
        found = np.asarray(features.predict_on_batch(batch), dtype=np.float32)[:n_images]
        maps.append(np.moveaxis(found @ heads, -1, 0))
    return np.concatenate(maps, axis=1)


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


def _border(maps: NDArray[np.float32]) -> dict[str, Any]:
    shares = border_shares(maps)
    counted = {"n_images": len(maps), "n_with_positive_place": len(shares)}
    return counted | (_quartiles(shares) if len(shares) else {})


def _quartiles(values: NDArray[np.float64]) -> dict[str, float]:
    q1, median, q3 = (round(float(q), 6) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return {"median": median, "q1": q1, "q3": q3}

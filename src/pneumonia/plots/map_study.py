"""Activation maps of test: metrics/maps.json and its two pictures."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pneumonia.evaluation.activation_maps import (
    activation_maps,
    outcomes,
    randomised_maps,
    sanity_places,
    similarities,
    summary,
)
from pneumonia.evaluation.predictions import rounded
from pneumonia.plots.activation_maps import gallery_png, sanity_png
from pneumonia.store.arrays import Split


def map_study(
    classifier: Any,
    test: Split,
    y_prob: NDArray[np.float64],
    films: pd.DataFrame,
    places: NDArray[np.intp] | None,
    evaluate: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The content of metrics/maps.json, and the pictures by file name.

    Args:
        classifier: as `load_classifier` returns.
        test: the test split.
        y_prob: (n_images,) float in [0, 1], P(pneumonia) in the order of the split.
        films: as `figures.sample_films` gives them.
        places: (n_films,) int, where these films lie in the split; None: the source is not public,
            and no film is shown.
        evaluate: content of metrics/evaluate.json.
    """
    seed = evaluate["seed"]
    maps = activation_maps(classifier, test.images)
    sample = sanity_places(test.index["kind"].to_numpy(dtype=str))
    # Of each outcome the film in the middle, as `sample_films` has them.
    few = [
        group[len(group) // 2] for group in films.groupby("outcome", sort=False).indices.values()
    ]
    shown = np.empty(0, np.intp) if places is None else places[few]
    # One pass for what is measured and what is shown: each costs a backbone of its own.
    images = test.images[np.concatenate([sample, shown])]
    head = randomised_maps(classifier, images, "head", seed)
    backbone = randomised_maps(classifier, images, "backbone", seed)
    drawn = {"head": head[:, : len(sample)], "backbone": backbone[:, : len(sample)]}
    found = summary(
        maps,
        outcomes(test.labels, rounded(y_prob), evaluate["operating_threshold"]),
        similarities(maps[sample], drawn["head"], drawn["backbone"]),
        drawn,
        evaluate["source"],
        seed,
    )
    if places is None:
        none = np.empty((0, *maps.shape[1:]), np.float32)
        return found, {
            "maps.png": gallery_png(films, None, none, evaluate),
            "maps_sanity.png": sanity_png(films, None, {}, found["sanity"], evaluate),
        }
    columns = {
        "trained": maps[shown],
        "head\nrandom": head[0, len(sample) :],
        "head and backbone\nrandom": backbone[0, len(sample) :],
    }
    return found, {
        "maps.png": gallery_png(films, test.images[places], maps[places], evaluate),
        "maps_sanity.png": sanity_png(
            films.iloc[few], test.images[shown], columns, found["sanity"], evaluate
        ),
    }

"""Activation maps of test: metrics/maps.json and its two pictures."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pneumonia.dataset import Split
from pneumonia.map_figures import gallery_png, sanity_png
from pneumonia.maps import (
    activation_maps,
    outcomes,
    randomised_maps,
    sanity_places,
    similarities,
    summary,
)
from pneumonia.predictions import rounded


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
    drawn = {
        "head": randomised_maps(classifier, test.images[sample], "head", seed),
        "backbone": randomised_maps(classifier, test.images[sample], "backbone", seed),
    }
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
    images = test.images[places]
    # Of each outcome the film in the middle, as `sample_films` has them.
    few = [
        group[len(group) // 2] for group in films.groupby("outcome", sort=False).indices.values()
    ]
    random = {
        "head\nrandom": randomised_maps(classifier, images[few], "head", seed, 1)[0],
        "head and backbone\nrandom": randomised_maps(classifier, images[few], "backbone", seed, 1)[
            0
        ],
    }
    return found, {
        "maps.png": gallery_png(films, images, maps[places], evaluate),
        "maps_sanity.png": sanity_png(
            films.iloc[few],
            images[few],
            {"trained": maps[places][few], **random},
            found["sanity"],
            evaluate,
        ),
    }

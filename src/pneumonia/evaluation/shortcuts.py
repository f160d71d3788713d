"""Shortcuts: how far two classifiers come that see next to nothing of a lung.

One is given only what a file says about itself (its size in pixels and its colour mode), the other
an 8×8 thumbnail: how bright each part of a radiograph is. A model that does no better than they do
has shown little. A widespread opacity can brighten a thumbnail, so not all that it reaches need be
a shortcut; all that metadata reach is one. Both are fitted on train alone, with settings that were
fixed beforehand; nothing is tuned, neither on validation nor on test.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pneumonia.evaluation.intervals import (
    over_resamples,
    percentile_interval,
    resampling_seed,
    wilson_interval,
)
from pneumonia.evaluation.metrics import HALF, rates
from pneumonia.evaluation.predictions import rounded
from pneumonia.evaluation.threshold import counts
from pneumonia.evaluation.weighted import Floats, weighted_curve
from pneumonia.store.arrays import Split

THUMBNAIL_SIDE = 8  # pixels
# Not evaluate.n_bootstrap, for which test pixels need not be read again. Where that is 2,000 too,
# the model's interval is the one in metrics/intervals.csv.
N_BOOTSTRAP = 2000
# The rates that do not depend on how many images are called pneumonia: always defined.
RATES = ("accuracy", "recall", "specificity")
COLUMNS = (
    "classifier", "threshold", "metric", "value", "low", "high", "n_hits", "n_total", "note",
)  # fmt: skip
# Counts are text, for they are empty where a metric is no share.
TEXT_COLUMNS = ("classifier", "threshold", "metric", "n_hits", "n_total", "note")


def shortcuts_table(
    train: Split, test: Split, y_prob: NDArray[np.float64], seed: int
) -> pd.DataFrame:
    """The content of metrics/shortcuts.csv: the model and both shortcuts on test, a metric a row.

    - `classifier`: `model`, `thumbnail`, `metadata`.
    - `threshold` and `metric`: at `half` (0.5) the `RATES` with Wilson's intervals and their
      counts; at `none` roc_auc, and of a shortcut `roc_auc_behind`: the model's area minus its own;
      both intervals are of the same resampled patients.
    - Where file metadata cannot tell the classes apart, `metadata` has one row: `n_file_kinds`
      is 1, and `note` says what all files are. An area of 0.5 would be one by definition.

    `y_prob` is the model's P(pneumonia), (n_test_images,) in the order of `test`; `seed` is that of
    params.yaml.
    """
    y_true = test.labels
    probabilities = {"model": rounded(y_prob), "thumbnail": thumbnail_probabilities(train, test)}
    nothing = _useless_metadata(train.index, test.index)
    if nothing is None:
        probabilities["metadata"] = metadata_probabilities(train, test)

    def areas(weights: Floats) -> dict[str, Floats]:
        return {
            name: weighted_curve(y_true, of_name, weights).roc_auc()
            for name, of_name in probabilities.items()
        }

    resampling = N_BOOTSTRAP, resampling_seed(seed, "test")
    area, resampled = over_resamples(areas, test.index, *resampling)
    rows: list[tuple[object, ...]] = []
    for name, of_name in probabilities.items():
        ends = percentile_interval(resampled[name])
        rows.append((name, "none", "roc_auc", area[name], *ends, "", "", ""))
        if name != "model":
            behind = area["model"] - area[name]
            ends = percentile_interval(resampled["model"] - resampled[name])
            rows.append((name, "none", "roc_auc_behind", behind, *ends, "", "", ""))
        for metric, (n_hits, n_total) in rates(counts(y_true, of_name, HALF)).items():
            if metric in RATES:
                share = (n_hits / n_total, *wilson_interval(n_hits, n_total))
                rows.append((name, "half", metric, *share, str(n_hits), str(n_total), ""))
    if nothing is not None:
        rows.append(("metadata", "none", "n_file_kinds", 1.0, 1.0, 1.0, "", "", nothing))
    return pd.DataFrame(rows, columns=list(COLUMNS)).round(6)


def metadata_probabilities(train: Split, test: Split) -> NDArray[np.float64]:
    """(n_test_images,) P(pneumonia) by width, height, aspect ratio and colour mode of the file.

    scikit-learn's gradient boosting as it comes, because a size can speak for a class without
    rising or falling with it. A colour mode that train does not have counts as none of its modes.
    """
    modes = sorted(train.index["mode"].unique())
    classifier = GradientBoostingClassifier(random_state=0)
    classifier.fit(_metadata(train.index, modes), train.labels)
    return rounded(classifier.predict_proba(_metadata(test.index, modes))[:, 1])


def thumbnail_probabilities(train: Split, test: Split) -> NDArray[np.float64]:
    """(n_test_images,) P(pneumonia) by logistic regression on the 64 greys of the thumbnail.

    Each grey is standardised by its mean and spread in train; ridge penalty as scikit-learn has it.
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(thumbnails(train.images), train.labels)
    return rounded(classifier.predict_proba(thumbnails(test.images))[:, 1])


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n_images, 64) float in [0, 255]: mean grey of each of 8×8 fields, row by row.

    A field holds whole pixels, so where 8 does not divide the side they are only nearly equal.

    Args:
        images: (n_images, height, width) uint8 in [0, 255], possibly memory-mapped; any size.
    """
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    # As floats: the thumbnail of a thumbnail would else be rounded to whole greys.
    greys = (Image.fromarray(np.asarray(image, dtype=np.float32)) for image in images)
    return np.array(
        [np.asarray(grey.resize(side, Image.Resampling.BOX)).ravel() for grey in greys], np.float64
    )


def _useless_metadata(train: pd.DataFrame, test: pd.DataFrame) -> str | None:
    """Why file metadata cannot tell the classes of test apart; None where they may."""
    columns = ["width", "height", "mode"]
    for index, which in ((pd.concat([train, test]), ""), (train, " of train"), (test, " of test")):
        kinds = index[columns].drop_duplicates()
        if len(kinds) == 1:
            width, height, mode = kinds.iloc[0]
            return f"every image{which} is {width}×{height} {mode}"
    return None


def _metadata(index: pd.DataFrame, modes: list[str]) -> NDArray[np.float64]:
    """(n_images, 3 + n_modes) float: width and height in pixels, their ratio, each mode as 0, 1."""
    width = index["width"].to_numpy(np.float64)
    height = index["height"].to_numpy(np.float64)
    is_mode = [(index["mode"] == mode).to_numpy(np.float64) for mode in modes]
    return np.column_stack([width, height, width / height, *is_mode])

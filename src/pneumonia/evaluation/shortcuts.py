"""Shortcuts: how far two classifiers come that see next to nothing of a lung.

One is given what a file says of itself (its size in pixels and its colour mode), the other an 8×8
thumbnail: how bright each part of a film is, and no more. What they reach, the data set gives away:
a model that does no better has shown little. A widespread opacity can brighten a thumbnail, so not
all that it reaches need be a shortcut; what metadata reach is. Both are fitted on train alone, with
settings that were fixed beforehand; nothing is tuned, neither on validation nor on test.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pneumonia.evaluation.intervals import (
    patient_resamples,
    percentile_interval,
    wilson_interval,
    with_interval,
)
from pneumonia.evaluation.metrics import HALF, counts, rates, shown, weighted_areas
from pneumonia.evaluation.predictions import rounded
from pneumonia.store.arrays import Split

SCHEMA = 1
THUMBNAIL_SIDE = 8  # pixels
# The rates that do not depend on how many images are called pneumonia: always defined.
RATES = ("accuracy", "recall", "specificity")
# Part of metrics/shortcuts.json -> how it is named where people read.
NAMES: Mapping[str, str] = {
    "model": "the model",
    "thumbnail": f"{THUMBNAIL_SIDE}×{THUMBNAIL_SIDE} thumbnail",
    "metadata": "file metadata",
}


def shortcuts(
    train: Split, test: Split, y_prob: NDArray[np.float64], n_bootstrap: int, seed: list[int]
) -> dict[str, Any]:
    """The content of metrics/shortcuts.json: the model beside both shortcuts, on test.

    Each has its ROC-AUC with an interval from resampled patients, and at 0.5 its counts and rates
    with Wilson's intervals. A shortcut has `roc_auc_behind` too: the model's area minus its own,
    the interval from the very same resamples. Where file metadata cannot tell anything apart, that
    part says so in `carries_nothing` and has no figure: an area of 0.5 would be one by definition.

    Args:
        train: what the shortcuts are fitted on.
        test: what all are measured on.
        y_prob: (n_test_images,) float in [0, 1], the model's P(pneumonia), in the order of `test`.
        n_bootstrap: number of resamples of patients.
        seed: of the resamples; that of the model's own area in metrics/evaluate.json gives the
            model the same interval here.
    """
    patients = test.index["patient_id"].to_numpy(dtype=np.str_)
    nothing = _nothing_told(train.index, test.index)
    probabilities = {"model": rounded(y_prob), "thumbnail": thumbnail_probabilities(train, test)}
    if nothing is None:
        probabilities["metadata"] = metadata_probabilities(train, test)
    areas: dict[str, list[NDArray[np.float64]]] = {name: [] for name in probabilities}
    for weights in patient_resamples(patients, test.labels, n_bootstrap, seed):
        for name, of_name in probabilities.items():
            areas[name].append(weighted_areas(test.labels, of_name, weights)[0])
    resampled = {name: np.concatenate(parts) for name, parts in areas.items()}
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "n_bootstrap": n_bootstrap,
        "n_train_images": len(train.index),
        "n_test_images": len(test.index),
        "n_test_patients": len(np.unique(patients)),
    }
    for name, of_name in probabilities.items():
        result[name] = _measured(test.labels, of_name, resampled[name])
        if name != "model":
            result[name] |= with_interval(
                "roc_auc_behind",
                result["model"]["roc_auc"] - result[name]["roc_auc"],
                percentile_interval(resampled["model"] - resampled[name]),
            )
    if nothing is not None:
        result["metadata"] = {"carries_nothing": nothing}
    return result


def metadata_probabilities(train: Split, test: Split) -> NDArray[np.float64]:
    """P(pneumonia) of each test image by width, height, aspect ratio and colour mode of its file.

    scikit-learn's gradient boosting as it comes, because a size can speak for a class without
    rising or falling with it. A colour mode that train does not have counts as none of its modes.

    Returns:
        (n_test_images,) float in [0, 1], rounded to six decimals.
    """
    modes = sorted(train.index["mode"].unique())
    classifier = GradientBoostingClassifier(random_state=0)
    classifier.fit(_metadata(train.index, modes), train.labels)
    return rounded(classifier.predict_proba(_metadata(test.index, modes))[:, 1])


def thumbnail_probabilities(train: Split, test: Split) -> NDArray[np.float64]:
    """P(pneumonia) of each test image by logistic regression on the 64 greys of its thumbnail.

    Each grey is standardised by its mean and spread in train; ridge penalty as scikit-learn has it.

    Returns:
        (n_test_images,) float in [0, 1], rounded to six decimals.
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(thumbnails(train.images), train.labels)
    return rounded(classifier.predict_proba(thumbnails(test.images))[:, 1])


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean grey of each of 8×8 fields, row by row: (n_images, 64) float in [0, 255].

    A field holds whole pixels, so where 8 does not divide the side they are only nearly equal.

    Args:
        images: (n_images, height, width) uint8 in [0, 255], possibly memory-mapped; any size.
    """
    small = np.empty((len(images), THUMBNAIL_SIDE**2))
    for i, image in enumerate(images):
        # As floats: the thumbnail of a thumbnail would else be rounded to whole greys.
        film = Image.fromarray(np.asarray(image, dtype=np.float32))
        resized = film.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
        small[i] = np.asarray(resized).ravel()
    return small


def shortcut_rows(measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows for a table: name, ROC-AUC, behind the model, accuracy, recall, specificity at 0.5.

    Numbers with their intervals, as `metrics.shown` writes them. A shortcut that carries nothing
    has its reason in the second column and nothing after it.

    Args:
        measured: content of metrics/shortcuts.json.
    """
    rows: list[tuple[str, ...]] = []
    for key, name in NAMES.items():
        part = measured[key]
        if "carries_nothing" in part:
            rows.append((name, f"carries nothing: {part['carries_nothing']}", "", "", "", ""))
            continue
        behind = shown(part, "roc_auc_behind") if key != "model" else ""
        at_half = (shown(part["at_half"], rate) for rate in RATES)
        rows.append((name, shown(part, "roc_auc"), behind, *at_half))
    return rows


def _nothing_told(train: pd.DataFrame, test: pd.DataFrame) -> str | None:
    """Why file metadata cannot tell the classes of test apart; None where they may."""
    columns = ["width", "height", "mode"]
    for index, which in ((pd.concat([train, test]), ""), (train, " of train"), (test, " of test")):
        kinds = index[columns].drop_duplicates()
        if len(kinds) == 1:
            width, height, mode = kinds.iloc[0]
            return f"every film{which} is {width}×{height} {mode}"
    return None


def _metadata(index: pd.DataFrame, modes: list[str]) -> NDArray[np.float64]:
    """(n_images, 3 + n_modes) float: width and height in pixels, their ratio, each mode as 0, 1."""
    width = index["width"].to_numpy(np.float64)
    height = index["height"].to_numpy(np.float64)
    is_mode = [(index["mode"] == mode).to_numpy(np.float64) for mode in modes]
    return np.column_stack([width, height, width / height, *is_mode])


def _measured(
    y_true: NDArray[np.int_], y_prob: NDArray[np.float64], resampled: NDArray[np.float64]
) -> dict[str, Any]:
    """Area, and counts and rates at 0.5, of one classifier; `resampled` are its areas."""
    c = counts(y_true, y_prob, HALF)
    at_half: dict[str, Any] = {"tn": c.tn, "fp": c.fp, "fn": c.fn, "tp": c.tp}
    of_name = rates(c)
    for name in RATES:
        n_hits, n_total = of_name[name]
        at_half |= with_interval(name, n_hits / n_total, wilson_interval(n_hits, n_total))
    area = with_interval("roc_auc", roc_auc_score(y_true, y_prob), percentile_interval(resampled))
    return {**area, "at_half": at_half}

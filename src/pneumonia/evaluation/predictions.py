"""The predictions table: one row an image, and all that is known of how the model did."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pneumonia.data.privacy import pseudonym
from pneumonia.errors import PipelineError

COLUMNS = ("name", "patient_id", "kind", "label", "split", "probability")
TEXT_COLUMNS = ("name", "patient_id", "kind", "split")
SPLITS = ("validation", "test")


def split_predictions(
    index: pd.DataFrame, probabilities: NDArray[np.float64], split: str, key: bytes | None
) -> pd.DataFrame:
    """Predictions of one split with `COLUMNS`, sorted by name.

    Args:
        index: one row an image, with name, patient_id, kind and label.
        probabilities: (n_images,) float, same order; P(pneumonia) in [0, 1].
        split: validation or test.
        key: names and patients appear as keyed hashes under this key; None: as they are.

    Raises:
        PipelineError: a probability is none, as after a training that diverged.
    """
    wrong = ~((probabilities >= 0) & (probabilities <= 1))  # NaN fails both
    if wrong.any():
        raise PipelineError(
            f"{split}: {int(wrong.sum())} of {len(index)} images have no probability in [0, 1]: "
            "the model diverged; train it with a smaller learning rate. "
            f"Received: {float(probabilities[wrong][0])} for the first of them"
        )
    table = index[["name", "patient_id", "kind", "label"]].assign(
        split=split, probability=rounded(probabilities)
    )
    if key is not None:
        table["name"] = [pseudonym(key, name) for name in table["name"]]
        table["patient_id"] = [pseudonym(key, patient) for patient in table["patient_id"]]
    # By the name that is shown: the order of the true names would give them away.
    return table.sort_values("name", ignore_index=True)


def rounded(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities to six decimals: what the file holds, and all that is derived from."""
    return np.round(probabilities, 6)


def in_order(predictions: pd.DataFrame, names: pd.Series, key: bytes | None) -> pd.DataFrame:
    """The predictions of the images that the index of a split names, in its order.

    The key is the one of `split_predictions`.

    Raises:
        PipelineError: an image has no prediction.
    """
    shown = names if key is None else [pseudonym(key, name) for name in names]
    of_name = predictions.set_index("name", drop=False)
    missing = sorted(set(shown) - set(of_name.index))
    if missing:
        raise PipelineError(
            "the predictions and the images are of different runs: expected a prediction of each "
            f"image. Received: none of {len(missing)}, the first is {missing[0]}"
        )
    return of_name.loc[list(shown)].reset_index(drop=True)


def as_printed(table: pd.DataFrame) -> pd.DataFrame:
    """A table with its floats as text of six decimals: 0.000001, never 1e-06."""
    floats = table.select_dtypes("float").columns
    return table.assign(**{name: [f"{value:.6f}" for value in table[name]] for name in floats})


def one_split(predictions: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of one split by name, so that sums are the same to the last bit.

    Raises:
        PipelineError: a class is missing.
    """
    rows = predictions[predictions["split"] == split].sort_values("name", ignore_index=True)
    n_pneumonia = int(rows["label"].sum())
    if not 0 < n_pneumonia < len(rows):
        raise PipelineError(
            f"{split} must hold normal and pneumonia images, or its metrics are undefined. "
            f"Received: {len(rows) - n_pneumonia} normal, {n_pneumonia} pneumonia"
        )
    return rows


def checked(predictions: pd.DataFrame) -> pd.DataFrame:
    """The same predictions, if they are a whole and sound table; probabilities on six decimals.

    Raises:
        PipelineError: columns, splits, labels or probabilities are not what they must be, or an
            image occurs twice, or a patient in both splits.
    """
    if tuple(predictions.columns) != COLUMNS:
        raise PipelineError(
            f"predictions must have the columns {', '.join(COLUMNS)}. "
            f"Received: {', '.join(map(str, predictions.columns))}"
        )
    for column, numbers in (("label", "iu"), ("probability", "iuf")):
        dtype = predictions[column].dtype
        if getattr(dtype, "kind", "") not in numbers:
            raise PipelineError(f"predictions: {column} must hold numbers. Received: {dtype}")
    probability = predictions["probability"].to_numpy(np.float64)
    for wrong, rule in (
        (~predictions["split"].isin(SPLITS), f"split must be one of {', '.join(SPLITS)}"),
        (~predictions["label"].isin((0, 1)), "label must be 0 or 1"),
        (~((probability >= 0) & (probability <= 1)), "probability must be in [0, 1]"),
        (predictions["name"].duplicated(), "an image must occur once"),
    ):
        rows = np.flatnonzero(wrong)
        if len(rows):
            raise PipelineError(
                f"predictions: {rule}. Received: {len(rows)} other rows, first {rows[0] + 2}: "
                f"{', '.join(map(str, predictions.iloc[rows[0]]))}"
            )
    n_splits = predictions.groupby("patient_id")["split"].nunique()
    if (n_splits > 1).any():
        raise PipelineError(
            "predictions: no patient may be in both splits. "
            f"Received: {', '.join(map(str, n_splits.index[n_splits > 1][:3]))}"
        )
    # Changes nothing that the file holds; a table made in memory may have more decimals.
    return predictions.assign(probability=rounded(probability))

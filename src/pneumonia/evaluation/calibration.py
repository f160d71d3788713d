"""Do the probabilities mean what they say? Calibration over bins of rising probability.

Arrays are as in `weighted`.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pneumonia.evaluation.intervals import (
    over_resamples,
    percentile_interval,
    wider,
    wilson_interval,
)
from pneumonia.evaluation.weighted import Floats, mean

N_BINS = 10


def calibration_metrics(
    y_true: NDArray[np.int_], y_prob: Floats, weights: Floats
) -> dict[str, Floats]:
    """Brier score, calibration error and calibration in the large.

    - `brier`: mean of (probability - truth)², in [0, 1]; 0 is perfect.
    - `calibration_error`: mean distance of predicted from observed over the bins of `in_bins`,
      weighted by their images, in [0, 1]. Noise alone makes it larger than 0.
    - `calibration_in_the_large`: mean probability less the share of pneumonia, in [-1, 1]; above
      0 the model says pneumonia too readily.

    Sources: Brier, Verification of forecasts expressed in terms of probability, Mon. Weather Rev.
    78 (1950) 1–3. Calibration error: Naeini, Cooper and Hauskrecht, Obtaining well calibrated
    probabilities using Bayesian binning, AAAI 2015, there with bins of equal width; with as many
    images in each, Nguyen and O'Connor, Posterior calibration and exploratory analysis for natural
    language processing models, EMNLP 2015. Calibration in the large: Van Calster et al.,
    Calibration: the Achilles heel of predictive analytics, BMC Med. 17 (2019) 230.
    """
    excess = (weights * (y_prob - y_true)) @ in_bins(y_prob)
    return {
        "brier": mean((y_prob - y_true) ** 2, weights),
        "calibration_error": np.abs(excess).sum(axis=1) / weights.sum(axis=1),
        "calibration_in_the_large": mean(y_prob - y_true, weights),
    }


def in_bins(y_prob: Floats) -> Floats:
    """(n_images, n_bins) float, 1 where the image is in the bin; no bin is empty.

    Ten bins of as many images as can be. Images of equal probability are in one, whatever the
    order of the rows, so that there may be fewer.
    """
    # By the number of images below.
    number: NDArray[np.int64] = N_BINS * np.searchsorted(np.sort(y_prob), y_prob) // len(y_prob)
    members: NDArray[np.bool_] = number[:, None] == np.unique(number)
    return members.astype(np.float64)


def reliability_table(rows: pd.DataFrame, n_bootstrap: int, seed: list[int]) -> pd.DataFrame:
    """A row a bin of rising probability: bin, n_images, predicted, observed, low, high.

    `predicted` is the mean probability, `observed` the share of pneumonia, `low` and `high` the
    ends of its 95 % interval: the wider of Wilson's on images and a bootstrap over patients that
    keeps the bins. Arguments as in `over_resamples`.
    """
    y_true, y_prob = rows["label"].to_numpy(), rows["probability"].to_numpy()
    bins = in_bins(y_prob)

    def observed(weights: Floats) -> dict[int, Floats]:
        return {number: mean(y_true, weights * of) for number, of in enumerate(bins.T)}

    values, resampled = over_resamples(observed, rows, n_bootstrap, seed)
    table = []
    for number, of in enumerate(bins.T.astype(bool)):
        wilson = wilson_interval(int(y_true[of].sum()), int(of.sum()))
        low, high = wider(percentile_interval(resampled[number]), wilson)
        table.append((number + 1, int(of.sum()), y_prob[of].mean(), values[number], low, high))
    columns = ["bin", "n_images", "predicted", "observed", "low", "high"]
    return pd.DataFrame(table, columns=columns).round(6)

"""Is it worth acting on the model? Net benefit by threshold probability."""

import pandas as pd

from pneumonia.evaluation.intervals import over_resamples, percentile_interval, with_interval
from pneumonia.evaluation.weighted import Floats, WeightedCurve, weighted_curve

# Percent. To call nine healthy children rather than miss one ill child is to decide at 10 %.
DECISION_THRESHOLDS = tuple(range(1, 51))


def net_benefits(curve: WeightedCurve, threshold: float) -> dict[str, Floats]:
    """Net benefit at one threshold probability t, in (0, 1): model, all, gain; each (n,).

    tp / n - fp / n * t / (1 - t), in true positives an image, of calling what the model gives t or
    more (`model`) and of calling every image (`all`); calling none has 0. `gain` is the model's
    less the better of these two. It depends on the prevalence, which is that of the images.

    Source: Vickers and Elkin, Decision curve analysis: a novel method for evaluating prediction
    models, Med. Decis. Making 26 (2006) 565–574.
    """
    cost = threshold / (1 - threshold)
    n_images = curve.n_pneumonia + curve.n_normal
    tp, fp = curve.at(threshold)
    model = (tp - cost * fp) / n_images
    everyone = (curve.n_pneumonia - cost * curve.n_normal) / n_images
    return {"model": model, "all": everyone, "gain": model - everyone.clip(min=0)}


def decision_table(rows: pd.DataFrame, n_bootstrap: int, seed: list[int]) -> pd.DataFrame:
    """The decision curve, a row a threshold probability from 0.01 to 0.5, by `net_benefits`.

    Columns threshold, and model, all and gain, each with the ends of its 95 % interval, from a
    bootstrap over patients, in columns _low and _high. The prevalence is that of the split.
    Arguments as in `over_resamples`.
    """
    y_true, y_prob = rows["label"].to_numpy(), rows["probability"].to_numpy()

    def measure(weights: Floats) -> dict[tuple[int, str], Floats]:
        curve = weighted_curve(y_true, y_prob, weights)
        return {
            (percent, name): values
            for percent in DECISION_THRESHOLDS
            for name, values in net_benefits(curve, percent / 100).items()
        }

    values, resampled = over_resamples(measure, rows, n_bootstrap, seed)
    table: dict[int, dict[str, float]] = {}
    for (percent, name), value in values.items():
        row = table.setdefault(percent, {"threshold": percent / 100})
        row |= with_interval(name, value, percentile_interval(resampled[percent, name]))
    return pd.DataFrame(list(table.values()))

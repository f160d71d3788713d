"""What the tests of plots share: predictions and metrics to draw, and all text of a plot."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from pneumonia.evaluation.calibration import reliability_table
from pneumonia.evaluation.decision import decision_table
from pneumonia.evaluation.interval_table import Intervals, interval_table, measured
from pneumonia.evaluation.metrics import evaluation
from pneumonia.evaluation.predictions import one_split
from pneumonia.plots import (
    curves,
    drawing,
    probabilities,
    radiographs,
    robustness,
    sanity,
    training_curves,
    verdicts,
)

MODULES = (
    curves,
    drawing,
    probabilities,
    radiographs,
    robustness,
    sanity,
    training_curves,
    verdicts,
)
KINDS = ("bacterial", "normal", "viral")


def made_up() -> pd.DataFrame:
    """60 validation and 90 test images, two a patient, a third of each kind."""
    random = np.random.default_rng(5)
    parts = []
    for split, n_images in (("validation", 60), ("test", 90)):
        number = np.arange(n_images)
        kind = np.array(KINDS)[number // 2 % 3]
        label = (kind != "normal").astype(int)
        logits = random.normal(3 * label - 1.5, 1.5)
        parts.append(
            pd.DataFrame(
                {
                    "name": [f"{split}/{n:03}.jpeg" for n in number],
                    "patient_id": [f"{split}{n // 2}" for n in number],
                    "kind": kind,
                    "label": label,
                    "split": split,
                    "probability": np.round(1 / (1 + np.exp(-logits)), 6),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


class Measurements:
    """All that a plot of predictions is drawn from."""

    def __init__(self, dataset: str = "phantoms", predictions: pd.DataFrame | None = None) -> None:
        self.predictions = made_up() if predictions is None else predictions
        self.evaluate: dict[str, Any] = evaluation(self.predictions, 0.9, dataset)
        threshold = self.evaluate["operating_threshold"]
        self.intervals: Intervals = measured(interval_table(self.predictions, threshold, 60, 1))
        test = one_split(self.predictions, "test")
        self.reliability = reliability_table(test, 60, [1])
        self.decision = decision_table(test, 60, [1])


def lines_on(figure: Figure) -> list[str]:
    """All lines of text on a figure, once each: a tick has two labels, of which one is shown."""
    texts = [text.get_text() for text in figure.findobj(Text)]
    return list(dict.fromkeys("\n".join(texts).splitlines()))


def keep_figures(monkeypatch) -> list[Figure]:
    """Figures are kept in this list in place of being made a PNG, which is slow."""
    kept: list[Figure] = []

    def keep(figure: Figure, n_colours: int = 0) -> bytes:
        kept.append(figure)
        return b""

    for module in MODULES:
        monkeypatch.setattr(module, "as_png", keep)
    return kept

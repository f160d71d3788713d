"""Metrics of many weightings of the same images at once, so that 2,000 resamples take a second.

Everywhere y_true is (n_images,) int, 1 = pneumonia and 0 = normal; y_prob is (n_images,) float in
[0, 1]; weights are (n, n_images) float, at least 0; what comes back is (n,) float.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class WeightedCurve:
    """Images called pneumonia at each threshold, for n weightings.

    Attributes:
        thresholds: (n_thresholds,) float, falling: infinity, then each distinct probability.
        tp: (n, n_thresholds) float: weight of the pneumonia images at or above the threshold.
        fp: (n, n_thresholds) float: the same of the normal images.
    """

    thresholds: Floats
    tp: Floats
    fp: Floats

    @property
    def n_pneumonia(self) -> Floats:
        """(n,) float: weight of all pneumonia images."""
        return self.tp[:, -1]

    @property
    def n_normal(self) -> Floats:
        """(n,) float: weight of all normal images."""
        return self.fp[:, -1]

    def at(self, threshold: float) -> tuple[Floats, Floats]:
        """Tp and fp, each (n,), where images are called pneumonia from `threshold` on."""
        place = int((self.thresholds >= threshold).sum()) - 1
        return self.tp[:, place], self.fp[:, place]

    def roc_auc(self) -> Floats:
        """(n,) in [0, 1]; scikit-learn's roc_auc_score with sample_weight gives the same."""
        pneumonia, normal = np.diff(self.tp), np.diff(self.fp)
        # Pairs in the right order: normals below each pneumonia, and half of those beside it.
        below = self.n_normal[:, None] - self.fp[:, 1:]
        right = (pneumonia * (below + normal / 2)).sum(axis=1)
        return np.asarray(right / (self.n_pneumonia * self.n_normal))

    def average_precision(self) -> Floats:
        """(n,) in [0, 1]; scikit-learn's average_precision_score gives the same."""
        called = self.tp + self.fp
        # Nothing is called at a threshold above all weight; no pneumonia weighs there either.
        precision = np.divide(self.tp, called, out=np.zeros_like(called), where=called > 0)
        return np.asarray((np.diff(self.tp) * precision[:, 1:]).sum(axis=1) / self.n_pneumonia)

    def specificity_at_recall(self, recall: float) -> Floats:
        """(n,) in [0, 1]: at the highest threshold that reaches the recall."""
        reached = (self.tp / self.n_pneumonia[:, None] >= recall).argmax(axis=1)
        fp = self.fp[np.arange(len(reached)), reached]
        return np.asarray((self.n_normal - fp) / self.n_normal)

    def recall_at_specificity(self, specificity: float) -> Floats:
        """(n,) in [0, 1]: at the lowest threshold that reaches it; 0 if only calling none does."""
        n_normal = self.n_normal[:, None]
        last = ((n_normal - self.fp) / n_normal >= specificity).sum(axis=1) - 1
        return np.asarray(self.tp[np.arange(len(last)), last] / self.n_pneumonia)


def weighted_curve(y_true: NDArray[np.int_], y_prob: Floats, weights: Floats) -> WeightedCurve:
    """The curve of the images under each weighting, which must weigh both classes."""
    order = np.argsort(-y_prob, kind="stable")
    # Tied images move past a threshold together: one column a distinct probability.
    starts = np.flatnonzero(np.diff(y_prob[order], prepend=np.inf))
    none_called = np.zeros((len(weights), 1))
    tp, fp = (
        np.add.reduceat((weights * (y_true == label))[:, order], starts, axis=1).cumsum(axis=1)
        for label in (1, 0)
    )
    return WeightedCurve(
        thresholds=np.concatenate([[np.inf], y_prob[order][starts]]),
        tp=np.hstack([none_called, tp]),
        fp=np.hstack([none_called, fp]),
    )


def predictive_values(recall: Floats, specificity: Floats, prevalence: float) -> dict[str, Floats]:
    """Npv and ppv where the prevalence, in (0, 1), is given; NaN where no image is called so.

    By Bayes' theorem. It holds where the radiographs of the ill, and those of the healthy, are
    like the ones that were measured, and only their shares differ.

    Source: Altman and Bland, Diagnostic tests 2: predictive values, BMJ 309 (1994) 102.
    """
    tn, fn = specificity * (1 - prevalence), (1 - recall) * prevalence
    tp, fp = recall * prevalence, (1 - specificity) * (1 - prevalence)
    return {"npv": share(tn, tn + fn), "ppv": share(tp, tp + fp)}


def mean(values: NDArray[Any], weights: Floats) -> Floats:
    """Weighted means, (n,), of (n_images,) values; NaN where nothing weighs."""
    return share(weights @ values.astype(np.float64), weights.sum(axis=1))


def share(part: Floats, whole: Floats) -> Floats:
    """(n,) part / whole; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)

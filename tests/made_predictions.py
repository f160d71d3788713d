"""Predictions tables for tests: eight images that one counts by hand, and larger ones."""

import numpy as np
import pandas as pd

#          normal ............  pneumonia .......
Y_TRUE = np.array([0, 0, 0, 0, 1, 1, 1, 1])
Y_PROB = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9])


def predictions(split, y_true, y_prob, kinds=None, patients=None) -> pd.DataFrame:
    """One split; each image is of a patient of its own unless `patients` are named."""
    y_true = np.asarray(y_true)
    numbers = [f"{number:05}" for number in range(len(y_true))]
    return pd.DataFrame(
        {
            "name": [f"{split}/{number}.jpeg" for number in numbers],
            "patient_id": [f"{split}-{p}" for p in (numbers if patients is None else patients)],
            "kind": np.array(["normal", "viral"])[y_true] if kinds is None else kinds,
            "label": y_true,
            "split": split,
            "probability": np.asarray(y_prob, dtype=np.float64),
        }
    )


def eight(split: str = "test") -> pd.DataFrame:
    """The normals are of four children, the two bacterial of one, the two viral of two."""
    kinds = ["normal"] * 4 + ["bacterial", "bacterial", "viral", "viral"]
    return predictions(split, Y_TRUE, Y_PROB, kinds, ["a", "b", "c", "d", "e", "e", "f", "g"])


def both(test: pd.DataFrame) -> pd.DataFrame:
    """`test` behind a validation split of eight images."""
    return pd.concat([eight("validation"), test], ignore_index=True)


def realistic(n_patients: int, n_a_patient: int = 1, seed: int = 0, split: str = "test"):
    """An AUC of about 0.9, five of eight ill; a patient's images are copies of each other."""
    random = np.random.default_rng(seed)
    y_true = (np.arange(n_patients) % 8 > 2).astype(int)
    y_prob = np.round(1 / (1 + np.exp(-random.normal(1.8 * y_true - 0.9, 1))), 6)
    return predictions(
        split,
        np.repeat(y_true, n_a_patient),
        np.repeat(y_prob, n_a_patient),
        patients=np.repeat(np.arange(n_patients), n_a_patient),
    )

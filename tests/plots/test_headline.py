"""Pictures: they say what they show, they repeat byte for byte, and they are small."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pneumonia.evaluation.metrics import EvaluateParams, evaluation
from pneumonia.plots import headline as figures
from pneumonia.plots.tables import history_table

LIMIT_BYTES = 200_000


def made_up(source: str = "phantoms") -> tuple[pd.DataFrame, dict]:
    """Predictions of 60 validation and 80 test images, and their figures."""
    random = np.random.default_rng(5)
    parts = []
    for split, n_images in (("validation", 60), ("test", 80)):
        label = np.arange(n_images) % 4 > 0
        parts.append(
            pd.DataFrame(
                {
                    "name": [f"{split}/{number:03}.jpeg" for number in range(n_images)],
                    "patient_id": [f"{split}{number // 2}" for number in range(n_images)],
                    "kind": np.where(label, "viral", "normal"),
                    "label": label.astype(int),
                    "split": split,
                    "probability": np.round(
                        1 / (1 + np.exp(-random.normal(3 * label - 1.5, 1.5))), 6
                    ),
                }
            )
        )
    predictions = pd.concat(parts, ignore_index=True)
    return predictions, evaluation(
        predictions, EvaluateParams(target_recall=0.9, n_bootstrap=60), 1, source
    )


def made_up_history(n_epochs: int) -> pd.DataFrame:
    if n_epochs == 0:
        return history_table({}, "x")
    columns = history_table({}, "x").columns
    return pd.DataFrame({name: np.linspace(1, n_epochs, n_epochs) for name in columns})


def made_up_pictures(source: str = "phantoms", public: bool = True) -> dict[str, bytes]:
    predictions, evaluate = made_up(source)
    histories = {"train_frozen": made_up_history(2), "finetune": made_up_history(5)}
    films = figures.sample_films(
        predictions[predictions["split"] == "test"], evaluate["operating_threshold"]
    )
    # As grainy as a film, and more: what grain there is decides how large the file becomes.
    grain = np.random.default_rng(1).normal(0, 12, (len(films), 128, 128))
    images = np.clip(np.linspace(20, 235, 128) + grain, 0, 255).astype(np.uint8)
    return figures.pictures(predictions, evaluate, histories, films, images if public else None)


@pytest.fixture
def words(monkeypatch) -> dict[str, str]:
    """All text on each picture, by the first line of its heading; not drawn, for that is slow."""
    said: dict[str, str] = {}

    def listening(figure: Figure) -> bytes:
        texts = [text.get_text() for text in figure.findobj(Text)]
        said[figure.get_suptitle().splitlines()[0]] = "\n".join(texts)
        return b""

    monkeypatch.setattr(figures, "as_png", listening)
    return said


@pytest.fixture(scope="module")
def drawn() -> dict[str, bytes]:
    return made_up_pictures()


def test_the_same_input_gives_the_same_bytes(drawn):
    assert made_up_pictures() == drawn


def test_pictures_are_small_and_of_readme_width(drawn):
    assert len(drawn) == 5
    for name, data in drawn.items():
        assert len(data) < LIMIT_BYTES, name
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.format, picture.width) == ("PNG", 800), name
            assert picture.info == {}, f"{name}: a date or a program's name would change the bytes"


def test_every_picture_names_its_split_its_number_and_its_source(words):
    made_up_pictures("phantoms")
    assert len(words) == 5
    for heading, text in words.items():
        assert "phantoms" in text, heading
        assert "test" in text or "validation" in text, heading
        assert "60 " in text or "80 " in text, heading


def test_pictures_of_films_do_not_say_phantom(words):
    made_up_pictures("chestxray2017-224")
    assert all("chestxray2017-224" in text and "phantom" not in text for text in words.values())


def test_the_roc_shows_areas_intervals_and_the_operating_point(words):
    predictions, evaluate = made_up()
    figures.roc_png(predictions, evaluate)
    test = evaluate["test"]
    text = words["ROC"]
    assert (
        f"test: AUC {test['roc_auc']:.3f} ({test['roc_auc_low']:.3f}–{test['roc_auc_high']:.3f})"
    ) in text
    assert f"test at threshold {evaluate['operating_threshold']:.6f}" in text
    assert f"recall {test['at_operating_threshold']['recall']:.3f}" in text


def test_the_confusion_matrix_shows_the_counts_at_both_thresholds(words):
    _, evaluate = made_up()
    figures.confusion_png(evaluate)
    (text,) = words.values()
    lines = text.splitlines()
    for key in ("at_operating_threshold", "at_half"):
        for count in ("tn", "fp", "fn", "tp"):
            assert str(evaluate["test"][key][count]) in lines
    assert "threshold 0.5" in lines


def test_a_phase_of_no_epochs_says_so(words):
    _, evaluate = made_up()
    figures.accuracy_loss_png(
        {"train_frozen": made_up_history(0), "finetune": made_up_history(1)}, evaluate
    )
    (text,) = words.values()
    assert "train_frozen: accuracy" in text
    assert "0 epochs" in text


# Ten films, threshold 0.5:    truth, probability
FILMS = pd.DataFrame(
    [
        ("c", 1, 0.2), ("a", 1, 0.2), ("b", 1, 0.4),  # missed: a tie, told apart by name
        ("d", 0, 0.9),  # the one false alarm
        ("e", 1, 0.5), ("f", 1, 0.6), ("g", 1, 0.7), ("h", 1, 0.8), ("i", 1, 0.99),  # caught
        ("j", 0, 0.1), ("k", 0, 0.3),  # cleared
    ],
    columns=["name", "label", "probability"],
)  # fmt: skip


def test_samples_are_the_lowest_middle_and_highest_of_each_outcome_errors_first():
    films = figures.sample_films(FILMS, 0.5)
    assert list(zip(films["outcome"], films["name"], strict=True)) == [
        ("false_negative", "a"), ("false_negative", "c"), ("false_negative", "b"),
        ("false_positive", "d"),
        ("true_positive", "e"), ("true_positive", "g"), ("true_positive", "i"),
        ("true_negative", "j"), ("true_negative", "k"),
    ]  # fmt: skip


def test_an_outcome_without_films_says_none(words):
    _, evaluate = made_up()
    perfect = FILMS.assign(kind="viral", probability=FILMS["label"].astype(float))
    evaluate["test"]["at_operating_threshold"] |= {"fn": 0, "fp": 0, "tp": 8, "tn": 3}
    films = figures.sample_films(perfect, 0.5)
    figures.samples_png(films, np.zeros((len(films), 8, 8), np.uint8), evaluate)
    (text,) = words.values()
    assert text.splitlines().count("none") == 2


def test_films_that_are_not_public_are_not_shown_and_the_picture_says_why(words):
    made_up_pictures("own", public=False)
    text = next(text for heading, text in words.items() if heading.startswith("Sample"))
    assert "not marked public" in text
    assert "P = " not in text


def test_drawing_leaves_no_global_figure_behind(drawn):
    from matplotlib import _pylab_helpers

    assert _pylab_helpers.Gcf.get_all_fig_managers() == []

"""What holds of every plot: its heading, its size, its letters, and the same bytes every time."""

import io
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pneumonia.evaluation.map_study import COLUMNS, OUTCOMES, SIMILARITIES, MapStudy, outcomes
from pneumonia.evaluation.predictions import one_split
from pneumonia.plots import curves, probabilities, training_curves, verdicts
from pneumonia.plots.radiographs import activation_maps_png, middle_places, samples_png
from pneumonia.plots.sanity import sanity_png
from pneumonia.plots.training_curves import HISTORY_FILES

LIMIT_BYTES = 250_000


def history(n_epochs: int) -> pd.DataFrame:
    names = ("epoch", *HISTORY_FILES)
    return pd.DataFrame({name: np.arange(n_epochs) + 1.0 for name in names})


def of_predictions(given) -> dict[str, bytes]:
    """Every plot of stage `plot`; one epoch of the frozen phase, as in params.yaml."""
    predictions, evaluate, intervals = given.predictions, given.evaluate, given.intervals
    histories = {"train_frozen": history(1), "finetune": history(5)}
    precision_recall = curves.precision_recall_table(predictions)
    return {
        "accuracy_loss": training_curves.accuracy_loss_png(histories, evaluate),
        "roc": curves.roc_png(curves.roc_table(predictions), evaluate, intervals),
        "precision_recall": curves.precision_recall_png(precision_recall, evaluate, intervals),
        "confusion": verdicts.confusion_png(evaluate, intervals),
        "kinds": verdicts.kinds_png(predictions, evaluate, intervals),
        "reliability": probabilities.reliability_png(given.reliability, evaluate, intervals),
        "decision": probabilities.decision_png(given.decision, evaluate, intervals),
    }


def of_pixels(given, public: bool = True) -> dict[str, bytes]:
    """The plots of stage `examine` but robustness, whose test file draws it."""
    threshold = given.evaluate["operating_threshold"]
    point = {"dataset": given.evaluate["dataset"], "operating_threshold": threshold}
    test = one_split(given.predictions, "test")
    test["outcome"] = outcomes(test["label"].to_numpy(), test["probability"].to_numpy(), threshold)
    random = np.random.default_rng(1)
    # About the grain of radiographs: what grain there is decides how large the file becomes.
    grain = random.normal(0, 5, (len(test), 128, 128))
    images = np.clip(np.linspace(20, 235, 128) + grain, 0, 255).astype(np.uint8)
    maps = random.normal(0, 3, (len(test), 7, 7)).astype(np.float32)
    places = middle_places(test)
    rows = [("sanity", key, 50, 0.2, 0.1, 0.3, "") for key in SIMILARITIES]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    study = MapStudy(table, maps, maps[: len(places)], maps[: len(places)])
    shown = images if public else None
    return {
        "samples": samples_png(test, shown, point),
        "activation_maps": activation_maps_png(test, shown, maps, point),
        "sanity": sanity_png(test, shown, study, places, point),
    }


def all_plots(given) -> dict[str, bytes]:
    return of_predictions(given) | of_pixels(given)


@pytest.fixture(scope="module")
def drawn(of_phantoms) -> dict[str, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one epoch is a marker, without a warning
        return all_plots(of_phantoms)


def test_plots_are_small_and_of_readme_width_and_their_bytes_hold_no_date(drawn):
    for name, data in drawn.items():
        assert len(data) <= LIMIT_BYTES, name
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.width) == ("PNG", 800), name
            assert image.info == {}, f"{name}: a date or a program's name would change the bytes"


def test_the_same_input_gives_the_same_bytes(drawn, of_phantoms):
    assert of_predictions(of_phantoms).items() <= drawn.items()
    assert of_pixels(of_phantoms).items() <= drawn.items()


def heading(figure: Figure) -> str:
    return figure.get_suptitle()


def test_every_plot_names_its_split_its_number_and_its_dataset(figures, of_phantoms):
    all_plots(of_phantoms)
    assert len(figures) == 10
    for figure in figures:
        assert heading(figure).splitlines()[-1] == "phantoms (drawn, no patients)"
        assert "test" in heading(figure) or "validation" in heading(figure)
        assert "90 " in heading(figure) or "60 " in heading(figure)


def test_plots_of_radiographs_name_their_dataset_and_do_not_say_phantom(figures, of_patients):
    all_plots(of_patients)
    for figure in figures:
        assert heading(figure).splitlines()[-1] == "dataset chestxray2017-224"
        words = "\n".join(text.get_text() for text in figure.findobj(Text))
        assert "phantom" not in words


def test_no_text_is_smaller_than_9_points(figures, of_phantoms):
    all_plots(of_phantoms)
    for figure in figures:
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
        assert min(sizes) >= 9, heading(figure)


def test_radiographs_that_are_not_public_are_not_shown_and_the_plot_says_so(figures, of_patients):
    of_pixels(of_patients, public=False)
    assert len(figures) == 3
    for figure in figures:
        words = "\n".join(text.get_text() for text in figure.findobj(Text))
        assert "not public" in words
        assert "P = " not in words
        assert [axes for axes in figure.axes if axes.images] == []


def test_drawing_leaves_no_global_figure_behind(drawn):
    from matplotlib import _pylab_helpers

    assert _pylab_helpers.Gcf.get_all_fig_managers() == []


def test_every_outcome_occurs_among_these_predictions(of_phantoms):
    # Or the tests above would not draw all of them.
    test = one_split(of_phantoms.predictions, "test")
    threshold = of_phantoms.evaluate["operating_threshold"]
    found = outcomes(test["label"].to_numpy(), test["probability"].to_numpy(), threshold)
    assert set(found) == set(OUTCOMES)

"""Robustness: one sample, every corruption, and changes on the same films."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from pneumonia.errors import PipelineError
from pneumonia.evaluation import robustness as module
from pneumonia.evaluation.corruptions import CORRUPTIONS, corrupted
from pneumonia.evaluation.robustness import (
    CLEAN,
    COLUMNS,
    METRICS,
    SETTINGS,
    RobustnessParams,
    fell,
    robustness,
    sample,
)
from pneumonia.store.params import as_section

SIDE = 32
THRESHOLD = 0.5


def films_and_rows(n_normal: int = 30, n_ill: int = 50) -> tuple[np.ndarray, pd.DataFrame]:
    """Even films: normal ones of grey 90, ill ones of grey 150; two images a patient."""
    n_images = n_normal + n_ill
    label = (np.arange(n_images) >= n_normal).astype(int)
    films = np.broadcast_to((90 + 60 * label)[:, None, None], (n_images, SIDE, SIDE))
    rows = pd.DataFrame(
        {
            "name": [f"{number:03}" for number in range(n_images)],
            "label": label,
            "kind": np.where(label == 0, "normal", np.where(np.arange(n_images) % 2, "a", "b")),
            "patient_id": [f"{number // 2}" for number in range(n_images)],
        }
    )
    return films.astype(np.uint8), rows


def mean_grey(films: np.ndarray) -> np.ndarray:
    """A model that goes by brightness alone: pneumonia from grey 127.5 on."""
    return films.mean(axis=(1, 2)) / 255


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    films, rows = films_and_rows()
    return robustness(mean_grey, films, rows, THRESHOLD, 1000, 1)


def at(table: pd.DataFrame, corruption: str, severity: int) -> pd.Series:
    rows = table[(table["corruption"] == corruption) & (table["severity"] == severity)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_row_for_each_corruption_at_1_3_and_5_the_ungraded_at_1_and_the_films_as_they_came(table):
    assert tuple(table.columns) == COLUMNS
    found = list(zip(table["corruption"], table["severity"], strict=True))
    graded = [name for name in CORRUPTIONS if name != "inverted"]
    assert found[0] == ("none", 0)
    assert len(found) == len(set(found)) == 1 + 3 * 11 + 1
    assert set(found[1:]) == {(name, s) for name in graded for s in (1, 3, 5)} | {("inverted", 1)}
    assert at(table, "jpeg", 3)["level"] == 15
    assert at(table, "blur", 5)["level"] == 2.678571  # 6 of 224, in percent


def test_counts_and_rates_are_those_of_a_model_that_goes_by_brightness(table):
    # As they came, 90 and 150 lie either side of 127.5: all right.
    clean = at(table, CLEAN, 0)
    assert (clean["tn"], clean["fp"], clean["fn"], clean["tp"]) == (30, 0, 0, 50)
    assert (clean["n_images"], clean["n_patients"]) == (80, 40)
    # 0.5 of 255 brighter, 217.5 at least: all are called ill, and the ranking is whole.
    bright = at(table, "under_exposure", 5)
    assert (bright["tn"], bright["fp"], bright["fn"], bright["tp"]) == (0, 30, 0, 50)
    assert (bright["recall"], bright["specificity"], bright["roc_auc"]) == (1, 0, 1)
    assert bright["specificity_high"] == pytest.approx(0.1135, abs=1e-4)  # Wilson, 0 of 30
    # 165 and 105: every verdict and every pair is wrong.
    inverted = at(table, "inverted", 1)
    assert (inverted["tn"], inverted["fp"], inverted["fn"], inverted["tp"]) == (0, 30, 50, 0)
    assert (inverted["recall"], inverted["specificity"], inverted["roc_auc"]) == (0, 0, 0)


def test_changes_are_from_the_films_as_they_came_and_falls_are_below_0(table):
    for metric in METRICS:
        assert at(table, CLEAN, 0)[f"{metric}_change"] == 0
        assert at(table, "inverted", 1)[f"{metric}_change"] == -1
        assert at(table, "inverted", 1)[f"{metric}_change_high"] < 0
        for value, row in zip(fell(table, metric), table.to_dict("records"), strict=True):
            assert value == (row[f"{metric}_change_high"] < 0)
            assert row[f"{metric}_change_low"] <= row[f"{metric}_change"]
            assert row[f"{metric}_change"] <= row[f"{metric}_change_high"]
    names = table["corruption"] + table["severity"].astype(str)
    # Brighter costs normal films alone, darker ill ones alone; the ranking of even films survives.
    assert not fell(table, "recall")[names == "under_exposure5"]
    assert fell(table, "specificity")[names == "under_exposure5"]
    assert fell(table, "recall")[names == "over_exposure5"]
    assert not fell(table, "specificity")[names == "over_exposure5"]
    assert not fell(table, "roc_auc")[names == "over_exposure3"]


def test_three_lost_of_fifty_may_be_chance_ten_are_a_fall_and_none_is_not_certain():
    films, rows = films_and_rows()
    rows["patient_id"] = rows["name"]
    # A tenth of 255 darker: 151 becomes 125.5, below 127.5; 155 becomes 129.5, above it.
    found = {}
    for n_lost in (0, 3, 10):
        films[30:] = 155
        films[30 : 30 + n_lost] = 151
        table = robustness(mean_grey, films, rows, THRESHOLD, 80, 1)
        found[n_lost] = at(table, "over_exposure", 1)
        assert found[n_lost]["fn"] == n_lost
    assert not found[0]["recall_change"]
    # Tango: ±1.96² / (50 + 1.96²). A bootstrap alone would say that nothing can change.
    assert found[0]["recall_change_low"] == pytest.approx(-0.0713, abs=1e-4)
    assert found[0]["recall_change_high"] == pytest.approx(0.0713, abs=1e-4)
    assert found[3]["recall_change"] == -0.06
    assert found[3]["recall_change_high"] >= 0
    assert found[10]["recall_change"] == -0.2
    assert found[10]["recall_change_high"] < 0


def test_patients_of_many_films_are_one_loss_and_not_many():
    # Ten ill films are lost either way: of ten patients, or all of one.
    films, rows = films_and_rows()
    films[30:] = 155
    films[30:40] = 151
    wide = []
    for patient in (rows["name"], rows["name"].where(~rows.index.isin(range(30, 40)), "one")):
        result = robustness(mean_grey, films, rows.assign(patient_id=patient), THRESHOLD, 80, 1)
        wide.append(at(result, "over_exposure", 1)["recall_change_low"])
    assert wide[1] < wide[0] - 0.05


def test_the_area_and_its_change_are_resampled_together():
    # The area falls by the same pairs whoever is drawn: its change is far surer than itself.
    random = np.random.default_rng(3)
    films, rows = films_and_rows(60, 60)
    films = np.clip(films + random.normal(0, 60, len(films))[:, None, None], 0, 255)
    result = robustness(mean_grey, films.astype(np.uint8), rows, THRESHOLD, 120, 1)
    area = roc_auc_score(rows["label"], mean_grey(films.astype(np.uint8)).round(6))
    assert at(result, CLEAN, 0)["roc_auc"] == pytest.approx(area, abs=1e-6)
    row = at(result, "gaussian_noise", 1)
    width = row["roc_auc_high"] - row["roc_auc_low"]
    assert width > 0.05
    assert row["roc_auc_change_high"] - row["roc_auc_change_low"] < width / 3


def test_one_sample_is_drawn_and_all_settings_get_those_very_films():
    films, rows = films_and_rows()
    films = films.copy()
    films[:, 0, 0] = np.arange(len(films))  # tells the films apart
    given = []

    def listening(batch: np.ndarray) -> np.ndarray:
        given.append(batch)
        return mean_grey(batch)

    table = robustness(listening, films, rows, THRESHOLD, 24, 5)
    assert len(given) == len(SETTINGS)  # the clean films are asked once
    assert (table["n_images"] == 24).all()
    assert (table["tp"] + table["fn"] == 15).all()  # 50 of 80 is 15 of 24
    places = sample(rows["kind"].to_numpy(dtype=str), 24, 5)
    np.testing.assert_array_equal(given[0], films[places])
    for (name, severity), batch in zip(SETTINGS[1:], given[1:], strict=True):
        np.testing.assert_array_equal(batch, corrupted(films[places], name, severity, 5))


def test_the_same_seed_gives_the_same_table_and_another_another_sample():
    films, rows = films_and_rows()
    films = films + np.arange(len(films), dtype=np.uint8)[:, None, None]
    one, again, other = (
        robustness(mean_grey, films, rows, THRESHOLD, 24, seed) for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(one, again)
    assert not one.equals(other)


def test_what_sees_the_settings_go_by_gets_each_of_them():
    films, rows = films_and_rows()
    went_by = []

    def seen(settings):
        for setting in settings:
            went_by.append(setting)
            yield setting

    robustness(mean_grey, films, rows, THRESHOLD, 20, 1, seen)
    assert went_by == list(SETTINGS)


def test_no_images_give_a_table_without_rows_and_ask_no_model():
    table = robustness(None, None, None, THRESHOLD, 0, 1)
    assert (tuple(table.columns), len(table)) == (COLUMNS, 0)


def test_a_sample_without_a_class_is_refused():
    films, rows = films_and_rows(n_normal=1, n_ill=300)
    with pytest.raises(PipelineError, match=r"robustness\.n_images .* 0 normal, 20 pneumonia"):
        robustness(mean_grey, films, rows, THRESHOLD, 20, 1)


def test_a_sample_has_each_kinds_share_to_within_one_and_no_image_twice():
    kinds = np.array(["normal"] * 234 + ["bacterial"] * 242 + ["viral"] * 148)
    np.random.default_rng(1).shuffle(kinds)
    places = sample(kinds, 300, 2017)
    assert places.tolist() == sorted(set(places.tolist()))
    # 234, 242 and 148 of 624, times 300: 112.5, 116.35, 71.15. One image is left for 112.5.
    counted = dict(zip(*np.unique(kinds[places], return_counts=True), strict=True))
    assert counted == {"normal": 113, "bacterial": 116, "viral": 71}


@pytest.mark.parametrize("n_images", [5, 6, 1000])
def test_a_sample_of_all_or_more_is_all(n_images):
    assert sample(np.array(list("aabbc")), n_images, 1).tolist() == [0, 1, 2, 3, 4]


def test_every_image_has_its_chance_of_the_sample():
    kinds = np.array(["a"] * 10 + ["b"] * 5)
    times = np.bincount(
        np.concatenate([sample(kinds, 6, seed) for seed in range(400)]), minlength=15
    )
    assert (np.abs(times / 400 - 0.4) < 0.1).all()  # four standard errors


def test_probabilities_count_to_six_decimals_as_in_the_predictions_table():
    films, rows = films_and_rows()

    def model(batch: np.ndarray) -> np.ndarray:
        # A hair below the threshold: the table of predictions says 0.500000 and pneumonia.
        return np.where(batch.mean(axis=(1, 2)) > 120, 0.5 - 1e-9, 0.1)

    assert at(robustness(model, films, rows, THRESHOLD, 80, 1), CLEAN, 0)["tp"] == 50


@pytest.mark.parametrize("n_images", [0, 20, 300])
def test_accepted_sizes(n_images):
    section = as_section({"n_images": n_images}, "params.yaml: robustness", RobustnessParams)
    assert section.n_images == n_images


@pytest.mark.parametrize("n_images", [1, 19])
def test_other_sizes_are_refused_in_one_clear_line(n_images):
    with pytest.raises(PipelineError) as caught:
        as_section({"n_images": n_images}, "params.yaml: robustness", RobustnessParams)
    assert str(caught.value) == (
        f"params.yaml: robustness.n_images must be 0 or at least 20. Received: {n_images}"
    )


def test_no_two_stages_share_a_stream_of_draws():
    from pneumonia.evaluation import corruptions, intervals, map_study

    streams = [
        module._STREAM,
        corruptions._STREAM,
        map_study._STREAM,
        intervals._BOOTSTRAP_STREAM,
    ]
    assert len(set(streams)) == len(streams)

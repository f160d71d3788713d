"""The predictions table: what it shows, and what it refuses."""

import numpy as np
import pandas as pd
import pytest

from pneumonia.errors import PipelineError
from pneumonia.evaluation.predictions import (
    COLUMNS,
    TEXT_COLUMNS,
    as_printed,
    checked,
    in_order,
    one_split,
    split_predictions,
)
from pneumonia.store.files import read_table, write_table

INDEX = pd.DataFrame(
    {
        "name": ["test/b.jpeg", "test/a.jpeg", "test/c.jpeg"],
        "label": [1, 0, 1],
        "kind": ["viral", "normal", "bacterial"],
        "patient_id": ["007", "12", "007"],
        "width": 32,
    }
)
Y_PROB = np.array([0.1234565001, 1e-7, 1.0])


def test_one_row_an_image_sorted_by_name_with_six_decimals():
    table = split_predictions(INDEX, Y_PROB, "test", None)
    assert tuple(table.columns) == COLUMNS
    assert table.to_numpy().tolist() == [
        ["test/a.jpeg", "12", "normal", 0, "test", 0.0],
        ["test/b.jpeg", "007", "viral", 1, "test", 0.123457],
        ["test/c.jpeg", "007", "bacterial", 1, "test", 1.0],
    ]


def test_on_file_probabilities_are_in_fixed_notation_and_come_back_the_same(tmp_path):
    table = split_predictions(INDEX, np.array([0.000001, 0.00002, 0.5]), "test", None)
    write_table(tmp_path / "predictions.csv", as_printed(table))
    text = (tmp_path / "predictions.csv").read_text()
    assert text == (
        "name,patient_id,kind,label,split,probability\n"
        "test/a.jpeg,12,normal,0,test,0.000020\n"
        "test/b.jpeg,007,viral,1,test,0.000001\n"
        "test/c.jpeg,007,bacterial,1,test,0.500000\n"
    )
    back = checked(read_table(tmp_path / "predictions.csv", text=TEXT_COLUMNS))
    assert back.to_numpy().tolist() == table.to_numpy().tolist()


def test_under_a_key_neither_names_nor_patients_nor_their_order_are_seen():
    index = pd.DataFrame(
        {
            "name": [f"test/NORMAL/child{number:03}.jpeg" for number in range(40)],
            "label": 0,
            "kind": "normal",
            "patient_id": [f"child{number // 2:03}" for number in range(40)],
        }
    )
    plain = split_predictions(index, np.arange(40) / 40, "test", None)
    keyed = split_predictions(index, np.arange(40) / 40, "test", b"a key of some length")
    assert "child" not in keyed.to_csv()
    assert keyed["name"].is_monotonic_increasing
    assert keyed["probability"].tolist() != plain["probability"].tolist()
    assert sorted(keyed["probability"]) == sorted(plain["probability"])
    assert keyed["patient_id"].nunique() == 20
    other = split_predictions(index, np.arange(40) / 40, "test", b"another key, as long")
    assert not set(keyed["name"]) & set(other["name"])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.001, 1.001])
def test_a_model_that_gives_no_probability_stops_the_run(wrong):
    with pytest.raises(PipelineError, match=r"test: 1 of 3 images .* diverged.*Received: \S+ for"):
        split_predictions(INDEX, np.array([0.5, wrong, 0.5]), "test", None)


def sound() -> pd.DataFrame:
    validation = INDEX.assign(name=["v1", "v2", "v3"], patient_id=["1", "2", "3"])
    return pd.concat(
        [
            split_predictions(validation, Y_PROB, "validation", None),
            split_predictions(INDEX, Y_PROB, "test", None),
        ],
        ignore_index=True,
    )


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("split", "train", "split must be one of validation, test"),
        ("label", 2, "label must be 0 or 1"),
        ("probability", 1.5, r"probability must be in \[0, 1\]"),
        ("probability", np.nan, r"probability must be in \[0, 1\]"),
        ("name", "v1", "an image must occur once"),
        ("patient_id", "1", "no patient may be in both splits. Received: 1"),
    ],
)
def test_a_table_that_lies_is_refused(column, value, words):
    table = sound()
    table.loc[4, column] = value
    with pytest.raises(PipelineError, match=words):
        checked(table)


def test_the_error_names_the_line_of_the_file():
    table = sound()
    table.loc[4, "label"] = 7
    with pytest.raises(PipelineError, match=r"1 other rows, first 6: test/b\.jpeg, 007"):
        checked(table)  # the heading is line 1, so row 4 from 0 is line 6


def test_missing_columns_and_text_in_place_of_numbers_are_refused():
    with pytest.raises(PipelineError, match="must have the columns name, patient_id, kind"):
        checked(sound().drop(columns="kind"))
    with pytest.raises(PipelineError, match="probability must hold numbers"):
        checked(as_printed(sound()))


def test_printed_floats_have_six_decimals_and_whole_numbers_none():
    table = pd.DataFrame({"a": [1e-6, -0.5], "n": [3, 4], "words": ["x", "y"]})
    assert as_printed(table).to_numpy().tolist() == [["0.000001", 3, "x"], ["-0.500000", 4, "y"]]


def test_one_split_is_in_the_order_of_its_names_and_has_both_classes():
    rows = one_split(sound().sample(frac=1, random_state=1), "test")
    assert rows["name"].tolist() == ["test/a.jpeg", "test/b.jpeg", "test/c.jpeg"]
    ill = sound()[lambda table: table["label"] == 1]
    with pytest.raises(PipelineError, match=r"validation must hold .* 0 normal, 2 pneumonia"):
        one_split(ill, "validation")


@pytest.mark.parametrize("key", [None, b"a key of some length"])
def test_predictions_come_back_in_the_order_of_the_images(key):
    names = INDEX["name"]  # b, a, c
    table = split_predictions(INDEX, Y_PROB, "test", key)
    assert in_order(table, names, key)["probability"].tolist() == [0.123457, 0.0, 1.0]
    with pytest.raises(PipelineError, match=r"different runs.* none of 1, the first is"):
        in_order(table[1:], names, key)

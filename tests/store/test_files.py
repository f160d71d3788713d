"""Files written whole or not at all, strict JSON, and tables that keep text as text."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pneumonia.errors import PipelineError
from pneumonia.store.files import (
    read_json,
    read_table,
    replacing,
    sha256_of,
    write_bytes,
    write_json,
    write_table,
    write_text,
)

SRC = Path(__file__).parents[2] / "src"


# --- whole or not at all


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new folder" / "model.keras"
    with replacing(path) as partial:
        assert partial.suffix == ".keras"  # Keras chooses its format by it
        assert partial.name.startswith(".partial-")  # what .gitignore and .dvcignore know
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_writer_leaves_the_file_of_before(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"recall": 0.9})

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise PipelineError("no")

    with pytest.raises(PipelineError):
        fail()
    assert read_json(path) == {"recall": 0.9}
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_no_half_file_and_the_next_one_completes(tmp_path):
    writer = """
import sys, time
from pathlib import Path
from pneumonia.store.files import replacing
with replacing(Path("table.csv")) as partial, partial.open("w") as file:
    file.write("half")
    file.flush()
    print("now", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", writer],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SRC)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [".partial-table.csv"]

    write_text(tmp_path / "table.csv", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert (tmp_path / "table.csv").read_text() == "whole"


def test_writing_replaces_a_link_and_not_what_it_leads_to(tmp_path):
    # DVC's cache may be linked into the workspace: writing through the link would corrupt it.
    cached = tmp_path / "cached"
    cached.write_text("precious")
    (tmp_path / "out").symlink_to(cached)
    write_text(tmp_path / "out", "new")
    assert cached.read_text() == "precious"
    assert (tmp_path / "out").read_text() == "new"


def test_bytes_and_text_are_written_as_they_are(tmp_path):
    write_bytes(tmp_path / "b", b"\x00\r\n\xff")
    assert (tmp_path / "b").read_bytes() == b"\x00\r\n\xff"
    write_text(tmp_path / "t", "±40°\n")
    assert (tmp_path / "t").read_bytes() == "±40°\n".encode()


# --- JSON


def test_json_keeps_its_order_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "m.json", {"b": 1, "a": [0.5, None]})
    text = '{\n  "b": 1,\n  "a": [\n    0.5,\n    null\n  ]\n}\n'
    assert (tmp_path / "m.json").read_text() == text
    assert read_json(tmp_path / "m.json") == {"b": 1, "a": [0.5, None]}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_without_a_number_for_it_is_not_written(tmp_path, number):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "m.json", {"recall": number})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1', "", "{'a': 1}"])
def test_what_is_no_strict_json_is_not_read(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(PipelineError, match=r"m\.json: expected a JSON file that can be read"):
        read_json(tmp_path / "m.json")


def test_a_missing_json_file_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"m\.json: expected a JSON file that can be read"):
        read_json(tmp_path / "m.json")


# --- tables


@pytest.mark.parametrize(("name", "separator"), [("t.csv", ","), ("t.tsv", "\t")])
def test_a_table_is_written_with_its_column_names_and_read_back(tmp_path, name, separator):
    table = pd.DataFrame({"patient_id": ["007", "NA"], "label": [1, 0], "share": [0.1, 1e-9]})
    write_table(tmp_path / name, table)
    lines = (tmp_path / name).read_bytes().decode().split("\n")
    assert lines[0] == separator.join(["patient_id", "label", "share"])
    assert lines[1] == separator.join(["007", "1", "0.1"])
    read = read_table(tmp_path / name, text=("patient_id",))
    assert read["patient_id"].tolist() == ["007", "NA"]  # neither the number 7 nor "missing"
    assert read["label"].dtype == np.int64
    assert read["share"].tolist() == [0.1, 1e-9]


def test_a_table_of_no_rows_keeps_its_columns(tmp_path):
    write_table(tmp_path / "t.csv", pd.DataFrame({"group": [], "name": []}))
    assert (tmp_path / "t.csv").read_text() == "group,name\n"
    assert list(read_table(tmp_path / "t.csv", text=("name",)).columns) == ["group", "name"]


def test_a_table_that_is_missing_or_empty_or_lacks_a_column_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"t\.csv: expected a table that can be read"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(PipelineError, match=r"t\.csv: expected a table that can be read"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("name,label\na,1\n")
    with pytest.raises(PipelineError, match=r"t\.csv: columns \['split'\] are missing"):
        read_table(tmp_path / "t.csv", text=("name", "split"))


# --- hashes


def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"radiograph")
    assert sha256_of(tmp_path / "f") == hashlib.sha256(b"radiograph").hexdigest()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # pandas takes a field too many for the name of its row: a patient's name would pass unseen.
        ("name,label\nsecret,person1,1\n", "3 fields in line 2 under 2 headings"),
        ("name,label\nperson1,1\nperson2\n", "1 fields in line 3 under 2 headings"),
        (",name\n0,person1\n", r"the heading \['', 'name'\]"),
        ("name,name\na,b\n", r"the heading \['name', 'name'\]"),
        ("", r"the heading \[\]"),
    ],
)
def test_a_table_has_one_heading_a_column_and_one_field_a_heading(tmp_path, text, reason):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(PipelineError, match=rf"t\.csv: expected a table .* Received: {reason}$"):
        read_table(tmp_path / "t.csv")

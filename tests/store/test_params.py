"""params.yaml: scalars as DVC reads them, and sections checked strictly."""

from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

import pytest
from dvc.utils.serialize import load_yaml as load_as_dvc
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from pneumonia.errors import PipelineError
from pneumonia.store.params import Section, Seed, as_section, load_section, require
from pneumonia.store.yaml12 import load_yaml, parse_yaml


class Shape(Section):
    """A section with a field of each type."""

    count: int = Field(gt=0)
    rate: float
    kind: Literal["round", "square"]
    path: str | None
    on: bool

    @model_validator(mode="after")
    def _a_square_is_on(self) -> Self:
        require(self.kind == "round" or self.on, "on", "be true where kind is square", self.on)
        return self


WHOLE = {"count": "3", "rate": "0.5", "kind": "round", "path": "null", "on": "true"}


def write(tmp_path: Path, changes: dict[str, str | None] | None = None) -> Path:
    """params.yaml with section `shape`: `WHOLE` with other values, None for a missing key."""
    lines = [f"  {k}: {v}" for k, v in {**WHOLE, **(changes or {})}.items() if v is not None]
    path = tmp_path / "params.yaml"
    path.write_text("\n".join(["shape:", *lines, ""]), encoding="utf-8")
    return path


def shape(tmp_path: Path, **changes: str | None) -> Shape:
    return load_section(write(tmp_path, changes), "shape", Shape)


# --- scalars

SCALARS = [
    *["1e-05", "1e5", "1E+5", "-1e-05", "+1e5", "1.e5", "1.0e-5", ".5", "5.", "-.5", ".5e5", "1e"],
    *["0", "1", "-1", "+1", "012", "007", "09", "08.5", "0o17", "0x1F", "0b11", "1_000", "1_0.5"],
    *["true", "True", "TRUE", "tRue", "false", "yes", "no", "on", "off", "y", "n"],
    *["null", "Null", "NULL", "nULL", "~", '""', "''"],
    *[".inf", "-.inf", ".Inf", "inf", ".nan", ".NaN", "nan"],
    *["'1'", '"1e-5"', "1:30", "190:20:30", "1.2.3", "1,000", "a b", "-a", "1a", "paper"],
]


@pytest.mark.parametrize("scalar", SCALARS)
def test_a_scalar_is_what_dvc_reads(tmp_path, scalar):
    path = tmp_path / "params.yaml"
    path.write_text(f"value: {scalar}\n")
    ours, dvcs = load_yaml(path)["value"], load_as_dvc(str(path))["value"]
    assert (type(ours), repr(ours)) == (type(dvcs), repr(dvcs))


@given(st.text("0123456789+-.eE", min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_whatever_looks_like_a_number_is_what_dvc_reads(tmp_path_factory, scalar):
    path = tmp_path_factory.getbasetemp() / "numbers.yaml"
    path.write_text(f"value: {scalar}\n")
    try:
        dvcs = load_as_dvc(str(path))["value"]
    except Exception:  # ruamel.yaml's reader fails in many ways; ours has one
        with pytest.raises(PipelineError):
            load_yaml(path)
        return
    ours = load_yaml(path)["value"]
    assert (type(ours), repr(ours)) == (type(dvcs), repr(dvcs))


def test_what_dvc_exp_run_writes_for_a_small_number_is_a_number(tmp_path):
    # `dvc exp run -S finetune.learning_rate=0.00001` writes 1e-05, to PyYAML's own loader a text.
    assert shape(tmp_path, rate="1e-05").rate == 0.00001


# --- files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "key 'a' stands twice"),
        ("a: {b: 1, b: 2}\n", "key 'b' stands twice"),
        ("a: [1\n", "expected YAML that can be read"),
        ("a: !!int x\n", "expected YAML that can be read"),
        ("a: !!python/name:os.system\n", "expected YAML that can be read"),
        ("a: 1\n1: 2\n0x1: 3\n", "key 1 stands twice"),
        ("a: {<<: {b: 1}, c: 2, c: 3}\n", "key 'c' stands twice"),
        ("<<: 3\n", "expected a mapping or list of mappings for merging"),
        ("? {a: 1}\n: 2\n", "expected YAML that can be read"),
        ("a: 1\n---\nb: 1\n", "expected YAML that can be read"),
        (f"a: {'[' * 200_000}", "more than 50 lists and mappings within one another"),
        (f"{'- ' * 60}a", "more than 50 lists and mappings within one another"),
        (f"a: {'9' * 5000}", "expected YAML that can be read"),
        ("- 1\n", "expected sections"),
        ("", "expected sections"),
    ],
)
def test_what_is_no_mapping_of_sections_is_one_clear_line(text, message):
    with pytest.raises(PipelineError, match=message) as refusal:
        parse_yaml(text, "params.yaml")
    assert str(refusal.value).startswith("params.yaml: ")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "a: &x {p: 1}\nb:\n  <<: *x\n  q: 2\n",
        "a: &x {p: 1}\nb:\n  <<: *x\n  p: 2\n",  # its own key wins
        "a: &x {p: 1}\nc: &y {p: 3, z: 2}\nb:\n  <<: [*x, *y]\n",  # the first wins
        "a: {'<<': 3}\n",
        "a: &x [1]\nb: *x\n",
        "1: a\n'1': b\n",
    ],
)
def test_aliases_and_merges_are_what_dvc_reads(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert load_yaml(path) == load_as_dvc(str(path))


def test_the_whole_graph_and_lock_are_what_dvc_reads():
    for name in ("dvc.yaml", "dvc.lock", "params.yaml"):
        path = Path(__file__).parents[2] / name
        assert load_yaml(path) == load_as_dvc(str(path))


def test_an_alias_bomb_is_one_short_line():
    names = "abcdefghij"  # nine to the ninth texts, if anybody wrote them out
    lines = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise(names)]
    values = parse_yaml("\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *lines]), "bomb.yaml")
    for into in (int, str, Shape):
        with pytest.raises(PipelineError) as refusal:
            as_section(values["j"], "bomb.yaml: j", into)
        assert len(str(refusal.value)) < 1500


def test_a_missing_file_and_one_that_is_no_text_are_named(tmp_path):
    with pytest.raises(PipelineError, match=r"params\.yaml: expected YAML that can be read"):
        load_yaml(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PipelineError, match=r"params\.yaml: expected YAML that can be read"):
        load_yaml(tmp_path / "params.yaml")


# --- sections


def test_a_whole_section_becomes_its_dataclass(tmp_path):
    assert shape(tmp_path) == Shape(count=3, rate=0.5, kind="round", path=None, on=True)
    assert shape(tmp_path, path="data.zip").path == "data.zip"


def test_a_whole_number_is_accepted_as_a_float_and_becomes_one(tmp_path):
    rate = shape(tmp_path, rate="2").rate
    assert (rate, type(rate)) == (2.0, float)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": None}, "shape: missing rate. Accepted: count, rate, kind, path, on"),
        ({"rat": "1"}, "shape: unknown rat. Accepted"),
        ({"rate": None, "rat": "1"}, "shape: missing rate; unknown rat. Accepted"),
        ({"count": "3.0"}, "shape.count must be int. Received: 3.0"),
        ({"count": "true"}, "shape.count must be int. Received: True"),
        ({"count": "'3'"}, "shape.count must be int. Received: '3'"),
        ({"count": "null"}, "shape.count must be int. Received: None"),
        ({"count": "[3]"}, "shape.count must be int. Received: [3]"),
        ({"count": "0"}, "shape.count must be above 0. Received: 0"),
        ({"rate": "true"}, "shape.rate must be float. Received: True"),
        ({"rate": "fast"}, "shape.rate must be float. Received: 'fast'"),
        ({"rate": ".nan"}, "shape.rate must be a finite number. Received: nan"),
        ({"rate": "-.inf"}, "shape.rate must be a finite number. Received: -inf"),
        ({"rate": "1e999"}, "shape.rate must be a finite number. Received: inf"),
        ({"kind": "oval"}, "shape.kind must be one of round, square. Received: 'oval'"),
        ({"kind": "[round]"}, "shape.kind must be one of round, square. Received: ['round']"),
        ({"path": "7"}, "shape.path must be str or null. Received: 7"),
        ({"on": "yes"}, "shape.on must be bool. Received: 'yes'"),
        ({"on": "1"}, "shape.on must be bool. Received: 1"),
        (
            {"kind": "square", "on": "false"},
            "shape.on must be true where kind is square. Received: False",
        ),
        ({"path": f"0x{'f' * 5000}"}, "shape.path must be str or null. Received: a number of"),
    ],
)
def test_a_wrong_key_or_value_is_one_clear_line(tmp_path, changes, message):
    with pytest.raises(PipelineError) as refusal:
        shape(tmp_path, **changes)
    assert message in str(refusal.value)
    assert str(refusal.value).startswith(f"{tmp_path / 'params.yaml'}: shape")


def test_a_section_can_be_a_plain_value(tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 2017\n")
    assert load_section(tmp_path / "params.yaml", "seed", int) == 2017
    (tmp_path / "params.yaml").write_text("seed: true\n")
    with pytest.raises(PipelineError, match=r"seed must be int. Received: True"):
        load_section(tmp_path / "params.yaml", "seed", int)


def test_a_dotted_name_is_one_leaf_of_a_section(tmp_path):
    assert load_section(write(tmp_path), "shape.count", int) == 3
    with pytest.raises(PipelineError, match=r"section `shape\.size` is missing"):
        load_section(write(tmp_path), "shape.size", int)


def test_a_missing_section_is_named_beside_those_that_are_there(tmp_path):
    with pytest.raises(PipelineError, match=r"section `size` is missing. Received: \['shape'\]"):
        load_section(write(tmp_path), "size", Shape)


def test_a_section_without_keys_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_text("shape: 3\n")
    with pytest.raises(PipelineError, match=r"shape: expected keys with values. Received: 3"):
        load_section(tmp_path / "params.yaml", "shape", Shape)


class Frame(Section):
    """Sections within a section, and a list of them."""

    version: int = Field(alias="schema", ge=1, le=1)
    shape: Shape
    more: list[Shape]
    share: float = Field(ge=0, lt=1)


ROUND = {"count": 3, "rate": 0.5, "kind": "round", "path": None, "on": True}
FRAME = {"schema": 1, "shape": ROUND, "more": [ROUND], "share": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "frame.yaml: schema must be 1. Received: 2"),
        ({"schema": True}, "frame.yaml: schema must be int. Received: True"),
        ({"shape": ROUND | {"count": 0}}, "frame.yaml: shape.count must be above 0. Received: 0"),
        ({"shape": {"on": True}}, "frame.yaml: shape: missing count, rate, kind, path. Accepted: "),
        ({"shape": 3}, "frame.yaml: shape: expected keys with values. Received: 3"),
        ({"more": None}, "frame.yaml: more must be a list. Received: None"),
        ({"more": [ROUND, {}]}, "frame.yaml: more[1]: missing count"),
        ({"more": [ROUND | {"rate": "x"}]}, "frame.yaml: more[0].rate must be float. Received"),
        (
            {"more": [ROUND | {"kind": "square", "on": False}]},
            "frame.yaml: more[0].on must be true where kind is square. Received: False",
        ),
        ({"share": 1}, "frame.yaml: share must be in [0, 1). Received: 1"),
        ({"share": 10**400}, "frame.yaml: share must be"),
        ({"x" * 500: 1}, "frame.yaml: unknown xxx"),
    ],
)
def test_a_place_within_a_file_is_named_in_full(changes, message):
    with pytest.raises(PipelineError) as refusal:
        as_section(FRAME | changes, "frame.yaml", Frame)
    assert str(refusal.value).startswith(message)
    assert len(str(refusal.value)) < 500
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("seed", "accepted"), [(0, True), (2**32 - 1, True), (2**32, False), (-1, False)]
)
def test_a_seed_is_what_numpy_and_keras_take(seed, accepted):
    if accepted:
        assert as_section(seed, "params.yaml: seed", Seed) == seed
    else:
        message = rf"^params\.yaml: seed must be in \[0, 4294967295\]\. Received: {seed}$"
        with pytest.raises(PipelineError, match=message):
            as_section(seed, "params.yaml: seed", Seed)


def test_a_section_cannot_be_changed_after_it_was_checked():
    with pytest.raises(ValueError, match="frozen"):
        Shape(**ROUND).count = 4

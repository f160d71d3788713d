"""Evidence counts only where metrics, predictions, intervals, parameters and dvc.lock agree."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from gate_repository import (
    N_TEST,
    name_of,
    new_repository,
    predictions,
    relock,
    write_record,
)
from pneumonia.data.privacy import pseudonym
from pneumonia.errors import PipelineError
from pneumonia.gate.evidence import evidence, refuse_another_test_set
from pneumonia.git import commit_of

ROOT = Path(__file__).parents[2]
METRICS, PREDICTIONS, INTERVALS = (
    "metrics/evaluate.json", "metrics/predictions.csv", "metrics/intervals.csv",
)  # fmt: skip
MISSED = {"normal": 6, "bacterial": 3}


def folder_with_evidence(root: Path, schema: int) -> Path:
    """A folder that Git does not know: the working tree is read without it."""
    root.mkdir()
    write_record(root, predictions(MISSED), schema=schema)
    return root


@pytest.fixture(params=[1, 2], ids=["schema 1", "schema 2"])
def either(request, tmp_path):
    return folder_with_evidence(tmp_path / "root", request.param)


@pytest.fixture
def root(tmp_path):
    return folder_with_evidence(tmp_path / "root", 2)


@pytest.fixture
def old(tmp_path):
    return folder_with_evidence(tmp_path / "old", 1)


def edit(root: Path, key: str, value: object) -> None:
    """Change a key of metrics/evaluate.json and lock it, as somebody who invents metrics would."""
    path = root / METRICS
    content = json.loads(path.read_text())
    *above, last = key.split(".")
    into = content
    for part in above:
        into = into[part]
    if value is GONE:
        del into[last]
    else:
        into[last] = value
    path.write_text(json.dumps(content))
    relock(root)


GONE = object()


def sub(root: Path, path: str, old: str, new: str) -> None:
    """Replace the first of a text in a file and lock it."""
    file = root / path
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    relock(root)


def refused(root: Path, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as raised:
        evidence(root, None, "candidate x")
    said = str(raised.value)
    assert said.startswith("candidate x: ")
    assert said.isprintable()  # and so one line
    assert len(said) < 1000


def test_the_same_evidence_is_read_from_a_commit_and_from_the_working_tree(tmp_path):
    root = new_repository(tmp_path / "root", MISSED)
    at_commit = evidence(root, commit_of(root, "main"), "base")
    in_tree = evidence(root, None, "base")
    assert at_commit.test.equals(in_tree.test)
    assert at_commit.metrics == in_tree.metrics
    assert at_commit.metrics["operating_threshold"] == 0.9
    assert list(at_commit.test["name"]) == sorted(at_commit.test["name"])
    called = at_commit.test.set_index("name")["called"]
    # The first three of 60 bacterial images are missed, the first six of 60 normal ones called.
    assert not called[name_of("bacterial", 2)]
    assert called[name_of("bacterial", 3)]
    assert called[name_of("normal", 5)]
    assert not called[name_of("normal", 6)]
    assert called.sum() == 100 - 3 + 6


def test_both_schemas_give_the_same_side(root, old):
    new, was = evidence(root, None, "new"), evidence(old, None, "old")
    assert was.metrics == new.metrics
    assert new.metrics["test"]["missed"] == 3
    assert new.metrics["test"]["specificity"] == 0.9
    assert was.test.equals(new.test)
    assert was.predictions_md5 == new.predictions_md5
    assert was.predictions_md5 == hashlib.md5((old / PREDICTIONS).read_bytes()).hexdigest()


def test_the_evidence_of_this_repository_is_sound():
    side = evidence(ROOT, None, "this repository")
    assert side is not None
    assert len(side.test) == 624


def test_no_evidence_yet_is_no_error(tmp_path):
    root = new_repository(tmp_path / "root")
    assert evidence(root, None, "base") is None
    assert evidence(root, commit_of(root, "main"), "base") is None


@pytest.mark.parametrize("path", [METRICS, PREDICTIONS, INTERVALS, "dvc.lock", "params.yaml"])
def test_half_the_evidence_is_refused(root, path):
    (root / path).unlink()
    refused(root, f"which belong together. Received: no {path}")


# ---- damage ----


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"metrics/evaluate\.json: expected a JSON file that can be read"),
        ('{"schema": 1, "seed": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "recursion"),
        ('{"schema": 1' + "0" * 5000 + "}", "evaluate.json: expected a JSON file"),
        ("[]", r"expected schema 1 or 2, which this version of the gate reads\. Received: \[\]"),
        ('{"schema": 3}', "expected schema 1 or 2.*Received: 3"),
        ('{"schema": true}', "expected schema 1 or 2.*Received: True"),
        ('{"schema": [[[[1]]]]}', "expected schema 1 or 2"),
        ('{"schema": 1}', "evaluate.json: source does not match params.yaml"),
        ('{"schema": 2}', "evaluate.json: dataset does not match"),
    ],
)
def test_metrics_that_cannot_be_read_are_refused(root, content, message):
    (root / METRICS).write_text(content)
    relock(root)
    refused(root, message)


@pytest.mark.parametrize("path", [METRICS, PREDICTIONS, INTERVALS, "dvc.lock", "params.yaml"])
@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe",
        b"\x1b[2J\n",
        b"<<<<<<< HEAD\n=======\n",
        b"",
        b"a: &a [x]\n? [*a]\n: 1\n",
        b'"',
        b"\n",
    ],
)
def test_damage_of_any_file_is_one_printable_line(root, path, damage):
    (root / path).write_bytes(damage)
    refused(root, path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",probability\n", "\n", "Received: 6 fields in line 2 under 5 headings"),
        (",probability\n", ",probability,\n", "Received: the heading"),
        # pandas would take the names for an index without a name.
        ("test/NORMAL", "hidden,test/NORMAL", r"Received: 7 fields in line \d+ under 6"),
        (",0.900000\n", "\n", r"Received: 5 fields in line \d+ under 6 headings"),
        ("\n", "\n\n", "Received: 0 fields in line 2 under 6 headings"),
        ("\n", '\n"', r"predictions\.csv: expected a table that can be read"),
        (",0.900000\n", ",high\n", "probability must hold numbers"),
        (",0.900000\n", ",\n", "probability must hold numbers"),
        (",1,test,", "," + "9" * 30 + ",test,", "label must hold numbers"),
        (",0.900000\n", ",nan\n", "probability must hold numbers"),
        (",0.900000\n", ",1.5\n", r"probability must be in \[0, 1\]"),
        (",1,test,", ",2,test,", "label must be 0 or 1"),
        (",test,", ",train,", "split must be one of"),
        ("bacterial001", "bacterial000", "an image must occur once"),
        ("n", "\x00", r"columns \['name'\] are missing"),
    ],
)
def test_predictions_that_are_not_whole_are_refused(root, old, new, message):
    sub(root, PREDICTIONS, old, new)
    refused(root, message)


# ---- metrics ----

WRONG_IN_BOTH = [("operating_threshold", 0.5), ("validation.n_images", 21), ("test", {}),
                 ("test", None), ("test.roc_auc", 0.999)]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *WRONG_IN_BOTH,
        ("test.recall", 0.99),
        ("test.missed", 0),
        ("test.missed", 3.0),
        ("test.recall", True),
        ("test.recall", "0.97"),
        ("test.f1", GONE),
        ("validation.roc_auc", GONE),
        ("test.f2", 0.5),
        ("test.recall_low", 0.9),
        ("brier", 0.1),
        ("dataset", "chestxray2017"),
    ],
)
def test_schema_2_is_exactly_what_the_predictions_give(root, key, value):
    edit(root, key, value)
    refused(root, rf"evaluate\.json: {key}.* does not match metrics/predictions\.csv.* by hand")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *WRONG_IN_BOTH,
        ("test.at_operating_threshold.recall", 0.99),
        ("test.at_operating_threshold.fn", 0),
        ("validation.at_operating_threshold.tn", 0),
        ("test.at_half.f1", None),
        ("test.at_half.f1", True),
        ("test.at_half.recall", GONE),
        ("test.at_half", GONE),
        ("test.n_patients", 1),
    ],
)
def test_of_schema_1_all_that_the_gate_and_the_ledger_use_is_held(old, key, value):
    edit(old, key, value)
    refused(old, rf"evaluate\.json: {key}.* does not match metrics/predictions\.csv.* by hand")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400])
def test_a_number_out_of_all_bounds_is_refused(either, number):
    text = json.dumps(json.loads((either / METRICS).read_text()) | {"operating_threshold": "x"})
    (either / METRICS).write_text(text.replace('"x"', number))
    relock(either)
    refused(either, "evaluate.json: operating_threshold does not match")


def test_of_schema_1_intervals_and_what_was_measured_beside_are_left_alone(old):
    for key in ("test.roc_auc_low", "test.brier", "test.at_half.recall_low"):
        edit(old, key, 0.5) if "half" in key else edit(old, key, GONE)
    assert evidence(old, None, "base") is not None


def test_a_difference_in_the_last_decimal_is_rounding_and_one_above_it_is_not(either):
    roc_auc = json.loads((either / METRICS).read_text())["test"]["roc_auc"]
    edit(either, "test.roc_auc", roc_auc + 1e-6)
    assert evidence(either, None, "candidate") is not None
    edit(either, "test.roc_auc", roc_auc + 1e-5)
    refused(either, "test.roc_auc does not match")


# ---- intervals ----


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("test,operating,all,recall,0.970000,0.9", "test,operating,all,recall,0.970000,0.8"),
        (",97,100,", ",98,100,"),
        ("wider of Wilson and bootstrap", "exact"),
        ("test,", "validation,"),
        (",0.970000,", ",nan,"),
        (",0.970000,", ",9" + "0" * 400 + ".000000,"),
    ],
)
def test_intervals_are_those_that_the_predictions_give(root, old, new):
    sub(root, INTERVALS, old, new)
    refused(root, r"intervals\.csv, line \d+: does not match metrics/predictions\.csv, which gives")


def test_a_candidate_that_lacks_an_interval_is_refused_and_an_older_base_is_not(root):
    path = root / INTERVALS
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    relock(root)
    refused(root, r"intervals\.csv: does not match .* gives the row test, .* Received: no such row")
    assert evidence(root, None, "base", is_base=True) is not None


def test_a_metric_that_a_change_adds_is_no_reason_to_refuse_it(root):
    path = root / INTERVALS
    whole = path.read_text()
    path.write_text(whole + "test,operating,all,lift,1.500000,1.200000,1.800000,,,new\n")
    relock(root)
    assert evidence(root, None, "candidate") is not None


def test_an_interval_that_stands_twice_is_refused(root):
    path = root / INTERVALS
    whole = path.read_text()
    last = whole.splitlines()[-1] + "\n"
    path.write_text(whole + last)
    relock(root)
    refused(root, r"intervals\.csv, line \d+: does not match .* gives this row once")
    path.write_text(whole.replace(last, last.replace("0.", "0.,", 1)))
    relock(root)
    refused(root, "intervals.csv: expected a table that can be read")


def test_the_last_decimal_of_an_interval_may_be_rounded_otherwise(root):
    sub(
        root,
        INTERVALS,
        "test,operating,all,recall,0.970000,",
        "test,operating,all,recall,0.970001,",
    )
    assert evidence(root, None, "candidate") is not None
    sub(
        root,
        INTERVALS,
        "test,operating,all,recall,0.970001,",
        "test,operating,all,recall,0.970003,",
    )
    refused(root, "intervals.csv, line")


def test_a_column_of_the_intervals_more_is_refused(root):
    path = root / INTERVALS
    path.write_text("".join(f"{line},more\n" for line in path.read_text().splitlines()))
    relock(root)
    refused(root, r"intervals\.csv, line 1: expected the columns split, threshold,")


@pytest.mark.parametrize(("old", "new"), [("seed: 7", "seed: 8"), ("p: 40", "p: 41")])
def test_intervals_of_other_parameters_are_refused(root, old, new):
    sub(root, "params.yaml", old, new)
    refused(root, "intervals.csv, line")


# ---- the lock and the parameters ----


def test_a_lock_of_another_run_is_refused(either):
    for path in (METRICS, PREDICTIONS):
        file = either / path
        whole = file.read_text()
        # Neither a blank nor a zero less changes a metric.
        file.write_text(whole + "\n" if path == METRICS else whole.replace("0.900000", "0.9", 1))
        refused(either, rf"dvc\.lock and {path} are of different runs: the lock says md5 \w{{32}},")
        file.write_text(whole)


def test_a_lock_of_other_intervals_is_refused(root):
    locked = yaml.safe_load((root / "dvc.lock").read_text())
    locked["stages"]["plot"]["outs"][0]["md5"] = "0" * 32
    (root / "dvc.lock").write_text(yaml.safe_dump(locked))
    refused(
        root,
        r"dvc\.lock and metrics/intervals\.csv are of different runs: the lock says md5 0{32},",
    )


def test_stages_that_disagree_about_the_predictions_are_refused(root):
    # `plot` ran on predictions of another evaluation.
    locked = yaml.safe_load((root / "dvc.lock").read_text())
    for dep in locked["stages"]["plot"]["deps"]:
        dep["md5"] = "0" * 32
    (root / "dvc.lock").write_text(yaml.safe_dump(locked))
    refused(root, r"dvc\.lock and metrics/evaluate\.json are of different runs: .* 0{32}, \w{32}")


def test_the_files_are_looked_for_in_every_stage_of_the_lock(root):
    lock = root / "dvc.lock"
    locked = yaml.safe_load(lock.read_text())
    locked["stages"]["another name"] = locked["stages"].pop("evaluate")
    lock.write_text(yaml.safe_dump(locked))
    assert evidence(root, None, "candidate") is not None


@pytest.mark.parametrize(
    "lock",
    ["{}", "stages: []", "stages: {evaluate: {outs: [1, {path: x}]}}", "stages: {evaluate: }",
     "stages: {evaluate: {outs: [{path: metrics/evaluate.json}, {path: [1]}]}}"],
)  # fmt: skip
def test_a_lock_that_does_not_know_the_metrics_is_refused(either, lock):
    (either / "dvc.lock").write_text(lock)
    refused(either, r"are of different runs: the lock says md5 [nN]one")


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        ("seed: 7", "seed: 8", "seed does not match params.yaml, which gives 8. Received: 7"),
        ("target_recall: 0.9", "target_recall: 0.8", "target_recall does not match params.yaml"),
        ("n_bootstrap: 40", "n_bootstrap: 50", "n_bootstrap does not match params.yaml"),
        ("source: chestxray2017-224", "source: chestxray2017", "source does not match"),
    ],
)
def test_parameters_of_another_run_are_refused(old, was, now, message):
    sub(old, "params.yaml", was, now)
    refused(old, f"evaluate.json: {message}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 7", "seed: -1", "params.yaml: seed must be"),
        ("seed: 7", "seed: x", "params.yaml: seed must be"),
        ("target_recall: 0.9", "target_recall: 2", r"target_recall must be in \(0"),
        ("n_bootstrap: 40", "n_bootstrap: 4", r"n_bootstrap must be in \[40"),
        ("source: chestxray2017-224", "source: 7", "fetch.source must be str"),
        ("source: chestxray2017-224", "s: 7", "section `fetch.source` is missing"),
    ],
)
def test_parameters_that_no_run_can_have_are_refused(either, old, new, message):
    sub(either, "params.yaml", old, new)
    refused(either, message)


def test_names_of_radiographs_that_are_not_public_are_refused_and_not_repeated(either):
    schema = json.loads((either / METRICS).read_text())["schema"]
    table = predictions({})
    write_record(either, table, "own", schema)
    refused(either, "dataset own is not public, so every name must be a keyed hash")
    sub(either, PREDICTIONS, ",1,test,", ",2,test,")  # whatever else is wrong
    with pytest.raises(PipelineError) as raised:
        evidence(either, None, "candidate")
    assert "jpeg" not in str(raised.value)

    key = b"a key of sixteen bytes"
    hashed = table.assign(name=[pseudonym(key, name) for name in table["name"]])
    write_record(either, hashed, "own", schema)
    refused(either, "every patient_id must be a keyed hash")
    patients = [pseudonym(key, text) for text in table["patient_id"]]
    write_record(either, hashed.assign(patient_id=patients), "own", schema)
    assert evidence(either, None, "candidate") is not None


# ---- the same test set ----


def side(tmp_path: Path, table, dataset: str = "chestxray2017-224", schema: int = 2):
    root = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    root.mkdir()
    write_record(root, table, dataset, schema)
    return evidence(root, None, "side")


def test_another_model_on_the_same_images_is_the_same_test_set(tmp_path):
    table = predictions({})
    worse = predictions({"viral": 9})
    shuffled = worse.sample(frac=1, random_state=1)
    refuse_another_test_set(side(tmp_path, table), side(tmp_path, shuffled))
    refuse_another_test_set(side(tmp_path, table, schema=1), side(tmp_path, shuffled))


def test_an_image_less_or_more_is_another_test_set(tmp_path):
    whole = side(tmp_path, predictions({}))
    less = side(tmp_path, predictions({}, N_TEST | {"viral": 39}))
    with pytest.raises(
        PipelineError,
        match=r"1 that differ, the first is .*viral039\.jpeg: it is only in the base\.",
    ):
        refuse_another_test_set(whole, less)
    with pytest.raises(PipelineError, match=r"viral039\.jpeg: it is only in the candidate\. A new"):
        refuse_another_test_set(less, whole)


@pytest.mark.parametrize(
    ("column", "value"), [("label", 0), ("kind", "viral"), ("patient_id", "test-somebody")]
)
def test_another_label_kind_or_patient_is_another_test_set(tmp_path, column, value):
    table = predictions({})
    changed = table.copy()
    changed.loc[changed["name"] == name_of("bacterial", 0), column] = value
    with pytest.raises(
        PipelineError,
        match=rf"1 that differ.*bacterial000.*: its {column} is .* in the base and {value} in",
    ):
        refuse_another_test_set(side(tmp_path, table), side(tmp_path, changed))


def test_phantoms_and_radiographs_are_never_compared_though_their_names_agree(tmp_path):
    table = predictions({})
    with pytest.raises(PipelineError, match="Phantoms and radiographs are never compared"):
        refuse_another_test_set(side(tmp_path, table), side(tmp_path, table, "phantoms"))
    # The full-size archive and its small copy are the same radiographs.
    refuse_another_test_set(side(tmp_path, table), side(tmp_path, table, "chestxray2017"))

"""A record counts only where figures, predictions, parameters and dvc.lock belong together."""

import json
from pathlib import Path

import pytest
from pneumonia.evaluation.clinical import KEYS, clinical

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
from pneumonia.git import commit_of, git

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    return new_repository(tmp_path / "root", {"normal": 6, "bacterial": 3})


def edit(root: Path, **values: object) -> None:
    """Change keys of metrics/evaluate.json and lock it, as somebody who invents figures would."""
    path = root / "metrics/evaluate.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    relock(root)


def refused(root: Path, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as raised:
        evidence(root, None, "candidate x")
    said = str(raised.value)
    assert said.startswith("candidate x: ")
    assert "\n" not in said
    assert "/tmp" not in said


def test_the_same_record_is_read_from_a_commit_and_from_the_working_tree(root):
    at_commit = evidence(root, commit_of(root, "main"), "base")
    in_tree = evidence(root, None, "base")
    assert at_commit.test.equals(in_tree.test)
    assert at_commit.operating_threshold == in_tree.operating_threshold == 0.9
    assert list(at_commit.test["name"]) == sorted(at_commit.test["name"])
    called = at_commit.test.set_index("name")["called"]
    # The first three of 60 bacterial images are missed, the first six of 60 normal ones called.
    assert not called[name_of("bacterial", 2)]
    assert called[name_of("bacterial", 3)]
    assert called[name_of("normal", 5)]
    assert not called[name_of("normal", 6)]
    assert called.sum() == 100 - 3 + 6


def test_the_record_of_this_repository_is_sound():
    side = evidence(ROOT, None, "this repository")
    assert side is not None
    assert len(side.test) == 624


def test_no_record_yet_is_no_error(tmp_path):
    root = new_repository(tmp_path / "root")
    assert evidence(root, None, "base") is None
    assert evidence(root, commit_of(root, "main"), "base") is None


@pytest.mark.parametrize(
    "path", ["metrics/evaluate.json", "metrics/predictions.csv", "dvc.lock", "params.yaml"]
)
def test_half_a_record_is_refused(root, path):
    (root / path).unlink()
    refused(root, f"which belong together. Received: no {path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"metrics/evaluate\.json: expected a JSON file that can be read"),
        ('{"schema": 1, "seed": NaN}', "NaN is not JSON"),
        ("[]", r"expected schema 1, which this version of the gate reads\. Received: \[\]"),
        ('{"schema": 2}', "expected schema 1.*Received: 2"),
        ('{"schema": 1}', "source, seed, target_recall, n_bootstrap missing"),
    ],
)
def test_metrics_that_cannot_be_read_are_refused(root, content, message):
    (root / "metrics/evaluate.json").write_text(content)
    relock(root)
    refused(root, message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",probability\n", "\n", "must have the columns"),
        (",0.900000\n", ",nan\n", "probability must hold numbers"),
        (",0.900000\n", ",\n", "probability must hold numbers"),
        (",0.900000\n", ",1.5\n", r"probability must be in \[0, 1\]"),
        (",1,test,", ",2,test,", "label must be 0 or 1"),
        (",test,", ",train,", "split must be one of"),
        ("bacterial001", "bacterial000", "an image must occur once"),
        ("", "\x00", "metrics/predictions.csv"),
    ],
)
def test_predictions_that_are_not_whole_are_refused(root, old, new, message):
    path = root / "metrics/predictions.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    relock(root)
    refused(root, message)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("operating_threshold", 0.5),
        ("test.at_operating_threshold.recall", 0.99),
        ("test.at_operating_threshold.fn", 0),
        ("test.roc_auc", 0.999),
        ("test.roc_auc_low", 0.9),
        ("validation.n_images", 21),
        ("test.at_half.f1", None),
        ("test.at_half.f1", True),
        ("test", {}),
        ("test", None),
    ],
)
def test_figures_that_do_not_follow_from_the_predictions_are_refused(root, key, value):
    path = root / "metrics/evaluate.json"
    content = json.loads(path.read_text())
    *above, last = key.split(".")
    into = content
    for part in above:
        into = into[part]
    into[last] = value
    path.write_text(json.dumps(content))
    relock(root)
    refused(root, rf"{key}.* does not follow from metrics/predictions\.csv")


def test_a_figure_left_out_is_refused_and_one_more_is_not(root):
    edit(root, brier=0.1)
    assert evidence(root, None, "candidate") is not None
    content = json.loads((root / "metrics/evaluate.json").read_text())
    del content["test"]["at_half"]["recall"]
    (root / "metrics/evaluate.json").write_text(json.dumps(content))
    relock(root)
    refused(root, "test.at_half.recall does not follow")


def test_a_record_from_before_the_clinical_figures_is_sound_and_one_with_half_of_them_is_not(root):
    content = json.loads((root / "metrics/evaluate.json").read_text())
    for split in ("validation", "test"):
        content[split] = {k: v for k, v in content[split].items() if k not in KEYS}
    edit(root, **content)
    assert evidence(root, None, "candidate") is not None
    content["test"]["brier"] = 0.5
    edit(root, **content)
    refused(root, "test.brier does not follow|test.by_kind")


def test_every_clinical_figure_is_named_as_one():
    found = clinical(predictions({"viral": 1, "normal": 1}).query("split == 'test'"), 0.5, 40, [1])
    assert set(found) == KEYS


def test_a_difference_in_the_last_decimal_is_rounding_and_one_above_it_is_not(root):
    content = json.loads((root / "metrics/evaluate.json").read_text())
    content["test"]["roc_auc"] += 1e-6
    edit(root, test=content["test"])
    assert evidence(root, None, "candidate") is not None
    content["test"]["roc_auc"] += 1e-5
    edit(root, test=content["test"])
    refused(root, "test.roc_auc does not follow")


@pytest.mark.parametrize("path", ["metrics/evaluate.json", "metrics/predictions.csv"])
def test_a_lock_of_another_run_is_refused(root, path):
    file = root / path
    # Neither a blank nor a zero more changes a figure.
    file.write_text(file.read_text() + ("\n" if path.endswith("json") else ""))
    if path.endswith("csv"):
        file.write_text(file.read_text().replace("0.900000", "0.9", 1))
    refused(root, rf"dvc\.lock and {path} are of different runs: the lock says md5 \w{{32}}")


@pytest.mark.parametrize(
    "lock",
    ["{}", "stages: []", "stages: {evaluate: {outs: [1, {path: x}]}}", "stages: {evaluate:}"],
)
def test_a_lock_that_does_not_know_the_figures_is_refused(root, lock):
    (root / "dvc.lock").write_text(lock)
    refused(root, r"are of different runs: the lock says md5 None")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("seed: 7", "seed: 8", "seed is 7 in the one and 8"),
        ("target_recall: 0.9", "target_recall: 0.8", "evaluate.target_recall is 0.9 .* 0.8"),
        ("n_bootstrap: 40", "n_bootstrap: 50", "evaluate.n_bootstrap is 40 .* 50"),
        ("source: chestxray2017-224", "source: own", "fetch.source is 'chestxray2017-224'"),
    ],
)
def test_parameters_of_another_run_are_refused(root, old, new, key):
    path = root / "params.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    refused(root, f"are of different runs: {key}")


def test_names_of_films_that_are_not_public_are_refused_and_not_repeated(root):
    table = predictions({})
    write_record(root, table, source="own")
    refused(root, "source own is not public, so every name must be a keyed hash")
    with pytest.raises(PipelineError) as raised:
        evidence(root, None, "candidate")
    assert "jpeg" not in str(raised.value)

    key = b"a key of sixteen bytes"
    hashed = table.assign(name=[pseudonym(key, name) for name in table["name"]])
    write_record(root, hashed, source="own")
    refused(root, "every patient_id must be a keyed hash")
    write_record(
        root,
        hashed.assign(patient_id=[pseudonym(key, text) for text in table["patient_id"]]),
        source="own",
    )
    assert evidence(root, None, "candidate") is not None


# ---- the same test set ----


def side(tmp_path: Path, table, source: str = "chestxray2017-224"):
    root = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    root.mkdir()
    git(root, "init", "-q")
    write_record(root, table, source)
    return evidence(root, None, "side")


def test_another_model_on_the_same_images_is_the_same_test_set(tmp_path):
    table = predictions({})
    worse = predictions({"viral": 9})
    shuffled = worse.sample(frac=1, random_state=1)
    refuse_another_test_set(side(tmp_path, table), side(tmp_path, shuffled))


def test_an_image_less_or_more_is_another_test_set(tmp_path):
    whole = side(tmp_path, predictions({}))
    less = side(tmp_path, predictions({}, N_TEST | {"viral": 39}))
    with pytest.raises(PipelineError, match=r"1 that differ, the first is .*viral039.*the base\."):
        refuse_another_test_set(whole, less)
    with pytest.raises(PipelineError, match=r"viral039\.jpeg, only in the candidate\. A new"):
        refuse_another_test_set(less, whole)


@pytest.mark.parametrize(
    ("column", "value"), [("label", 0), ("kind", "viral"), ("patient_id", "test-somebody")]
)
def test_another_label_kind_or_patient_is_another_test_set(tmp_path, column, value):
    table = predictions({})
    changed = table.copy()
    changed.loc[changed["name"] == name_of("bacterial", 0), column] = value
    with pytest.raises(PipelineError, match=r"1 that differ.*bacterial000.*with another label"):
        refuse_another_test_set(side(tmp_path, table), side(tmp_path, changed))


def test_phantoms_and_films_are_never_compared_though_their_names_agree(tmp_path):
    table = predictions({})
    with pytest.raises(PipelineError, match="Phantoms and films are never compared"):
        refuse_another_test_set(side(tmp_path, table), side(tmp_path, table, "phantoms"))
    # The full-size archive and its small copy are the same films.
    refuse_another_test_set(side(tmp_path, table), side(tmp_path, table, "chestxray2017"))

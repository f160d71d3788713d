"""The review of a change as Markdown: what stands in it, what is missing, and how long it gets."""

import json
import re
import shutil

import pytest

from pneumonia.documents import comment as module
from pneumonia.documents.comment import MAX_CHARACTERS, summary
from pneumonia.errors import PipelineError
from pneumonia.git import git

GRAPH = """\
stages:
  split: {cmd: a, params: [seed], outs: [data]}
  train: {cmd: b, deps: [data/train], outs: [model]}
  evaluate:
    cmd: c
    deps: [model, data]
    metrics: [{metrics/evaluate.json: {cache: false}}]
"""
LOCK = """\
schema: '2.0'
stages:
  split: {{cmd: a}}
  train: {{cmd: b, outs: [{{path: model, hash: md5, md5: {}}}]}}
"""


def evaluate(recall: float, low: float, tp: int, half: float = 0.5) -> str:
    return json.dumps(
        {
            "schema": 1,
            "test": {
                "at_operating_threshold": {
                    "tp": tp, "recall": recall, "recall_low": low, "recall_high": 0.99,
                },
                "at_half": {"recall": half},
            },
            "validation": {"at_operating_threshold": {"recall": 0.75}},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """main~1 -> main: recall .95 -> .9, a parameter, `train`, a picture changed; then `broken`."""
    root = tmp_path_factory.mktemp("history")
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "someone")
    git(root, "config", "user.email", "someone@host.example")
    for folder in (".dvc", "metrics", "plots/evaluate"):
        (root / folder).mkdir(parents=True)
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "dvc.lock").write_text(LOCK.format("one"))
    (root / "params.yaml").write_text("seed: 1\nsame: [1, 2]\n")
    (root / "metrics/evaluate.json").write_text(evaluate(0.95, 0.9, 95))
    for name in ("roc", "same"):
        (root / f"plots/evaluate/{name}.png").write_bytes(b"one")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "base")
    (root / "dvc.lock").write_text(LOCK.format("two"))
    (root / "params.yaml").write_text("seed: 2\nsame: [1, 2]\n")
    (root / "metrics/evaluate.json").write_text(evaluate(0.9, 0.85, 90, half=0.25))
    (root / "plots/evaluate/roc.png").write_bytes(b"two")
    git(root, "commit", "-qam", "candidate")
    git(root, "checkout", "-q", "--detach")
    (root / "metrics/evaluate.json").write_text("{broken")
    for path in ("dvc.yaml", "dvc.lock", "params.yaml"):
        (root / path).write_text("][")
    shutil.rmtree(root / "plots")
    git(root, "commit", "-qam", "broken")
    git(root, "tag", "broken")
    git(root, "checkout", "-q", "main")
    return root


@pytest.fixture
def differences(history, monkeypatch):
    """differences(metrics, params): what DVC would find, without the seconds that it takes."""

    def give(metrics, params=None):
        found = {
            "metrics": metrics or {"metrics/evaluate.json": {}},
            "params": {"params.yaml": params or {}},
        }
        monkeypatch.setattr(module, "_dvc_diff", lambda root, kind, *_: found[kind])

    give({})
    return give


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"\| `", line)]


def test_a_review_shows_what_changed_between_two_revisions_and_nothing_else(history, tmp_path):
    (tmp_path / "gate.md").write_text("## FAIL\n\nrecall\n")
    text = summary(history, "main~1", tmp_path / "gate.md", "https://host.example/x/", "main")
    assert text.startswith("## FAIL\n\nrecall\n\n`")
    assert rows(text) == [
        "| `test.at_operating_threshold.recall` | 0.9500 (0.9000–0.9900) "
        "| 0.9000 (0.8500–0.9900) | -0.0500 |",
        "| `test.at_operating_threshold.tp` | 95 | 90 | -5 |",
        "| `metrics/evaluate.json` | `test.at_half.recall` | 0.5000 | 0.2500 | -0.2500 |",
        "| `seed` | `1` | `2` |",
    ]
    assert "Recorded anew in `dvc.lock`: `train`." in text
    assert "  class s1 changed\n" in text
    assert re.findall(r"!\[.*", text) == [
        "![roc.png](https://host.example/x/plots/evaluate/roc.png)"
    ]


def test_without_a_candidate_the_working_tree_is_reviewed(history, tmp_path):
    git(history, "clone", "-q", ".", str(tmp_path / "clone"))
    root = tmp_path / "clone"
    (root / "metrics/evaluate.json").write_text(evaluate(1.0, 0.96, 100, half=0.25))
    (root / "plots/evaluate/new.png").write_bytes(b"new")
    text = summary(root, "HEAD", None, "https://host.example")
    assert text.startswith("The working tree against `")
    assert rows(text) == [
        "| `test.at_operating_threshold.recall` | 0.9000 (0.8500–0.9900) "
        "| 1.0000 (0.9600–0.9900) | +0.1000 |",
        "| `test.at_operating_threshold.tp` | 90 | 100 | +10 |",
    ]
    assert re.findall(r"!\[.*", text) == ["![new.png](https://host.example/plots/evaluate/new.png)"]
    assert "no stage" in text


def test_a_revision_against_itself_says_that_nothing_changed(history):
    text = summary(history, "main", None, "https://host.example", "main")
    assert "`metrics/evaluate.json` has not changed." in text
    assert text.count("None has changed.") == 2  # parameters, pictures
    assert rows(text) == []


def test_what_is_missing_or_broken_is_a_line_and_no_error(history, tmp_path):
    text = summary(history, "main", tmp_path / "none.md", "https://host.example", "broken")
    assert text.startswith("**The gate gave no verdict.**")
    # DVC ends with 0 all the same, and with nothing.
    assert "`metrics/evaluate.json` cannot be read, or is missing" in text
    assert "`params.yaml` cannot be read, or is missing" in text
    assert "changed" not in text
    assert "`dvc.yaml` cannot be read, or is missing, in the candidate." in text
    assert "`plots/evaluate` has none in the candidate." in text


@pytest.mark.parametrize(("side", "place"), [("old", "base"), ("new", "candidate")])
def test_metrics_that_one_side_lacks_are_one_line_and_not_a_table(
    history, differences, side, place
):
    differences({"metrics/evaluate.json": {"a": {"old": 1, "new": 1, side: None}}})
    text = summary(history, "main", None, None, "main")
    assert f"`metrics/evaluate.json` cannot be read, or is missing, in the {place}." in text
    assert rows(text) == []


def test_what_neither_side_has_is_missing_and_not_unchanged(history, monkeypatch):
    monkeypatch.setattr(module, "_dvc_diff", lambda *_: {})  # as DVC answers, with status 0
    text = summary(history, "main", None, None, "main")
    assert "`metrics/evaluate.json` cannot be read, or is missing." in text
    assert "`params.yaml` cannot be read, or is missing." in text
    assert "changed" not in text


def test_a_dvc_that_fails_is_quoted(history, monkeypatch, tmp_path):
    (tmp_path / "dvc.py").write_text("import sys; sys.exit('ERROR: no `luck`\\nmore')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    text = summary(history, "main", None, None, "main")
    for kind in ("metrics", "params"):
        assert f"`dvc {kind} diff` could not compare them. It said: `ERROR: no 'luck'`" in text


def test_a_wrong_revision_is_one_clear_error(history):
    for base, candidate in (("nowhere", "main"), ("main", "nowhere")):
        with pytest.raises(PipelineError, match="Received: 'nowhere'"):
            summary(history, base, None, None, candidate)


def test_no_pictures_where_nobody_could_see_them(history, differences):
    assert "Pictures" not in summary(history, "main~1", None, None, "main")


def test_the_graph_is_drawn_from_what_stages_write_and_read(history, differences):
    drawing = summary(history, "main", None, None, "main")
    assert re.findall(r's\d\["(.*)"\]', drawing) == ["split", "train", "evaluate"]
    # train reads a part of what split writes; evaluate reads what both write.
    assert re.findall(r"(s\d) --> (s\d)", drawing) == [("s0", "s1"), ("s0", "s2"), ("s1", "s2")]
    assert "class" not in drawing  # nothing has changed


def test_text_of_the_change_starts_no_mention_link_or_cell(history, differences):
    evil = "`@everyone | <img src=x>\n# [x](y)`"
    differences({}, {evil: {"old": None, "new": evil}, "seed": {"old": 1, "new": 1}})
    (row,) = rows(summary(history, "main", None, None, "main"))
    shown = r"`'@everyone \| <img src=x> # [x](y)'`"
    assert row == f"| {shown} | `null` | {shown} |"


def test_a_figure_whose_interval_alone_changed_is_shown(history, differences):
    same = {"old": 0.5, "new": 0.5}
    differences({"m.json": {"f1": same, "f1_low": {"old": 0.4, "new": 0.3}, "f1_high": same}})
    (row,) = rows(summary(history, "main", None, None, "main"))
    assert row == (
        "| `m.json` | `f1` | 0.5000 (0.4000–0.5000) | 0.5000 (0.3000–0.5000) | +0.0000 |"
    )


@pytest.mark.parametrize("n_lines", [3_000, 30_000])
def test_a_comment_never_gets_too_long_and_says_that_it_was_cut(
    history, differences, tmp_path, n_lines
):
    lines = "- film.jpeg\n" * n_lines  # 36,000 characters fit with the rest; 360,000 do not
    (tmp_path / "gate.md").write_text(f"## FAIL\n\n<details>\n\n{lines}")
    many = {f"key{i}": {"old": i, "new": i + 1} for i in range(2_000)}
    differences({}, many)
    text = summary(history, "main", tmp_path / "gate.md", None, "main")
    assert text.startswith("## FAIL")
    assert len(text) <= MAX_CHARACTERS
    assert text.endswith("the whole is with the files of this run.*")
    assert ("### Metrics" in text) == (n_lines == 3_000)
    assert "### Parameters" not in text  # left out whole, never cut within a table
    assert n_lines == 3_000 or text.count("</details>") == 1

"""The review of a change as Markdown: its content, the lines for what is missing, its length."""

import json
import re
import shutil
from subprocess import CompletedProcess

import pytest

from pneumonia.documents import comment as module
from pneumonia.documents.comment import FIRST, MAX_CHARACTERS, summary
from pneumonia.errors import PipelineError
from pneumonia.git import git

GRAPH = """\
stages:
  train: {cmd: b, params: [seed], outs: [model]}
  evaluate:
    cmd: c
    metrics: [{metrics/evaluate.json: {cache: false}}]
"""
LOCK = """\
schema: '2.0'
stages:
  split: {{cmd: a}}
  train: {{cmd: b, outs: [{{path: model, hash: md5, md5: {}}}]}}
"""


def evaluate(recall: float, missed: int) -> str:
    """A file whose nine test metrics stand in another order than a reviewer asks for them."""
    test = {"accuracy": 0.5, "f1": 0.5, "false_alarms": 1, "missed": missed, "n_images": 624,
            "precision": 0.5, "recall": recall, "roc_auc": 0.5, "specificity": 0.5}  # fmt: skip
    values = {"schema": 2, "operating_threshold": 0.5, "test": test}
    return json.dumps(values | {"validation": {"recall": 0.75}})


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """main~1 -> main: recall, a parameter, stage `train` and a plot changed; then tag broken."""
    root = tmp_path_factory.mktemp("history")
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "someone")
    git(root, "config", "user.email", "someone@host.example")
    for folder in (".dvc", "metrics", "plots/examine"):
        (root / folder).mkdir(parents=True)
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "dvc.lock").write_text(LOCK.format("one"))
    (root / "params.yaml").write_text("seed: 1\nsame: [1, 2]\n")
    (root / "metrics/evaluate.json").write_text(evaluate(0.95, 5))
    for name in ("roc", "same", "examine/samples"):
        (root / f"plots/{name}.png").write_bytes(b"one")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "base")
    (root / "dvc.lock").write_text(LOCK.format("two"))
    (root / "params.yaml").write_text("seed: 2\nsame: [1, 2]\n")
    (root / "metrics/evaluate.json").write_text(evaluate(0.900001, 10))
    for name in ("roc", "examine/samples"):
        (root / f"plots/{name}.png").write_bytes(b"two")
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


def dvc_table(rows: list[tuple[str, ...]]) -> str:
    """Rows of path, name, old and new as DVC prints them: in columns of one width."""
    lines = [("Path", "Param", "aaaa", "bbbb"), *rows]
    widths = [max(len(row[i]) for row in lines) for i in range(4)]

    def line(cells):
        return f"| {' | '.join(c.ljust(w) for c, w in zip(cells, widths, strict=True))} |"

    ruler = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([line(lines[0]), ruler, *map(line, lines[1:])]) + "\n\n"


@pytest.fixture
def tables(monkeypatch):
    """tables(metrics, params): what DVC would print, without the seconds that it takes."""

    def give(metrics=(), params=()):
        found = {"metrics": metrics, "params": params}
        monkeypatch.setattr(
            module,
            "_dvc_diff",
            lambda root, kind, _: CompletedProcess([], 0, dvc_table(list(found[kind])), ""),
        )

    give()
    return give


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_a_review_shows_what_changed_between_two_revisions_and_nothing_else(history, tmp_path):
    (tmp_path / "gate.md").write_text("## FAIL\n\nrecall\n")
    text = summary(history, "main~1", tmp_path / "gate.md", "https://host.example/x/", "main")
    assert text.startswith("## FAIL\n\nrecall\n\n`")
    assert rows(text) == [
        "| `test.recall` | 0.95 | 0.900001 | -0.049999 |",
        "| `test.missed` | 5 | 10 | 5 |",
        "| `seed` | 1 | 2 |",
    ]
    assert "Stages whose entry in `dvc.lock` changed: `train`." in text
    assert re.findall(r"!\[.*", text) == [
        "![plots/examine/samples.png](https://host.example/x/plots/examine/samples.png)",
        "![plots/roc.png](https://host.example/x/plots/roc.png)",
    ]


def test_without_a_candidate_the_working_tree_is_reviewed(history, tmp_path):
    """And DVC's columns have one width, or a bar within a value would start a cell."""
    git(history, "clone", "-q", ".", str(tmp_path / "clone"))
    root = tmp_path / "clone"
    (root / "metrics/evaluate.json").write_text(evaluate(1.0, 0))
    (root / "params.yaml").write_text('seed: 2\n"a|b": "v|w\\n| params.yaml | x | 1 | 2 |"\n')
    for name in ("roc", "new"):
        (root / f"plots/{name}.png").write_bytes(b"new")
    text = summary(root, "HEAD", None, "https://host.example")
    assert text.startswith("The working tree against `")
    assert rows(text) == [
        "| `test.recall` | 0.900001 | 1.0 | 0.099999 |",
        "| `test.missed` | 10 | 0 | -10 |",
        r"| `a\|b` | - | v\|w \| params.yaml \| x \| 1 \| 2 \| |",
        r"| `same` | \[1, 2\] | - |",
    ]
    assert re.findall(r"!\[.*", text) == [
        "![plots/new.png](https://host.example/plots/new.png)",
        "![plots/roc.png](https://host.example/plots/roc.png)",
    ]
    assert "`dvc.lock` changed: none." in text


def test_a_revision_against_itself_says_that_nothing_changed(history, tables):
    tables(
        [("metrics/evaluate.json", "test.recall", "1", "1")], [("params.yaml", "seed", "1", "1")]
    )
    text = summary(history, "main", None, "https://host.example", "main")
    assert text.count("None has changed.") == 3  # metrics, parameters, plots
    assert rows(text) == []


def test_what_is_missing_or_broken_is_a_line_and_no_error(history, tmp_path):
    text = summary(history, "main", tmp_path / "none.md", "https://host.example", "broken")
    assert text.startswith("**The gate gave no verdict.**")
    # DVC ends with 0 all the same, and with nothing.
    assert "`metrics/evaluate.json` cannot be read, or is missing" in text
    assert "`params.yaml` cannot be read, or is missing" in text
    assert text.count("None has changed.") == 1  # of plots
    assert "`dvc.lock` cannot be read, or is missing." in text
    assert "![" not in text  # nobody could see a plot that is gone


def test_at_most_eight_rows_stand_unfolded_what_the_gate_judges_first(history, tables):
    names = [*FIRST, "dataset", "test.f1", "validation.recall"]
    tables([("metrics/evaluate.json", name, "1", "2") for name in sorted(names)])
    shown, folded = summary(history, "main~1", None, None, "main").split("<details>")
    assert [re.findall("`(.*)`", row)[0] for row in rows(shown)] == list(FIRST)
    assert "<summary>3 more</summary>" in folded
    assert [re.findall("`(.*)`", row)[0] for row in rows(folded)][:2] == ["test.f1", "dataset"]


def test_a_metric_of_another_file_names_its_file(history, tables):
    both = [("metrics/evaluate.json", "test.roc_auc"), ("metrics/finetune.json", "roc_auc")]
    tables([(*names, "1", "2") for names in both])
    text = summary(history, "main~1", None, None, "main")
    assert rows(text) == [
        "| `test.roc_auc` | 1 | 2 |",
        "| `metrics/finetune.json: roc_auc` | 1 | 2 |",
    ]


@pytest.mark.parametrize(("side", "place"), [(0, "base"), (1, "candidate")])
def test_metrics_that_one_side_lacks_are_one_line_and_not_a_table(history, tables, side, place):
    values = ["1", "1"]
    values[side] = "-"
    tables([("metrics/evaluate.json", "a", *values), ("metrics/evaluate.json", "b", *values)])
    text = summary(history, "main", None, None, "main")
    assert f"`metrics/evaluate.json` cannot be read, or is missing in the {place}." in text
    assert rows(text) == []


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


def test_no_plots_where_nobody_could_see_them(history, tables):
    assert "Plots" not in summary(history, "main~1", None, None, "main")


def test_text_of_the_change_starts_no_mention_link_cell_or_row(history, tables):
    evil = "`@everyone | <img src=x> [x](https://y)`"
    tables(
        [],
        [
            ("params.yaml", evil, "-", f"a {evil}"),
            ("", "| fake", "", "| row | 1 | 2 |"),  # as DVC prints a value with a line's end
            ("params.yaml", "seed", "1", "1"),
        ],
    )
    (row,) = rows(summary(history, "main", None, None, "main"))
    assert row == (
        r"| `'@everyone \| <img src=x> [x](https://y)' \| fake` | - | "
        r"a \`@<!-- -->everyone \| &lt;img src=x&gt; \[x\](https:<!-- -->//y)\` "
        r"\| row \| 1 \| 2 \| |"
    )


@pytest.mark.parametrize("n_lines", [3_000, 30_000])
def test_a_comment_never_gets_too_long_and_says_that_it_was_cut(history, tables, tmp_path, n_lines):
    lines = "- image.jpeg\n" * n_lines  # 39,000 characters fit with the rest; 390,000 do not
    (tmp_path / "gate.md").write_text(f"## FAIL\n\n<details>\n\n{lines}\n</details>\n")
    tables([], [("params.yaml", f"key{i}", f"{i}", f"{i + 1}") for i in range(2_000)])
    text = summary(history, "main", tmp_path / "gate.md", None, "main")
    assert text.startswith("## FAIL")
    assert len(text) <= MAX_CHARACTERS
    assert text.endswith("the whole is with the files of this run.*")
    assert ("### Metrics" in text) == (n_lines == 3_000)
    # At a line's end, and what was open is closed.
    assert re.search(r"(jpeg|\|)\n\n</details>\n\n\*Too long", text)
    assert text.count("<details>") == text.count("</details>")

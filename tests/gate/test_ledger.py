"""The ledger: each opening of the test set once, wherever in Git it is, and none left out."""

import json
import subprocess
from pathlib import Path

import pytest

from pneumonia.errors import PipelineError
from pneumonia.gate import ledger
from pneumonia.gate.ledger import as_table, openings
from pneumonia.git import git

HEADING = "date,revision,source,recipe,n_looks,recall,specificity,predictions,note\n"
PILOT = ',,chestxray2017,,16,0.99,0.66,,"the pilot, looked at every epoch"\n'
PARAMS = "seed: 1\nfinetune: {epochs: 14, patience: 5}\n"
CONFLICT = '<<<<<<< HEAD\n{"schema": 1}\n=======\n'


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one commit, of 1 March, before any evaluation."""
    root = tmp_path / "root"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "someone")
    git(root, "config", "user.email", "someone@host.example")
    (root / "docs").mkdir()
    (root / "docs/earlier_looks.csv").write_text(HEADING + PILOT)
    (root / "params.yaml").write_text(PARAMS)
    commit = committing(root, monkeypatch)
    commit("2026-03-01")
    return root


def committing(root: Path, monkeypatch):
    def commit(day: str, *flags: str) -> str:
        """Commit all there is at noon (UTC) of that day; the full hash."""
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"{day}T21:00:00+09:00")
        git(root, "add", "-A")
        git(root, "commit", "-q", "--allow-empty", "-m", day, *flags)
        return git(root, "rev-parse", "HEAD").strip()

    return commit


@pytest.fixture
def commit(root, monkeypatch):
    return committing(root, monkeypatch)


def metrics(recall: float = 0.9, **other) -> dict:
    """An evaluate.json of schema 2 with what the ledger reads."""
    return {
        "schema": 2, "dataset": "chestxray2017-224", "operating_threshold": 0.25,
        "test": {"recall": recall, "specificity": 0.5}, **other,
    }  # fmt: skip


def schema_1(recall: float = 0.9, **other) -> dict:
    measured = {"recall": recall, "specificity": 0.5}
    return {
        "schema": 1, "source": "chestxray2017-224", "operating_threshold": 0.25,
        "test": {"at_operating_threshold": measured}, **other,
    }  # fmt: skip


def write(root: Path, evaluate: object, predictions: str | None) -> None:
    """Metrics, and a predictions.csv that holds `predictions`; None: there is none."""
    (root / "metrics").mkdir(exist_ok=True)
    text = evaluate if isinstance(evaluate, str) else json.dumps(evaluate)
    (root / "metrics/evaluate.json").write_text(text)
    if predictions is not None:
        (root / "metrics/predictions.csv").write_text(predictions)


def in_git(root: Path) -> list[dict]:
    """The openings without the pilot's, which the fixture's CSV has."""
    rows = openings(root)
    assert rows[0]["n_looks"] == 16
    return rows[1:]


def test_before_any_evaluation_there_are_the_looks_from_before_git(root):
    assert openings(root) == [
        {"date": "", "revision": "", "experiment": "", "source": "chestxray2017", "recipe": "",
         "n_looks": 16, "recall": 0.99, "specificity": 0.66,
         "note": "the pilot, looked at every epoch"}
    ]  # fmt: skip


def test_an_opening_is_named_by_its_commit_with_its_metrics(root, commit):
    write(root, metrics(0.875), "a")
    full = commit("2026-03-02")
    (row,) = in_git(root)
    assert full.startswith(row.pop("revision"))
    assert row == {
        "date": "2026-03-02T12:00:00+00:00",  # 21:00 in Japan
        "experiment": "", "source": "chestxray2017-224", "recipe": "params.yaml",
        "n_looks": 1, "recall": 0.875, "specificity": 0.5, "note": "",
    }  # fmt: skip


def test_commits_that_leave_the_metrics_alone_are_no_openings(root, commit):
    write(root, metrics(), "a")
    opening = commit("2026-03-02")
    (root / "README.md").write_text("words")
    commit("2026-03-02")  # in the same second
    (row,) = in_git(root)
    assert opening.startswith(row["revision"])


def test_the_same_metrics_on_two_branches_and_merged_are_one_opening_the_earliest(
    root, commit, monkeypatch
):
    git(root, "switch", "-qc", "later")
    write(root, metrics(), "a")
    commit("2026-03-05")
    git(root, "switch", "-qc", "earlier", "main")
    write(root, metrics(), "a")
    earlier = commit("2026-03-04")
    git(root, "switch", "-q", "main")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-03-06T12:00:00+00:00")
    git(root, "merge", "-q", "--no-ff", "-m", "merge", "later")
    git(root, "merge", "-q", "--no-ff", "-m", "merge", "earlier")
    (row,) = in_git(root)
    assert earlier.startswith(row["revision"])


def test_going_back_to_earlier_metrics_is_no_new_opening(root, commit):
    for day, predictions in enumerate("aba", 2):
        write(root, metrics(), predictions)
        commit(f"2026-03-0{day}")
    assert [row["date"][:10] for row in in_git(root)] == ["2026-03-02", "2026-03-03"]


def test_openings_on_branches_tags_and_remote_branches_are_listed_by_date(root, commit):
    for day, ref in ((5, "refs/heads/work"), (4, "refs/remotes/origin/theirs"), (6, "refs/tags/v")):
        git(root, "switch", "-q", "--detach", "main")
        write(root, metrics(), ref)
        git(root, "update-ref", ref, commit(f"2026-03-0{day}"))
    git(root, "switch", "-q", "main")
    assert [row["date"][8:10] for row in in_git(root)] == ["04", "05", "06"]


def test_metrics_that_a_merge_threw_away_are_an_opening_all_the_same(root, commit):
    git(root, "switch", "-qc", "lost")
    write(root, metrics(0.8), "lost")
    commit("2026-03-02")
    git(root, "switch", "-q", "main")
    write(root, metrics(0.9), "kept")
    commit("2026-03-03")
    git(root, "merge", "-q", "-s", "ours", "-m", "keep ours", "lost")
    git(root, "branch", "-D", "lost")
    assert [row["recall"] for row in in_git(root)] == [0.8, 0.9]


def test_metrics_that_a_merge_commit_itself_brings_are_an_opening(root, commit):
    git(root, "branch", "side")
    write(root, metrics(0.8), "a")
    commit("2026-03-02")
    git(root, "switch", "-q", "side")
    (root / "README.md").write_text("words")
    commit("2026-03-03")
    git(root, "merge", "-q", "--no-commit", "main")
    write(root, metrics(0.9), "evaluated again for the merge")
    commit("2026-03-04")
    assert [row["recall"] for row in in_git(root)] == [0.8, 0.9]


def test_an_experiment_is_listed_with_its_name(root, commit):
    base = git(root, "rev-parse", "main").strip()
    git(root, "switch", "-q", "--detach")
    write(root, metrics(), "a")
    full = commit("2026-03-02")
    git(root, "update-ref", "refs/exps/exec/EXEC_BRANCH", full)  # DVC's own, no name
    git(root, "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/smaller-rate", full)
    git(root, "switch", "-q", "main")
    (row,) = in_git(root)
    assert (row["experiment"], row["recipe"]) == ("smaller-rate", "smaller-rate")
    assert full.startswith(row["revision"])
    assert "smaller-rate (experiment)" in as_table([row])


def test_another_threshold_on_the_same_predictions_is_another_look(root, commit):
    write(root, metrics(0.9), "a")
    commit("2026-03-02")
    write(root, metrics(0.95, operating_threshold=0.125), "a")
    commit("2026-03-03")
    assert [row["recall"] for row in in_git(root)] == [0.9, 0.95]


def test_the_same_predictions_in_another_schema_or_with_more_resamples_are_not_another_look(
    root, commit
):
    for day, evaluate in enumerate(
        (schema_1(n_bootstrap=2000), schema_1(n_bootstrap=5000), metrics()), 2
    ):
        write(root, evaluate, "a")
        commit(f"2026-03-0{day}")
    (row,) = in_git(root)
    assert row["date"] == "2026-03-02T12:00:00+00:00"


def test_both_schemas_are_read(root, commit):
    for day, evaluate in ((2, schema_1(0.8)), (3, metrics(0.9))):
        write(root, evaluate, str(day))
        commit(f"2026-03-0{day}")
    rows = in_git(root)
    assert [(row["source"], row["recall"], row["specificity"], row["note"]) for row in rows] == [
        ("chestxray2017-224", 0.8, 0.5, ""), ("chestxray2017-224", 0.9, 0.5, ""),
    ]  # fmt: skip


def test_other_predictions_are_another_look_though_the_rates_are_equal(root, commit):
    for day, predictions in ((2, "a"), (3, "b")):
        write(root, metrics(), predictions)
        commit(f"2026-03-0{day}")
    assert len(in_git(root)) == 2


def test_without_predictions_the_metrics_tell_openings_apart(root, commit):
    for day, recall in ((2, 0.8), (3, 0.9)):
        write(root, metrics(recall), None)
        commit(f"2026-03-0{day}")
    assert [row["recall"] for row in in_git(root)] == [0.8, 0.9]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (CONFLICT, "Expecting value"),
        ("", "Expecting value"),
        ("[]", "list indices"),
        ("[" * 100_000, "recursion"),
        (metrics(schema=3), "schema 3, expected 1 or 2"),
        (metrics(schema=[1]), "unhashable"),
        (metrics(test={}), "no 'recall'"),
        (schema_1(test={}), "no 'at_operating_threshold'"),
        (metrics(test=None), "not subscriptable"),
        (metrics(float("nan")), "NaN is not JSON"),
        (metrics(None), "not supported"),
        (metrics(True), "True is not in [0, 1]"),
        (metrics(98.7), "98.7 is not in [0, 1]"),
        (metrics(operating_threshold=-1), "-1 is not in [0, 1]"),
        (metrics(dataset="\x1b[2J"), "unknown dataset"),
    ],
)
def test_metrics_that_cannot_be_read_are_a_row_that_says_so(root, commit, broken, reason):
    write(root, broken, "a")
    commit("2026-03-02")
    write(root, metrics(0.9), "b")
    commit("2026-03-03")
    unreadable, sound = in_git(root)
    assert unreadable["note"].startswith("metrics/evaluate.json cannot be read: ")
    assert reason in unreadable["note"]
    assert unreadable["note"].isprintable()  # nothing of a branch's file steers the terminal
    assert (unreadable["n_looks"], unreadable["recall"], unreadable["source"]) == (1, None, "")
    assert sound["recall"] == 0.9
    assert "unknown 1" in as_table([unreadable])


def recipe_of(root, commit, params: str, **recipes: str) -> str:
    """The recipe that the ledger names for these files; each file is gone from main afterwards."""
    (root / "recipes").mkdir()
    for name, text in recipes.items():
        (root / f"recipes/{name}.yaml").write_text(text)
    (root / "params.yaml").write_text(params)
    write(root, metrics(), "a")
    commit("2026-03-02")
    git(root, "rm", "-rq", "recipes", "params.yaml")
    commit("2026-03-03")
    (row,) = in_git(root)
    return row["recipe"]


def test_the_recipe_is_the_one_that_changes_nothing_at_that_revision(root, commit):
    short, long = "finetune: {epochs: 5}", "seed: 1\nfinetune: {epochs: 30}"
    params = "seed: 1\nfinetune: {epochs: 30, patience: 5}\n"
    assert recipe_of(root, commit, params, short=short, long=long) == "long"


def test_where_no_recipe_fits_it_is_params_yaml(root, commit):
    other = {"other": "finetune: {epochs: 5}", "foreign": "cooking: {salt: 1}", "broken": "["}
    assert recipe_of(root, commit, PARAMS, **other) == "params.yaml"


def test_where_two_recipes_fit_both_are_named(root, commit):
    recipes = {"b": "seed: 1", "a": "finetune: {patience: 5}"}
    assert recipe_of(root, commit, PARAMS, **recipes) == "a, b"


def test_parameters_that_cannot_be_read_leave_the_recipe_empty(root, commit):
    assert recipe_of(root, commit, CONFLICT, a="seed: 1") == ""


# ---- looks from before Git, or out of its sight ----


def earlier(root: Path, *lines: str) -> None:
    (root / "docs/earlier_looks.csv").write_text(HEADING + "".join(f"{line}\n" for line in lines))


def test_what_has_no_date_comes_first_and_what_has_one_comes_in_its_place(root, commit):
    write(root, metrics(), "a")
    commit("2026-03-02")
    earlier(
        root,
        "2026-03-03,,own,,1,,,,later",
        ",,phantoms,,2,,,,second",
        ",,chestxray2017,,3,,,,third",
        "2026-03-02,,own,,1,,,,same day",
    )
    notes = [row["note"] for row in openings(root)]
    assert notes == ["second", "third", "same day", "", "later"]


def test_a_look_of_another_clone_is_counted_once_when_git_gets_it_too(root, commit):
    blob = subprocess.run(
        ["git", "hash-object", "--stdin"], cwd=root, input=b"a", check=True, capture_output=True
    ).stdout.decode().strip()  # fmt: skip
    earlier(root, f"2026-03-01,abc1234,own,,1,,,{blob},elsewhere")
    assert [row["note"] for row in openings(root)] == ["elsewhere"]
    write(root, metrics(), "a")
    commit("2026-03-02")
    assert [row["recall"] for row in openings(root)] == [0.9]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (",,own,,0,,,,", "n_looks must be a number from 1. Received: '0'"),
        (",,own,,some,,,,", "n_looks must be a number"),
        (",,film,,1,,,,", "source must be one of chestxray2017, .* own. Received: 'film'"),
        ("March,,own,,1,,,,", "date must be empty, a day"),
        (",,own,,1,98.7,,,", "recall must be empty or in"),
        (",,own,,1,1.5,,,", "recall must be empty or in"),
        (",,own,,1,,nan,,", "specificity must be empty or in"),
    ],
)
def test_a_wrong_line_among_the_earlier_looks_is_one_clear_error(root, line, reason):
    earlier(root, PILOT.strip(), line)
    with pytest.raises(PipelineError, match=rf"earlier_looks\.csv, line 3: {reason}"):
        openings(root)


def test_without_the_file_of_earlier_looks_there_is_no_ledger(root):
    (root / "docs/earlier_looks.csv").unlink()
    with pytest.raises(PipelineError, match=r"earlier_looks\.csv: expected a table"):
        openings(root)


def test_this_repository_begins_with_the_sixteen_looks_of_the_pilot(root):
    shipped = Path(__file__).parents[2] / ledger.EARLIER
    (root / ledger.EARLIER).write_bytes(shipped.read_bytes())
    rows = openings(root)
    assert rows[0]["n_looks"] == 16
    assert "pilot" in rows[0]["note"].lower()
    # docs/log.md: pilot 16, frozen MobileNetV2 2, linear probes 2, run 1 again 2, run 2 1.
    assert sum(row["n_looks"] for row in rows) == 23


# ---- the table ----


def test_the_table_counts_looks_by_source_and_phantoms_are_none_of_the_study():
    row = {"date": "", "revision": "", "experiment": "", "recipe": "", "recall": None,
           "specificity": None, "note": ""}  # fmt: skip
    rows = [
        {**row, "source": source, "n_looks": n}
        for source, n in (("chestxray2017", 16), ("chestxray2017-224", 2), ("phantoms", 40),
                          ("own", 5), ("chestxray2017-224", 1))  # 16 + 2 + 1 of the study
    ]  # fmt: skip
    last = as_table(rows).splitlines()[-2:]
    assert last[0] == "Looks by dataset: chestxray2017 16, chestxray2017-224 3, phantoms 40, own 5"
    assert last[1] == (
        "Looks at the study's test set (chestxray2017 and chestxray2017-224 are the same): 19"
    )


def test_the_table_fits_a_terminal_and_each_row_stands_under_its_heading(root, commit):
    write(root, metrics(0.875), "a")
    short = commit("2026-03-02")[:7]
    base = git(root, "rev-parse", "main").strip()
    git(root, "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{'long-name' * 9}", "HEAD")
    rows = openings(root)
    rows[0]["note"] = "many words " * 30
    text = as_table(rows)
    assert max(map(len, text.splitlines())) == 100
    heading, *lines = text.splitlines()
    line = next(line for line in lines if short in line)
    for name, cell in (
        ("date", "2026-03-02"), ("revision", short), ("dataset", "chestxray2017-224"),
        ("recipe", "long-name"),
    ):  # fmt: skip
        assert line[heading.index(name) :].startswith(cell)
    for name, cell in (("looks", "1"), ("recall", "0.875"), ("specificity", "0.500")):
        assert line[: heading.index(name) + len(name)].endswith(f" {cell}")
    words = " ".join(line.strip() for line in lines if line.startswith(" " * 12 + "many"))
    assert words == rows[0]["note"].strip()


def test_rows_are_plain_json(root, commit):
    write(root, metrics(), "a")
    commit("2026-03-02")
    rows = openings(root)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


# ---- Git ----


def test_a_shallow_clone_says_that_it_does_not_have_all(root, commit, tmp_path):
    for day, predictions in ((2, "a"), (3, "b")):
        write(root, metrics(), predictions)
        commit(f"2026-03-0{day}")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{root}", "shallow")
    rows = openings(tmp_path / "shallow")
    assert [row["n_looks"] for row in rows] == [16, 1, 0]
    assert "shallow" in rows[-1]["note"]
    lines = as_table(rows).splitlines()
    assert sum("this clone is shallow" in line for line in lines) == 1
    assert len(lines) == 8  # heading, pilot and its note, one opening, this, a gap and two sums
    assert not any("shallow" in row["note"] for row in openings(root))


def test_many_openings_take_no_process_each(root, monkeypatch):
    entries = []
    for number in range(300):
        evaluate = json.dumps(metrics(number / 1000))
        entries.append(
            f"commit refs/heads/many\ncommitter someone <a@b.example> {10**9 + number} +0000\n"
            f"data 1\nx\nM 644 inline metrics/evaluate.json\ndata {len(evaluate)}\n{evaluate}\n"
            f"M 644 inline metrics/predictions.csv\ndata {len(str(number))}\n{number}\n"
            f"M 644 inline params.yaml\ndata {len(PARAMS)}\n{PARAMS}\n"
        )
    subprocess.run(
        ["git", "fast-import", "--quiet"], cwd=root, input="".join(entries).encode(), check=True
    )
    started = []
    run = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda *words, **how: started.append(words) or run(*words, **how)
    )
    assert [row["recall"] for row in in_git(root)] == [number / 1000 for number in range(300)]
    assert len(started) < 20


def test_a_hook_that_set_git_dir_does_not_send_the_ledger_elsewhere(
    root, commit, tmp_path, monkeypatch
):
    write(root, metrics(), "a")
    commit("2026-03-02")
    git(tmp_path, "init", "-q", "elsewhere")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere/.git"))
    assert len(in_git(root)) == 1

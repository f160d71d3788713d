"""The gate's verdict as text, Markdown and JSON; and the command that prints it."""

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gate_repository import (
    POLICY,
    commit,
    name_of,
    new_repository,
    predictions,
    write_record,
)
from pneumonia.gate.report import as_json, as_markdown, as_text, in_words
from pneumonia.gate.verdict import judged
from pneumonia.git import git

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    """main misses nothing; the tree misses 12 of 60 bacterial images and 1 of 60 normal ones."""
    root = new_repository(tmp_path / "root", {})
    write_record(root, predictions({"bacterial": 12, "normal": 1}))
    return root


def verdict(root: Path, **how):
    how = {"policy_file": None, "new_baseline": False, "today": datetime.date(2026, 12, 1)} | how
    return judged(root, "main", None, **how)


def rows_of(text: str) -> dict[str, list[str]]:
    """The cells of each row of a table, by the first."""
    rows = [re.split(r"  +", line) for line in text.splitlines() if "  " in line]
    return {row[0]: row[1:] for row in rows}


def test_a_reviewer_first_reads_the_verdict_the_sides_and_the_losses_in_words(root):
    lines = as_text(verdict(root)).splitlines()
    assert lines[0] == "Gate: FAIL – the candidate is worse than the policy allows"
    assert re.fullmatch(r"candidate \(working tree\) against base main \(\w{7}\)", lines[1])
    assert re.fullmatch(r"policy: gate\.yaml of base main \(\w{7}\)", lines[2])
    # 160 test images, two of each patient.
    assert lines[3] == (
        "test, dataset chestxray2017-224: 100 pneumonia and 60 normal images of 80 patients"
    )
    assert lines[4] == "12 more pneumonias missed of 100; 1 more false alarm of 60"
    # Then the metrics, and only then the rules.
    assert [line.split()[0] for line in lines[6:13]] == [
        "on", "recall", "specificity", "roc_auc", "missed", "false", "threshold",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[14:21]] == [
        "rule", "recall,", "specificity,", "recall", "specificity", "recall", "recall",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("base", "candidate", "words"),
    [
        ({}, {"viral": 2, "normal": 1},
         ("2 more pneumonias missed of 100", "1 more false alarm of 60")),
        ({"viral": 1, "normal": 3}, {},
         ("1 fewer pneumonia missed of 100", "3 fewer false alarms of 60")),
        ({"viral": 1}, {"bacterial": 1},
         ("as many pneumonias missed as before", "as many false alarms as before")),
    ],
)  # fmt: skip
def test_what_changed_is_said_in_words(tmp_path, base, candidate, words):
    root = new_repository(tmp_path / "root", base)
    write_record(root, predictions(candidate))
    assert in_words(verdict(root)) == words


def test_the_metrics_stand_side_by_side_with_their_change(root):
    rows = rows_of(as_text(verdict(root)))
    assert rows["on test"] == ["base", "candidate", "change"]
    assert rows["recall"] == ["1.000", "0.880", "−0.120"]
    assert rows["specificity"] == ["1.000", "0.983", "−0.017"]  # 59 of 60
    assert rows["missed"] == ["0 of 100", "12 of 100", "+12"]
    assert rows["false alarms"] == ["0 of 60", "1 of 60", "+1"]
    assert rows["threshold"] == ["0.900000", "0.900000", "0.000000"]
    # Of 100 × 60 pairs, 88 × 59 are ranked rightly, 88 × 1 and 12 × 59 are tied: half of them.
    assert rows["roc_auc"] == ["1.000", f"{(88 * 59 + 44 + 6 * 59) / 6000:.3f}", "−0.068"]


def test_each_rule_stands_with_what_was_measured_and_what_it_must_be(root):
    rows = rows_of(as_text(verdict(root)))
    assert rows["recall, floor"][:2] == ["FAIL", "0.880"]
    assert rows["recall, floor"][3:] == ["low ≥ 0.900", "88 of 100 right"]
    assert rows["specificity, floor"][:2] == ["PASS", "0.983"]
    assert rows["recall lost"][:2] == ["FAIL", "0.120"]
    # Exact binomial: 2 × ½^12.
    assert rows["recall lost"][3:] == ["high < 0.050", "12 lost, 0 won of 100, p < 0.001"]
    assert rows["specificity lost"][3:] == ["high < 0.100", "1 lost, 0 won of 60, p 1.000"]
    assert rows["recall lost, bacterial"][:2] == ["FAIL", "0.200"]
    assert rows["recall lost, viral"][:2] == ["NOT ASKED", "0.000"]


def test_text_fits_a_terminal_and_names_the_missed_images(root):
    lines = as_text(verdict(root)).splitlines()
    missed = next(line for line in lines if line.startswith("pneumonia newly missed: 12 ("))
    assert max(len(line) for line in lines if line != missed) <= 110
    names = [name_of("bacterial", number) for number in range(10)]
    assert missed.endswith(f" ({', '.join(names)} and 2 more)")
    assert "recall lost, viral: not asked, because 40 images are too few" in lines
    assert lines[-1] == "new false alarms: 1"


def test_markdown_has_the_same_rows_and_every_missed_image(root):
    found = verdict(root)
    text, markdown = as_text(found), as_markdown(found)
    assert markdown.startswith("## Gate: FAIL – ")
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in table] == [5] * (2 + 6) + [7] * (2 + 6)
    assert "| recall lost | **FAIL** | 0.120 | " in markdown
    assert "| specificity, floor | PASS | " in markdown
    for number in range(12):
        assert name_of("bacterial", number) in markdown
    assert "<details open><summary>pneumonia newly missed: 12</summary>" in markdown
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    for cell in (cell.strip("*-") for row in cells for cell in row):
        assert cell in text


@pytest.mark.parametrize(
    ("missed", "summary"),
    [(12, "<details open><summary>2 of 5 rules hold"), (0, "<details><summary>5 of 5 rules hold")],
)
def test_the_rules_are_folded_away_where_all_hold(tmp_path, missed, summary):
    root = new_repository(tmp_path / "root", {"bacterial": 0 if missed else 1})
    write_record(root, predictions({"bacterial": missed}))
    markdown = as_markdown(verdict(root))
    assert summary in markdown
    unfolded = re.sub(r"(?s)<details>.*?</details>", "", markdown)
    if not missed:  # two lines of heading, six metrics
        assert sum(line.startswith("|") for line in unfolded.splitlines()) == 8


def test_a_name_cannot_write_its_own_markdown(tmp_path):
    root = new_repository(tmp_path / "root", {})
    table = predictions({})
    evil = table["name"].replace(
        {name_of("viral", 0): "</details><b>PASS</b> | [x](y) `z` @somebody"}
    )
    write_record(root, table.assign(name=evil))
    commit(root, "a strange name on the base")
    write_record(root, predictions({"viral": 1}).assign(name=evil))
    markdown = as_markdown(verdict(root))
    assert "`</details><b>PASS</b> | [x](y) 'z' @somebody`" in markdown


def test_json_holds_everything_in_full_and_is_strict(root):
    found = json.loads(json.dumps(as_json(verdict(root)), allow_nan=False))
    assert (found["schema"], found["outcome"], found["exit_status"]) == (2, "FAIL", 3)
    assert [rule["rule"] for rule in found["rules"]] == [
        "recall_floor", "specificity_floor", "recall_loss", "specificity_loss",
        "recall_loss_bacterial", "recall_loss_viral",
    ]  # fmt: skip
    recall = found["rules"][2]
    assert (recall["n_lost"], recall["n_won"], recall["n_images"]) == (12, 0, 100)
    assert recall["low"] < recall["value"] == 0.12 < recall["high"]
    assert recall["waiver"] is None
    assert found["newly_missed"] == [name_of("bacterial", number) for number in range(12)]
    assert found["new_false_alarms"] == [name_of("normal", 0)]
    assert found["candidate"]["metrics"]["operating_threshold"] == 0.9
    assert found["candidate"]["metrics"]["test"]["missed"] == 12
    assert found["base"]["metrics"]["test"]["n_images"] == 160


def test_a_waiver_is_shown_with_its_reason_and_its_end(root):
    waiver = "- {rule: RULE, reason: a new scanner, expires: 2026-12-31}\n"
    lines = [
        waiver.replace("RULE", rule)
        for rule in ("recall_floor", "recall_loss", "recall_loss_bacterial")
    ]
    lines.append(waiver.replace("RULE", "specificity_loss").replace("2026-12-31", "2026-11-01"))
    policy = POLICY.replace("waivers: []\n", "waivers:\n" + "".join(lines))
    (root.parent / "policy.yaml").write_text(policy)
    found = verdict(root, policy_file=root.parent / "policy.yaml")
    text = as_text(found)
    assert text.startswith(
        "Gate: WAIVED – a rule does not hold, and a waiver on the base allows that\n"
    )
    assert re.search(r"^recall lost +WAIVED ", text, re.MULTILINE)
    assert "\nrecall lost: FAIL, waived until 2026-12-31: a new scanner\n" in text
    assert "\nspecificity lost: the waiver expired on 2026-11-01\n" in text
    in_json = json.loads(json.dumps(as_json(found)))
    assert in_json["rules"][0]["waiver"]["reason"] == "a new scanner"
    assert in_json["expired_waivers"][0]["rule"] == "specificity_loss"
    assert "| recall lost | **WAIVED** |" in as_markdown(found)


def test_without_a_base_only_the_candidate_and_the_floors_are_shown(tmp_path):
    root = new_repository(tmp_path / "root")
    write_record(root, predictions({}), "phantoms")
    found = verdict(root, new_baseline=True)
    lines = as_text(found).splitlines()
    assert lines[0].startswith("Gate: NEW BASELINE – accepted without a comparison")
    assert lines[1] == "candidate (working tree)"
    assert "phantoms (drawn, no patients)" in lines[3]
    rows = rows_of(as_text(found))
    assert rows["on test"] == ["candidate"]
    assert rows["missed"] == ["0 of 100"]
    assert len(lines) == 4 + 1 + 7 + 1 + 3  # blanks between circumstances, metrics and rules
    assert in_words(found) == ()
    assert as_json(found)["base"] is None
    assert "rules hold" in as_markdown(found)


def test_many_changes_of_what_guards_the_merge_do_not_hide_the_policy(root):
    for number in range(40):
        (root / f".ci/{number:02}").parent.mkdir(exist_ok=True)
        (root / f".ci/{number:02}").write_text("x")
    (root / "gate.yaml").write_text(POLICY + "# words\n")
    (root / "src/pneumonia").mkdir(parents=True)
    (root / "src/pneumonia/cli.py").write_text("x")
    git(root, "add", "-A")
    (note,) = [
        line for line in as_text(verdict(root)).splitlines() if "this change touches" in line
    ]
    assert note == (
        "this change touches files that decide about merges: gate.yaml, .ci/ (40 files), "
        "src/pneumonia/cli.py"
    )
    assert len(as_json(verdict(root))["guards_changed"]) == 42


# ---- the command ----


def pneumonia(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pneumonia.cli", *arguments],
        cwd=root, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": f"{ROOT}/src"},
    )  # fmt: skip


def test_the_command_prints_the_table_writes_both_files_and_exits_with_the_verdict(root):
    done = pneumonia(
        root, "gate", "--base", "main", "--markdown", "out/gate.md", "--json", "out/gate.json"
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith("Gate: FAIL")
    assert json.loads((root / "out/gate.json").read_text())["outcome"] == "FAIL"
    assert (root / "out/gate.md").read_text().startswith("## Gate: FAIL")

    write_record(root, predictions({}))
    commit(root)
    assert pneumonia(root, "gate", "--base", "main~1", "--candidate", "main").returncode == 0


def test_evidence_that_is_not_sound_is_one_line_with_status_1_and_writes_nothing(root):
    (root / "metrics/evaluate.json").write_text("{")
    done = pneumonia(root, "gate", "--base", "main", "--markdown", "out/gate.md")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: candidate \(working tree\): metrics/evaluate\.json: .*\n",
                        done.stderr)  # fmt: skip
    assert not (root / "out").exists()


def test_without_a_base_the_command_names_both_commits_of_the_last_change(root):
    commit(root, "worse")
    (root / "README.md").write_text("words")
    commit(root, "words")
    done = pneumonia(root, "gate")
    assert done.returncode == 3
    commits = git(root, "rev-list", "HEAD").split()
    assert re.fullmatch(
        rf"candidate {commits[0][:7]} \(.{{10}}\), with predictions of {commits[1][:7]} "
        rf"\(.{{10}}\) against base {commits[2][:7]} \(.{{10}}\)",
        done.stdout.splitlines()[1],
    )

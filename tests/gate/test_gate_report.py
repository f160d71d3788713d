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
from pneumonia.gate.report import as_json, as_markdown, as_text
from pneumonia.gate.verdict import judged

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


def test_the_first_line_says_the_verdict_and_the_table_each_rule_with_its_figures(root):
    lines = as_text(verdict(root)).splitlines()
    assert lines[0] == "Gate: FAIL – the candidate is worse than the policy allows"
    assert re.fullmatch(
        r"candidate \(working tree\) against base main \(\w{7}\); "
        r"policy: gate\.yaml of base main \(\w{7}\)",
        lines[1],
    )
    # 160 test images, two of each patient.
    assert lines[2] == (
        "test, source chestxray2017-224: 100 pneumonia and 60 normal images of 80 patients"
    )
    rows = {re.split(r"  +", line)[0]: re.split(r"  +", line) for line in lines[6:12]}
    assert rows["recall, floor"][1:3] == ["FAIL", "0.880"]
    assert rows["recall, floor"][4:] == ["low ≥ 0.900", "88 of 100 right"]
    assert rows["specificity, floor"][1:3] == ["PASS", "0.983"]
    assert rows["recall lost"][1:3] == ["FAIL", "0.120"]
    # Exact binomial: 2 × ½^12.
    assert rows["recall lost"][4:] == ["high < 0.050", "12 lost, 0 won of 100, p < 0.001"]
    assert rows["specificity lost"][4:] == ["high < 0.100", "1 lost, 0 won of 60, p 1.000"]
    assert rows["recall lost, bacterial"][1:3] == ["FAIL", "0.200"]
    assert rows["recall lost, viral"][1:3] == ["NOT ASKED", "0.000"]


def test_text_fits_a_terminal_and_names_the_missed_images(root):
    lines = as_text(verdict(root)).splitlines()
    missed = next(line for line in lines if line.startswith("12 pneumonia newly missed: "))
    assert max(len(line) for line in lines if line != missed) <= 110
    names = [name_of("bacterial", number) for number in range(10)]
    assert missed.endswith(f": {', '.join(names)} and 2 more")
    assert "recall lost, viral: not asked, for 40 images are too few" in lines
    assert lines[-1] == "1 new false alarms"


def test_markdown_has_the_same_rows_and_every_missed_image(root):
    found = verdict(root)
    text, markdown = as_text(found), as_markdown(found)
    assert markdown.startswith("## Gate: FAIL – ")
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 6
    assert {line.count("|") for line in table} == {7}
    assert "| recall lost | **FAIL** | 0.120 | " in markdown
    assert "| specificity, floor | PASS | " in markdown
    for number in range(12):
        assert name_of("bacterial", number) in markdown
    assert "<details open><summary>12 pneumonia newly missed</summary>" in markdown
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table[2:]]
    for cell in (cell.strip("*") for row in cells for cell in row):
        assert cell in text


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
    assert (found["schema"], found["outcome"], found["exit_status"]) == (1, "FAIL", 3)
    assert [rule["rule"] for rule in found["rules"]] == [
        "recall_floor", "specificity_floor", "recall_loss", "specificity_loss",
        "recall_loss_bacterial", "recall_loss_viral",
    ]  # fmt: skip
    recall = found["rules"][2]
    assert (recall["n_lost"], recall["n_won"], recall["n_images"]) == (12, 0, 100)
    assert recall["low"] < recall["figure"] == 0.12 < recall["high"]
    assert found["newly_missed"] == [name_of("bacterial", number) for number in range(12)]
    assert found["new_false_alarms"] == [name_of("normal", 0)]
    assert found["candidate"]["operating_threshold"] == 0.9
    assert found["base"]["n_test_images"] == 160


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
    assert text.startswith("Gate: WAIVED – a rule that does not hold is waived on the base\n")
    assert re.search(r"^recall lost +WAIVED ", text, re.MULTILINE)
    assert "\nrecall lost: FAIL, waived until 2026-12-31: a new scanner\n" in text
    assert "\nspecificity lost: the waiver expired on 2026-11-01\n" in text
    assert as_json(found)["rules"][0]["waiver"]["reason"] == "a new scanner"
    assert "| recall lost | **WAIVED** |" in as_markdown(found)


def test_without_a_base_only_the_floors_are_shown(tmp_path):
    root = new_repository(tmp_path / "root")
    write_record(root, predictions({}), source="phantoms")
    lines = as_text(verdict(root, new_baseline=True)).splitlines()
    assert lines[0].startswith("Gate: NEW BASELINE – accepted without a comparison")
    assert "phantoms (drawn, no patients)" in lines[2]
    assert "(base)" not in lines[3]
    assert len(lines) == 8  # verdict, three lines of circumstances, a blank, the heading, two rules
    assert as_json(verdict(root, new_baseline=True))["base"] is None


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
    # A base is what it is judged by: there is none to guess.
    assert pneumonia(root, "gate").returncode == 2

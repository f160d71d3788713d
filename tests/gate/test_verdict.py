"""The gate: which revisions it compares, whose policy it reads, and that it fails closed."""

import ast
import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gate_repository import (
    N_TEST,
    POLICY,
    commit,
    name_of,
    new_repository,
    predictions,
    relock,
    write_record,
)
from pneumonia.errors import PipelineError
from pneumonia.gate.verdict import EXIT_STATUS, GUARDS, baseline_verdict, judged
from pneumonia.git import git

ROOT = Path(__file__).parents[2]
TODAY = datetime.date(2026, 12, 1)


def names(kind: str, first: int, end: int) -> set[str]:
    return {name_of(kind, number) for number in range(first, end)}


def judge(root: Path, base: str | None = "main", candidate: str | None = None, **how):
    how = {"policy_file": None, "new_baseline": False, "today": TODAY} | how
    return judged(root, base, candidate, **how)


# ---- revisions ----


@pytest.fixture
def root(tmp_path):
    """main misses two of 60 bacterial images and calls three of 60 normal ones."""
    return new_repository(tmp_path / "root", {"bacterial": 2, "normal": 3})


def record(root: Path, missed: dict[str, int], **how) -> None:
    write_record(root, predictions(missed), **how)


def write(root: Path, path: str, text: str = "x\n") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_the_same_baseline_passes(root):
    write(root, "README.md")
    candidate = commit(root)
    assert judge(root, "main~1", candidate).outcome == "PASS"


def test_a_loss_of_recall_is_refused_and_the_images_are_named(root):
    record(root, {"bacterial": 2, "viral": 8, "normal": 1})
    verdict = judge(root)
    assert verdict.outcome == "FAIL"
    assert set(verdict.changed["newly_missed"]) == names("viral", 0, 8)
    assert not verdict.changed["newly_caught"]
    assert not verdict.changed["new_false_alarms"]
    assert set(verdict.changed["cleared_false_alarms"]) == names("normal", 1, 3)


@pytest.mark.parametrize(("base", "candidate"), [(1, 2), (2, 1), (1, 1)])
def test_schemas_are_compared_across_either_way(root, base, candidate):
    for missed, outcome in (({"viral": 8}, "FAIL"), ({"viral": 1}, "PASS")):
        record(root, {}, schema=base)
        revision = commit(root)
        record(root, missed, schema=candidate)
        verdict = judge(root, revision)
        assert verdict.outcome == outcome
        assert set(verdict.changed["newly_missed"]) == names("viral", 0, missed["viral"])
        counts = [side.metrics["test"]["missed"] for side in (verdict.base, verdict.candidate)]
        assert counts == [0, missed["viral"]]


def test_doubt_blocks(root):
    # Recall 92 of 100: above the floor of .9, and not surely.
    record(root, {"bacterial": 8, "normal": 3})
    base = commit(root, "the base has the same recall")
    write(root, "README.md")
    assert judge(root, base, commit(root)).outcome == "INCONCLUSIVE"


def test_a_committed_candidate_and_the_working_tree_are_judged_alike(root):
    record(root, {"viral": 9})
    in_tree = judge(root)
    candidate = commit(root)
    committed = judge(root, "main~1", candidate)
    assert committed.rules == in_tree.rules
    assert committed.pair.candidate_name == f"candidate {candidate[:7]}"
    # What lies in the tree now is not the candidate's.
    record(root, {})
    again = judge(root, "main~1", candidate)
    assert again.rules == committed.rules


def test_each_verdict_has_an_exit_status_of_its_own_and_only_what_may_be_merged_is_zero():
    assert EXIT_STATUS == {
        "PASS": 0, "NEW BASELINE": 0, "FAIL": 3, "INCONCLUSIVE": 4, "NO BASELINE": 5, "WAIVED": 6,
    }  # fmt: skip


# ---- no base is named ----


def test_without_a_base_a_branch_is_compared_with_main(root):
    git(root, "switch", "-qc", "topic")
    record(root, {"bacterial": 2})
    candidate = commit(root)
    git(root, "switch", "-q", "main")
    write(root, "README.md")
    main = commit(root, "main goes on")
    git(root, "switch", "-q", "topic")
    verdict = judge(root, None)
    assert verdict.pair.base == main
    assert verdict.pair.base_name == f"base main ({main[:7]})"
    assert judge(root, None, candidate).pair.base == main


def test_a_clone_without_a_branch_main_takes_that_of_origin_and_no_other(root, tmp_path):
    git(root, "tag", "main", "HEAD")  # no tag stands in for the branch
    git(root, "switch", "-qc", "topic")
    record(root, {"bacterial": 2})
    commit(root)
    git(tmp_path, "clone", "-q", str(root), "clone")
    verdict = judge(tmp_path / "clone", None)
    assert verdict.pair.base_name == f"base origin/main ({verdict.pair.base[:7]})"
    git(tmp_path, "clone", "-q", "--single-branch", str(root), "single")
    with pytest.raises(PipelineError, match="expected the branch main, here or at origin"):
        judge(tmp_path / "single", None)


@pytest.fixture
def history(root):
    """main: misses 2, then 1 (last change), then a commit that leaves the predictions alone."""
    record(root, {"bacterial": 1, "normal": 3})
    changed = commit(root, "last change")
    write(root, "README.md")
    return {"before": git(root, "rev-parse", "main~1").strip(), "changed": changed,
            "head": commit(root, "words")}  # fmt: skip


@pytest.mark.parametrize("base", [None, "main", "HEAD"])
def test_on_a_clean_main_the_last_change_of_the_baseline_is_judged(root, history, base):
    (root / "untracked").write_text("")
    verdict = judge(root, base)
    assert (verdict.pair.base, verdict.pair.candidate) == (history["before"], history["head"])
    for name, commits in (("base_name", ["before"]), ("candidate_name", ["head", "changed"])):
        for each in commits:
            assert history[each][:7] in getattr(verdict.pair, name)
    assert len(verdict.changed["newly_caught"]) == 1
    assert "last change" in verdict.pair.note
    assert verdict.policy.startswith(f"gate.yaml of base {history['before'][:7]} (")
    # A commit that was named is compared with what was named.
    assert judge(root, base, "HEAD").pair.base == history["head"]


def test_with_changes_the_working_tree_is_compared_with_main(root, history):
    write(root, "README.md", "other words\n")
    verdict = judge(root, None)
    assert (verdict.pair.base, verdict.pair.candidate) == (history["head"], None)


def test_what_guards_the_merge_is_not_held_against_a_change_that_is_merged(root, history):
    write(root, "gate.yaml", POLICY + "# words\n")
    commit(root)
    assert judge(root, None).guards_changed == []


def test_another_schema_of_the_same_predictions_is_no_change_of_the_baseline(root, history):
    record(root, {"bacterial": 1, "normal": 3}, schema=1)
    head = commit(root, "another schema, the same predictions")
    verdict = judge(root, None)
    assert (verdict.pair.base, verdict.pair.candidate) == (history["before"], head)
    assert verdict.outcome == "PASS"


def test_on_main_only_what_was_merged_counts(root, history, monkeypatch):
    git(root, "switch", "-qc", "topic")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2037-01-01T12:00:00+00:00")  # after main's
    for missed in (5, 0):
        record(root, {"viral": missed})
        commit(root, f"{missed} missed, on the branch")
    git(root, "switch", "-q", "main")
    git(root, "merge", "-q", "--no-ff", "-m", "merge", "topic")
    verdict = judge(root, None)
    assert verdict.pair.base == history["head"]
    assert len(verdict.changed["newly_caught"]) == 1


def test_a_baseline_that_was_taken_back_for_a_while_is_not_forgotten(root, history):
    for path in ("metrics/predictions.csv", "metrics/evaluate.json"):
        (root / path).unlink()
    commit(root, "no baseline")
    record(root, {"viral": 9})
    commit(root, "a baseline again")
    verdict = judge(root, None)
    assert verdict.pair.base == history["head"]
    assert verdict.outcome == "FAIL"


def test_the_first_baseline_has_none_before_it(root):
    verdict = judge(root, None)
    assert (verdict.outcome, verdict.base) == ("NO BASELINE", None)
    assert "first baseline" in verdict.pair.note
    assert judge(root, None, new_baseline=True).outcome == "NEW BASELINE"


def test_a_first_baseline_that_nobody_has_committed_is_read_from_the_working_tree(tmp_path):
    root = new_repository(tmp_path / "root")
    (root / "params.yaml").unlink()
    commit(root, "nothing of a run is tracked")
    record(root, {})
    assert judge(root, None).outcome == "NO BASELINE"


def test_a_shallow_clone_that_lacks_the_baseline_before_says_so(root, history, tmp_path):
    for depth, whole in ((1, False), (2, False), (3, True)):
        git(tmp_path, "clone", "-q", f"--depth={depth}", f"file://{root}", f"{depth}")
        if whole:
            assert judge(tmp_path / f"{depth}", None).pair.base == history["before"]
        else:
            with pytest.raises(PipelineError, match="shallow clone; git fetch --unshallow"):
                judge(tmp_path / f"{depth}", None)


# ---- the policy is the base's ----


def test_a_change_cannot_loosen_its_own_gate_and_the_attempt_is_shown(root):
    record(root, {"viral": 9})
    (root / "gate.yaml").write_text(POLICY.replace("recall: 0.05", "recall: 0.9"))
    verdict = judge(root)
    assert verdict.outcome == "FAIL"
    assert verdict.guards_changed == ["gate.yaml"]
    assert verdict.policy.startswith("gate.yaml of base main (")


def test_a_change_of_the_gates_code_or_of_a_workflow_is_shown(root):
    shown = [
        ".dvc/config", ".github/workflows/checks.yml", "requirements-gpu.lock",
        "src/pneumonia/data/privacy/__init__.py", "src/pneumonia/gate/verdict.py",
    ]  # fmt: skip
    for path in (*shown, "src/stages/split.py", "src/pneumonia/plots/roc.py", "docs/gate.yaml"):
        write(root, path)
    candidate = commit(root)
    assert judge(root, "main~1", candidate).guards_changed == shown
    # What lies in the tree beside them is not the candidate's.
    write(root, "Makefile")
    git(root, "add", "-A")
    assert judge(root, "main~1", candidate).guards_changed == shown
    assert judge(root, "main~1").guards_changed == sorted([*shown, "Makefile"])


def imports(path: Path) -> set[Path]:
    """Files of ours that a file imports, at its top or inside a function."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    places = {ROOT / "src" / module.replace(".", "/") for module in modules}
    files = {place.with_suffix(".py") for place in places}
    files |= {folder / "__init__.py" for place in places for folder in (place, place.parent)}
    return {file for file in files if file.is_file() and ROOT / "src" in file.parents}


def closure(*paths: str) -> set[str]:
    seen: set[Path] = set()
    waiting = {ROOT / path for path in paths}
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= imports(file) - seen
    return {file.relative_to(ROOT).as_posix() for file in seen}


def test_all_code_of_the_verdict_and_of_the_confirmation_is_guarded():
    gate = "src/pneumonia/gate"
    needed = closure(f"{gate}/report.py", f"{gate}/verdict.py", f"{gate}/confirm.py")
    assert len(needed) > 20
    # The command line and the look for the checkout import more, for other commands.
    needed |= {"src/pneumonia/cli.py", "src/pneumonia/recipes.py", "src/pneumonia/remote.py"}
    assert [path for path in sorted(needed) if not path.startswith(GUARDS)] == []


def test_every_guard_is_there_and_the_advice_on_code_owners_names_it():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert [guard for guard in GUARDS if not any(p.startswith(guard) for p in listed)] == []
    setup = (ROOT / ".github/SETUP.md").read_text()
    owned = re.findall(r"^ */(\S+?)\*? +@\S+$", setup, re.MULTILINE)
    assert sorted(owned) == sorted(GUARDS)


def test_a_base_without_a_policy_is_one_clear_error_and_a_file_can_stand_in(root, tmp_path):
    (root / "gate.yaml").rename(tmp_path / "policy.yaml")
    base = commit(root, "no policy")
    write(root, "README.md")
    candidate = commit(root)
    with pytest.raises(PipelineError, match=r"gate\.yaml of base \w+ is missing: the policy is"):
        judge(root, base, candidate)
    policy = tmp_path / "policy.yaml"
    verdict = judge(root, base, candidate, policy_file=policy)
    assert (verdict.outcome, verdict.policy) == ("PASS", str(policy))
    for damage in (None, b"\xff"):
        policy.unlink() if damage is None else policy.write_bytes(damage)
        with pytest.raises(
            PipelineError, match=r"policy\.yaml: expected a policy that can be read"
        ):
            judge(root, base, candidate, policy_file=policy)


def test_a_broken_policy_on_the_base_is_no_pass(root):
    (root / "gate.yaml").write_text(POLICY + "extra: 1\n")
    commit(root)
    with pytest.raises(PipelineError, match=r"gate\.yaml of base main \(\w+\): unknown extra"):
        judge(root)


# ---- waivers ----


def waiver(expires: str, rule: str = "recall_loss") -> str:
    return f"- {{rule: {rule}, reason: a new scanner, expires: {expires}}}\n"


def policy_with(*waivers: str) -> str:
    return POLICY.replace("waivers: []\n", "waivers:\n" + "".join(waivers))


def test_a_waiver_on_the_base_turns_a_refusal_into_a_verdict_of_its_own(root):
    (root / "gate.yaml").write_text(
        policy_with(waiver("2026-12-01"), waiver("2026-12-01", "recall_floor"))
    )
    commit(root, "waive")
    record(root, {"bacterial": 16, "normal": 3})
    # The rule of the kind fails as well, and nobody waived that.
    assert judge(root).outcome == "FAIL"
    # Five viral images lost of 100; of the kind there are too few to ask.
    record(root, {"bacterial": 2, "viral": 5, "normal": 3})
    verdict = judge(root)
    assert verdict.outcome == "WAIVED"
    waived = {result.rule for result in verdict.rules if result.waiver}
    assert waived == {"recall_loss", "recall_floor"}
    # The last day was yesterday.
    late = judge(root, today=datetime.date(2026, 12, 2))
    assert late.outcome == "FAIL"
    assert len(late.expired) == 2


def test_a_waiver_that_the_change_brings_itself_does_not_count(root):
    record(root, {"bacterial": 2, "viral": 5, "normal": 3})
    (root / "gate.yaml").write_text(policy_with(waiver("2026-12-31")))
    verdict = judge(root)
    assert verdict.outcome == "FAIL"
    assert verdict.guards_changed == ["gate.yaml"]


def test_a_waiver_of_a_rule_that_holds_changes_nothing(root):
    write(root, "gate.yaml", policy_with(waiver("2026-12-31")))
    base = commit(root, "waive")
    write(root, "README.md")
    verdict = judge(root, base, commit(root))
    assert verdict.outcome == "PASS"
    assert [result for result in verdict.rules if result.waiver] == []


# ---- no baseline ----


def test_without_a_baseline_on_the_base_there_is_no_pass_unless_it_is_asked_for(tmp_path):
    root = new_repository(tmp_path / "root")
    record(root, {"normal": 2})
    assert judge(root).outcome == "NO BASELINE"
    verdict = judge(root, new_baseline=True)
    assert verdict.outcome == "NEW BASELINE"
    assert [result.rule for result in verdict.rules] == ["recall_floor", "specificity_floor"]


def test_a_first_baseline_must_hold_the_floors_all_the_same(tmp_path):
    root = new_repository(tmp_path / "root")
    record(root, {"bacterial": 30})
    assert judge(root).outcome == judge(root, new_baseline=True).outcome == "FAIL"


def test_a_waived_floor_does_not_stand_in_for_a_baseline(tmp_path):
    root = new_repository(
        tmp_path / "root", policy=policy_with(waiver("2026-12-31", "recall_floor"))
    )
    record(root, {"bacterial": 30})
    assert judge(root).outcome == "NO BASELINE"
    assert judge(root, new_baseline=True).outcome == "NEW BASELINE"


def test_another_test_set_is_no_pass_and_with_the_flag_a_new_baseline(root):
    write_record(root, predictions({}, N_TEST | {"viral": 41}))
    with pytest.raises(PipelineError, match="A new test set is a new baseline: --new-baseline"):
        judge(root)
    assert judge(root, new_baseline=True).outcome == "NEW BASELINE"


def test_the_flag_does_not_spare_a_comparison_that_can_be_made(root):
    record(root, {"viral": 9})
    assert judge(root, new_baseline=True).outcome == "FAIL"


# ---- fails closed ----


def test_a_candidate_without_metrics_is_no_pass(root):
    for name in ("metrics/evaluate.json", "metrics/predictions.csv"):
        (root / name).unlink()
    with pytest.raises(PipelineError, match=r"^candidate \(working tree\): .* Received: neither"):
        judge(root)


def test_a_base_that_is_not_sound_is_no_pass(root):
    path = root / "metrics/evaluate.json"
    path.write_text(path.read_text().replace('"missed": 2', '"missed": 1'))
    relock(root)
    commit(root)
    record(root, {})
    with pytest.raises(PipelineError, match=r"^base main \(\w+\): .*does not match"):
        judge(root)


def test_a_base_of_an_unknown_schema_is_no_pass_even_with_the_flag(root):
    path = root / "metrics/evaluate.json"
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 3'))
    relock(root)
    commit(root)
    record(root, {})
    with pytest.raises(PipelineError, match=r"^base main \(\w+\): .*expected schema 1 or 2"):
        judge(root, new_baseline=True)


def test_an_unknown_revision_is_no_pass(root):
    with pytest.raises(PipelineError, match="Received: 'nowhere'"):
        judge(root, "nowhere")
    with pytest.raises(PipelineError, match="Received: 'nowhere'"):
        judge(root, "main", "nowhere")


def test_neither_a_model_nor_an_image_nor_their_libraries_are_needed(root):
    assert not any((root / name).exists() for name in ("data", "models"))
    record(root, {"bacterial": 1, "normal": 3})
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'PIL', 'matplotlib'): sys.modules[name] = None\n"
        "sys.argv = ['pneumonia', 'gate']\n"
        "from pneumonia.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}/src"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Gate: PASS")


# ---- the verdict on the baseline, for a document ----


def said(root: Path, today: datetime.date = TODAY) -> tuple:
    """All of the verdict that a document shows."""
    verdict = baseline_verdict(root, today)
    sides = (verdict.base, verdict.candidate)
    md5s = [side and side.predictions_md5 for side in sides]
    return verdict.outcome, md5s, verdict.pair.base_name, verdict.rules, verdict.changed


def merged(root: Path, *how: str) -> None:
    git(root, "switch", "-q", "main")
    git(root, "merge", "-q", *how, "topic")
    if "--squash" in how:
        commit(root, "squashed")


@pytest.mark.parametrize("how", [["--no-ff", "-m", "merge"], ["--ff-only"], ["--squash"]])
def test_the_verdict_on_the_baseline_outlives_its_commit_later_ones_and_the_merge(root, how):
    base = judge(root, None).candidate.predictions_md5
    git(root, "switch", "-qc", "topic")
    record(root, {"bacterial": 1, "normal": 3})
    before_the_commit = said(root)
    outcome, md5s, name, _, changed = before_the_commit
    assert (outcome, md5s[0], len(changed["newly_caught"])) == ("PASS", base, 1)
    assert md5s[1] != base
    assert re.fullmatch(r"the baseline of \d{4}-\d\d-\d\d", name)
    commit(root, "a better baseline")
    assert said(root) == before_the_commit
    write(root, "README.md")
    commit(root, "words")
    assert said(root) == before_the_commit
    merged(root, *how)
    assert said(root) == before_the_commit
    write(root, "README.md", "other words\n")
    commit(root, "words on main")
    assert said(root) == before_the_commit
    record(root, {"bacterial": 1, "normal": 3}, schema=1)
    commit(root, "another schema")
    assert said(root) == before_the_commit
    # It is what the gate says there.
    assert judge(root, None).rules == before_the_commit[3]


def test_the_verdict_on_the_baseline_of_a_branch_stays_when_main_goes_on(root, history):
    here = said(root)
    git(root, "switch", "-qc", "topic")
    write(root, "topic")
    commit(root, "words on the branch")
    git(root, "switch", "-q", "main")
    record(root, {})
    commit(root, "a new baseline on main")
    there = said(root)
    assert there != here
    git(root, "switch", "-q", "topic")
    assert said(root) == here
    git(root, "merge", "-q", "-m", "merge", "main")
    assert said(root) == there


def test_what_a_branch_recorded_on_its_way_is_no_baseline(root, history, monkeypatch):
    git(root, "switch", "-qc", "topic")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2037-01-01T12:00:00+00:00")  # after main's
    record(root, {"viral": 9})
    commit(root, "a bad run")
    record(root, {})
    commit(root, "a good one")
    on_the_branch = said(root)
    assert len(on_the_branch[4]["newly_caught"]) == 1  # of the one that main misses
    merged(root, "--no-ff", "-m", "merge")
    assert said(root) == on_the_branch


def test_an_old_main_in_the_clone_does_not_matter_where_origin_is_ahead(root, history, tmp_path):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(root), "clone")
    for missed in (0, 1):
        record(root, {"viral": missed})
        commit(root, "a new baseline")
    git(clone, "fetch", "-q")
    git(clone, "switch", "-q", "--detach", "origin/main")
    assert said(clone) == said(root)
    git(clone, "branch", "-qD", "main")
    assert said(clone) == said(root)


def test_the_baseline_is_dated_by_the_day_when_main_got_it_not_by_later_commits(root, monkeypatch):
    for day, missed in (("2026-03-01", 4), ("2026-03-05", 4), ("2026-03-09", 2)):
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"{day}T23:30:00-05:00")
        record(root, {"viral": missed})
        write(root, "README.md", day)
        commit(root)
    assert said(root)[2] == "the baseline of 2026-03-02"  # in UTC


def test_without_a_comparable_baseline_before_it_the_floors_alone_decide(root):
    assert said(root)[:3] == ("NEW BASELINE", [None, said(root)[1][1]], "the baseline before it")
    write_record(root, predictions({}, N_TEST | {"viral": 41}))
    assert said(root)[:2] == ("NEW BASELINE", [None, said(root)[1][1]])
    record(root, {"bacterial": 30})
    assert said(root)[0] == "FAIL"


def test_a_waiver_counts_on_the_day_when_the_baseline_came_to_main(root, monkeypatch):
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-12-01T12:00:00+00:00")
    write(
        root, "gate.yaml", policy_with(waiver("2026-12-01"), waiver("2026-12-01", "recall_floor"))
    )
    commit(root, "waive")
    record(root, {"bacterial": 2, "viral": 5, "normal": 3})
    assert said(root)[0] == "WAIVED"
    assert said(root, datetime.date(2026, 12, 2))[0] == "FAIL"
    commit(root)
    assert said(root, datetime.date(2027, 12, 1))[0] == "WAIVED"
    later = judged(
        root, None, None, policy_file=None, new_baseline=False, today=datetime.date(2027, 12, 1)
    )
    assert later.outcome == "WAIVED"


def test_the_verdict_on_the_baseline_needs_the_history_and_a_baseline(root, history, tmp_path):
    git(tmp_path, "clone", "-q", "--depth=3", f"file://{root}", "shallow")
    with pytest.raises(PipelineError, match=r"expected the history.* Received: a clone without it"):
        said(tmp_path / "shallow")
    git(root, "switch", "-q", "--orphan", "other")
    record(root, {})
    commit(root)
    with pytest.raises(PipelineError, match="expected the history down from main"):
        said(root)
    git(root, "switch", "-q", "main")
    (root / "metrics/predictions.csv").unlink()
    with pytest.raises(PipelineError, match=r"predictions\.csv: expected the baseline's"):
        said(root)

"""The workflows of GitHub: what each job may do, what it calls, and the shell that it runs.

There is no GitHub here, so the files are read. zizmor, in `make check`, holds what it knows better:
actions pinned to a full hash, no permission by default, no token left in a checkout, no trigger
that runs a fork's code with the repository's rights, no expression inside a line of shell.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pneumonia.store.yaml12 import load_yaml

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / ".github"
WORKFLOWS = {path.stem: load_yaml(path) for path in sorted((SCRIPTS / "workflows").glob("*.y*ml"))}
CHECKS, TRAIN = WORKFLOWS["checks"], WORKFLOWS["train"]
JOBS = {(file, name): job for file, flow in WORKFLOWS.items() for name, job in flow["jobs"].items()}
STEPS = [(*where, step) for where, job in JOBS.items() for step in job["steps"]]
RUNS = [(file, job, step["run"]) for file, job, step in STEPS if "run" in step]

# What a step needs credentials for stands in jobs of this environment.
WITH_CREDENTIALS = {("checks", "remote"), ("train", "train")}


def text_of(workflow: str) -> str:
    return (SCRIPTS / f"workflows/{workflow}.yml").read_text()


def made(runs: list[str]) -> set[str]:
    """The make targets in lines of shell; what stands after `-C` is a folder."""
    targets = set()
    for line in "\n".join(runs).splitlines():
        if called := re.search(r"^\s*(?:[A-Z_]+=\S+ )?make (?:-C \S+ )?(.*)", line):
            words = shlex.split(called[1], comments=True)
            targets |= {word for word in words if "=" not in word}
    return targets


# ---- what the workflows may do ----


def test_what_may_be_written_is_a_comment_a_commit_the_start_of_checks_and_an_identity():
    writing = {
        (*where, scope)
        for where, job in JOBS.items()
        for scope, access in job["permissions"].items()
        if access != "read"
    }
    assert writing == {
        ("checks", "remote", "id-token"),
        ("checks", "report", "pull-requests"),
        ("train", "train", "id-token"),
        ("train", "record", "contents"),
        ("train", "record", "actions"),
    }


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_secret_is_kept_credentials_come_by_oidc(name):
    assert "secrets." not in text_of(name)
    assert "secrets[" not in text_of(name)
    for where, job in JOBS.items():
        assumes = any("configure-aws-credentials" in step.get("uses", "") for step in job["steps"])
        assert assumes == (where in WITH_CREDENTIALS)
        assert ("environment" in job) == assumes


@pytest.mark.parametrize("where", JOBS, ids="-".join)
def test_every_job_ends_within_six_hours(where):
    assert JOBS[where]["timeout-minutes"] < 360


def test_shellcheck_finds_nothing_in_the_shell_of_the_workflows(tmp_path):
    for i, (file, job, run) in enumerate(RUNS):
        (tmp_path / f"{file}-{job}-{i}.sh").write_text(f"set -eo pipefail\n{run}\n")
    scripts = sorted(map(str, tmp_path.glob("*.sh")))
    assert len(scripts) == len(RUNS) > 10
    done = subprocess.run(["shellcheck", "-s", "bash", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# ---- checks.yml ----


def test_checks_make_what_ci_run_makes_in_a_fresh_clone_and_the_other_way_round():
    checks = [
        r for file, job, r in RUNS if file == "checks" and (file, job) not in WITH_CREDENTIALS
    ]
    assert made(checks) == made([(ROOT / ".ci/run").read_text()])
    assert made(checks) == {"check", "fresh", "test", "demo", "gate", "summary", "report"}


@pytest.mark.parametrize(
    ("file", "job"), [("checks", "gate"), ("checks", "remote"), ("train", "gate")]
)
def test_the_bases_code_judges_a_change(file, job):
    steps = JOBS[file, job]["steps"]
    runs = [step["run"] for step in steps if "run" in step]
    making = [line for run in runs for line in run.splitlines() if "make " in line]
    assert making
    for line in making:
        assert line.strip().startswith('make -C "$RUNNER_TEMP/base" ')
        assert "CANDIDATE=" in line
    assert '.github/base.sh "$RUNNER_TEMP/base" >> "$GITHUB_OUTPUT"' in runs
    (checkout,) = [step for step in steps if "actions/checkout" in step.get("uses", "")]
    assert checkout["with"]["fetch-depth"] == 0  # a merge base needs the history


def test_a_new_baseline_is_asked_for_by_the_label_alone_on_a_pull_request():
    (asked,) = [
        step["env"]["NEW_BASELINE"] for step in JOBS["checks", "gate"]["steps"]
        if "NEW_BASELINE" in step.get("env", {})
    ]  # fmt: skip
    assert "contains(github.event.pull_request.labels.*.name, 'new-baseline')" in asked
    assert "github.event_name == 'push'" in asked
    assert asked.endswith("&& '1' || '' }}")


def test_nothing_touches_credentials_before_the_run_is_known_to_be_allowed_to():
    steps = JOBS["checks", "remote"]["steps"]
    (access,) = [i for i, step in enumerate(steps) if step.get("id") == "access"]
    assert {step.get("if") for step in steps[access + 1 :]} == {
        "${{ steps.access.outputs.granted == 'true' }}"
    }
    assert not any("configure-aws" in step.get("uses", "") for step in steps[:access])


def required(**results: str) -> subprocess.CompletedProcess:
    job = JOBS["checks", "required"]
    assert job["if"] == "${{ always() }}"
    (step,) = job["steps"]
    values = dict.fromkeys(job["needs"], "success") | results
    filled = re.sub(
        r"\$\{\{ needs\.(\w+)\.result \}\}", lambda m: values[m[1]], step["env"]["RESULTS"]
    )
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]],
        env={"PATH": os.environ["PATH"], "RESULTS": filled}, capture_output=True, text=True,
    )  # fmt: skip


def test_the_required_check_needs_every_other_job_of_checks():
    assert set(JOBS["checks", "required"]["needs"]) == set(CHECKS["jobs"]) - {"required"}
    assert required().returncode == 0
    assert required(report="skipped").returncode == 0  # on forks


@pytest.mark.parametrize("result", ["failure", "cancelled", "skipped", ""])
@pytest.mark.parametrize("job", ["check", "test", "demo", "gate", "remote", "report"])
def test_the_required_check_passes_nothing_that_did_not_succeed(job, result):
    done = required(**{job: result})
    allowed = (job, result) == ("report", "skipped")
    assert (done.returncode == 0) == allowed
    assert (f"::error::{job}={result}" in done.stdout) != allowed


# ---- train.yml ----


def test_training_starts_by_hand_or_by_label_and_never_for_a_fork():
    assert set(TRAIN["on"]) == {"workflow_dispatch", "pull_request"}
    assert TRAIN["on"]["pull_request"] == {"types": ["labeled"]}
    assert TRAIN["jobs"]["ready"]["if"] == (
        "${{ github.event_name == 'workflow_dispatch' || (github.event.label.name == 'train' && "
        "github.event.pull_request.head.repo.full_name == github.repository) }}"
    )
    # Each other job waits for it, by way of the one before: a skipped job skips what needs it.
    assert {name: job.get("needs") for name, job in TRAIN["jobs"].items()} == {
        "ready": None, "train": ["ready"], "record": ["train"], "gate": ["record"],
    }  # fmt: skip
    assert not any("if" in job for name, job in TRAIN["jobs"].items() if name != "ready")


def test_a_training_is_never_cancelled_by_the_next_and_has_its_branch_for_itself():
    assert TRAIN["concurrency"]["cancel-in-progress"] is False
    group = TRAIN["concurrency"]["group"]
    assert "github.event.pull_request.head.ref || github.ref_name" in group
    assert group.endswith("|| github.run_id }}")  # another label displaces no training that waits


def test_a_training_pushes_what_is_done_with_new_credentials_also_when_it_failed():
    job = TRAIN["jobs"]["train"]
    names = [step.get("name", step.get("run", step.get("uses"))) for step in job["steps"]]
    order = ["Assume the role", "make repro", "Assume the role again", "make push"]
    places = [names.index(name) for name in order]
    assert places == sorted(places)
    again, push = (job["steps"][i] for i in places[2:])
    assert again["if"] == push["if"] == "${{ !cancelled() }}"
    # The step that may take long ends before the job does, and leaves time to push.
    repro = job["steps"][places[1]]
    assert repro["timeout-minutes"] + 30 <= job["timeout-minutes"]


def test_what_may_write_to_the_repository_runs_none_of_the_branchs_code():
    record = TRAIN["jobs"]["record"]
    assert "id-token" not in record["permissions"]
    assert made([step["run"] for step in record["steps"] if "run" in step]) == set()
    assert "contents" not in {
        scope
        for scope, access in TRAIN["jobs"]["train"]["permissions"].items()
        if access == "write"
    }


def ready(**given: str) -> subprocess.CompletedProcess:
    (step,) = TRAIN["jobs"]["ready"]["steps"]
    values = {
        "BRANCH": "better", "DEFAULT_BRANCH": "main", "REF_TYPE": "branch", "RECIPE": "",
        "RUNNER_GPU": "gpu", "AWS_REGION": "eu-central-1",
    }  # fmt: skip
    assert set(values) == set(step["env"])
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]],
        env={"PATH": os.environ["PATH"], **values, **given}, capture_output=True, text=True,
    )  # fmt: skip


def test_a_training_starts_where_all_is_there():
    assert ready().returncode == ready(RECIPE="mobile-net_2").returncode == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"BRANCH": "main"}, "no workflow trains on main"),
        ({"REF_TYPE": "tag", "BRANCH": "v1"}, "Received: the tag v1"),
        ({"RECIPE": "x'; touch /tmp/y; '"}, "a recipe's name is of"),
        ({"RECIPE": "a b"}, "a recipe's name is of"),
        ({"RUNNER_GPU": ""}, "RUNNER_GPU is not set"),
        ({"AWS_REGION": ""}, "AWS_REGION is not set"),
    ],
)
def test_a_training_that_cannot_be_is_refused_in_one_line(given, says):
    done = ready(**given)
    assert done.returncode == 1
    assert says in done.stdout
    assert len(done.stdout.splitlines()) == 1

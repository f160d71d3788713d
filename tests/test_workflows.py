"""The workflows of GitHub: what they may do, what they call, and the shell that they run.

There is no GitHub here. The files are read, the scripts run in small repositories of Git, and `gh`
is a stand-in that keeps a pull request's comments in a file.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from pneumonia.git import git
from pneumonia.store.yaml12 import load_yaml

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / ".github"
WORKFLOWS = {path.stem: load_yaml(path) for path in sorted((SCRIPTS / "workflows").glob("*.y*ml"))}
CHECKS, TRAIN = WORKFLOWS["checks"], WORKFLOWS["train"]
JOBS = {(file, name): job for file, flow in WORKFLOWS.items() for name, job in flow["jobs"].items()}
STEPS = [(*where, step) for where, job in JOBS.items() for step in job["steps"]]
RUNS = [(file, job, step["run"]) for file, job, step in STEPS if "run" in step]

# Release and full hash; another action, or another hash, is a decision of its own.
ACTIONS = {
    "actions/checkout": ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    "actions/setup-python": ("5fda3b95a4ea91299a34e894583c3862153e4b97", "v7.0.0"),
    "actions/upload-artifact": ("bbbca2ddaa5d8feaa63e36b76fdaad77386f024f", "v7.0.0"),
    "actions/download-artifact": ("3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c", "v8.0.1"),
    "aws-actions/configure-aws-credentials": ("e6de054238d6b7531b4efff3b6587d9aade6a06c", "v6.2.3"),
}
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


def test_the_two_workflows_are_there_and_nobody_forgot_a_third():
    assert set(WORKFLOWS) == {"checks", "train"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nothing_is_permitted_but_what_each_job_asks_for(name):
    assert WORKFLOWS[name]["permissions"] == {}
    for job in WORKFLOWS[name]["jobs"].values():
        assert isinstance(job["permissions"], dict)  # never `write-all`


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


def test_every_action_is_one_of_those_known_at_its_full_hash_with_its_release_beside_it():
    uses = [line for name in WORKFLOWS for line in text_of(name).splitlines() if "uses:" in line]
    assert len(uses) == sum("uses" in step for _, _, step in STEPS)
    for line in uses:
        action, commit, release = re.fullmatch(
            r"\s*-? ?uses: ([\w/-]+)@([0-9a-f]{40}) # (v\S+)", line
        ).groups()
        assert ACTIONS[action] == (commit, release)


def test_the_token_is_never_left_in_a_checkout():
    checkouts = [step for _, _, step in STEPS if "actions/checkout" in step.get("uses", "")]
    assert checkouts
    assert {step["with"]["persist-credentials"] for step in checkouts} == {False}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_workflow_runs_a_forks_code_with_the_repositorys_rights(name):
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(WORKFLOWS[name]["on"])


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


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_line_of_shell_is_strict_and_free_of_expressions(name):
    # GitHub's own `bash -eo pipefail`; without `shell: bash` it would be `bash -e`.
    assert WORKFLOWS[name]["defaults"] == {"run": {"shell": "bash"}}
    for file, job, step in STEPS:
        assert "shell" not in step
        assert "${{" not in step.get("run", ""), (file, job)  # it would become part of the program


def test_shellcheck_finds_nothing_in_the_shell_of_the_workflows(tmp_path):
    for i, (file, job, run) in enumerate(RUNS):
        (tmp_path / f"{file}-{job}-{i}.sh").write_text(f"set -eo pipefail\n{run}\n")
    scripts = sorted(map(str, tmp_path.glob("*.sh")))
    assert len(scripts) == len(RUNS) > 10
    done = subprocess.run(["shellcheck", "-s", "bash", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# ---- checks.yml ----


def test_checks_start_on_every_change_whatever_its_files():
    on = CHECKS["on"]
    assert set(on) == {"pull_request", "merge_group", "push", "workflow_dispatch"}
    assert not {"paths", "paths-ignore", "branches"} & set(on["pull_request"])
    assert {"opened", "synchronize", "reopened", "labeled"} <= set(on["pull_request"]["types"])


def test_checks_make_what_ci_run_makes_in_a_fresh_clone_and_the_other_way_round():
    checks = [
        r for file, job, r in RUNS if file == "checks" and (file, job) not in WITH_CREDENTIALS
    ]
    assert made(checks) == made([(ROOT / ".ci/run").read_text()])
    assert made(checks) == {"check", "fresh", "test", "demo", "gate", "summary", "report"}


def test_every_target_that_a_workflow_makes_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert made([run for _, _, run in RUNS]) <= targets


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


def test_the_comment_is_left_to_pull_requests_of_this_repository():
    condition = JOBS["checks", "report"]["if"]
    assert "github.event.pull_request.head.repo.full_name == github.repository" in condition


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


def test_a_training_keeps_what_git_ignores_and_installs_for_the_gpu():
    job = TRAIN["jobs"]["train"]
    assert job["runs-on"] == "${{ vars.RUNNER_GPU }}"
    assert job["environment"] == "train"
    assert job["env"]["LOCK"] == "requirements-gpu.lock"
    assert (ROOT / job["env"]["LOCK"]).is_file()
    assert job["steps"][0]["with"]["clean"] is False


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
        ({"BRANCH": "main"}, "main is trained on by no workflow"),
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


# ---- the scripts ----


def script(name: str, folder: Path, *arguments: str, **environment: str):
    return subprocess.run(
        [SCRIPTS / name, *arguments], cwd=folder, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["base.sh", "access.sh", "comment.sh", "record.sh"])
def test_each_script_is_executable_strict_and_called_by_a_workflow(name):
    assert os.access(SCRIPTS / name, os.X_OK)
    assert "\nset -euo pipefail\n" in (SCRIPTS / name).read_text()
    assert any(f".github/{name} " in run for _, _, run in RUNS)


def commit(root: Path, message: str, **files: str) -> str:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git(root, "add", "-A")
    git(root, "commit", "-qm", message, "--allow-empty")
    return git(root, "rev-parse", "HEAD").strip()


@pytest.fixture
def story(tmp_path):
    """Commits by name: old -> main, old -> change, and GitHub's merge of change into main.

    `old` has the gate; before it `policy` has gate.yaml alone and `target` only a target for it.
    The clone knows main as origin/main.
    """
    root = tmp_path / "clone"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "someone")
    git(root, "config", "user.email", "someone@host.example")
    at = {"target": commit(root, "target", Makefile="gate: x\n")}
    at["policy"] = commit(root, "policy", Makefile="investigate:\n", **{"gate.yaml": ""})
    at["old"] = commit(root, "old", Makefile="gate: x\n", **{"dvc.lock": "1"})
    git(root, "checkout", "-qb", "change")
    at["change"] = commit(root, "change", **{"code.py": "x"})
    git(root, "checkout", "-q", "main")
    at["main"] = commit(root, "main", **{"other.py": "y"})
    git(root, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(root, "merge", "-q", "--no-ff", "-m", "merge", "change")
    at["merge"] = git(root, "rev-parse", "HEAD").strip()
    return root, at


@pytest.mark.parametrize(
    ("event", "candidate", "given", "base"),
    [
        # Not where the change began: main as it is now, with which it was merged for the test.
        ("pull_request", "merge", {}, "main"),
        ("merge_group", "merge", {"GROUP_BASE": "old"}, "old"),
        ("push", "main", {"BEFORE": "old"}, "old"),
        ("workflow_dispatch", "change", {}, "old"),
        ("workflow_dispatch", "main", {}, "main"),
    ],
)
def test_the_base_is_what_the_change_would_be_merged_into(
    story, tmp_path, event, candidate, given, base
):
    root, at = story
    values = {name: at[value] for name, value in given.items()}
    folder = tmp_path / "base"
    done = script(
        "base.sh", root, str(folder), EVENT=event, CANDIDATE=at[candidate], TARGET="main",
        **{"BEFORE": "", "GROUP_BASE": ""} | values,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"base={at[base]}\n"), done.stderr
    assert git(folder, "rev-parse", "HEAD").strip() == at[base]
    assert (folder / "code.py").exists() == (base in ("change", "merge"))


@pytest.mark.parametrize(
    ("event", "candidate", "given", "says"),
    [
        ("pull_request", "change", {}, "a commit with 1 parents"),
        ("push", "main", {"BEFORE": "0" * 40}, "is not in this clone"),
        ("push", "main", {"BEFORE": "f" * 40}, "is not in this clone"),  # a forced push
        ("push", "main", {"BEFORE": ""}, "is not in this clone"),
        ("merge_group", "merge", {"GROUP_BASE": ""}, "is not in this clone"),
        ("workflow_dispatch", "change", {"TARGET": "nowhere"}, "shares no commit with"),
        ("schedule", "main", {}, "no base is known for the event 'schedule'"),
        ("push", "old", {"BEFORE": "target"}, "has no gate"),
        ("push", "old", {"BEFORE": "policy"}, "has no gate"),
    ],
)
def test_without_a_base_that_can_judge_nothing_passes(
    story, tmp_path, event, candidate, given, says
):
    root, at = story
    values = {"BEFORE": "", "GROUP_BASE": "", "TARGET": "main"}
    values |= {name: at.get(value, value) for name, value in given.items()}
    folder = tmp_path / "base"
    done = script(
        "base.sh", root, str(folder), EVENT=event, CANDIDATE=at[candidate], **values
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert says in next(line for line in done.stderr.splitlines() if line.startswith("::error::"))
    assert not folder.exists()


@pytest.mark.parametrize("file", ["dvc.lock", "metrics/evaluate.json", "metrics/predictions.csv"])
def test_a_fork_with_figures_of_its_own_is_refused(story, file):
    root, at = story
    changed = commit(root, "figures", **{file: "2"})
    done = script("access.sh", root, FORK="true", ROLE="r", BASE=at["main"], CANDIDATE=changed)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"::error::a fork changed {file}: figures from a fork count only after" in done.stderr


@pytest.mark.parametrize(
    ("fork", "role", "granted", "says"),
    [
        ("true", "role", "false", "::notice::a fork has no credentials"),
        ("", "role", "false", "::notice::a fork has no credentials"),  # nothing known: no access
        ("false", "", "false", "::notice::the variable AWS_ROLE_READ is not set"),
        ("false", "role", "true", ""),
    ],
)
def test_the_remote_is_read_by_runs_of_this_repository_that_have_a_role(
    story, fork, role, granted, says
):
    root, at = story
    done = script("access.sh", root, FORK=fork, ROLE=role, BASE=at["main"], CANDIDATE=at["merge"])
    assert (done.returncode, done.stdout) == (0, f"granted={granted}\n")
    assert done.stderr.startswith(says)
    assert bool(done.stderr) == bool(says)


def test_access_is_not_granted_where_git_cannot_compare(story):
    root, at = story
    done = script("access.sh", root, FORK="true", ROLE="", BASE="f" * 40, CANDIDATE=at["main"])
    assert done.returncode != 0
    assert done.stdout == ""


# Stands for gh: comments are `number author body` lines in comments.json; it notes each call.
GH = """\
#!/usr/bin/env python3
import json, os, pathlib, re, sys
place = pathlib.Path(os.environ["HOME"])
with (place / "calls").open("a") as calls:
    print(*sys.argv[1:], file=calls)
if os.environ.get("BREAK") and re.search(os.environ["BREAK"], " ".join(sys.argv)):
    sys.exit("gh: not reachable")
store = place / "comments.json"
comments = json.loads(store.read_text()) if store.exists() else []
words = sys.argv[1:]
method = words[words.index("--method") + 1] if "--method" in words else "GET"
address = next(word for word in words if word.startswith("repos/"))
if address.endswith("/pulls"):
    print(os.environ.get("OPEN", ""))
elif method == "GET":
    # The filter of the script: its author and its beginning. gh's own jq is not here.
    for number, author, body in comments:
        if author == "github-actions[bot]" and body.startswith(os.environ["MARKER"]):
            print(number)
else:
    (field,) = [word for word in words if word.startswith("body=@")]
    body = pathlib.Path(field.removeprefix("body=@")).read_text()
    if method == "POST":
        comments.append([len(comments) + 11, "github-actions[bot]", body])
    else:
        number = int(address.rpartition("/")[2])
        comments = [[n, a, body if n == number else b] for n, a, b in comments]
    store.write_text(json.dumps(comments))
"""


@pytest.fixture
def pull(tmp_path):
    """pull(text, **environment): comment.sh with a stand-in gh; `.calls()`, `.comments()`."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(GH)
    (tmp_path / "bin/gh").chmod(0o755)

    def run(text: str | None, **environment: str):
        if text is not None:
            (tmp_path / "summary.md").write_text(text)
        given = {"PULL": "7", "BRANCH": "better", "REPOSITORY": "team/films", **environment}
        path = f"{tmp_path}/bin:{os.environ['PATH']}"
        return script("comment.sh", tmp_path, "summary.md", **given, PATH=path)

    run.calls = lambda: (tmp_path / "calls").read_text().splitlines()
    run.store = tmp_path / "comments.json"
    return run


def bodies(pull) -> list[list]:
    return json.loads(pull.store.read_text()) if pull.store.exists() else []


MARK = "<!-- pneumonia: review -->\n"


def test_one_comment_is_made_and_then_kept_up_to_date(pull):
    assert pull("PASS `$(touch x)` ${{ y }}\n").returncode == 0
    assert bodies(pull) == [[11, "github-actions[bot]", f"{MARK}PASS `$(touch x)` ${{{{ y }}}}\n"]]
    assert pull("FAIL\n").returncode == 0
    assert bodies(pull) == [[11, "github-actions[bot]", f"{MARK}FAIL\n"]]
    assert "repos/team/films/issues/7/comments" in pull.calls()[0]


def test_only_a_comment_of_the_workflows_own_account_is_overwritten(pull):
    theirs = [[3, "somebody", f"{MARK}PASS"], [4, "github-actions[bot]", "another workflow's"]]
    pull.store.write_text(json.dumps(theirs))
    assert pull("FAIL\n").returncode == 0
    assert bodies(pull) == [*theirs, [13, "github-actions[bot]", f"{MARK}FAIL\n"]]
    # The stand-in has no jq: the filter that gh is given says the same.
    (asked,) = [call for call in pull.calls() if "--paginate" in call]
    assert '.user.login == "github-actions[bot]" and (.body | startswith(env.MARKER))' in asked


def test_a_run_started_by_hand_finds_the_pull_request_of_its_branch(pull):
    assert pull("PASS\n", PULL="", OPEN="9").returncode == 0
    assert "head=team:better" in pull.calls()[0]
    assert "repos/team/films/issues/9/comments" in pull.calls()[1]
    assert len(bodies(pull)) == 1


def test_a_branch_without_a_pull_request_gets_no_comment_and_a_notice(pull):
    done = pull("PASS\n", PULL="")
    assert done.returncode == 0
    assert done.stdout == "::notice::better has no open pull request, and so no comment\n"
    assert bodies(pull) == []


@pytest.mark.parametrize("broken", ["pulls", "--paginate", "POST"])
def test_a_comment_that_cannot_be_made_is_a_warning_and_no_failure(pull, broken):
    done = pull("PASS\n", PULL="", OPEN="9", BREAK=broken)
    assert done.returncode == 0
    assert done.stdout.count("::warning::no comment on the pull request") == 1
    assert bodies(pull) == []


def test_without_a_summary_there_is_no_comment_and_a_warning(pull):
    done = pull(None)
    assert done.returncode == 0
    assert "::warning::no comment on the pull request (there is no summary.md)" in done.stdout


@pytest.fixture
def trained(story, tmp_path):
    """trained(files, branch=…): record.sh in a checkout of `change`, with a patch of `files`."""
    root, at = story
    origin = tmp_path / "origin.git"
    git(root, "clone", "-q", "--bare", ".", str(origin))
    git(root, "checkout", "-q", "--detach", at["change"])

    def run(branch: str = "change", patch: str | None = None, path=os.environ["PATH"], **files):
        commit(root, "trained", **files)
        made = git(root, "diff", "--binary", at["change"], "HEAD")
        git(root, "checkout", "-q", "--detach", at["change"])
        (tmp_path / "recorded.patch").write_text(made if patch is None else patch)
        return script(
            "record.sh", root, str(tmp_path / "recorded.patch"),
            TOKEN="t0ken", URL=str(origin), BRANCH=branch, DEFAULT_BRANCH="main", PATH=path,
        )  # fmt: skip

    run.origin, run.at, run.root = origin, at, root
    return run


def test_a_training_is_one_commit_of_the_bot_on_its_branch(trained):
    done = trained(**{"dvc.lock": "2", "metrics/a.json": "{}", "README.md": "new"})
    tip = git(trained.origin, "rev-parse", "change").strip()
    assert (done.returncode, done.stdout) == (0, f"commit={tip}\n"), done.stderr
    assert git(trained.origin, "rev-parse", "change~1").strip() == trained.at["change"]
    assert git(trained.origin, "log", "-1", "--format=%an: %s", "change").strip() == (
        "github-actions[bot]: Record the training of change"
    )
    changed = git(trained.origin, "diff", "--name-only", "change~1", "change").split()
    assert changed == ["README.md", "dvc.lock", "metrics/a.json"]
    assert git(trained.origin, "rev-parse", "main").strip() == trained.at["merge"]  # untouched


def test_a_training_that_changed_nothing_leaves_the_branch_as_it_is(trained):
    done = trained(patch="")
    assert (done.returncode, done.stdout) == (0, f"commit={trained.at['change']}\n")
    assert git(trained.origin, "rev-parse", "change").strip() == trained.at["change"]


@pytest.mark.parametrize("path", [".github/workflows/checks.yml", "src/x.py", "gate.yaml"])
def test_a_training_records_results_and_no_code(trained, path):
    done = trained(**{"dvc.lock": "2", path: "x"})
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Received: {path}" in done.stderr
    assert git(trained.origin, "rev-parse", "change").strip() == trained.at["change"]


def test_a_training_is_never_committed_to_the_default_branch(trained):
    done = trained("main", **{"dvc.lock": "2"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "::error::a training is never committed to main" in done.stderr
    assert git(trained.origin, "rev-parse", "main").strip() == trained.at["merge"]


def test_a_branch_that_moved_on_while_it_was_trained_is_not_overwritten(trained):
    git(trained.root, "checkout", "-q", "change")
    newer = commit(trained.root, "newer", **{"code.py": "z"})
    git(trained.root, "push", "-q", str(trained.origin), "change")
    git(trained.root, "checkout", "-q", "--detach", trained.at["change"])
    done = trained(**{"dvc.lock": "2"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "::error::change could not be pushed" in done.stderr
    assert git(trained.origin, "rev-parse", "change").strip() == newer


# Notes what it is called with and, at a push, asks the helpers it was given as Git would; goes on.
GIT = """\
#!/bin/sh
echo "$@" >> "$HOME/arguments"
case "$*" in
    *" push "*) printf 'protocol=https\\nhost=h\\n\\n' | REAL "$1" "$2" "$3" "$4" credential fill \\
        >> "$HOME/answers" ;;
esac
exec REAL "$@"
"""


def test_the_token_reaches_git_through_no_argument_and_no_file(trained, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(GIT.replace("REAL", shutil.which("git")))
    (tmp_path / "bin/git").chmod(0o755)
    done = trained(path=f"{tmp_path}/bin:{os.environ['PATH']}", **{"dvc.lock": "2"})
    assert done.returncode == 0
    assert "t0ken" not in (trained.root / "arguments").read_text()
    assert "t0ken" not in (trained.root / ".git/config").read_text()
    assert "username=x-access-token\npassword=t0ken\n" in (trained.root / "answers").read_text()

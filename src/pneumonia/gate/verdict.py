"""The verdict: may a candidate take the base's place, by metrics and predictions alone?"""

import datetime
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pneumonia.errors import PipelineError
from pneumonia.gate.evidence import METRICS, PREDICTIONS, Side, evidence, refuse_another_test_set
from pneumonia.gate.policy import Policy, Waiver, parse_policy
from pneumonia.gate.rules import RuleResult, changed_calls, rule_results
from pneumonia.git import changed_paths, commit_of, day_of, file_at, git, hashes_at, is_shallow

POLICY = Path("gate.yaml")
# Files that decide about merges, by how their paths begin; the gate reports any change to them.
# Without suffix: a package of the name would be imported in place of the module.
GUARDS = (
    "gate.yaml",
    "Makefile",
    ".github/",
    ".ci/",
    ".dvc/config",
    "pyproject.toml",
    "requirements",
    "src/pneumonia/gate/",
    "src/pneumonia/evaluation/",
    "src/pneumonia/store/",
    "src/pneumonia/__init__",
    "src/pneumonia/cli",
    "src/pneumonia/data/__init__",
    "src/pneumonia/data/datasets",
    "src/pneumonia/data/privacy",
    "src/pneumonia/data/remote_file",
    "src/pneumonia/errors",
    "src/pneumonia/git",
    "src/pneumonia/quiet",
    "src/pneumonia/recipes",
    "src/pneumonia/remote",
    "src/pneumonia/training/__init__",
    "src/pneumonia/training/model_files",
)

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "NO BASELINE", "NEW BASELINE", "WAIVED"]
# 1 and 2 are evidence that is not sound, and wrong arguments. A new baseline was asked for.
EXIT_STATUS: dict[Outcome, int] = {
    "PASS": 0,
    "NEW BASELINE": 0,
    "FAIL": 3,
    "INCONCLUSIVE": 4,
    "NO BASELINE": 5,
    "WAIVED": 6,
}


@dataclass(frozen=True)
class Pair:
    """Two revisions to compare, and their names as a person reads them."""

    base: str  # a commit: its gate.yaml is the policy
    base_name: str
    candidate: str | None  # a commit; None: the working tree
    candidate_name: str
    note: str = ""  # why these two, where nobody named them
    has_baseline: bool = True  # False: the base gives the policy alone


@dataclass(frozen=True)
class Verdict:
    """All that a reviewer needs of one comparison."""

    outcome: Outcome
    pair: Pair
    policy: str  # where it was read
    confidence: float
    candidate: Side
    base: Side | None  # None: nothing to compare with
    rules: tuple[RuleResult, ...]
    changed: Mapping[str, Sequence[str]]  # names of the images that are called otherwise, by how
    guards_changed: Sequence[str]  # paths among GUARDS that differ from the base
    expired: Sequence[Waiver]


def judged(
    root: Path,
    base: str | None,
    candidate: str | None,
    *,
    policy_file: Path | None,
    new_baseline: bool,
    today: datetime.date,
) -> Verdict:
    """The verdict on `candidate` (None: the working tree) against `base` (None: main).

    Where no candidate is named, and neither a commit nor a change of a tracked file separates the
    checkout from the base, the last change of the baseline is judged: HEAD against the last commit
    before it that has other predictions.

    Args:
        root: top of the checkout.
        base: revision whose run is the baseline and whose gate.yaml is the policy.
        candidate: revision that would be merged.
        policy_file: read in place of the base's gate.yaml.
        new_baseline: with nothing to compare with, or another test set, the floors decide alone.
        today: on which waivers count, in UTC.

    Raises:
        PipelineError: a revision, the policy, or a side's evidence is missing or not sound; or the
            test set changed and `new_baseline` is not asked for.
    """
    name, commit = _main(root) if base is None else (base, commit_of(root, base))
    pair = Pair(commit, _named("base", name, commit), None, "candidate (working tree)")
    if candidate is not None:
        commit = commit_of(root, candidate)
        named = _named("candidate", candidate, commit)
        pair = replace(pair, candidate=commit, candidate_name=named)
    elif commit == commit_of(root, "HEAD") and not changed_paths(root, commit, None):
        pair, since = _last_change(root, pair)
        if since is not None:  # waivers count on the day when the baseline came to main
            today = datetime.date.fromisoformat(day_of(root, since))
    return _verdict(root, pair, policy_file, new_baseline=new_baseline, today=today)


def baseline_verdict(root: Path, today: datetime.date) -> Verdict:
    """The verdict on the working tree's baseline against the one before it on main.

    It stays the same when the baseline is committed, when other commits follow, and when the branch
    is merged. So it names no commit; the base is looked for from where the branch left main, for
    main may have gone on; and waivers count on the day when the baseline came to main.

    Args:
        root: top of the checkout.
        today: counts for a baseline that is not on main yet, in UTC.

    Raises:
        PipelineError: as `judged`; or the clone is shallow or shares no commit with main.
    """
    if not (root / PREDICTIONS).is_file():
        raise PipelineError(f"{root / PREDICTIONS}: expected the baseline's. Received: no file")
    fork, mains = commit_of(root, "HEAD"), _mains(root)
    try:  # of main here and main at origin, the one that the branch left later
        fork = git(root, "merge-base", fork, *mains.values()).strip() if mains else fork
        shallow = is_shallow(root)
    except subprocess.CalledProcessError:
        shallow = True
    if shallow:
        raise PipelineError(
            f"{root}: expected the history down from main, for the verdict on the baseline. "
            "Received: a clone without it; git fetch --unshallow"
        )
    blob = git(root, "hash-object", "--", str(PREDICTIONS)).strip()
    before, since = _before(root, fork, blob)
    name = "the baseline before it"
    if before is not None:
        _, base_since = _before(root, before, hashes_at(root, [before], PREDICTIONS)[0])
        name = f"the baseline of {day_of(root, base_since or before)}"
    pair = Pair(before or fork, name, None, "this baseline", has_baseline=before is not None)
    day = today if since is None else datetime.date.fromisoformat(day_of(root, since))
    return _verdict(root, pair, None, new_baseline=True, today=day)


def _last_change(root: Path, pair: Pair) -> tuple[Pair, str | None]:
    """The base and the baseline before it, and the commit that brought the base's predictions."""
    head = pair.base
    (blob,) = hashes_at(root, [head], PREDICTIONS)
    if not blob:
        return pair, None
    before, since = _before(root, head, blob)
    name = f"candidate {_dated(root, head)}"
    if since != head and since is not None:
        name += f", with predictions of {_dated(root, since)}"
    if before is not None:
        note = "the checkout is the base, so the last change of its predictions is judged"
        return Pair(before, f"base {_dated(root, before)}", head, name, note), since
    if is_shallow(root):
        raise PipelineError(
            f"{pair.base_name}: expected a commit before it with other predictions. Received: a "
            "shallow clone; git fetch --unshallow"
        )
    note = f"no commit before it has another {PREDICTIONS}: this is the first baseline"
    return Pair(head, pair.base_name, head, name, note, has_baseline=False), since


def _before(root: Path, tip: str, blob: str) -> tuple[str | None, str | None]:
    """The last commit before `tip` with other predictions, and the one after it that brought these.

    First parents are followed, so that on main only merged baselines count.

    Args:
        root: top of the checkout.
        tip: where to begin; it may have other predictions itself.
        blob: Git's hash of the predictions.

    Returns:
        The first is None where no commit has others, the second where `tip` has others.
    """
    since = None
    commits = git(root, "rev-list", "--first-parent", tip).split()
    for commit, found in zip(commits, hashes_at(root, commits, PREDICTIONS), strict=True):
        if found == blob:
            since = commit
        elif found:
            return commit, since
    return None, since


def _mains(root: Path) -> dict[str, str]:
    """The commit of the branch main, here and at origin, by its name; here comes first."""
    refs = ("refs/heads/main", "refs/remotes/origin/main")
    listed = git(root, "for-each-ref", "--format=%(refname:short) %(objectname)", *refs)
    return dict(line.split(" ") for line in listed.splitlines())


def _main(root: Path) -> tuple[str, str]:
    """The name of main, and its commit."""
    for name, commit in _mains(root).items():
        return name, commit
    raise PipelineError(
        f"{root}: expected the branch main, here or at origin, to compare with. Received: neither; "
        "name another base with --base"
    )


def _named(side: str, revision: str, commit: str) -> str:
    """As a person reads it: base main (1a2b3c4)."""
    short = commit[:7]
    return f"{side} {short}" if commit.startswith(revision) else f"{side} {revision} ({short})"


def _dated(root: Path, commit: str) -> str:
    return f"{commit[:7]} ({day_of(root, commit)})"


def _policy(root: Path, pair: Pair, policy_file: Path | None) -> tuple[Policy, str]:
    """The policy, and where it was read."""
    where = f"{POLICY} of {pair.base_name}" if policy_file is None else str(policy_file)
    try:
        data = file_at(root, pair.base, POLICY) if policy_file is None else policy_file.read_bytes()
        if data is None:
            raise PipelineError(
                f"{where} is missing: the policy is read from the base, so that no change loosens "
                f"its own gate. Merge a {POLICY} first, or name one with --policy"
            )
        return parse_policy(data.decode("utf-8"), where), where
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"{where}: expected a policy that can be read. Received: {error}"
        ) from error


def _verdict(
    root: Path,
    pair: Pair,
    policy_file: Path | None,
    *,
    new_baseline: bool,
    today: datetime.date,
) -> Verdict:
    """The verdict on a pair; arguments and errors as in `judged`."""
    policy, where = _policy(root, pair, policy_file)
    candidate = evidence(root, pair.candidate, pair.candidate_name)
    if candidate is None:
        raise PipelineError(
            f"{pair.candidate_name}: expected {METRICS} and {PREDICTIONS}, as `dvc repro` makes "
            "them. Received: neither"
        )
    base = evidence(root, pair.base, pair.base_name, is_base=True) if pair.has_baseline else None
    if base is not None:
        try:
            refuse_another_test_set(base, candidate)
        except PipelineError:
            if not new_baseline:
                raise
            base = None

    test = None if base is None else base.test
    results = rule_results(test, candidate.test, policy.rules)
    waivers = {waiver.rule: waiver for waiver in policy.waivers if waiver.counts_on(today)}
    rules = tuple(
        replace(result, waiver=waivers.get(result.rule)) if result.blocks else result
        for result in results
    )
    outcome = _outcome(rules)
    if base is None and outcome in ("PASS", "WAIVED"):
        outcome = "NEW BASELINE" if new_baseline else "NO BASELINE"
    # The past of the base is merged; nobody can refuse it.
    files = [] if pair.note else changed_paths(root, pair.base, pair.candidate)
    return Verdict(
        outcome=outcome,
        pair=pair,
        policy=where,
        confidence=policy.rules.confidence,
        candidate=candidate,
        base=base,
        rules=rules,
        changed=changed_calls(test, candidate.test),
        guards_changed=[path for path in files if path.startswith(GUARDS)],
        expired=[waiver for waiver in policy.waivers if not waiver.counts_on(today)],
    )


def _outcome(results: Sequence[RuleResult]) -> Outcome:
    """The worst of the rules that are not waived; WAIVED where only waived ones do not hold."""
    blocking = {result.outcome for result in results if result.blocks and not result.waiver}
    if "FAIL" in blocking:
        return "FAIL"
    if blocking:
        return "INCONCLUSIVE"
    return "WAIVED" if any(result.waiver for result in results) else "PASS"

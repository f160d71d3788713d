"""What guards the repository itself: the lock, what Git tracks, and where links lead."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-gpu.lock")
MIB = 1 << 20


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    # A file that is tracked but deleted in the working tree is on its way out.
    return [ROOT / name for name in listed.split("\0")[:-1] if (ROOT / name).exists()]


def texts() -> dict[str, str]:
    """Tracked files that are text, by their path in the repository."""
    found = {}
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            found[str(path.relative_to(ROOT))] = content.decode("utf-8")
    return found


def pins(lock: str) -> dict[str, set[str]]:
    """Versions that a lock pins, by package; some have one for each Python."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([A-Za-z0-9._-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE
    ):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


@pytest.mark.parametrize(("lock", "extras"), [(LOCKS[0], ["dev"]), (LOCKS[1], ["dev", "gpu"])])
def test_the_lock_pins_what_pyproject_asks_for(lock, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"]]
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    pinned = pins(lock)
    for requirement in map(Requirement, asked):
        versions = pinned.get(canonicalize_name(requirement.name), set())
        assert versions, f"{lock} lacks {requirement}: run `make lock`"
        for version in versions:
            assert version in requirement.specifier, f"{lock}: {version}, not {requirement}"


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_has_a_hash_for_every_pin_and_names_no_place_to_fetch_from(lock):
    text = (ROOT / lock).read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 100
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"https?:|--(?:extra-)?index|--find[-]links|--trusted| @ ", text) == []


def test_a_gpu_machine_gets_the_same_versions_as_any_other():
    plain, gpu = pins(LOCKS[0]), pins(LOCKS[1])
    assert {name: gpu.get(name) for name in plain} == plain
    assert any(name.startswith("nvidia-cuda") for name in gpu)


def test_dependencies_are_all_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    explained = (ROOT / "CONTRIBUTING.md").read_text()
    rows = "\n".join(re.findall(r"^\| ([^|]+)\|", explained, re.MULTILINE))
    asked = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = [Requirement(text).name for text in asked]
    assert [n for n in names if n not in rows and not n.startswith("types-")] == []


def test_no_tracked_file_is_over_one_mebibyte():
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in tracked()}
    assert {name: size for name, size in sizes.items() if size > MIB} == {}


def test_no_tracked_file_names_a_package_registry_or_a_folder_of_somebodys_machine():
    # Brackets keep this file from being its own finding.
    hosts = r"pypi[.]org|files[.]pythonhosted|registry[.]npmjs|deb[.]debian|--index[-]url"
    homes = r"(?<![\w.])/(?:work|farm|root|home/\w+|Users/\w+)/"
    pattern = re.compile(f"{hosts}|{homes}")
    found = {
        f"{name}:{number}": line.strip()[:80]
        for name, text in texts().items()
        if name not in LOCKS
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    }
    assert found == {}


def test_links_between_documents_lead_somewhere():
    broken = []
    for name, text in texts().items():
        if not name.endswith(".md"):
            continue
        outside_code = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
        targets = re.findall(r"\]\(([^)\s]+)[^)]*\)", outside_code)
        targets += re.findall(r'(?:src|href)="([^"]+)"', outside_code)
        for target in targets:
            if re.match(r"[a-z]+:|#", target):
                continue
            file = target.split("#")[0]
            if not ((ROOT / name).parent / file).exists():
                broken.append(f"{name}: {target}")
    assert broken == []


@pytest.mark.parametrize(
    ("path", "merge"),
    [
        ("dvc.lock", "unset"),
        ("metrics/evaluate.json", "unset"),
        ("plots/roc.png", "unset"),
        ("params.yaml", "unspecified"),  # code and parameters are merged as in any project
        ("src/pneumonia/evaluation/metrics.py", "unspecified"),
    ],
)
def test_git_never_joins_two_records(path, merge):
    asked = ["git", "check-attr", "merge", "--", path]
    said = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert said == f"{path}: merge: {merge}\n"


def test_no_test_is_skipped_for_good():
    hidden = re.compile(r"pytest\.(?:mark\.)?(?:skip|xfail)")
    assert [
        name
        for name, text in texts().items()
        if name.startswith("tests/") and name != "tests/test_repository.py" and hidden.search(text)
    ] == []


def test_every_silenced_rule_is_named_and_has_its_reason_on_the_line():
    # ARG002 is its own reason: a callback's signature is Keras'.
    bare = re.compile(
        r"#\s*(?:noqa(?!: ?[A-Z])|type: ignore(?!\[))|#\s*noqa: (?!ARG002)[A-Z0-9, ]+$",
        re.MULTILINE,
    )
    python = {name: text for name, text in texts().items() if name.endswith(".py")}
    assert [name for name, text in python.items() if bare.search(text)] == []

"""The documents tell the truth: what they name exists, and every command in them is run somewhere.

A command that a reader may type is run by a test that `RUN_BY` names, or is listed in `NOT_RUN`
with the reason. docs/working.md is played from top to bottom in tests/test_working_page.py.
"""

import ast
import functools
import itertools
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from dvc.cli.parser import get_main_parser

from pneumonia import recipes
from pneumonia.data.datasets import SOURCES
from pneumonia.evaluation.interval_table import interval_table
from pneumonia.store.yaml12 import load_yaml, parse_yaml
from pneumonia.training.weights import WEIGHTS

ROOT = Path(__file__).parent.parent
STAGES = load_yaml(ROOT / "dvc.yaml")["stages"]
PARAMS = load_yaml(ROOT / "params.yaml")
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for folder in (ROOT, ROOT / "docs", ROOT / ".github")
    for path in folder.glob("*.md")
)
COMMANDS, OTHERS = {"sh", "bash", "console", "shell"}, {"text", "yaml", "json", "python"}
PROGRAMS = "make|dvc|git|pneumonia|python|pre-commit|pip|source|export|rm"

MAKE = "tests/test_makefile.py::test_targets_run_what_a_person_would_type"
PAGE = "tests/test_working_page.py::test_the_page_can_be_followed_from_top_to_bottom"
S3 = (
    "tests/test_remote.py::test_a_machine_gets_the_outputs_of_another_without_running_a_stage",
    "tests/test_working_page.py::test_a_remote_is_set_up_as_the_page_says",
)
TYPED = "tests/test_cli.py::test_arguments_reach_the_module_that_answers"
PREDICT = "tests/test_cli.py::test_predict_uses_the_pipelines_model_and_warns_against_diagnosis"

# A pattern for whole commands -> the tests that run them, or a script that CI runs line by line.
RUN_BY: dict[str, tuple[str, ...]] = {
    r"make (demo|test|check|fresh|summary|report)": (".ci/run",),
    r"make gate( \w+=\S+)*": (".ci/run", MAKE),
    r"make help": (
        "tests/test_makefile.py::test_help_is_the_default_lists_every_target_and_installs_nothing",
    ),
    r"make (confirm|documents|ledger|pull|push|remote)": (MAKE,),
    r"make repro( (RECIPE|PULL)=\w+)*": (MAKE,),
    r"make repro LOCK=requirements-gpu.lock": (
        "tests/test_makefile.py::test_a_gpu_machine_installs_from_its_own_lock",
    ),
    r"make \.venv/installed-requirements.lock": (
        "tests/test_habits.py::test_the_dev_container_installs_by_the_makefiles_own_rule",
    ),
    r"dvc (push|pull) --run-cache|dvc (push|pull|fetch --run-cache)|dvc repro --pull": S3[:1],
    r"dvc pull models/\S+ data/\S+ data/\S+": (
        "tests/test_remote.py::test_half_an_object_is_noticed_where_the_remote_is_verified",
    ),
    r"dvc remote (add|modify) .*|git commit -m Name the team's storage \.dvc/config": S3[1:],
    r"dvc repro plot": (
        "tests/test_pipeline.py::test_code_that_has_run_leaves_no_trace_in_what_dvc_hashes",
    ),
    r"dvc repro": (
        "tests/test_pipeline.py::test_a_second_repro_does_nothing_and_says_so_within_five_seconds",
    ),
    r"pneumonia (gate|ledger|confirm|summary|remote)( .*)?": (TYPED,),
    r"pneumonia predict( .*)?": (PREDICT,),
    r"pneumonia export( .*)?": ("tests/test_cli.py::test_export_takes_the_files_of_one_run",),
    r"git fetch origin refs/exps/\*:refs/exps/\*": (
        "tests/test_working_page.py::test_experiments_of_another_clone_can_be_fetched",
    ),
}

# A pattern for whole commands -> why no test runs them.
NOT_RUN: dict[str, str] = {
    r"make lock": "asks package registries, and its result is reviewed as a change",
    r"source \.venv/bin/activate": "the tests run in an environment that is active",
    r"export PNEUMONIA_(MIRROR|KEY)=.*": "sets a variable; tests set it to values of their own",
    r"dvc repro split|dvc exp run -S fetch\.source=chestxray2017": (
        "needs an archive that the tests do not have; parsed by DVC's own parser"
    ),
    r"dvc queue (start --jobs \d|start|logs rate-1 --follow|stop --kill)": (
        "starts, follows or ends a worker in the background, which would outlive the test; the "
        "trials themselves are run in the foreground"
    ),
    r"dvc commit|dvc exp run|dvc metrics diff|dvc status( --cloud)?|dvc gc --cloud": (
        "named to say what it does, or that it should not be used"
    ),
    r"git hash-object|python -m stages\.finetune": "named to explain a value or a trap",
    r"python -m pneumonia\.gate\.simulation": (
        "ten minutes; a short simulation is run by tests/gate/test_simulation.py"
    ),
    r"python -m pneumonia\.schemas( --check)?": "run by a hook of `make check`",
    r"pre-commit install": "writes a hook into the clone of the person who types it",
}

each_document = pytest.mark.parametrize("document", DOCUMENTS)


@functools.cache
def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def fences(text: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def blocks(text: str, *languages: str) -> list[str]:
    return [content for language, content in fences(text) if language in languages]


def outside_fences(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def inline(text: str) -> list[str]:
    """What stands between single backticks, outside fenced blocks."""
    return re.findall(r"`([^`\n]+)`", outside_fences(text))


def split_commands(lines: list[str]) -> list[list[str]]:
    """The words of every command in lines of shell, without comments."""
    return [
        words
        for line in lines
        for part in re.split(r" (?:&&|\|) ", line)
        if (words := shlex.split(part, comments=True))
    ]


def commands(text: str) -> list[list[str]]:
    """The words of every command that a reader may type: in blocks of shell and in backticks."""
    typed = [line for block in blocks(text, *COMMANDS) for line in block.splitlines()]
    named = [line for line in inline(text) if re.match(rf"(?:{PROGRAMS}) ", line)]
    return split_commands([*typed, *named])


# The changelog also names what is gone.
ALL_COMMANDS = {
    document: commands(text_of(document)) for document in DOCUMENTS if document != "CHANGELOG.md"
}
each_document_with_commands = pytest.mark.parametrize("document", ALL_COMMANDS)


def played() -> set[str]:
    """The commands in the blocks of docs/working.md that the test of that page runs."""
    typed = [line for b in blocks(text_of("docs/working.md"), *COMMANDS) for line in b.splitlines()]
    return {" ".join(w) for w in split_commands(typed) if w[0] in ("dvc", "git", "rm")}


def outputs(stage: str) -> set[str]:
    entries = [x for kind in ("outs", "metrics", "plots") for x in STAGES[stage].get(kind, [])]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def is_there(path: str) -> bool:
    """Whether a path is in the tree, or Git ignores it by name, or a stage or DVC writes it."""
    # NAME stands for any.
    if list(ROOT.glob(path.rstrip("/").replace("NAME", "*"))):
        return True
    own = {Path(path), *Path(path).parents} - {Path()}
    written = {Path(output) for stage in STAGES for output in outputs(stage)}
    folders = {parent for output in written for parent in output.parents}
    ignored = {Path(line.strip("/")) for line in text_of(".gitignore").splitlines()}
    # What lies under .scratch and .venv is not listed anywhere.
    hidden = {entry for entry in ignored if entry.name.startswith(".")}
    hidden |= {Path("report"), Path("models/export")}  # where the commands write by default
    hidden |= {Path(".dvc", line.strip("/")) for line in text_of(".dvc/.gitignore").splitlines()}
    return bool(own & (written | hidden) or Path(path) in folders | ignored or path == "dvc.lock")


# ---- commands ----


@each_document
def test_every_fenced_block_says_its_language(document):
    languages = {language for language, _ in fences(text_of(document))}
    assert languages <= COMMANDS | OTHERS


@each_document_with_commands
def test_every_command_is_run_by_a_test_or_listed_with_a_reason(document):
    for command in map(" ".join, ALL_COMMANDS[document]):
        known = [p for p in (*RUN_BY, *NOT_RUN) if re.fullmatch(p, command)]
        assert known or command in played(), f"{document}: `{command}` is run by no test"


def test_no_pattern_is_idle_and_none_is_both_run_and_not_run():
    typed = {" ".join(words) for found in ALL_COMMANDS.values() for words in found}
    typed.add(load_yaml(ROOT / ".devcontainer/devcontainer.json")["postCreateCommand"])
    for pattern in (*RUN_BY, *NOT_RUN):
        assert any(re.fullmatch(pattern, command) for command in typed), pattern
    for command in typed:
        run, not_run = (any(re.fullmatch(p, command) for p in part) for part in (RUN_BY, NOT_RUN))
        assert not (run and not_run), command


@pytest.mark.parametrize("pattern", [*RUN_BY, "docs/working.md"])
def test_the_test_that_runs_a_command_exists(pattern):
    for evidence in RUN_BY.get(pattern, (PAGE,)):
        file, _, name = evidence.partition("::")
        if name:
            functions = {
                node.name
                for node in ast.walk(ast.parse(text_of(file)))
                if isinstance(node, ast.FunctionDef)
            }
            assert name in functions, evidence
        else:
            run = split_commands(text_of(file).splitlines())
            assert any(re.fullmatch(pattern, " ".join(words)) for words in run), evidence


def test_a_command_is_found_wherever_a_reader_meets_it():
    text = "Type `make gate` or\n\n```sh\n# no\ndvc repro  # why\ngit add . && git commit\n```\n"
    found = [" ".join(words) for words in commands(text)]
    assert found == ["dvc repro", "git add .", "git commit", "make gate"]


@each_document_with_commands
def test_every_make_target_and_recipe_named_exists(document):
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    known = {path.stem for path in (ROOT / "recipes").glob("*.yaml")} | {"NAME"}
    for words in ALL_COMMANDS[document]:
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, words
    assert set(re.findall(r"\bRECIPE=(\w+)", text_of(document))) <= known
    assert set(re.findall(r"\bLOCK=([\w.-]+)", text_of(document))) <= {
        path.name for path in ROOT.glob("*.lock")
    }


@each_document_with_commands
def test_every_dvc_command_is_one_that_dvc_reads_and_its_values_are_accepted(document):
    for words in ALL_COMMANDS[document]:
        if words[0] != "dvc":
            continue
        read = get_main_parser().parse_args(words[1:])  # a wrong one exits
        if words[1] == "repro":
            assert set(read.targets) <= {"dvc.yaml", *STAGES}
        settings = [text.split("=", 1) for text in getattr(read, "set_param", None) or []]
        # A sweep names several values, by commas: each is to be accepted, with each of the others.
        for values in itertools.product(*(listed.split(",") for _, listed in settings)):
            overrides: dict = {}
            for (name, _), value in zip(settings, values, strict=True):
                section, key = name.split(".")
                overrides.setdefault(section, {})[key] = parse_yaml(f"x: {value}", name)["x"]
            recipes.check_sections(recipes.laid_over(PARAMS, overrides, document), document)


# ---- names ----


def test_there_are_at_most_ten_pages_and_the_readme_is_short():
    assert len(list((ROOT / "docs").glob("*.md"))) <= 10
    assert len(text_of("README.md").splitlines()) <= 150


def test_the_documents_that_a_reader_looks_for_are_there():
    assert {"README.md", "MODEL_CARD.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= set(DOCUMENTS)
    assert (ROOT / "LICENSE").is_file()


@each_document
def test_the_words_are_the_houses(document):
    # Radiograph or image, metric, plot, baseline; plain English.
    banned = r"\b(?:films?|figures?|pictures?|anew|reckon\w*|told|recorded state)\b"
    prose = re.sub(r"`[^`]*`", "", outside_fences(text_of(document)))
    prose = re.sub(r"\]\([^)]*\)|<!--.*?-->", "", prose, flags=re.DOTALL)
    assert re.findall(banned, prose, re.IGNORECASE) == []


def test_every_recipe_is_explained():
    rows = re.findall(r"^\| `(\w+)` \|", text_of("docs/working.md"), re.MULTILINE)
    assert {path.stem for path in (ROOT / "recipes").glob("*.yaml")} <= set(rows)


def test_every_page_that_code_or_configuration_names_is_there():
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.jinja")]
    sources += [*(ROOT / "tests").rglob("*.py"), *ROOT.glob("*.yaml"), ROOT / "pyproject.toml"]
    sources += [*(ROOT / "recipes").iterdir(), *(ROOT / ".github").rglob("*.*")]
    named = {
        (str(path.relative_to(ROOT)), page)
        for path in sources
        if path.is_file()
        for page in re.findall(r"\bdocs/\w+\.md\b", path.read_text(encoding="utf-8"))
    }
    assert [(path, page) for path, page in sorted(named) if not (ROOT / page).exists()] == []


@each_document
def test_every_path_named_exists_or_is_written_by_a_stage(document):
    named = [
        word
        for word in inline(text_of(document))
        if re.fullmatch(r"[\w.-]+/[\w./-]*|[\w-]+\.(?:py|yaml|lock|md|toml|cff)", word)
        # A folder of Kaggle's archive, one of an export, and a file that each team writes itself.
        and word not in ("val/", "model/", ".github/CODEOWNERS")
        and "MACOSX" not in word
        and document != "CHANGELOG.md"  # it names what has moved
    ]
    for block in blocks(text_of(document), *COMMANDS):
        named += re.findall(r"(?<!\S)(?:\.scratch|\.venv|recipes|src|data|models)/\S+", block)
    assert [path for path in named if not is_there(path)] == []


@each_document
def test_every_parameter_named_exists(document):
    words = " ".join(inline(text_of(document)))
    named = [
        (section, key)
        for section, key in re.findall(r"(?<![\w./])([a-z_]+)\.([a-z_]+)\b", words)
        if section in PARAMS and key not in ("keras", "yaml", "py", "json", "onnx", "tflite")
    ]
    assert [f"{s}.{k}" for s, k in named if k not in PARAMS[s]] == []


@each_document
def test_every_variable_of_the_environment_named_is_read(document):
    code = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for name in re.findall(r"\b(?:PNEUMONIA|KERAS)_[A-Z]+\b", text_of(document)):
        assert f'"{name}"' in code, name


def anchors(document: str) -> set[str]:
    """A document's headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", outside_fences(text_of(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_fences(text_of(document))):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / document).parent / file if file else ROOT / document
        assert path.exists(), target
        assert not anchor or anchor in anchors(str(path.resolve().relative_to(ROOT))), target


# ---- tables ----


def test_the_table_of_stages_is_that_of_dvc_yaml():
    table = text_of("README.md").split("\n## Stages\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\|([^|]+)\|$", table, re.MULTILINE)
    assert [stage for stage, _ in rows] == list(STAGES)
    for stage, written in rows:
        found = {Path(output) for output in outputs(stage)}
        for path in map(Path, re.findall(r"`([^`]+)`", written)):
            assert path in found | {parent for output in found for parent in output.parents}, path


def test_the_packages_shown_are_those_that_there_are():
    (tree,) = blocks(text_of("README.md"), "text")
    shown = re.findall(r"^  (\w+)/ ", tree, re.MULTILINE)
    packages = {path.parent.name for path in (ROOT / "src/pneumonia").glob("*/__init__.py")}
    assert len(shown) == len(set(shown))
    assert set(shown) == packages


def test_every_name_in_the_table_of_intervals_is_explained():
    # Three patients of each kind in both splits, called rightly and wrongly.
    rows = [
        (f"{split}-{kind}-{i}", f"{split}-{kind}-{i}", kind, int(kind != "normal"), split, i / 4)
        for split in ("validation", "test")
        for kind in ("normal", "bacterial", "viral")
        for i in range(1, 4)
    ]
    columns = ["name", "patient_id", "kind", "label", "split", "probability"]
    table = interval_table(pd.DataFrame(rows, columns=columns), 0.5, 40, 1)
    metrics = text_of("docs/metrics.md")
    for column in ("threshold", "group", "metric"):
        for name in table[column].unique():
            assert f"`{name}`" in metrics, (column, name)
    for method in table["method"].unique():
        assert f"| {method} |" in metrics or method == "Wilson, patients", method


def test_datasets_and_weights_are_described_by_their_records():
    data = text_of("docs/data.md")
    for name, dataset in SOURCES.items():
        assert f"| `{name}` |" in data
        if dataset.remote is not None:
            assert dataset.remote.file in data
            assert f"{dataset.remote.n_bytes:,} bytes" in data
            assert f"| `{name}` | `{dataset.remote.sha256}` |" in data
            for (folder, _), number in dataset.counts.items():
                row = next(line for line in data.splitlines() if line.startswith(f"| {folder} f"))
                assert f" {number:,} |" in row
    rows = {
        (backbone, name, record.remote.file)
        for backbone, of_backbone in WEIGHTS.items()
        for name, record in of_backbone.items()
    }
    assert rows == set(re.findall(r"^\| `(\w+)` \| `(\w+)` \| `([\w.-]+)` \|", data, re.MULTILINE))


@pytest.mark.parametrize("document", ["README.md", "MODEL_CARD.md"])
def test_the_first_page_says_that_this_is_not_for_diagnosis(document):
    # The model card begins with what machines read.
    assert "**Not for diagnosis.**" in text_of(document).split("\n---\n", 1)[-1][:1200]


def test_one_version_everywhere():
    version = re.search(r'^version = "(.+)"', text_of("pyproject.toml"), re.MULTILINE).group(1)
    assert str(parse_yaml(text_of("CITATION.cff"), "CITATION.cff")["version"]) == version
    assert f"\n## {version}" in text_of("CHANGELOG.md")

"""dvc.yaml tells the truth: what a stage declares is what its code imports, reads and writes."""

import ast
import functools
from pathlib import Path

import pytest
from dvc.repo import Repo

from pneumonia.store.yaml12 import load_yaml

ROOT = Path(__file__).parent.parent
STAGES = load_yaml(ROOT / "dvc.yaml")["stages"]
# They cannot change a result: they print errors, parse a command line, start Keras.
NOT_DECLARED = {f"src/pneumonia/{name}.py" for name in ("__init__", "cli", "errors", "quiet")}

each_stage = pytest.mark.parametrize("stage", STAGES)


@functools.cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def files_named(module: str) -> list[str]:
    """The source file of a module of ours, or nothing."""
    file = "src/" + module.replace(".", "/") + ".py"
    return [file] if (ROOT / file).exists() else []


@functools.cache
def imports(file: str) -> frozenset[str]:
    """Files of ours that one file imports itself, at its top or inside a function."""
    found = []
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found += [file for alias in node.names for file in files_named(alias.name)]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides what is imported"
            found += files_named(node.module)
            found += [
                file for alias in node.names for file in files_named(f"{node.module}.{alias.name}")
            ]
    return frozenset(found)


def imports_of_imports(file: str) -> set[str]:
    seen, waiting = set(), [file]
    while waiting:
        new = imports(waiting.pop()) - seen
        seen |= new
        waiting += new
    return seen


def paths(entries: list) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def declared_outputs(stage: str) -> list[str]:
    return paths([x for kind in ("outs", "metrics", "plots") for x in STAGES[stage].get(kind, [])])


def declared_inputs(stage: str) -> list[str]:
    return [path for path in paths(STAGES[stage].get("deps", [])) if not path.startswith("src/")]


def path_constants(stage: str) -> set[str]:
    """`NAME = Path("…")` at the top of the stage's module, but for params.yaml."""
    constants = {
        node.value.args[0].value
        for node in tree(f"src/stages/{stage}.py").body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == "Path"
    }
    return constants - {"params.yaml"}


def within(path: str, folder: str) -> bool:
    return Path(folder) in [Path(path), *Path(path).parents]


def test_there_are_six_stages_in_the_order_in_which_data_flows():
    assert list(STAGES) == [
        "fetch", "split", "preprocess", "train_frozen", "finetune", "evaluate",
    ]  # fmt: skip
    written = set()
    for stage in STAGES:
        assert set(declared_inputs(stage)) <= written, f"{stage} reads what nobody wrote before it"
        written |= set(declared_outputs(stage))


def test_dvc_reads_the_graph_as_we_do():
    with Repo(str(ROOT)) as repo:
        assert {stage.name for stage in repo.index.stages} == set(STAGES)


@each_stage
def test_each_stage_says_what_it_does_and_runs_the_code_of_its_own_folder(stage):
    assert STAGES[stage]["desc"]
    assert STAGES[stage]["cmd"] == f"PYTHONPATH=src python -m stages.{stage}"


@each_stage
def test_code_declared_is_code_imported(stage):
    own = f"src/stages/{stage}.py"
    declared = [path for path in paths(STAGES[stage]["deps"]) if path.startswith("src/")]
    assert len(declared) == len(set(declared))
    assert set(declared) == ({own} | imports_of_imports(own)) - NOT_DECLARED


@each_stage
def test_stages_do_not_import_each_other(stage):
    assert not [file for file in imports(f"src/stages/{stage}.py") if "src/stages/" in file]


@each_stage
def test_parameters_declared_are_parameters_read(stage):
    read = {
        node.args[1].value
        for node in ast.walk(tree(f"src/stages/{stage}.py"))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "load_section"
    }
    assert set(STAGES[stage].get("params", [])) == read


def test_every_section_of_params_yaml_is_read_by_a_stage():
    sections = load_yaml(ROOT / "params.yaml")
    read = {name.split(".")[0] for stage in STAGES.values() for name in stage.get("params", [])}
    assert read == set(sections)


@each_stage
def test_paths_declared_are_paths_in_the_code(stage):
    # Scratch is on purpose in neither: a broken-off training goes on from it.
    constants = {path for path in path_constants(stage) if not within(path, ".scratch")}
    declared = declared_inputs(stage) + declared_outputs(stage)
    assert [path for path in declared if not any(within(path, c) for c in constants)] == []
    assert [c for c in constants if not any(within(path, c) for path in declared)] == []


def test_only_evaluate_depends_on_test_pixels():
    test_pixels = "data/processed/test"
    readers = [
        stage
        for stage in STAGES
        if any(within(test_pixels, path) or within(path, test_pixels)
               for path in declared_inputs(stage))
    ]  # fmt: skip
    assert readers == ["evaluate"]
    # Nor does another stage have a path that leads there.
    assert [
        stage for stage in STAGES if any(within(test_pixels, c) for c in path_constants(stage))
    ] == [
        "preprocess",  # writes them
        "evaluate",
    ]


@pytest.mark.parametrize("stage", ["fetch", "split", "preprocess", "train_frozen", "finetune"])
def test_all_outputs_before_evaluate_are_cached_so_that_the_run_cache_carries_them(stage):
    entries = [x for kind in ("outs", "metrics", "plots") for x in STAGES[stage].get(kind, [])]
    for entry in entries:
        options = next(iter(entry.values())) if isinstance(entry, dict) else {}
        assert options.get("cache", True), (
            f"{entry}: a second clone would have to run {stage} again"
        )
        assert not options.get("persist", False), (
            f"{entry}: persist takes a stage out of the run-cache"
        )


def test_what_git_ignores_is_what_dvc_caches():
    ignored = [
        line.strip("/")
        for line in (ROOT / ".gitignore").read_text().splitlines()
        if line.startswith("/")
    ]
    for stage in STAGES:
        for kind in ("outs", "metrics", "plots"):
            for entry in STAGES[stage].get(kind, []):
                path = paths([entry])[0]
                options = next(iter(entry.values())) if isinstance(entry, dict) else {}
                cached = options.get("cache", True)
                assert cached == any(within(path, folder) for folder in ignored), path

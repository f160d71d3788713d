"""dvc.yaml is true: what a stage declares is what its code imports, reads and writes.

And the packages import each other in one direction, so that a folder has a price that one knows.
"""

import ast
import functools
from pathlib import Path

import pytest
from dvc.repo import Repo

from pneumonia.store.yaml12 import load_yaml

ROOT = Path(__file__).parent.parent
STAGES = load_yaml(ROOT / "dvc.yaml")["stages"]
# They cannot change a result: they print, parse a command line, or read the checkout.
NOT_DECLARED = {
    f"src/pneumonia/{name}.py"
    for name in ("errors", "cli", "git", "progress", "quiet", "recipes", "remote")
}

# Whose import of whom is allowed: a package imports from the lines above its own, and from itself.
LAYERS = (
    ("errors", "progress", "quiet"),
    ("store",),
    ("data", "git"),
    ("training",),
    ("evaluation",),
    ("recipes",),
    ("plots", "gate", "serving"),
    ("documents",),
    ("remote", "schemas"),
    ("cli", "stages"),
)
CODE = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "src").rglob("*.py")
    if path.name != "__init__.py"
)

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


def package(file: str) -> str:
    """The package of a file, or the module's own name where it is in none: data, cli, stages."""
    parts = Path(file).with_suffix("").parts
    return parts[1] if parts[1] == "stages" else parts[2]


def paths(entries: list) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def declared_outputs(stage: str) -> list[str]:
    return paths([x for kind in ("outs", "metrics", "plots") for x in STAGES[stage].get(kind, [])])


def declared_inputs(stage: str) -> list[str]:
    return [path for path in paths(STAGES[stage].get("deps", [])) if not path.startswith("src/")]


def path_constants(stage: str) -> set[str]:
    """`Path("…")` in the constants at the top of the stage's module, but for params.yaml."""
    constants = {
        node.args[0].value
        for statement in tree(f"src/stages/{stage}.py").body
        if isinstance(statement, ast.Assign)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path"
    }
    return constants - {"params.yaml"}


def within(path: str, folder: str) -> bool:
    return Path(folder) in [Path(path), *Path(path).parents]


def test_there_are_eight_stages_in_the_order_in_which_data_flows():
    assert list(STAGES) == [
        "fetch", "split", "preprocess", "train_frozen", "finetune", "evaluate", "plot", "examine",
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
def test_code_imported_is_code_declared_and_nothing_declared_is_idle(stage):
    own = f"src/stages/{stage}.py"
    imported = ({own} | imports_of_imports(own)) - NOT_DECLARED
    declared = [path for path in paths(STAGES[stage]["deps"]) if path.startswith("src/")]
    assert [file for file in imported if not any(within(file, path) for path in declared)] == []
    assert [path for path in declared if not any(within(file, path) for file in imported)] == []
    # Nor is a file declared that stands in a declared folder.
    assert [p for p in declared if any(p != other and within(p, other) for other in declared)] == []
    assert len(declared) == len(set(declared))


def test_packages_import_in_one_direction():
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    assert {package(file) for file in CODE} <= set(level)
    wrong = [
        f"{file} imports {other}"
        for file in CODE
        for other in imports(file)
        if package(file) != package(other) and level[package(other)] >= level[package(file)]
    ]
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others():
    assert [file for file in CODE if file in imports_of_imports(file)] == []


def test_an_empty_init_cannot_change_a_result():
    # So that `deps` need not name them.
    for path in (ROOT / "src").rglob("__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert all(isinstance(node, ast.Expr) for node in body), path


@each_stage
def test_stages_do_not_import_each_other(stage):
    assert not [file for file in imports(f"src/stages/{stage}.py") if "src/stages/" in file]


@each_stage
def test_parameters_declared_are_parameters_read(stage):
    read = set()
    for node in ast.walk(tree(f"src/stages/{stage}.py")):
        # `load_section(…).leaf` checks a whole section and reads one leaf of it.
        leaf = f".{node.attr}" if isinstance(node, ast.Attribute) else ""
        call = node.value if isinstance(node, ast.Attribute) else node
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "load_section":
            read.add(call.args[1].value + leaf)
    # The call inside `load_section(…).leaf` was met as well, without its leaf.
    whole = {name for name in read if any(other.startswith(f"{name}.") for other in read)}
    assert set(STAGES[stage].get("params", [])) == read - whole


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


def test_only_evaluate_and_examine_see_test_pixels_and_only_preprocess_writes_them():
    test_pixels = "data/processed/test"

    def lead_there(stage: str, some: set[str]) -> bool:
        return any(within(test_pixels, path) or within(path, test_pixels) for path in some)

    readers = [stage for stage in STAGES if lead_there(stage, set(declared_inputs(stage)))]
    assert readers == ["evaluate", "examine"]
    # Nor does another stage have a path that leads there.
    named = [stage for stage in STAGES if lead_there(stage, path_constants(stage))]
    assert named == ["preprocess", *readers]


def test_what_only_plot_uses_does_not_open_test_again():
    drawn = imports_of_imports("src/stages/plot.py")
    opening = imports_of_imports("src/stages/evaluate.py")
    assert {file for file in opening if package(file) == "plots"} == set()
    assert "src/pneumonia/plots/curves.py" in drawn - imports_of_imports("src/stages/examine.py")
    # Intervals, calibration and net benefit are measured again without an image.
    for name in ("interval_table", "intervals", "calibration", "decision", "weighted"):
        assert f"src/pneumonia/evaluation/{name}.py" not in opening


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


@pytest.mark.parametrize("stage", ["evaluate", "plot", "examine"])
def test_what_git_keeps_is_metrics_and_plots_so_that_the_run_cache_restores_it(stage):
    # A plain output that is not cached would make its stage run again in every clone.
    outs = STAGES[stage].get("outs", [])
    assert outs == (["models/operating_point.json"] if stage == "evaluate" else [])


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

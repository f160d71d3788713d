"""Recipes: named overrides of params.yaml, checked before anything runs, then run as experiments.

A recipe is `recipes/NAME.yaml`, nested as params.yaml is. It runs as the DVC experiment NAME: in
the workspace, where an interrupted training can go on, or (the demo) in a temporary copy.
"""

import copy
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pneumonia.errors import PipelineError
from pneumonia.git import git
from pneumonia.store.yaml12 import load_yaml, parse_yaml

PARAMS = Path("params.yaml")
GRAPH = Path("dvc.yaml")
LOCK = Path("dvc.lock")
RECIPES = Path("recipes")
DEMO = Path("demo")  # copies of the demo's metrics and plots, to look at without DVC


def checkout() -> Path:
    """Top folder of the Git checkout that holds the current folder.

    Raises:
        PipelineError: there is none, it has no commit, or it is not this pipeline's.
    """
    try:
        top = Path(git(Path(), "rev-parse", "--show-toplevel").strip())
        git(top, "rev-parse", "--verify", "--quiet", "HEAD")
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        said = " ".join(str(getattr(error, "stderr", error)).split()) or "no commit yet"
        raise PipelineError(
            f"{Path.cwd()}: expected a clone of the repository, because DVC keeps experiments in "
            f"Git. Received: {said}. A download without history works after "
            "`git init && git add . && git commit -m start`"
        ) from error
    missing = [str(path) for path in (PARAMS, GRAPH, RECIPES) if not (top / path).exists()]
    if missing:
        raise PipelineError(
            f"{top}: expected the top of the pipeline's own Git checkout. "
            f"Received: no {', '.join(missing)} there"
        )
    return top


def load_recipe(root: Path, name: str) -> dict[str, Any]:
    """Overrides of recipe `name`, which give valid sections when laid over params.yaml.

    Raises:
        PipelineError: there is no such recipe, or a section, key, type or value in it is wrong.
    """
    known = sorted(path.stem for path in (root / RECIPES).glob("*.yaml"))
    if name not in known:
        raise PipelineError(f"{RECIPES}/: no recipe {name!r}. Accepted: {', '.join(known)}")
    where = str(RECIPES / f"{name}.yaml")
    if not re.fullmatch("[a-z0-9][a-z0-9_-]*", name):  # it becomes the name of a Git ref
        raise PipelineError(
            f"{where}: a recipe's name must be of a to z, digits, - and _. Received: {name!r}"
        )
    params = load_yaml(root / PARAMS)
    check_sections(params, str(PARAMS))
    overrides = load_yaml(root / RECIPES / f"{name}.yaml")
    merged = laid_over(params, overrides, where)
    check_sections(merged, where)
    for section, values in merged.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            # Hydra, which reads DVC's overrides, takes these for its own grammar.
            if isinstance(value, str) and ("\\" in value or "${" in value):
                raise PipelineError(
                    f"{where}: {section}.{key} must be text without a backslash and ${{. "
                    f"Received: {value!r}"
                )
    return overrides


def laid_over(
    params: Mapping[str, Any], overrides: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """`params` with the values of `overrides`; `where` starts the error.

    Raises:
        PipelineError: `overrides` names a section or a key that `params` does not have.
    """
    merged = copy.deepcopy(dict(params))
    for section, values in overrides.items():
        if section not in params:
            raise PipelineError(
                f"{where}: unknown section {section}. Accepted: {', '.join(params)}"
            )
        if not isinstance(params[section], dict):
            merged[section] = values
            continue
        if not isinstance(values, dict):
            raise PipelineError(
                f"{where}: {section}: expected keys with values. Received: {values!r}"
            )
        unknown = [str(key) for key in values if key not in params[section]]
        if unknown:
            raise PipelineError(
                f"{where}: {section}: unknown {', '.join(unknown)}. "
                f"Accepted: {', '.join(params[section])}"
            )
        merged[section].update(values)
    return merged


def section_types() -> dict[str, type]:
    """Type of each section of params.yaml, defined beside the code that uses it."""
    # Imported here: a recipe can be laid over params.yaml without pandas.
    from pneumonia.data.datasets import FetchParams
    from pneumonia.data.images import PreprocessParams
    from pneumonia.data.phantoms import PhantomParams
    from pneumonia.data.splits import SplitParams
    from pneumonia.evaluation.metrics import EvaluateParams
    from pneumonia.evaluation.robustness import RobustnessParams
    from pneumonia.store.params import Seed
    from pneumonia.training.augmentation import AugmentationParams
    from pneumonia.training.fit import PhaseParams
    from pneumonia.training.network import ModelParams

    return {
        "seed": Seed,
        "fetch": FetchParams,
        "phantoms": PhantomParams,
        "split": SplitParams,
        "preprocess": PreprocessParams,
        "model": ModelParams,
        "augmentation": AugmentationParams,
        "train_frozen": PhaseParams,
        "finetune": PhaseParams,
        "evaluate": EvaluateParams,
        "robustness": RobustnessParams,
    }


def check_sections(params: Mapping[str, Any], where: str) -> None:
    """Check that every section of params.yaml is there and valid.

    Raises:
        PipelineError: a section is missing or unknown, or a key, type or value in one is wrong.
    """
    from pneumonia.store.params import as_section

    sections = section_types()
    if set(params) != set(sections):
        raise PipelineError(
            f"{where}: expected the sections {', '.join(sections)}. Received: {', '.join(params)}"
        )
    for name, into in sections.items():
        as_section(params[name], f"{where}: {name}", into)


def override_arguments(overrides: Mapping[str, Any]) -> list[str]:
    """`overrides` as `--set-param section.key=value` for `dvc exp run`, in Hydra's grammar."""
    arguments = []
    for section, values in overrides.items():
        if isinstance(values, dict):
            arguments += [f"--set-param={section}.{k}={_hydra(v)}" for k, v in values.items()]
        else:
            arguments.append(f"--set-param={section}={_hydra(values)}")
    return arguments


def _hydra(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return "'" + value.replace("'", r"\'") + "'"  # unquoted, a comma or a colon means a sweep
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def refuse_foreign_changes(root: Path, name: str, overrides: Mapping[str, Any]) -> None:
    """Refuse uncommitted changes, unless an interrupted run of the same recipe left them.

    Raises:
        PipelineError: a tracked file has changes that are not the recipe's own.
    """
    changed = git(root, "diff", "--name-only", "-z", "HEAD").split("\0")[:-1]
    if not changed:
        return
    written = {PARAMS, LOCK, *map(Path, _outputs(load_yaml(root / GRAPH)))}
    foreign = [path for path in changed if not {Path(path), *Path(path).parents} & written]
    committed = parse_yaml(git(root, "show", f"HEAD:{PARAMS}"), f"HEAD:{PARAMS}")
    interrupted = load_yaml(root / PARAMS) == laid_over(committed, overrides, f"recipe {name}")
    if foreign or not interrupted:
        raise PipelineError(
            f"recipe {name} would run on uncommitted changes of {', '.join(foreign or changed)}. "
            "Accepted: a clean tree, or this recipe interrupted. Commit them, or go back with "
            "`git restore --staged --worktree . && dvc checkout --allow-missing`"
        )


def _outputs(graph: Mapping[str, Any]) -> Iterator[str]:
    """Every path that a stage of dvc.yaml writes."""
    for stage in graph["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            for entry in stage.get(kind, []):
                yield from [entry] if isinstance(entry, str) else entry


def run_experiment(root: Path, name: str, overrides: Mapping[str, Any], *flags: str) -> str:
    """Run the overrides as experiment `name`; returned is the Git ref that keeps its result.

    An earlier experiment of this name on this commit is replaced; stages that it finished with
    the same inputs come back from DVC's run-cache.

    Raises:
        PipelineError: a stage or DVC failed; its own message stands above.
    """
    head = git(root, "rev-parse", "HEAD").strip()
    ref = f"refs/exps/{head[:2]}/{head[2:]}/{name}"
    if git(root, "for-each-ref", ref):
        _dvc(root, "exp", "remove", "--quiet", ref)
    _dvc(root, "exp", "run", "--name", name, *flags, *override_arguments(overrides))
    return ref


def copy_committed(root: Path, ref: str, folders: tuple[str, ...], target: Path) -> None:
    """Replace `target` by the content of `folders` in the commit at `ref`."""
    with tempfile.TemporaryDirectory() as temporary:
        archive = str(Path(temporary) / "committed.zip")
        git(root, "archive", "--format=zip", f"--output={archive}", ref, "--", *folders)
        shutil.rmtree(root / target, ignore_errors=True)
        shutil.unpack_archive(archive, root / target)


def _dvc(root: Path, *arguments: str) -> None:
    """Run DVC; its output and its stages' goes straight to the terminal."""
    # The stages call `python`: this one, even if the environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**_identity(root), **os.environ, "PATH": path}
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, env=environment)
    if done.returncode:
        # A temporary copy is deleted with its scratch folder.
        go_on = "" if "--temp" in arguments else ". The same command goes on from here"
        raise PipelineError(
            f"`dvc {' '.join(arguments[:2])}` ended with status {done.returncode}: "
            f"see the reason above{go_on}"
        )


def _identity(root: Path) -> dict[str, str]:
    """A Git author for this one command, where none is configured: experiments are commits."""
    configured = subprocess.run(["git", "config", "user.email"], cwd=root, capture_output=True)
    if configured.returncode == 0:
        return {}
    name, email = "pneumonia", "pneumonia@localhost"
    return {
        "GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": email,
    }  # fmt: skip

"""Recipes: what they may say, how DVC gets it, and which trees they refuse to run on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from pneumonia.errors import PipelineError
from pneumonia.recipes import (
    check_sections,
    checkout,
    copy_committed,
    laid_over,
    load_recipe,
    override_arguments,
    refuse_foreign_changes,
    run_experiment,
)
from pneumonia.store.yaml12 import load_yaml

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))


@pytest.fixture
def root(tmp_path):
    """A folder with the repository's params.yaml and recipes."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    return tmp_path


def recipe(root: Path, text: str) -> dict:
    (root / "recipes/mine.yaml").write_text(text)
    return load_recipe(root, "mine")


def test_the_four_recipes_of_the_study_exist():
    assert {"demo", "paper", "imagenet", "mobilenet"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_accepted_by_the_stages_and_has_a_comment(name):
    assert load_recipe(ROOT, name)
    assert (ROOT / f"recipes/{name}.yaml").read_text().startswith("# ")


def test_imagenet_is_the_paper_with_right_pixels_and_nothing_else():
    paper, imagenet = load_recipe(ROOT, "paper"), load_recipe(ROOT, "imagenet")
    assert paper["model"].pop("pixel_divisor") == 255
    assert imagenet["model"].pop("pixel_divisor") == 1
    assert paper == imagenet


def test_the_demo_keeps_the_network_and_the_numbers_of_the_study():
    demo = load_recipe(ROOT, "demo")
    assert demo["fetch"]["source"] == "phantoms"
    assert demo["phantoms"]["share"] == 1  # 4,710 + 522 + 624 images
    assert demo["model"]["backbone"] == "efficientnet_v2_s"
    assert demo["model"]["weights"] == "none"  # no internet


def test_the_demo_does_not_depend_on_what_params_yaml_says():
    # Somebody's edits of params.yaml must not turn the demonstration into an hour of training.
    params, demo = load_yaml(ROOT / "params.yaml"), load_recipe(ROOT, "demo")
    assert {s: set(v) for s, v in demo.items() if s != "seed"} == {
        s: set(v) for s, v in params.items() if s != "seed"
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("finetun:\n  epochs: 3\n", "recipes/mine.yaml: unknown section finetun. Accepted: seed"),
        ("finetune:\n  epoch: 3\n", "recipes/mine.yaml: finetune: unknown epoch. Accepted: epochs"),
        ("finetune: 3\n", "recipes/mine.yaml: finetune: expected keys with values. Received: 3"),
        ("finetune:\n", "recipes/mine.yaml: finetune: expected keys with values. Received: None"),
        ("finetune:\n  epochs: 3.5\n", "recipes/mine.yaml: finetune.epochs must be int"),
        ("finetune:\n  epochs: '3'\n", "recipes/mine.yaml: finetune.epochs must be int"),
        ("finetune:\n  epochs: -1\n", "recipes/mine.yaml: finetune.epochs must be in [0, 10000]"),
        ("model:\n  backbone: vgg\n", "recipes/mine.yaml: model.backbone must be one of"),
        # Weights of one backbone do not fit the other: EfficientNetV2S has no folded ones.
        ("model:\n  weights: mobilenet_v2_imagenet_folded\n", "recipes/mine.yaml: model.weights"),
        ("seed: many\n", "recipes/mine.yaml: seed must be int"),
        ("seed:\n  x: 1\n", "recipes/mine.yaml: seed must be int"),
        ("- 1\n", "recipes/mine.yaml: expected sections"),
        ("seed: [\n", "recipes/mine.yaml: expected YAML"),
        ("", "recipes/mine.yaml: expected sections"),
    ],
)
def test_an_error_in_a_recipe_is_one_line_that_says_where(root, text, says):
    with pytest.raises(PipelineError) as caught:
        recipe(root, text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["papre", "../params", "", "paper.yaml"])
def test_an_unknown_recipe_is_one_line_that_lists_the_known(root, name):
    with pytest.raises(PipelineError, match="Accepted: demo, imagenet, mobilenet, paper"):
        load_recipe(root, name)


def test_a_recipe_whose_name_git_does_not_accept_is_refused(root):
    (root / "recipes/My recipe.yaml").write_text("seed: 1")
    with pytest.raises(PipelineError) as error:
        load_recipe(root, "My recipe")
    assert str(error.value) == (
        "recipes/My recipe.yaml: a recipe's name must be of a to z, digits, - and _. "
        "Received: 'My recipe'"
    )


@pytest.mark.parametrize("archive", ["C:\\images.zip", "${oc.env:HOME}/images.zip"])
def test_text_that_hydra_would_change_is_refused(root, archive):
    """The second arrived with the home folder in it, the first not at all."""
    own = f"fetch: {{source: own, archive: '{archive}', sha256: {'0' * 64}}}"
    with pytest.raises(PipelineError) as error:
        recipe(root, own.replace("0" * 64, f"'{'0' * 64}'"))
    assert str(error.value) == (
        "recipes/mine.yaml: fetch.archive must be text without a backslash and ${. "
        f"Received: {archive!r}"
    )


def test_an_error_in_params_yaml_is_not_blamed_on_the_recipe(root):
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("seed: 2017", "seed: many"))
    with pytest.raises(PipelineError, match=r"^params\.yaml: seed must be int"):
        recipe(root, "finetune:\n  epochs: 3\n")


def test_checking_a_recipe_starts_no_tensorflow():
    code = (
        "import sys; from pathlib import Path; from pneumonia.recipes import load_recipe;"
        "load_recipe(Path(), 'paper'); print({'keras', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True,
        env={"PYTHONPATH": "src"},
    )  # fmt: skip
    assert done.stdout == "set()\n"


def test_overrides_replace_single_keys_and_leave_the_rest():
    params = {"seed": 1, "a": {"x": 1, "y": 2}, "b": {"z": 3}}
    assert laid_over(params, {"seed": 7, "a": {"y": 5}}, "here") == {
        "seed": 7, "a": {"x": 1, "y": 5}, "b": {"z": 3},
    }  # fmt: skip
    assert params == {"seed": 1, "a": {"x": 1, "y": 2}, "b": {"z": 3}}


def test_a_section_of_unknown_type_is_refused(root):
    params = load_yaml(root / "params.yaml")
    with pytest.raises(PipelineError, match="expected the sections"):
        check_sections({**params, "extra": {}}, "params.yaml")


def test_every_value_reaches_params_yaml_unchanged(tmp_path):
    values = {
        "none": None, "yes": True, "no": False, "whole": 3, "small": 0.00001, "big": 1e30,
        "negative": -0.5, "word": "adam", "like_null": "null", "like_number": "12",
        "url": "https://host.example/a,b?c=d&e={f}[g](h)", "quotes": """it's "so", é""",
        "empty": "",
    }  # fmt: skip
    start = {"seed": 1, "s": dict.fromkeys(values, "before")}
    (tmp_path / "params.json").write_text(json.dumps(start))
    arguments = override_arguments({"seed": 7, "s": values})
    # DVC's own way from the command line to the file.
    apply_overrides(
        tmp_path / "params.json", [text.removeprefix("--set-param=") for text in arguments]
    )
    assert json.loads((tmp_path / "params.json").read_text()) == {"seed": 7, "s": values}


# --- on a Git checkout ------------------------------------------------------------------------

GRAPH = """\
stages:
  train:
    cmd: echo training; cp params.yaml model.txt
    params: [seed, finetune]
    outs: [model.txt]
  evaluate:
    cmd: >-
      echo evaluating; mkdir -p metrics plots;
      cp model.txt plots/a.png; echo '{"n":1}' > metrics/e.json
    deps: [model.txt]
    metrics:
      - metrics/e.json: {cache: false}
    plots:
      - plots/a.png: {cache: false}
"""


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A commit of params.yaml, recipes and a graph of two quick stages."""
    root = tmp_path_factory.mktemp("committed")
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copytree(ROOT / "recipes", root / "recipes")
    (root / "dvc.yaml").write_text(GRAPH)
    (root / ".gitignore").write_text("/model.txt\n/demo/\n")
    (root / "recipes/mine.yaml").write_text("seed: 7\nfinetune:\n  learning_rate: 0.00003\n")
    (root / "notes.txt").write_text("one\n")
    (root / "dvc.lock").write_text("schema: '2.0'\n")
    git(root, "init", "-q", "-b", "main")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    git(root, "add", "-A")
    someone = ["-c", "user.name=someone", "-c", "user.email=someone@host.example"]
    git(root, *someone, "commit", "-qm", "start")
    return root


@pytest.fixture
def repository(committed, tmp_path, monkeypatch):
    """A copy of it, on a machine where nobody has a Git identity."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{who}_NAME", raising=False)
        monkeypatch.delenv(f"GIT_{who}_EMAIL", raising=False)
    return shutil.copytree(committed, tmp_path / "repository", symlinks=True)


MINE = {"seed": 7, "finetune": {"learning_rate": 0.00003}}


def with_mine(root: Path) -> None:
    """params.yaml as `dvc exp run` leaves it."""
    apply_overrides(root / "params.yaml", ["seed=7", "finetune.learning_rate=3e-05"])


def test_a_clean_tree_is_accepted_and_untracked_files_do_not_matter(repository):
    (repository / "scribble.txt").write_text("mine")
    refuse_foreign_changes(repository, "mine", MINE)


@pytest.mark.parametrize("staged", [False, True])
def test_a_tree_with_other_changes_is_refused_and_they_are_named(repository, staged):
    (repository / "notes.txt").write_text("two\n")
    if staged:
        git(repository, "add", "notes.txt")
    with pytest.raises(PipelineError, match=r"notes\.txt"):
        refuse_foreign_changes(repository, "mine", MINE)


def test_the_same_recipe_interrupted_is_accepted(repository):
    with_mine(repository)
    (repository / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    refuse_foreign_changes(repository, "mine", MINE)


def test_another_recipe_interrupted_is_refused(repository):
    with_mine(repository)
    with pytest.raises(PipelineError, match=r"params\.yaml"):
        refuse_foreign_changes(repository, "other", {"seed": 8})


def test_an_interrupted_recipe_with_changed_code_is_refused_and_only_the_code_is_named(repository):
    with_mine(repository)
    (repository / "notes.txt").write_text("two\n")
    with pytest.raises(PipelineError, match=r"changes of notes\.txt\. "):
        refuse_foreign_changes(repository, "mine", MINE)


def test_changed_results_alone_are_refused_because_no_recipe_left_them(repository):
    (repository / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    with pytest.raises(PipelineError, match=r"dvc\.lock"):
        refuse_foreign_changes(repository, "mine", MINE)


def test_a_recipe_leaves_its_result_in_the_workspace_and_goes_on_from_it(repository, capfd):
    overrides = load_recipe(repository, "mine")
    ref = run_experiment(repository, "mine", overrides)
    said = capfd.readouterr().out
    assert "\ntraining\n" in said  # what the stages say is seen
    assert "\nevaluating\n" in said
    assert load_yaml(repository / "params.yaml")["seed"] == 7
    assert "seed: 7" in git(repository, "show", f"{ref}:params.yaml")
    # As after a break between the two stages.
    (repository / "metrics/e.json").unlink()
    refuse_foreign_changes(repository, "mine", overrides)
    assert run_experiment(repository, "mine", overrides) == ref
    assert "\ntraining\n" not in capfd.readouterr().out


def test_the_demo_leaves_tracked_files_alone_and_can_be_run_again(repository, capfd):
    git(repository, "checkout", "-q", "--detach")  # as CI checks out
    overrides = load_recipe(repository, "mine")
    for _ in range(2):
        ref = run_experiment(repository, "demo", overrides, "--temp")
        copy_committed(repository, ref, ("metrics", "plots"), Path("demo"))
        assert git(repository, "status", "--porcelain") == ""
        assert (repository / "demo/metrics/e.json").read_text() == '{"n":1}\n'
        assert "seed: 7" in (repository / "demo/plots/a.png").read_text()
        (repository / "demo/plots/old.png").write_text("from an earlier demo")
    said = capfd.readouterr().out
    assert said.count("\ntraining\n") == said.count("\nevaluating\n") == 1  # then the run-cache
    listed = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "list", "--name-only"],
        cwd=repository, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert listed.split() == ["demo"]


def test_a_stage_that_fails_is_one_line_after_its_own_message(repository, capfd):
    graph = (repository / "dvc.yaml").read_text()
    (repository / "dvc.yaml").write_text(
        graph.replace("echo training;", "echo no room >&2; exit 1;")
    )
    with pytest.raises(PipelineError, match="`dvc exp run` ended with status"):
        run_experiment(repository, "mine", load_recipe(repository, "mine"))
    assert "no room" in capfd.readouterr().err


def test_outside_a_git_checkout_the_error_says_what_to_do(root, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(PipelineError, match="a clone of the repository") as caught:
        checkout()
    assert "git init" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkout_without_a_commit_is_refused(root, monkeypatch):
    git(root, "init", "-q")
    monkeypatch.chdir(root)
    with pytest.raises(PipelineError, match="no commit yet"):
        checkout()


def test_a_download_inside_another_checkout_is_refused(repository, monkeypatch):
    inner = repository / "inner"
    inner.mkdir()
    git(repository, "rm", "-q", "--cached", "dvc.yaml")
    (repository / "dvc.yaml").rename(inner / "dvc.yaml")
    monkeypatch.chdir(inner)
    with pytest.raises(PipelineError, match=r"no dvc\.yaml there"):
        checkout()


def test_the_top_is_found_from_a_folder_below_it(repository, monkeypatch):
    monkeypatch.chdir(repository / "recipes")
    assert checkout() == repository.resolve()

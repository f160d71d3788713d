"""The command `pneumonia`: what people type that is not a stage."""

import argparse

from pneumonia import recipes
from pneumonia.errors import run_stage


def main() -> None:
    """Run what the command line asks for; what the person can put right is one line, status 1."""
    arguments = _parser().parse_args()
    run_stage(lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pneumonia",
        description="Recipes of the pneumonia pipeline. For research; not for diagnosis.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    repro = commands.add_parser(
        "repro", help="run recipes/RECIPE.yaml over params.yaml, as a DVC experiment of that name"
    )
    repro.add_argument("recipe", metavar="RECIPE", help="demo, paper, imagenet, mobilenet, …")
    repro.set_defaults(run=_repro)

    demo = commands.add_parser(
        "demo", help="run all six stages on drawn phantoms, in a temporary copy"
    )
    demo.set_defaults(run=_demo)
    return parser


def _repro(arguments: argparse.Namespace) -> None:
    name = arguments.recipe
    root = recipes.checkout()
    overrides = recipes.load_recipe(root, name)
    recipes.refuse_foreign_changes(root, name, overrides)
    recipes.run_experiment(root, name, overrides)
    print(
        f"\nRecipe {name} is done. Its result is in the workspace, and kept as experiment {name}.\n"
        "  look       dvc exp show --only-changed; dvc metrics diff\n"
        "  record it  git commit -a      params.yaml, dvc.lock, metrics and plots belong together\n"
        "  go back    git restore --staged --worktree . && dvc checkout --allow-missing\n"
        f"  again      dvc exp apply {name}"
    )


def _demo(_: argparse.Namespace) -> None:
    # Imported here: `pneumonia --help` should not wait for pandas.
    from pneumonia.artifacts import read_json
    from pneumonia.metrics import metrics_table

    root = recipes.checkout()
    overrides = recipes.load_recipe(root, "demo")
    ref = recipes.run_experiment(root, "demo", overrides, "--temp")
    recipes.copy_committed(root, ref, ("metrics", "plots"), recipes.DEMO)
    print("\n" + metrics_table(read_json(root / recipes.DEMO / "metrics/evaluate.json")))
    print(
        f"\nPictures and figures: {root / recipes.DEMO}\n"
        "Beside other runs:     dvc exp show --only-changed"
    )


if __name__ == "__main__":
    main()

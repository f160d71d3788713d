"""The command `pneumonia`: all that people type except the stages.

Modules are imported inside the functions that need them, so that `pneumonia --help` is quick.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pneumonia.errors import PipelineError, run_stage

PARAMS = Path("params.yaml")
MODEL = Path("models/finetune.keras")


def main() -> None:
    """Run what the command line asks for; errors that the user can put right are one line."""
    args = _parser().parse_args()
    try:
        run_stage(lambda: args.run(args))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; Python would complain at its own end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


class _Version(argparse.Action):
    """Look the version up only when it is asked for: importlib.metadata is slow to import."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"pneumonia {version('pneumonia')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pneumonia",
        description="The pneumonia pipeline. For research; not for diagnosis.",
        epilog="`pneumonia COMMAND --help` shows the options of a command and an example.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        run: Callable[[argparse.Namespace], None], purpose: str, example: str, more: str = ""
    ) -> argparse.ArgumentParser:
        name = run.__name__.removeprefix("_")
        added = commands.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}. {more}",
            epilog=f"Example: pneumonia {name} {example}",
        )
        added.set_defaults(run=run)
        return added

    add = command(
        _repro,
        "run recipes/RECIPE.yaml over params.yaml, as a DVC experiment of that name",
        "mobilenet",
        "The result is in the workspace. After an interruption the same command goes on.",
    ).add_argument
    add("recipe", metavar="RECIPE", help="demo, paper, imagenet, mobilenet, …")
    add("--pull", action="store_true", help="take stages that another machine ran from the remote")

    command(
        _demo,
        "run all stages on drawn phantoms, in a temporary copy",
        "",
        "It needs neither data nor internet. Metrics and plots are copied to demo/.",
    )

    add = command(
        _gate,
        "decide whether a candidate may be merged: no loss of recall against the base",
        "--base main --candidate my-branch",
        "The policy is the base's. Exit status: 0 PASS, 1 the evidence is missing or wrong, "
        "2 wrong args, 3 FAIL, 4 INCONCLUSIVE, 5 NO BASELINE, 6 WAIVED.",
    ).add_argument
    add("--base", metavar="REV", help="the revision to merge into; default: main")
    add("--candidate", metavar="REV", help="default: the working tree")
    add("--policy", metavar="FILE", type=Path, help="default: gate.yaml of the base")
    add(
        "--new-baseline",
        action="store_true",
        help="accept a base without metrics, or another test set: the floors alone decide",
    )
    add("--markdown", metavar="FILE", type=Path, help="write the verdict there as Markdown")
    add("--json", metavar="FILE", type=Path, help="write the verdict there as JSON, in full")

    add = command(_ledger, "list every evaluation on the test set", "--json").add_argument
    add("--json", action="store_true", help="as JSON")

    add = command(
        _remote,
        "check that DVC's remote holds every file that dvc.lock names",
        "--name storage",
        "Nothing is downloaded.",
    ).add_argument
    add("--name", metavar="REMOTE", help="default: DVC's default remote")
    add("--candidate", metavar="FOLDER", type=Path, help="default: this checkout")

    add = command(
        _confirm,
        "evaluate the model of dvc.lock again and compare its probabilities",
        "--candidate ../candidate",
        "They must be those of metrics/predictions.csv. Nothing is trained.",
    ).add_argument
    add("--candidate", metavar="FOLDER", type=Path, help="default: this checkout")

    add = command(
        _summary,
        "print the summary of a pull request as Markdown",
        "--base main --gate report/gate.md",
        "It shows changed metrics and parameters, the gate's verdict and the plots.",
    ).add_argument
    add("--base", metavar="REV", required=True, help="the revision to merge into")
    add("--candidate", metavar="REV", help="default: the working tree")
    add("--gate", metavar="FILE", type=Path, help="the gate's verdict as Markdown")
    add("--pictures", metavar="URL", help="where the plots of the tree are shown")

    add = command(
        _report,
        "write one HTML page of the run in the workspace: metrics, plots, parameters",
        "--output report/report.html",
    ).add_argument
    add("--output", metavar="FILE", type=Path, default=Path("report/report.html"))

    predict = command(
        _predict,
        "give probability, verdict and warnings for radiographs (JPEG, PNG, DICOM)",
        "scans/ study.dcm",
        "The verdict is at the stored operating threshold. Research software: not for diagnosis. "
        "Exit status: 0 all were answered, 1 some were not, 2 wrong args.",
    )
    add = predict.add_argument
    add("paths", metavar="FILE|FOLDER", type=Path, nargs="+")
    add("--model", metavar="FILE", type=Path, help=f"default: {MODEL}")
    add("--operating-point", metavar="FILE", type=Path, help="default: beside the model")
    add("--heatmap", metavar="FOLDER", type=Path, help="write overlays there")
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per line")
    form.add_argument("--csv", action="store_true", help="a CSV with a heading")

    add = command(
        _export,
        "write the model for another runtime, with its threshold, contract and card",
        "--format onnx",
        "It is kept only if it gives the same probabilities.",
    ).add_argument
    add("--format", required=True, choices=("savedmodel", "onnx", "tflite"))
    add("--output", metavar="FOLDER", type=Path, help="default: models/export/FORMAT")
    add("--model", metavar="FILE", type=Path, help=f"default: {MODEL}")
    return parser


def _repro(args: argparse.Namespace) -> None:
    from pneumonia import recipes

    name, root = args.recipe, recipes.checkout()
    overrides = recipes.load_recipe(root, name)
    recipes.refuse_foreign_changes(root, name, overrides)
    recipes.run_experiment(root, name, overrides, *(["--pull"] if args.pull else []))
    print(
        f"\nRecipe {name} is done. Its result is in the workspace and in the experiment {name}.\n"
        "  look at it  dvc exp show --only-changed; dvc metrics diff\n"
        "  keep it     git commit -a      params.yaml, dvc.lock, metrics and plots go together\n"
        "  go back     git restore --staged --worktree . && dvc checkout --allow-missing\n"
        f"  get it back dvc exp apply {name}"
    )


def _demo(_: argparse.Namespace) -> None:
    from pneumonia import recipes
    from pneumonia.evaluation.metrics import metrics_table
    from pneumonia.store.files import read_json

    root = recipes.checkout()
    overrides = recipes.load_recipe(root, "demo")
    ref = recipes.run_experiment(root, "demo", overrides, "--temp")
    recipes.copy_committed(root, ref, ("metrics", "plots"), recipes.DEMO)
    print("\n" + metrics_table(read_json(root / recipes.DEMO / "metrics/evaluate.json")))
    print(
        f"\nMetrics and plots:          {root / recipes.DEMO}\n"
        "Compare with other runs by: dvc exp show --only-changed"
    )


def _gate(args: argparse.Namespace) -> None:
    from datetime import UTC, datetime

    from pneumonia.gate.report import as_json, as_markdown, as_text
    from pneumonia.gate.verdict import EXIT_STATUS, judged
    from pneumonia.store.files import write_json, write_text

    verdict = judged(
        _root(),
        args.base,
        args.candidate,
        policy_file=args.policy,
        new_baseline=args.new_baseline,
        today=datetime.now(UTC).date(),
    )
    print(as_text(verdict))
    if args.markdown:
        write_text(args.markdown, as_markdown(verdict))
    if args.json:
        write_json(args.json, as_json(verdict))
    sys.exit(EXIT_STATUS[verdict.outcome])


def _ledger(args: argparse.Namespace) -> None:
    import json

    from pneumonia.gate.ledger import as_table, openings

    rows = openings(_root())
    print(json.dumps(rows, indent=2) if args.json else as_table(rows))


def _remote(args: argparse.Namespace) -> None:
    from pneumonia.remote import completeness

    print(completeness(args.candidate or _root(), args.name))


def _confirm(args: argparse.Namespace) -> None:
    from pneumonia.gate.confirm import confirmed

    print(confirmed(args.candidate or _root()))


def _summary(args: argparse.Namespace) -> None:
    from pneumonia.documents.comment import summary

    print(summary(_root(), args.base, args.gate, args.pictures, args.candidate))


def _report(args: argparse.Namespace) -> None:
    from pneumonia.documents.report import report
    from pneumonia.store.files import write_text

    write_text(args.output, report(_root()))
    print(args.output)


def _predict(args: argparse.Namespace) -> None:
    import logging
    import warnings

    from pneumonia.evaluation.metrics import dataset_in_words
    from pneumonia.progress import reported
    from pneumonia.serving import answers
    from pneumonia.serving.predict import find_radiographs, load_predictor, predict

    warnings.simplefilter("ignore")  # of the decoders; ours are in the rows
    # A name that the terminal cannot show must not stop the command.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it is a file
    root = _root()
    model = _model(args, root)
    radiographs = find_radiographs(args.paths)
    point = args.operating_point or model.with_name("operating_point.json")
    predictor = load_predictor(model, point, root / PARAMS)
    rows = predict(radiographs, predictor, args.heatmap)
    if not (sys.stdout.isatty() and sys.stderr.isatty()):  # a bar would run through the answers
        log = logging.getLogger("predict")
        rows = reported(rows, len(radiographs), "radiographs answered", log)
    line = answers.as_table_lines
    if args.json:
        line = answers.as_json_line
    elif args.csv:
        line = answers.as_csv_line
        print(answers.as_csv_line(None))
    else:
        print(answers.TABLE_HEAD)
    n_failed = 0
    for row in rows:
        print(line(row), flush=True)
        n_failed += row.error is not None
    if not (args.json or args.csv):
        print(
            f"{len(radiographs) - n_failed} of {len(radiographs)} answered; pneumonia from "
            f"{predictor.operating_threshold:.6f} on. Trained on "
            f"{dataset_in_words(predictor.dataset)}. Not for diagnosis."
        )
    sys.exit(1 if n_failed else 0)


def _export(args: argparse.Namespace) -> None:
    from pneumonia.serving.export import export, summary

    root = _root()
    model = _model(args, root)
    folder = export(
        model,
        model.with_name("operating_point.json"),
        root / PARAMS,
        root / "MODEL_CARD.md",
        args.format,
        args.output or root / "models/export" / args.format,
    )
    print(f"{folder}\n{summary(folder)}")


def _root() -> Path:
    from pneumonia.recipes import checkout

    return checkout()


def _model(args: argparse.Namespace, root: Path) -> Path:
    """The model that was named, or the pipeline's; an error if that is missing."""
    if args.model is None and not (root / MODEL).exists():
        raise PipelineError(
            f"{root / MODEL}: there is no trained model yet. `make pull` downloads it from the "
            "team's remote (with the data, some 300 MB); `make repro` trains it (over an hour on a "
            "CPU, minutes on a GPU)"
        )
    return Path(args.model or root / MODEL)


if __name__ == "__main__":
    main()

"""The command `pneumonia`: what people type that is not a stage."""

import argparse
import os
import sys
from pathlib import Path

from pneumonia import recipes
from pneumonia.errors import run_stage

MODEL = Path("models/finetune.keras")


def main() -> None:
    """Run what the command line asks for; what the person can put right is one line, status 1."""
    arguments = _parser().parse_args()
    try:
        run_stage(lambda: arguments.run(arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; Python would complain at its own end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pneumonia",
        description="The pneumonia pipeline. For research; not for diagnosis.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    repro = commands.add_parser(
        "repro", help="run recipes/RECIPE.yaml over params.yaml, as a DVC experiment of that name"
    )
    repro.add_argument("recipe", metavar="RECIPE", help="demo, paper, imagenet, mobilenet, …")
    repro.add_argument(
        "--pull", action="store_true", help="take from the remote what another machine finished"
    )
    repro.set_defaults(run=_repro)

    demo = commands.add_parser(
        "demo", help="run all six stages on drawn phantoms, in a temporary copy"
    )
    demo.set_defaults(run=_demo)

    gate = commands.add_parser(
        "gate",
        help="may the candidate be merged? No loss of recall against the base",
        description="Compare metrics and predictions of two revisions by the policy of the base.",
        epilog="Exit status: 0 PASS, 1 the evidence is not whole or sound, 2 wrong arguments, "
        "3 FAIL, 4 INCONCLUSIVE, 5 NO BASELINE, 6 WAIVED.",
    )
    gate.add_argument("--base", metavar="REV", required=True, help="what it would be merged into")
    gate.add_argument("--candidate", metavar="REV", help="left out: the working tree")
    gate.add_argument(
        "--policy", metavar="FILE", type=Path, help="in place of gate.yaml of the base"
    )
    gate.add_argument(
        "--new-baseline",
        action="store_true",
        help="nothing to compare with, or another test set, is accepted: the floors alone decide",
    )
    gate.add_argument("--markdown", metavar="FILE", type=Path, help="the same as Markdown")
    gate.add_argument("--json", metavar="FILE", type=Path, help="the same as JSON, in full")
    gate.set_defaults(run=_gate)

    ledger = commands.add_parser("ledger", help="list every opening of the test set")
    ledger.add_argument("--json", action="store_true", help="as JSON")
    ledger.set_defaults(run=_ledger)

    remote = commands.add_parser("remote", help="is all that dvc.lock names in DVC's remote?")
    remote.add_argument("--name", metavar="REMOTE", help="left out: the default remote")
    remote.add_argument("--candidate", metavar="FOLDER", type=Path, help="left out: this checkout")
    remote.set_defaults(run=_remote)

    confirm = commands.add_parser(
        "confirm", help="evaluate the locked model again: does it give the recorded probabilities?"
    )
    confirm.add_argument("--candidate", metavar="FOLDER", type=Path, help="left out: this checkout")
    confirm.set_defaults(run=_confirm)

    summary = commands.add_parser("summary", help="what a reviewer reads, as Markdown")
    summary.add_argument("--base", metavar="REV", required=True)
    summary.add_argument("--candidate", metavar="REV", help="left out: the working tree")
    summary.add_argument("--gate", metavar="FILE", type=Path, help="Markdown of the gate")
    summary.add_argument("--pictures", metavar="URL", help="where the tree's pictures can be seen")
    summary.set_defaults(run=_summary)

    report = commands.add_parser("report", help="one HTML page of all that a run's files tell")
    report.add_argument("--output", metavar="FILE", type=Path, default=Path("report/report.html"))
    report.set_defaults(run=_report)

    predict = commands.add_parser(
        "predict",
        help="probability, verdict and warnings for films: JPEG, PNG, DICOM",
        description="P(pneumonia) of films, and the verdict at the stored operating threshold. "
        "Research software: not for diagnosis.",
        epilog="Exit status: 0 every film was answered, 1 some were not, 2 wrong arguments.",
    )
    predict.add_argument("paths", metavar="FILE|FOLDER", type=Path, nargs="+")
    predict.add_argument("--model", metavar="FILE", type=Path, help="left out: the recorded one")
    predict.add_argument(
        "--operating-point", metavar="FILE", type=Path, help="left out: beside the model"
    )
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a JSON object a line")
    form.add_argument("--csv", action="store_true", help="a table with a heading")
    predict.add_argument("--heatmap", metavar="FOLDER", type=Path, help="write overlays there")
    predict.set_defaults(run=_predict)

    export = commands.add_parser(
        "export", help="the model for another runtime, with its threshold, contract and card"
    )
    export.add_argument("--format", required=True, choices=("savedmodel", "onnx", "tflite"))
    export.add_argument(
        "--output", metavar="FOLDER", type=Path, help="left out: models/export/FORMAT"
    )
    export.add_argument("--model", metavar="FILE", type=Path, help="left out: the recorded one")
    export.set_defaults(run=_export)
    return parser


def _repro(arguments: argparse.Namespace) -> None:
    name = arguments.recipe
    root = recipes.checkout()
    overrides = recipes.load_recipe(root, name)
    recipes.refuse_foreign_changes(root, name, overrides)
    recipes.run_experiment(root, name, overrides, *(["--pull"] if arguments.pull else []))
    print(
        f"\nRecipe {name} is done. Its result is in the workspace, and kept as experiment {name}.\n"
        "  look       dvc exp show --only-changed; dvc metrics diff\n"
        "  record it  git commit -a      params.yaml, dvc.lock, metrics and plots belong together\n"
        "  go back    git restore --staged --worktree . && dvc checkout --allow-missing\n"
        f"  again      dvc exp apply {name}"
    )


def _demo(_: argparse.Namespace) -> None:
    # Imported here: `pneumonia --help` should not wait for pandas.
    from pneumonia.evaluation.metrics import metrics_table
    from pneumonia.store.files import read_json

    root = recipes.checkout()
    overrides = recipes.load_recipe(root, "demo")
    ref = recipes.run_experiment(root, "demo", overrides, "--temp")
    recipes.copy_committed(root, ref, ("metrics", "plots"), recipes.DEMO)
    print("\n" + metrics_table(read_json(root / recipes.DEMO / "metrics/evaluate.json")))
    print(
        f"\nPictures and figures: {root / recipes.DEMO}\n"
        "Beside other runs:     dvc exp show --only-changed"
    )


def _gate(arguments: argparse.Namespace) -> None:
    from datetime import UTC, datetime

    from pneumonia.gate.report import as_json, as_markdown, as_text
    from pneumonia.gate.verdict import EXIT_STATUS, judged
    from pneumonia.store.files import write_json, write_text

    verdict = judged(
        recipes.checkout(),
        arguments.base,
        arguments.candidate,
        policy_file=arguments.policy,
        new_baseline=arguments.new_baseline,
        today=datetime.now(UTC).date(),
    )
    print(as_text(verdict))
    if arguments.markdown:
        write_text(arguments.markdown, as_markdown(verdict))
    if arguments.json:
        write_json(arguments.json, as_json(verdict))
    sys.exit(EXIT_STATUS[verdict.outcome])


def _ledger(arguments: argparse.Namespace) -> None:
    import json

    from pneumonia.gate.ledger import as_table, openings

    rows = openings(recipes.checkout())
    print(json.dumps(rows, indent=2) if arguments.json else as_table(rows))


def _remote(arguments: argparse.Namespace) -> None:
    from pneumonia.remote import completeness

    print(completeness(arguments.candidate or recipes.checkout(), arguments.name))


def _confirm(arguments: argparse.Namespace) -> None:
    from pneumonia.gate.confirm import confirmed

    print(confirmed(arguments.candidate or recipes.checkout()))


def _summary(arguments: argparse.Namespace) -> None:
    from pneumonia.documents.comment import summary

    print(
        summary(
            recipes.checkout(),
            arguments.base,
            arguments.gate,
            arguments.pictures,
            arguments.candidate,
        )
    )


def _report(arguments: argparse.Namespace) -> None:
    from pneumonia.documents.report import report
    from pneumonia.store.files import write_text

    write_text(arguments.output, report(recipes.checkout()))
    print(arguments.output)


def _predict(arguments: argparse.Namespace) -> None:
    import logging
    import warnings

    from pneumonia.evaluation.metrics import source_in_words
    from pneumonia.progress import reported
    from pneumonia.serving import answers
    from pneumonia.serving.predict import find_radiographs, load_predictor, predict

    warnings.simplefilter("ignore")  # the decoders' own; what matters is said in our words
    # A name that the terminal cannot show is no reason to stop.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it is a file
    root = recipes.checkout()
    model = arguments.model or root / MODEL
    films = find_radiographs(arguments.paths)
    predictor = load_predictor(
        model,
        arguments.operating_point or model.with_name("operating_point.json"),
        root / recipes.PARAMS,
    )
    rows = predict(films, predictor, arguments.heatmap)
    if not (sys.stdout.isatty() and sys.stderr.isatty()):  # a bar would run through the answers
        rows = reported(rows, len(films), "films answered", logging.getLogger("predict"))
    line = answers.as_table_lines
    if arguments.json:
        line = answers.as_json_line
    elif arguments.csv:
        line = answers.as_csv_line
        print(answers.as_csv_line(None))
    else:
        print(answers.TABLE_HEAD)
    n_failed = 0
    for row in rows:
        print(line(row), flush=True)
        n_failed += row.error is not None
    if not (arguments.json or arguments.csv):
        print(
            f"{len(films) - n_failed} of {len(films)} answered; pneumonia from "
            f"{predictor.operating_threshold:.6f} on. Trained on "
            f"{source_in_words(predictor.dataset)}. Not for diagnosis."
        )
    sys.exit(1 if n_failed else 0)


def _export(arguments: argparse.Namespace) -> None:
    from pneumonia.serving.export import export, summary

    root = recipes.checkout()
    model = arguments.model or root / MODEL
    folder = export(
        model,
        model.with_name("operating_point.json"),
        root / recipes.PARAMS,
        root / "MODEL_CARD.md",
        arguments.format,
        arguments.output or root / "models/export" / arguments.format,
    )
    print(f"{folder}\n{summary(folder)}")


if __name__ == "__main__":
    main()

"""MODEL_CARD.md, rendered from the recorded run: no figure in it is typed by hand.

`python -m pneumonia.documents.card` writes it; with `--check` it only tells whether it is up to date. The
prose stands in docs/model_card.template, its front matter in the form that Hugging Face reads:
https://huggingface.co/docs/hub/model-cards
"""

import argparse
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd
import yaml

from pneumonia.data.datasets import SOURCES
from pneumonia.documents.paper import RULE, comparison, comparison_table
from pneumonia.documents.readme import figures_block
from pneumonia.errors import PipelineError, run_stage
from pneumonia.evaluation.metrics import shown, source_in_words
from pneumonia.evaluation.shortcuts import shortcut_rows
from pneumonia.store.files import read_json, read_table, write_text
from pneumonia.store.yaml12 import load_yaml

CARD = Path("MODEL_CARD.md")
TEMPLATE = Path("docs/model_card.template")
PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")
EVALUATE = Path("metrics/evaluate.json")
HISTORIES = {
    phase: Path(f"plots/evaluate/history_{phase}.csv") for phase in ("train_frozen", "finetune")
}
SHORTCUTS = Path("metrics/shortcuts.json")
ROBUSTNESS = Path("metrics/robustness.csv")
MAPS = Path("metrics/maps.json")

COMMAND = "python -m pneumonia.documents.card"
# The study's films on Hugging Face, whose `test` is the archive's test folder.
_STUDY_ON_HUGGING_FACE = "hf-vision/chest-xray-pneumonia"
_NOT_MEASURED = "Not measured in this run."
# Names that Hugging Face knows, in the order of its front matter.
_METRICS = ("recall", "specificity", "precision", "accuracy", "f1")


@dataclass(frozen=True)
class Record:
    """The recorded run, as read from the files that tell of it.

    Attributes:
        evaluate: metrics/evaluate.json.
        params: params.yaml.
        lock: dvc.lock.
        histories: phase -> its table, a row an epoch.
        shortcuts: metrics/shortcuts.json; None where there is none, as with the two that follow.
        robustness: metrics/robustness.csv.
        maps: metrics/maps.json.
    """

    evaluate: Mapping[str, Any]
    params: Mapping[str, Any]
    lock: Mapping[str, Any]
    histories: Mapping[str, pd.DataFrame]
    shortcuts: Mapping[str, Any] | None
    robustness: pd.DataFrame | None
    maps: Mapping[str, Any] | None


def model_card(template: str, record: Record) -> str:
    """The text of MODEL_CARD.md.

    Args:
        template: content of docs/model_card.template; a `$name` in it is filled in.
        record: the recorded run.

    Raises:
        PipelineError: the template asks for what is not known, or dvc.lock lacks an output.
    """
    evaluate, params = record.evaluate, record.params
    is_study = _is_study(evaluate["source"])
    parts = {
        "front_matter": yaml.safe_dump(
            front_matter(evaluate, params), sort_keys=False, allow_unicode=True, width=96
        ),
        "notice": "" if is_study else _notice(evaluate["source"]),
        "n_test": f"{evaluate['test']['n_images']}",
        "model": _model(record),
        "data": _data(evaluate),
        "image_size": f"{params['preprocess']['image_size']}",
        "fit": f"{params['preprocess']['fit']}",
        "threshold": f"{evaluate['operating_threshold']:.6f}",
        "target_recall": f"{evaluate['target_recall']:g}",
        "figures": figures_block(evaluate, params),
        "clinical": _clinical(evaluate["test"]),
        "comparison": _comparison(record),
        "shortcuts": _shortcuts(record.shortcuts),
        "robustness": _robustness(record.robustness),
        "maps": _maps(record.maps),
        "measured_of_these": "None of the four is measured here either."
        if _is_off(record.robustness)
        else "Of the four, only the first is measured here, by films corrupted on a computer.",
    }
    try:
        return Template(template).substitute(parts)
    except (KeyError, ValueError) as error:
        raise PipelineError(
            f"{TEMPLATE}: expected $name, one of {', '.join(parts)}. Received: {error}"
        ) from error


def front_matter(evaluate: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The card's metadata under Hugging Face's keys, test figures as a model-index.

    Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md

    Args:
        evaluate: content of metrics/evaluate.json.
        params: content of params.yaml.
    """
    source, test = evaluate["source"], evaluate["test"]
    is_study = _is_study(source)
    title = SOURCES[source].title if source in SOURCES else "An archive of the user's own"
    metrics: list[dict[str, Any]] = [
        {"type": name, "value": test[name], "name": name}
        for name in ("roc_auc", "average_precision")
    ]
    for at, threshold in (
        ("at_operating_threshold", evaluate["operating_threshold"]),
        ("at_half", 0.5),
    ):
        metrics += [
            {
                "type": name,
                "value": test[at][name],
                "name": f"{name} at {threshold:g}",
                "args": {"threshold": threshold},
            }
            for name in _METRICS
        ]
    result = {
        "task": {"type": "image-classification", "name": "Pneumonia against normal"},
        "dataset": {
            "type": _STUDY_ON_HUGGING_FACE if is_study else source,
            "name": f"{title} ({test['n_images']} test images)",
            "split": "test",
        },
        "metrics": metrics,
    }
    return {
        "license": "mit",
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["chest-radiograph", "pneumonia", "paediatric", "not-for-diagnosis"],
        **({"datasets": [_STUDY_ON_HUGGING_FACE]} if is_study else {}),
        "metrics": ["roc_auc", *_METRICS],
        "model-index": [{"name": f"pneumonia-{params['model']['backbone']}", "results": [result]}],
    }


def _is_study(source: str) -> bool:
    """Whether the films are those of Kermany et al., in either size."""
    return source in SOURCES and SOURCES[source].counts is not None


def _notice(source: str) -> str:
    """What the prose, which is about the study, must not leave in doubt."""
    return f"\n**Not the study's films.** All figures are of {source_in_words(source)}.\n"


def _model(record: Record) -> str:
    """The network, the two phases, and the bytes that were measured."""
    params, model = record.params, record.params["model"]
    weights = _output(record.lock, "finetune", "models/finetune.keras")
    archive = _output(record.lock, "fetch", "data/raw/radiographs.zip")
    facts = [
        ("network", f"`{model['backbone']}`, dropout {model['dropout']:g}"),
        ("starting weights", "random" if model["weights"] == "none" else f"`{model['weights']}`"),
        (
            "pixels",
            "in [0, 255] to the backbone's own scaling"
            if model["pixel_divisor"] == 1
            else f"divided by {model['pixel_divisor']:g} before the backbone's own scaling",
        ),
        ("seed", f"{record.evaluate['seed']}"),
        ("model file", f"md5 `{weights['md5']}`, {weights['size']:,} bytes"),
        ("archive of films", f"md5 `{archive['md5']}`, {archive['size']:,} bytes"),
    ]
    phases = [
        (
            f"`{phase}`",
            _epochs(record.histories[phase], params[phase]["epochs"]),
            f"{params[phase]['optimizer']}, {params[phase]['learning_rate']:g}, "
            f"{params[phase]['schedule']}",
            f"{params[phase]['batch_size']}",
            f"{params[phase]['class_weights']}",
            f"{params[phase]['label_smoothing']:g}",
        )
        for phase in HISTORIES
    ]
    columns = (
        "phase",
        "epochs",
        "optimizer, learning rate, schedule",
        "batch",
        "class weights",
        "label smoothing",
    )
    return "\n".join([*_table(("", ""), facts), "", *_table(columns, phases)])


def _epochs(history: pd.DataFrame, at_most: int) -> str:
    if history.empty:
        return "0: handed on unchanged"
    best = int(history["validation_loss"].to_numpy().argmin())
    epoch = int(history["epoch"].to_numpy()[best])
    return f"{len(history)} of at most {at_most}; handed on: {epoch}, the lowest validation loss"


def _output(lock: Mapping[str, Any], stage: str, path: str) -> Mapping[str, Any]:
    """What dvc.lock says of a stage's output: md5 and size.

    Raises:
        PipelineError: it says nothing of it.
    """
    for output in lock.get("stages", {}).get(stage, {}).get("outs", []):
        if output["path"] == path:
            return dict(output)
    raise PipelineError(f"{LOCK}: {path} is missing from stage {stage}; run `dvc repro`")


def _data(evaluate: Mapping[str, Any]) -> str:
    """The data section: the study's, or what little is known of another source."""
    source, test, validation = (evaluate[key] for key in ("source", "test", "validation"))
    sizes = ", ".join(
        f"{name} {split['n_images']} images of {split['n_patients']} patients"
        for name, split in (("validation", validation), ("test", test))
    )
    known = SOURCES.get(source)
    if known is None or known.counts is None:
        licence = f" Licence: {known.licence}." if known else ""
        return f"{source_in_words(source).capitalize()}: {sizes}.{licence}"
    of_kind = {
        kind: sum(n for (_, which), n in known.counts.items() if which == kind)
        for kind in ("normal", "bacterial", "viral")
    }
    of_folder = {
        folder: {which: n for (where, which), n in known.counts.items() if where == folder}
        for folder in ("train", "test")
    }
    shares = {
        folder: 100 * (1 - counted["normal"] / sum(counted.values()))
        for folder, counted in of_folder.items()
    }
    n_train = sum(of_folder["train"].values()) - validation["n_images"]
    facts = [
        (
            "what",
            f"{sum(of_kind.values()):,} chest radiographs: {of_kind['normal']:,} normal, "
            f"{of_kind['bacterial']:,} bacterial and {of_kind['viral']:,} viral pneumonia",
        ),
        ("who", "children of one to five years"),
        ("where", "Guangzhou Women and Children's Medical Center, one hospital"),
        ("labels", "two physicians; a third expert checked the test images only"),
        ("splits", f"train {n_train:,} images, {sizes}; test is the archive's own folder"),
        ("source here", f"`{source}`: {known.title}"),
        ("licence", known.licence),
        ("citation", f"{known.citation}; described in Kermany et al., Cell 172 (2018)"),
    ]
    return "\n".join(
        [
            *_table(("", ""), facts),
            "",
            f"The train folder is {shares['train']:.1f} % pneumonia, test {shares['test']:.1f} %. "
            "Neither is a prevalence that a clinic would see.",
            "More, traps included: [docs/data.md](docs/data.md).",
        ]
    )


def _clinical(test: Mapping[str, Any]) -> str:
    """Recall by kind, predictive values and calibration of test."""
    if "by_kind" not in test:
        return _NOT_MEASURED
    of_kind = [
        (kind, f"{part['n_images']}", "recall" if "recall" in part else "specificity")
        for kind, part in test["by_kind"].items()
    ]
    kinds = [
        (kind, n_images, f"{rate} {shown(test['by_kind'][kind], rate)}")
        for kind, n_images, rate in of_kind
    ]
    prefix = "at_prevalence_"
    worth = [
        (f"{int(key.removeprefix(prefix))} %", shown(part, "npv"), shown(part, "ppv"))
        for key, part in test.items()
        if key.startswith(prefix)
    ]
    return "\n".join(
        [
            "On test, at the operating threshold, with 95 % intervals:",
            "",
            *_table(("kind", "images", "called rightly"), kinds),
            "",
            *_table(
                ("if so many are ill", "a normal verdict is right", "a pneumonia verdict is right"),
                worth,
            ),
            "",
            f"Brier score {shown(test, 'brier')}, calibration error "
            f"{shown(test, 'calibration_error')}. How each is made: "
            "[docs/figures.md](docs/figures.md).",
        ]
    )


def _comparison(record: Record) -> str:
    """The paper's figures beside ours, and the rule of the verdicts."""
    rows = comparison_table(comparison(record.evaluate, record.histories["train_frozen"]))
    columns = ("at 0.5 on test", "here", "the paper", "difference in points", "verdict")
    return "\n".join([*_table(columns, rows), "", _paragraph(RULE)])


def _shortcuts(measured: Mapping[str, Any] | None) -> str:
    """The model beside two classifiers that see next to nothing of a lung."""
    if measured is None:
        return _NOT_MEASURED
    columns = ("on test", "ROC-AUC", "behind the model", "accuracy", "recall", "specificity")
    return "\n".join(
        [
            *_table(columns, shortcut_rows(measured)),
            "",
            _paragraph(
                "File metadata are the size in pixels and the colour mode; a thumbnail shows how "
                "bright the parts of a film are and no more. Both were fitted on the "
                f"{measured['n_train_images']:,} train images and measured on "
                f"{measured['n_test_images']} test images of {measured['n_test_patients']} "
                "patients, rates at 0.5, nothing tuned. Behind: the model's area less the "
                "shortcut's, the interval from the same resamples of patients. What they reach, "
                "the data set gives away with hardly a look at the lungs, though a widespread "
                "opacity can brighten a thumbnail too."
            ),
        ]
    )


def _is_off(robustness: pd.DataFrame | None) -> bool:
    return robustness is None or robustness.empty


def _robustness(table: pd.DataFrame | None) -> str:
    """The clean sample and the severest grade of each corruption."""
    if table is None or table.empty:
        return _NOT_MEASURED
    # A row a corruption, in the table's order: the last of its rows is its severest.
    last = table.drop_duplicates("corruption", keep="last").to_dict("records")
    severest: list[dict[str, Any]] = [{str(name): v for name, v in row.items()} for row in last]
    rows = [
        (
            "as they came"
            if row["severity"] == 0
            else f"{row['corruption']}, grade {row['severity']}",
            *(shown(row, metric) for metric in ("recall", "specificity", "roc_auc")),
            ", ".join(
                metric
                for metric in ("recall", "specificity", "roc_auc")
                if row["severity"] and row[f"{metric}_change_high"] < 0
            ),
        )
        for row in severest
    ]
    first = severest[0]
    columns = ("films", "recall", "specificity", "ROC-AUC", "fell beyond chance")
    return "\n".join(
        [
            f"{first['n_images']} test images of {first['n_patients']} patients, at the operating "
            "threshold; of each corruption the severest grade:",
            "",
            *_table(columns, rows),
            "",
            "All grades: `metrics/robustness.csv`.",
        ]
    )


def _maps(maps: Mapping[str, Any] | None) -> str:
    """What the class activation maps say in numbers."""
    if maps is None:
        return _NOT_MEASURED
    sanity, border = maps["sanity"], maps["border"]
    alike = [
        (words, f"{sanity[key]['median']:.3f} ({sanity[key]['q1']:.3f}–{sanity[key]['q3']:.3f})")
        for key, words in (
            ("head_randomised", "the head drawn anew"),
            ("backbone_randomised", "the backbone drawn anew too"),
            ("another_film", "another film"),
            ("chance", "chance"),
        )
    ]
    shares = [
        (key.replace("_", " "), f"{part['n_images']}", f"{part['median']:.3f}")
        for key, part in border.items()
        if isinstance(part, Mapping) and "median" in part
    ]
    return "\n".join(
        [
            f"Class activation maps of {sanity['n_images']} test images keep this much of the "
            "trained maps (size of the rank correlation, median and quartiles) with:",
            "",
            *_table(("", "likeness"), alike),
            "",
            "Share of what speaks for pneumonia that lies in the outer border of the film; an even "
            f"map would have {border['even_share']:.3f} there:",
            "",
            *_table(("outcome", "images", "median share"), shares),
            "",
            _paragraph(
                f"A map has {maps['map_height']} × {maps['map_width']} places. Where the maps of "
                "two films are as alike as maps under another head, they show the model's template "
                "more than the film. No lung was outlined by anybody: this shows where the model "
                "looks, and not whether it looks at disease."
            ),
        ]
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [_line(columns), f"|{'---|' * len(columns)}", *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _paragraph(text: str) -> str:
    """The text in lines of at most 100 characters."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def check(card: str, expected: str) -> None:
    """Nothing, where the card is what the recorded run gives.

    Raises:
        PipelineError: it is not; the first line that differs is named.
    """
    if card == expected:
        return
    lines, expected_lines = card.splitlines(), expected.splitlines()
    n_same = next(
        (
            i
            for i, pair in enumerate(zip(lines, expected_lines, strict=False))
            if pair[0] != pair[1]
        ),
        min(len(lines), len(expected_lines)),
    )
    received = lines[n_same][:80] if n_same < len(lines) else "its end"
    raise PipelineError(
        f"{CARD} is not what the recorded run gives, from line {n_same + 1}; run `{COMMAND}`. "
        f"Received there: {received}"
    )


def rendered(root: Path) -> str:
    """The card that the files of the repository at `root` give.

    Raises:
        PipelineError: a file is missing, broken, or lacks what the card needs.
    """
    template = root / TEMPLATE
    if not template.is_file():
        raise PipelineError(f"{template}: expected the card's template. Received: no such file")
    record = Record(
        evaluate=read_json(root / EVALUATE),
        params=load_yaml(root / PARAMS),
        lock=load_yaml(root / LOCK),
        histories={phase: read_table(root / path) for phase, path in HISTORIES.items()},
        shortcuts=read_json(root / SHORTCUTS) if (root / SHORTCUTS).exists() else None,
        robustness=read_table(root / ROBUSTNESS) if (root / ROBUSTNESS).exists() else None,
        maps=read_json(root / MAPS) if (root / MAPS).exists() else None,
    )
    return model_card(template.read_text(encoding="utf-8"), record)


def main(root: Path = Path(), only_check: bool = False) -> None:
    """Write MODEL_CARD.md of the repository at `root`; or only check it.

    Raises:
        PipelineError: as `rendered`, and when the check fails.
    """
    expected = rendered(root)
    if not only_check:
        write_text(root / CARD, expected)
        return
    path = root / CARD
    check(path.read_text(encoding="utf-8") if path.exists() else "", expected)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it is stale")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _arguments()
    run_stage(lambda: main(only_check=arguments.check))

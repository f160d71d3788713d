"""The report of a run: one page of HTML with all that its files tell, figures inside.

What a run has not is left out, and a line says so. No date of now stands in it: the same files at
the same commit give the same bytes.
"""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from pneumonia.data.datasets import SOURCES, is_public
from pneumonia.documents.paper import RULE, comparison, comparison_table
from pneumonia.documents.report_html import (
    Child,
    Element,
    cards,
    coded,
    document,
    el,
    figure,
    folded,
    listed,
    missing,
    paragraph,
    table,
)
from pneumonia.errors import PipelineError
from pneumonia.evaluation.metrics import HALF, SCHEMA, shown, source_in_words
from pneumonia.evaluation.predictions import TEXT_COLUMNS, checked
from pneumonia.evaluation.shortcuts import shortcut_rows
from pneumonia.gate.ledger import FILMS, openings
from pneumonia.git import changed_paths, git
from pneumonia.store.files import read_json, read_table
from pneumonia.store.yaml12 import load_yaml

REPORT = Path("report/report.html")
EVALUATE = Path("metrics/evaluate.json")
PREDICTIONS = Path("metrics/predictions.csv")
ROBUSTNESS = Path("metrics/robustness.csv")
SHORTCUTS = Path("metrics/shortcuts.json")
MAPS = Path("metrics/maps.json")
PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")
PICTURES = Path("plots/evaluate")
HISTORIES = {phase: PICTURES / f"history_{phase}.csv" for phase in ("train_frozen", "finetune")}

TITLE = "Pneumonia on chest radiographs: report of a run"
# Of the outputs that the lock names, those that this page is made from.
_SHOWN = ("metrics/", "plots/")


@dataclass(frozen=True)
class Picture:
    """A picture that stage `evaluate` may write.

    Attributes:
        part: the part of the page that it stands in.
        images: what it was made from, a key of `_images`.
        caption: what it shows.
        alt: how that looks, for who cannot see it.
    """

    part: str
    images: str
    caption: str
    alt: str


KNOWN_PICTURES: Mapping[str, Picture] = {
    "accuracy_loss.png": Picture(
        "training", "validation", "Accuracy and loss by epoch, a row a phase",
        "Line charts of accuracy and of loss on train and validation over the epochs.",
    ),
    "confusion.png": Picture(
        "figures", "test", "Verdicts against truth, at the operating threshold and at 0.5",
        "Two tables of two by two counts, truth against verdict, darker for a larger share.",
    ),
    "roc.png": Picture(
        "figures", "both", "ROC curves, with the operating point",
        "Recall against the false positive rate, a curve each for validation and test.",
    ),
    "precision_recall.png": Picture(
        "figures", "both", "Precision and recall, with the operating point",
        "Precision against recall, a curve each for validation and test, and the prevalences.",
    ),
    "kinds.png": Picture(
        "clinical", "test", "Recall by kind, specificity, and predictive values by prevalence",
        "Points with intervals for each kind of film, and for three prevalences.",
    ),
    "reliability.png": Picture(
        "clinical", "test", "Reliability: how often there is pneumonia where the model says so",
        "Observed share of pneumonia against the mean probability of ten bins, with intervals.",
    ),
    "decision.png": Picture(
        "clinical", "test", "Decision curve: net benefit of the model, of calling all and none",
        "Net benefit against the threshold probability, for model, all and none.",
    ),
    "samples.png": Picture(
        "films", "test", "Test films of each outcome, chosen by rule",
        "Radiographs in four columns, missed, false alarm, caught, cleared, with probabilities.",
    ),
    "robustness.png": Picture(
        "robustness", "robustness", "Recall, specificity and area by severity of each corruption",
        "A small chart a corruption, with three curves against its severity.",
    ),
    "maps.png": Picture(
        "maps", "test", "Films of each outcome with their class activation maps",
        "Radiographs beside maps, vermillion towards pneumonia and blue towards normal.",
    ),
    "maps_sanity.png": Picture(
        "maps", "sanity", "Maps of the trained model and of ones with weights drawn anew",
        "The same films with maps of three models, and how alike these maps are.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """What the files of a run say; None where there is no such file.

    Attributes:
        evaluate: metrics/evaluate.json.
        params: params.yaml.
        lock: dvc.lock.
        predictions: metrics/predictions.csv.
        histories: phase -> its table, a row an epoch.
        robustness: metrics/robustness.csv.
        shortcuts: metrics/shortcuts.json.
        maps: metrics/maps.json.
        pictures: file name -> PNG bytes, of plots/evaluate.
        unlike_lock: files of the run whose bytes are not those that dvc.lock names.
        commit: full hash and date of the commit that is checked out.
        changed: tracked files that differ from that commit.
        looks: rows of `ledger.openings`, or the reason why there are none.
    """

    evaluate: Mapping[str, Any]
    params: Mapping[str, Any]
    lock: Mapping[str, Any] | None
    predictions: pd.DataFrame | None
    histories: Mapping[str, pd.DataFrame]
    robustness: pd.DataFrame | None
    shortcuts: Mapping[str, Any] | None
    maps: Mapping[str, Any] | None
    pictures: Mapping[str, bytes]
    unlike_lock: Sequence[str]
    commit: tuple[str, str] | None
    changed: Sequence[str]
    looks: Sequence[Mapping[str, Any]] | str


def report(root: Path) -> str:
    """The page about the run in the repository at `root`.

    Raises:
        PipelineError: metrics/evaluate.json or params.yaml is missing, or a file is broken.
    """
    return page(read_record(root))


def read_record(root: Path) -> Record:
    """What the files of the repository at `root` say.

    Raises:
        PipelineError: as `report`.
    """
    evaluate = read_json(root / EVALUATE)
    schema = evaluate.get("schema") if isinstance(evaluate, dict) else None
    if schema != SCHEMA:
        raise PipelineError(
            f"{root / EVALUATE}: expected figures of schema {SCHEMA}. Received: {schema!r}"
        )

    def if_there(path: Path, read: Callable[[Path], Any]) -> Any:
        return read(root / path) if (root / path).is_file() else None

    lock = if_there(LOCK, load_yaml)
    commit, changed, looks = _from_git(root)
    return Record(
        evaluate=evaluate,
        params=load_yaml(root / PARAMS),
        lock=lock,
        predictions=if_there(PREDICTIONS, lambda path: checked(read_table(path, TEXT_COLUMNS))),
        histories={
            phase: read_table(root / path)
            for phase, path in HISTORIES.items()
            if (root / path).is_file()
        },
        robustness=if_there(ROBUSTNESS, lambda path: read_table(path, ("corruption",))),
        shortcuts=if_there(SHORTCUTS, read_json),
        maps=if_there(MAPS, read_json),
        pictures={
            path.name: path.read_bytes()
            for path in sorted((root / PICTURES).glob("*.png"))
            if not path.name.startswith(".")
        },
        unlike_lock=[
            output["path"]
            for output in _outputs(lock or {}).get("evaluate", [])
            if output["path"].startswith(_SHOWN) and _md5(root / output["path"]) != output["md5"]
        ],
        commit=commit,
        changed=changed,
        looks=looks,
    )


def page(record: Record) -> str:
    """The page about a run, as HTML that needs no other file, no network and no script.

    Where the source is not public no film is named, nor any picture shown that stage `evaluate`
    does not write.

    Raises:
        PipelineError: a picture is no PNG.
    """
    parts = (
        ("data", "Data", _data),
        ("model", "Model and settings", _model),
        ("made", "How it was made", _made),
        ("figures", "Figures", _figures),
        ("clinical", "What a clinic would ask", _clinical),
        ("films", "Films, and the errors", _films),
        ("comparison", "Beside the paper", _comparison),
        ("robustness", "Corrupted films", _robustness),
        ("maps", "Where it looks", _maps),
        ("shortcuts", "Shortcuts", _shortcuts),
        ("other", "Other pictures", _other),
        ("limits", "Limits", _limits),
        ("looks", "Looks at test", _looks),
    )
    sections = [
        (name, heading, content) for name, heading, make in parts if (content := make(record))
    ]
    links = listed(el("a", heading, href=f"#{name}") for name, heading, _ in sections)
    return document(
        TITLE,
        el("header", *_first_screen(record)),
        el("nav", links, aria_label="Parts of this page"),
        el(
            "main",
            *(
                el("section", el("h2", heading), *content, id=name)
                for name, heading, content in sections
            ),
        ),
        el(
            "footer",
            el(
                "p",
                "Research software, not for diagnosis. This page asks nothing of any host.",
                class_="muted",
            ),
        ),
    )


def _first_screen(record: Record) -> list[Element]:
    """What it is, what it is not, and the main figures."""
    evaluate, test = record.evaluate, record.evaluate["test"]
    at = test["at_operating_threshold"]
    n_sick, n_healthy = at["fn"] + at["tp"], at["fp"] + at["tn"]
    alarms = [el("p", el("strong", "Not for diagnosis."), " Research software.", class_="notice")]
    if evaluate["source"] == "phantoms":
        words = " Every figure here is of drawings: none says anything about a patient."
        alarms.append(el("p", el("strong", "Phantoms, not films."), words, class_="notice"))
    if record.unlike_lock:
        words = " Some files are not those that dvc.lock names: see "
        link = el("a", "how it was made", href="#made")
        text = el("strong", "Not one run.")
        alarms.append(el("p", text, words, link, ".", class_="notice"))
    network = _at(record.params, "model.backbone")
    return [
        el("h1", TITLE),
        *alarms,
        paragraph(
            "A classifier of chest radiographs" + (f", {network}," if network else ""),
            f" measured on {_size(test)}, {source_in_words(evaluate['source'])}.",
        ),
        cards(
            [
                ("Recall (sensitivity)", f"{at['recall']:.3f}", _interval(at, "recall")),
                ("Specificity", f"{at['specificity']:.3f}", _interval(at, "specificity")),
                ("ROC-AUC", f"{test['roc_auc']:.3f}", _interval(test, "roc_auc")),
                ("Pneumonia missed", f"{at['fn']:,}", f"of {n_sick:,} images"),
                ("False alarms", f"{at['fp']:,}", f"of {n_healthy:,} images"),
                (
                    "Operating threshold",
                    f"{evaluate['operating_threshold']:.6f}",
                    f"for a recall of {evaluate['target_recall']:g}",
                ),
            ]
        ),
        paragraph(
            "Called pneumonia from the operating threshold on, which was chosen on validation, "
            "never on test. Below a figure: its 95 % interval, which covers chance only."
        ),
    ]


def _data(record: Record) -> list[Element]:
    """What films these are."""
    evaluate = record.evaluate
    known = SOURCES.get(evaluate["source"])
    facts = [("source", evaluate["source"])]
    if known:
        facts += [("what", known.title), ("licence", known.licence), ("citation", known.citation)]
    facts += [(split, _size(evaluate[split])) for split in ("validation", "test")]
    parts = [table("The images", ("", "in this run"), facts, long=("in this run",))]
    if known is None or not known.public:
        parts.append(
            missing("The source is not marked public: no film is named or shown on this page.")
        )
    if record.predictions is None:
        return [*parts, missing(f"Images by kind: {PREDICTIONS} is not there.")]
    of_kind = (
        record.predictions.groupby(["kind", "split"])
        .agg(n_images=("name", "size"), n_patients=("patient_id", "nunique"))
        .reset_index()
    )
    rows = [
        (str(kind), str(split), f"{n_images:,}", f"{n_patients:,}")
        for kind, split, n_images, n_patients in of_kind.itertuples(index=False)
    ]
    columns = ("kind", "split", "images", "patients")
    return [*parts, table("Images that were predicted, by kind", columns, rows)]


def _model(record: Record) -> list[Element]:
    """The network, how it was trained, and every setting."""
    params = record.params
    asked = (
        ("network", "model.backbone"),
        ("starting weights", "model.weights"),
        ("image side, pixels", "preprocess.image_size"),
        ("validation by strategy", "split.strategy"),
        ("seed", "seed"),
    )
    facts = [(words, _setting(_at(params, key))) for words, key in asked if _at(params, key)]
    parts = [table("In short", ("", "setting"), facts)] if facts else []
    rows = [_trained(phase, history) for phase, history in record.histories.items()]
    if rows:
        columns = ("phase", "epochs", "handed on", "validation loss", "validation accuracy")
        parts.append(table("Training; the epoch of lowest loss is handed on", columns, rows))
    lacking = [str(path) for phase, path in HISTORIES.items() if phase not in record.histories]
    if lacking:
        parts.append(missing(f"Training by epoch: {' and '.join(lacking)} not there."))
    every = [
        (
            key,
            "withheld: the source is not public"
            if key == "fetch.archive" and value and not is_public(record.evaluate["source"])
            else _setting(value),
        )
        for key, value in _flat(params)
    ]
    settings = folded(
        f"All {len(every)} settings of {PARAMS}",
        table(f"{PARAMS}", ("setting", "value"), every, long=("value",)),
    )
    return [*parts, *_pictures(record, "training"), settings]


def _trained(phase: str, history: pd.DataFrame) -> tuple[str, ...]:
    if history.empty:
        return (phase, "0", "handed on unchanged", "", "")
    best = history.iloc[int(history["validation_loss"].to_numpy().argmin())]
    return (
        phase,
        f"{len(history)}",
        f"epoch {best['epoch']:.0f}",
        f"{best['validation_loss']:.4f}",
        f"{best['validation_accuracy']:.4f}",
    )


def _made(record: Record) -> list[Element]:
    """Commit, lock, and whether they belong to the figures."""
    parts = []
    if record.commit is None:
        parts.append(missing("Commit: this is no Git checkout."))
    else:
        commit, date = record.commit
        parts.append(paragraph("Commit ", el("code", commit), f" of {date}."))
        if record.changed:
            n_files = f"Tracked files that differ from it: {len(record.changed):,}"
            names = listed(el("code", path) for path in record.changed)
            parts += [el("p", f"{n_files}.", class_="notice"), folded("Which", names)]
    if record.lock is None:
        return [*parts, missing(f"{LOCK} is not there: nothing says what these figures are of.")]
    if record.unlike_lock:
        words = f"Not the bytes that {LOCK} names, or missing: "
        parts.append(el("p", words, *coded(record.unlike_lock), ".", class_="notice"))
    other = _other_settings(record.lock, record.params)
    if other:
        words = f"Settings that {PARAMS} has otherwise than the run that {LOCK} names: "
        parts.append(el("p", words, *coded(other), ".", class_="notice"))
    if not (record.unlike_lock or other):
        parts.append(
            paragraph(f"Settings, figures and pictures on this page are those that {LOCK} names.")
        )
    rows: list[tuple[Child, ...]] = [
        (stage, output["path"], el("code", str(output["md5"])), _bytes(output.get("size")))
        for stage, outputs in _outputs(record.lock).items()
        for output in outputs
    ]
    columns = ("stage", "output", "md5", "bytes")
    return [
        *parts,
        folded(f"The {len(rows)} outputs of {LOCK}", table("Outputs by stage", columns, rows)),
    ]


def _figures(record: Record) -> list[Element]:
    """Everything that was measured of verdicts and ranking."""
    evaluate = record.evaluate
    settings = [
        (split, at, f"{split}, {words}")
        for split in ("test", "validation")
        for at, words in (
            ("at_operating_threshold", f"at {evaluate['operating_threshold']:.6f}"),
            ("at_half", f"at {HALF}"),
        )
    ]
    rows = [
        (words, *(shown(evaluate[split][at], name) for split, at, _ in settings))
        for words, name in (
            ("recall (sensitivity)", "recall"),
            ("specificity", "specificity"),
            ("precision", "precision"),
            ("accuracy", "accuracy"),
            ("F1", "f1"),
        )
    ]
    rows += [
        (
            words,
            *(
                f"{evaluate[split][at][wrong]:,} of "
                f"{evaluate[split][at][wrong] + evaluate[split][at][right]:,}"
                for split, at, _ in settings
            ),
        )
        for words, wrong, right in (
            ("pneumonia missed", "fn", "tp"),
            ("false alarms", "fp", "tn"),
        )
    ]
    areas = [
        (words, *(shown(evaluate[split], name) for split in ("test", "validation")))
        for words, name in (("ROC-AUC", "roc_auc"), ("average precision", "average_precision"))
    ]
    return [
        table(
            f"Verdicts; {_both(evaluate)}",
            ("", *(words for _, _, words in settings)),
            rows,
        ),
        table("Ranking, whatever the threshold", ("", "test", "validation"), areas),
        el(
            "p",
            "In brackets 95 % intervals: Wilson's on images for rates; a bootstrap over patients "
            f"({evaluate['n_bootstrap']:,} resamples) for F1 and the areas.",
            class_="muted",
        ),
        *_pictures(record, "figures"),
    ]


def _clinical(record: Record) -> list[Element]:
    """Recall by kind, predictive values, calibration, net benefit."""
    test = record.evaluate["test"]
    parts = []
    if "by_kind" in test:
        kinds = [
            (kind, f"{of['n_images']:,} of {of['n_patients']:,}", name, shown(of, name))
            for kind, of in test["by_kind"].items()
            for name in ("recall", "specificity")
            if name in of
        ]
        columns = ("kind", "images of patients", "rate", "called rightly")
        parts.append(table("Test, at the operating threshold, by kind", columns, kinds))
    worth = [
        (f"{share} %", shown(of, "npv"), shown(of, "ppv"))
        for share, of in _keyed(test, "at_prevalence_")
    ]
    if worth:
        caption = "If so many are ill, what a verdict is worth, from test's rates"
        parts.append(table(caption, ("ill", "normal is right", "pneumonia is right"), worth))
    points = [
        (f"specificity at {share} % recall", shown(of, "specificity"))
        for share, of in _keyed(test, "at_recall_")
    ] + [
        (f"recall at {share} % specificity", shown(of, "recall"))
        for share, of in _keyed(test, "at_specificity_")
    ]
    points += [
        (words, shown(test, name))
        for words, name in (
            ("Brier score", "brier"),
            ("calibration error", "calibration_error"),
            ("mean probability less share of pneumonia", "calibration_in_the_large"),
        )
        if name in test
    ]
    points += [
        (f"net benefit beyond calling all or none, at {share} %", shown(of, "gain"))
        for share, of in _keyed(test, "net_benefit_at_")
    ]
    if points:
        words = "Test: other points of its curve (no threshold is taken from test), calibration"
        parts.append(table(words, ("", "95 % interval in brackets"), points))
    if not parts:
        parts.append(missing("By kind, by prevalence, calibration: not measured in this run."))
    return [*parts, *_pictures(record, "clinical")]


def _films(record: Record) -> list[Element]:
    """The films that are shown, and every test film that was called wrongly."""
    parts = _pictures(record, "films")
    if not is_public(record.evaluate["source"]):
        return [*parts, missing("Errors by film: withheld, the source is not public.")]
    if record.predictions is None:
        return [*parts, missing(f"Errors by film: {PREDICTIONS} is not there.")]
    threshold = record.evaluate["operating_threshold"]
    test = record.predictions[record.predictions["split"] == "test"]
    for words, label, wrong, ascending in (
        ("Pneumonia missed", 1, test["probability"] < threshold, True),
        ("False alarms", 0, test["probability"] >= threshold, False),
    ):
        errors = test[(test["label"] == label) & wrong].sort_values(
            ["probability", "name"], ascending=[ascending, True]
        )
        if errors.empty:
            parts.append(paragraph(f"{words}: none."))
            continue
        rows = [
            (str(name), str(kind), f"{probability:.6f}")
            for name, kind, probability in errors[["name", "kind", "probability"]].itertuples(
                index=False
            )
        ]
        caption = f"{words} on test at {threshold:.6f}, the gravest first"
        parts.append(
            folded(
                f"{words}: {len(rows):,} films",
                table(caption, ("film", "kind", "probability"), rows),
            )
        )
    return parts


def _comparison(record: Record) -> list[Element]:
    """The paper's figures beside ours."""
    if record.evaluate["source"] not in FILMS:
        return [missing("The paper's figures are of the study's films; these are others.")]
    if "train_frozen" not in record.histories:
        return [missing(f"Not compared: {HISTORIES['train_frozen']} is not there.")]
    rows = comparison_table(comparison(record.evaluate, record.histories["train_frozen"]))
    columns = ("", "here", "the paper", "difference in points", "verdict")
    test = record.evaluate["test"]
    return [
        table(f"At 0.5 on test ({_size(test)}), with 95 % intervals", columns, rows),
        el("p", RULE, class_="muted"),
    ]


def _robustness(record: Record) -> list[Element]:
    """What corruption does to the figures."""
    rows = record.robustness
    if rows is None or rows.empty:
        off = rows is not None or _at(record.params, "robustness.n_images") == 0
        why = "turned off in this run" if off else f"{ROBUSTNESS} is not there"
        return [missing(f"Robustness: {why}.")]
    metrics = {"recall": "recall", "specificity": "specificity", "roc_auc": "ROC-AUC"}
    every = [_as_cells({str(k): v for k, v in row.items()}, metrics) for row in _records(rows)]
    # Rows of a corruption stand together, its severest last.
    severest = [
        cells
        for cells, following in zip(every, [*every[1:], None], strict=True)
        if following is None or following[0] != cells[0]
    ]
    columns = ("corruption", "severity", *metrics.values(), "fell beyond chance")
    caption = f"{_images(record)['robustness']}. At the operating threshold"
    return [
        *_pictures(record, "robustness"),
        table(f"{caption}, the severest of each", columns, severest),
        folded(f"All {len(every)} settings", table(f"{caption}, every severity", columns, every)),
    ]


def _as_cells(row: Mapping[str, Any], metrics: Mapping[str, str]) -> tuple[str, ...]:
    clean = row["severity"] == 0
    fallen = [words for name, words in metrics.items() if row[f"{name}_change_high"] < 0]
    return (
        "as they came" if clean else str(row["corruption"]).replace("_", " "),
        "" if clean else f"{row['severity']}",
        *(shown(row, name) for name in metrics),
        "" if clean else ", ".join(fallen) or "nothing",
    )


def _maps(record: Record) -> list[Element]:
    """Where the evidence lies on the film, and whether that was learned."""
    pictures = _pictures(record, "maps")
    if record.maps is None:
        return [*pictures, missing(f"Class activation maps in numbers: {MAPS} is not there.")]
    border, sanity = record.maps["border"], record.maps["sanity"]
    alike = [
        (words, f"{sanity[key]['median']:.3f} ({sanity[key]['q1']:.3f}–{sanity[key]['q3']:.3f})")
        for words, key in (
            ("the head drawn anew", "head_randomised"),
            ("the backbone drawn anew too", "backbone_randomised"),
            ("another film", "another_film"),
            ("chance", "chance"),
        )
        if key in sanity
    ]
    shares = [
        (key.replace("_", " "), f"{of['n_images']:,}", f"{of['median']:.3f}")
        for key, of in border.items()
        if isinstance(of, Mapping) and "median" in of
    ]
    return [
        *pictures,
        table(
            f"{_images(record)['sanity']}. Likeness to the trained model's maps: size of the rank "
            "correlation, median and quartiles",
            ("", "likeness"),
            alike,
        ),
        table(
            "Median share of what speaks for pneumonia in the outer border; an even map has "
            f"{border['even_share']:.3f} there",
            ("outcome", "images", "share"),
            shares,
        ),
        el(
            "p",
            "Nobody outlined a lung: this tells where the model looks, not whether it sees "
            "disease.",
            class_="muted",
        ),
    ]


def _shortcuts(record: Record) -> list[Element]:
    """The model beside classifiers that cannot see pneumonia."""
    measured = record.shortcuts
    if measured is None:
        return [missing(f"Shortcuts: {SHORTCUTS} is not there.")]
    columns = ("", "ROC-AUC", "behind the model", "accuracy", "recall", "specificity")
    return [
        table(
            f"Test: {measured['n_test_images']:,} images of {measured['n_test_patients']:,} "
            "patients; rates at 0.5",
            columns,
            shortcut_rows(measured),
            long=("ROC-AUC",) if "carries_nothing" in json.dumps(measured) else (),
        ),
        el(
            "p",
            "Neither shortcut can see pneumonia. What it reaches, the data give away without a "
            "lung being looked at.",
            class_="muted",
        ),
    ]


def _other(record: Record) -> list[Element]:
    """Pictures that this page does not know."""
    unknown = [name for name in record.pictures if name not in KNOWN_PICTURES]
    if not unknown:
        return []
    if not is_public(record.evaluate["source"]):
        # Neither what they show is known here, nor what their names tell.
        return [missing(f"{len(unknown)} other pictures: withheld, the source is not public.")]
    return [
        figure(name, record.pictures[name], f"The picture {name}.", f"{PICTURES / name}")
        for name in unknown
    ]


def _limits(record: Record) -> list[Element]:
    """What the figures cannot tell."""
    source, test = record.evaluate["source"], record.evaluate["test"]
    if source == "phantoms":
        return [
            listed(
                [
                    "Phantoms are drawn from geometry. That the pipeline runs can be seen on "
                    "them; how a model does on children cannot."
                ]
            )
        ]
    limits = [
        "The two classes are all that the model knows: a normal verdict does not mean a healthy "
        "chest, and no other disease is looked for.",
        f"Intervals cover chance alone. With {test['n_images']:,} test images, results near each "
        "other cannot be told apart; Wilson's, on images, are a little too narrow where a patient "
        "has several.",
        "Nothing here says how the model does on films of another hospital, machine or age.",
        "A probability is not calibrated, and predictive values depend on the prevalence.",
    ]
    if source in FILMS:
        limits += [
            "The test folder is a block of the numbering, not a sample: validation does not "
            "foresee how test differs, so neither recall nor specificity is promised by it.",
            "Children of one to five years, one hospital. Two physicians labelled the films; a "
            "third expert checked those of test only.",
            "In these films colour mode, size and burned-in marks go with the class: good figures "
            "may be owed to them in part.",
            "Age, sex and severity are not in the data: nothing can be said of fairness between "
            "groups of children.",
        ]
    return [listed(limits)]


def _looks(record: Record) -> list[Element]:
    """The ledger of openings of the test set."""
    if isinstance(record.looks, str):
        return [missing(f"Ledger: {record.looks}")]
    n_looks: dict[str, int] = {}
    for row in record.looks:
        source = row["source"] or "unknown"
        n_looks[source] = n_looks.get(source, 0) + row["n_looks"]
    by_source = ", ".join(f"{source} {n:,}" for source, n in n_looks.items() if n) or "none"
    rows = [
        (
            row["date"][:10] or "not known",
            row["revision"],
            f"{row['n_looks']:,}",
            row["source"],
            row["recipe"] + (" (experiment)" if row["experiment"] else ""),
            *(
                "" if row[name] is None else f"{row[name]:.3f}"
                for name in ("recall", "specificity")
            ),
            row["note"],
        )
        for row in record.looks
    ]
    columns = (
        "date", "commit", "looks", "source", "recipe", "recall", "specificity", "note",
    )  # fmt: skip
    return [
        paragraph(
            "A setting that was chosen by many looks at the same images fits those images. So each "
            f"is counted: {by_source}. At the study's films: "
            f"{sum(n_looks.get(source, 0) for source in FILMS):,}."
        ),
        folded(
            f"The {len(rows)} rows of the ledger",
            table("Openings of the test set", columns, rows, long=("note",)),
        ),
    ]


def _pictures(record: Record, part: str) -> list[Element]:
    """The pictures of a part of the page, and a line about those that are not there."""
    wanted = {name: known for name, known in KNOWN_PICTURES.items() if known.part == part}
    images, source = _images(record), source_in_words(record.evaluate["source"])
    parts = [
        figure(
            name,
            record.pictures[name],
            known.alt,
            f"{known.caption}. {images[known.images]}; {source}.",
        )
        for name, known in wanted.items()
        if name in record.pictures
    ]
    lacking = [name for name in wanted if name not in record.pictures]
    if lacking:
        parts.append(missing(f"Not in this run: {', '.join(lacking)}."))
    return parts


def _images(record: Record) -> dict[str, str]:
    """What pictures were made from, in words."""
    evaluate, rows = record.evaluate, record.robustness
    words = {split: f"{split.capitalize()}: {_size(evaluate[split])}" for split in _SPLITS}
    words["both"] = _both(evaluate).capitalize()
    words["robustness"] = words["sanity"] = "A sample of test"
    if rows is not None and not rows.empty:
        first = {str(k): v for k, v in rows.iloc[0].items()}
        words["robustness"] += f": {_size(first)}"
    if record.maps is not None:
        words["sanity"] += f": {record.maps['sanity']['n_images']:,} images"
    return words


_SPLITS = ("validation", "test")


def _both(evaluate: Mapping[str, Any]) -> str:
    return "; ".join(f"{split}: {_size(evaluate[split])}" for split in _SPLITS)


def _size(split: Mapping[str, Any]) -> str:
    return f"{split['n_images']:,} images of {split['n_patients']:,} patients"


def _interval(measured: Mapping[str, float], name: str) -> str:
    return f"{measured[f'{name}_low']:.3f}–{measured[f'{name}_high']:.3f}"


def _records(rows: pd.DataFrame) -> list[dict[Any, Any]]:
    return rows.to_dict("records")


def _keyed(measured: Mapping[str, Any], prefix: str) -> list[tuple[int, Mapping[str, float]]]:
    """Percent and content of the keys that begin so: at_prevalence_05 gives 5."""
    return [
        (int(key.removeprefix(prefix)), of)
        for key, of in measured.items()
        if key.startswith(prefix)
    ]


def _at(values: Mapping[str, Any], dotted: str) -> Any:
    """The value under a dotted name; None where there is none."""
    found: Any = values
    for key in dotted.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted names and values, in their order."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _setting(value: Any) -> str:
    """A setting as YAML would write it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _bytes(size: object) -> str:
    return f"{size:,}" if isinstance(size, int) else ""


def _outputs(lock: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Stage -> its outputs in dvc.lock, each with path and md5."""
    return {
        stage: [output for output in of.get("outs", []) if "path" in output and "md5" in output]
        for stage, of in lock.get("stages", {}).items()
    }


def _other_settings(lock: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """Names of settings whose value is not the one that a stage ran with."""
    ran_with = {
        name: value
        for of in lock.get("stages", {}).values()
        for key, values in of.get("params", {}).get(str(PARAMS), {}).items()
        for name, value in (
            _flat(values, f"{key}.") if isinstance(values, dict) else [(key, values)]
        )
    }
    return [name for name, value in ran_with.items() if _at(params, name) != value]


def _md5(path: Path) -> str | None:
    if not path.is_file():
        return None
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _from_git(
    root: Path,
) -> tuple[tuple[str, str] | None, list[str], list[dict[str, Any]] | str]:
    """Commit with date, changed files, and looks at test; or the reason why there are none."""
    try:
        commit, time = git(root, "log", "-1", "--format=%H %ct").split()
        changed = changed_paths(root, commit, None)
    except (subprocess.CalledProcessError, OSError, ValueError):  # no repository, no Git, no commit
        return None, [], "this is no Git checkout, and Git holds the looks."
    date = datetime.fromtimestamp(int(time), UTC).date().isoformat()
    try:
        return (commit, date), changed, openings(root)
    except PipelineError as error:
        # Where this checkout lies is nobody's business who reads the page.
        return (commit, date), changed, f"{error}".replace(f"{root}/", "")

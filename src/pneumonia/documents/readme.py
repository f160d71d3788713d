"""The recorded state in words: its figures in README.md, beside the paper's.

`python -m pneumonia.documents.readme` writes them from metrics/evaluate.json, metrics/shortcuts.json and
params.yaml; a test fails where the document says something else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pneumonia.documents.paper import PAPER, PAPER_ROC_AUC
from pneumonia.errors import PipelineError, run_stage
from pneumonia.evaluation.intervals import wilson_interval, with_interval
from pneumonia.evaluation.metrics import Counts, rates, shown, source_in_words
from pneumonia.store.files import read_json, write_text
from pneumonia.store.yaml12 import load_yaml

README = Path("README.md")
METRICS = Path("metrics/evaluate.json")
SHORTCUTS = Path("metrics/shortcuts.json")
PARAMS = Path("params.yaml")
BEGIN, END = "<!-- recorded:begin -->", "<!-- recorded:end -->"

# Pictures of plots/evaluate under the table, and what they show.
PICTURES: Mapping[str, str] = {
    "confusion": "Confusion matrices of test at the operating threshold and at 0.5",
    "roc": "ROC curves of validation and test",
    "samples": "Test films of each outcome with probability, verdict and truth",
    "accuracy_loss": "Accuracy and loss by epoch, training and validation, both phases",
}


def readme_block(
    evaluate: Mapping[str, Any], shortcuts: Mapping[str, Any], params: Mapping[str, Any]
) -> str:
    """What stands between README's markers: `figures_block`, how far a thumbnail comes, pictures.

    Args:
        evaluate: content of metrics/evaluate.json.
        shortcuts: content of metrics/shortcuts.json.
        params: content of params.yaml, which the figures belong to.
    """
    thumbnail = shortcuts["thumbnail"]
    lines = [
        figures_block(evaluate, params),
        "",
        "For scale: a logistic regression that sees each test film as an 8×8 thumbnail has an area "
        f"of {shown(thumbnail, 'roc_auc')};",
        f"the model's is larger by {shown(thumbnail, 'roc_auc_behind')}.",
    ]
    for name, caption in PICTURES.items():
        lines += ["", f"![{caption}](plots/evaluate/{name}.png)"]
    return "\n".join(lines)


def figures_block(evaluate: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """How the recorded state came about, and the table of its figures beside the paper's.

    Args:
        evaluate: content of metrics/evaluate.json.
        params: content of params.yaml, which the figures belong to.
    """
    test, validation = evaluate["test"], evaluate["validation"]
    columns = {
        "test, operating threshold": _measured(test, "at_operating_threshold"),
        "test, 0.5": _measured(test, "at_half"),
        "the paper": _paper(),
        "validation, operating threshold": _measured(validation, "at_operating_threshold"),
    }
    model = params["model"]
    lines = [
        f"Data: {source_in_words(evaluate['source'])}. Network `{model['backbone']}`, weights "
        f"`{model['weights']}`, {params['preprocess']['image_size']} pixels, validation by "
        f"strategy `{params['split']['strategy']}`, seed {evaluate['seed']}.",
        f"Test: {_size(test)}. Validation: {_size(validation)}. Operating threshold "
        f"{evaluate['operating_threshold']:.6f}, chosen on validation for a recall of "
        f"{evaluate['target_recall']:g}.",
        "",
        f"| | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
        *(
            f"| {row} | {' | '.join(column[row] for column in columns.values())} |"
            for row in columns["the paper"]
        ),
        "",
        "In brackets 95 % intervals: Wilson's on images for rates, a bootstrap over patients for "
        "the area. The paper's",
        f"are reckoned from its counts on the official {sum(vars(PAPER).values())} test images.",
    ]
    return "\n".join(lines)


def _measured(split: Mapping[str, Any], at: str) -> dict[str, str]:
    """One column of the table, row by row, from one split of metrics/evaluate.json."""
    c = Counts(**{name: split[at][name] for name in ("tn", "fp", "fn", "tp")})
    return _rows({name: shown(split[at], name) for name in rates(c)}, shown(split, "roc_auc"), c)


def _paper() -> dict[str, str]:
    """The paper's column."""
    column = {}
    for name, (n_hits, n_total) in rates(PAPER).items():
        interval = wilson_interval(n_hits, n_total)
        column[name] = shown(with_interval(name, n_hits / n_total, interval), name)
    return _rows(column, PAPER_ROC_AUC, PAPER)


def _rows(column: Mapping[str, str], roc_auc: str, c: Counts) -> dict[str, str]:
    return {
        "recall (sensitivity)": column["recall"],
        "specificity": column["specificity"],
        "precision": column["precision"],
        "accuracy": column["accuracy"],
        "ROC-AUC": roc_auc,
        "pneumonia missed": f"{c.fn} of {c.fn + c.tp}",
        "false alarms": f"{c.fp} of {c.fp + c.tn}",
    }


def _size(split: Mapping[str, Any]) -> str:
    return f"{split['n_images']} images of {split['n_patients']} patients"


def block_of(text: str, name: str) -> str:
    """What stands between the two markers of a document.

    Raises:
        PipelineError: the document `name` does not have each marker once, in their order.
    """
    return _parted(text, name)[1]


def with_block(text: str, block: str, name: str) -> str:
    """The document with `block` between its markers.

    Raises:
        PipelineError: the document `name` does not have each marker once, in their order.
    """
    before, _, after = _parted(text, name)
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def _parted(text: str, name: str) -> tuple[str, str, str]:
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise PipelineError(
            f"{name}: expected {BEGIN} and after it {END}, once each. "
            f"Received: {text.count(BEGIN)} and {text.count(END)}"
        )
    before, rest = text.split(BEGIN)
    block, after = rest.split(END)
    return before, block.strip(), after


def main(root: Path = Path()) -> None:
    """Rewrite the figures in the README of the repository at `root`."""
    block = readme_block(
        read_json(root / METRICS), read_json(root / SHORTCUTS), load_yaml(root / PARAMS)
    )
    text = (root / README).read_text(encoding="utf-8")
    write_text(root / README, with_block(text, block, str(README)))


if __name__ == "__main__":
    run_stage(main)

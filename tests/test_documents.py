"""The documents tell the truth: what they name exists, and what they draw and quote is so."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
from dvc.cli.parser import get_main_parser

from pneumonia import recipes
from pneumonia.data.datasets import SOURCES
from pneumonia.documents import card
from pneumonia.documents import readme as recorded
from pneumonia.errors import PipelineError
from pneumonia.store.files import read_json, write_json
from pneumonia.store.yaml12 import load_yaml, parse_yaml
from pneumonia.training.weights import WEIGHTS

ROOT = Path(__file__).parent.parent
STAGES = load_yaml(ROOT / "dvc.yaml")["stages"]
PARAMS = load_yaml(ROOT / "params.yaml")
DOCUMENTS = sorted(
    str(path.relative_to(ROOT)) for folder in (ROOT, ROOT / "docs") for path in folder.glob("*.md")
)

each_document = pytest.mark.parametrize("document", DOCUMENTS)


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def inline(text: str) -> list[str]:
    """What stands between single backticks, outside fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def commands(text: str) -> list[list[str]]:
    """The words of every command that a reader may type: in `sh` blocks and between backticks."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    return [
        words
        for line in [*lines, *inline(text)]
        if re.match(r"(?:make|dvc|git|python|rm|source|export) ", line)
        for part in re.split(r" (?:&&|\|) ", line)
        if (words := shlex.split(part, comments=True))
    ]


def outputs(stage: str) -> set[str]:
    entries = [x for kind in ("outs", "metrics", "plots") for x in STAGES[stage].get(kind, [])]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def is_there(path: str) -> bool:
    """Whether a path is in the tree, or Git ignores it by name, or a stage or DVC writes it."""
    # NAME stands for any.
    if list(ROOT.glob(path.rstrip("/").replace("NAME", "*"))):
        return True
    own = {Path(path), *Path(path).parents} - {Path()}
    written = {Path(output) for stage in STAGES for output in outputs(stage)}
    folders = {parent for output in written for parent in output.parents}
    ignored = {Path(line.strip("/")) for line in text_of(".gitignore").splitlines()}
    # What lies under .scratch and .venv is not listed anywhere.
    hidden = {entry for entry in ignored if entry.name.startswith(".")}
    hidden |= {Path("report"), Path("models/export")}  # where the commands write by default
    hidden |= {Path(".dvc", line.strip("/")) for line in text_of(".dvc/.gitignore").splitlines()}
    return bool(own & (written | hidden) or Path(path) in folders | ignored or path == "dvc.lock")


def test_the_documents_that_a_reader_looks_for_are_there():
    assert {"README.md", "MODEL_CARD.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= set(DOCUMENTS)
    assert (ROOT / "LICENSE").is_file()


@each_document
def test_every_make_target_and_recipe_named_exists(document):
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    known = {path.stem for path in (ROOT / "recipes").glob("*.yaml")} | {"NAME"}
    for words in commands(text_of(document)):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, words
    assert set(re.findall(r"\bRECIPE=(\w+)", text_of(document))) <= known
    assert set(re.findall(r"\bLOCK=([\w.-]+)", text_of(document))) <= {
        path.name for path in ROOT.glob("*.lock")
    }


def test_every_recipe_is_explained():
    rows = re.findall(r"^\| `(\w+)` \|", text_of("docs/experiments.md"), re.MULTILINE)
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert path.stem in rows


@each_document
def test_every_path_named_exists_or_is_written_by_a_stage(document):
    named = [
        word
        for word in inline(text_of(document))
        if re.fullmatch(r"[\w.-]+/[\w./-]*|[\w-]+\.(?:py|yaml|lock|md|toml|cff)", word)
        and word not in ("val/", "model/")  # a folder of Kaggle's archive, and one of an export
        and "MACOSX" not in word
    ]
    for block in blocks(text_of(document), "sh"):
        named += re.findall(r"(?<!\S)(?:\.scratch|\.venv|recipes|src|data|models)/\S+", block)
    assert [path for path in named if not is_there(path)] == []


@each_document
def test_every_parameter_named_exists(document):
    words = " ".join(inline(text_of(document)))
    named = [
        (section, key)
        for section, key in re.findall(r"(?<![\w./])([a-z_]+)\.([a-z_]+)\b", words)
        if section in PARAMS and key not in ("keras", "yaml", "py", "json", "onnx", "tflite")
    ]
    assert [f"{s}.{k}" for s, k in named if k not in PARAMS[s]] == []


@each_document
def test_every_dvc_command_is_one_that_dvc_reads_and_its_values_are_accepted(document):
    for words in commands(text_of(document)):
        if words[0] != "dvc":
            continue
        read = get_main_parser().parse_args(words[1:])  # a wrong one exits
        if words[1] == "repro":
            assert set(read.targets) <= {"dvc.yaml", *STAGES}
        settings = [text.split("=", 1) for text in getattr(read, "set_param", None) or []]
        # A sweep names several values, by commas: each is to be accepted, with each of the others.
        for values in itertools.product(*(listed.split(",") for _, listed in settings)):
            overrides: dict = {}
            for (name, _), value in zip(settings, values, strict=True):
                section, key = name.split(".")
                overrides.setdefault(section, {})[key] = parse_yaml(f"x: {value}", name)["x"]
            recipes.check_sections(recipes.laid_over(PARAMS, overrides, document), document)


@each_document
def test_every_variable_of_the_environment_named_is_read(document):
    code = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for name in re.findall(r"\b(?:PNEUMONIA|KERAS)_[A-Z]+\b", text_of(document)):
        assert f'"{name}"' in code, name


def test_the_graph_drawn_is_the_graph_of_dvc_yaml():
    (drawing,) = blocks(text_of("README.md"), "mermaid")
    drawn = re.findall(r"^ *(\w+) -->(?:\|[^|]*\|)? (\w+)$", drawing, re.MULTILINE)
    assert len(drawn) == drawing.count("-->")
    real = {
        (earlier, later)
        for later in STAGES
        for earlier in STAGES
        if outputs(earlier) & set(STAGES[later]["deps"])
    }
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == real


def test_the_tree_names_every_module_and_only_what_exists():
    (tree,) = blocks(text_of("README.md"), "text")
    named, folder = set(), ""
    for line in tree.splitlines():
        names = re.findall(r"\S+\.py\b", line) if line.startswith(" ") else [line.split()[0]]
        folder = names[0] if not line.startswith(" ") else folder
        named |= {folder + name if line.startswith(" ") else name for name in names}
    assert [path for path in named if not (ROOT / path).exists()] == []
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "src").rglob("*.py")}
    assert {path for path in modules if not path.endswith("__init__.py")} <= named


def test_sources_and_weights_are_described_by_their_records():
    data, weights = text_of("docs/data.md"), text_of("docs/weights.md")
    for source in SOURCES.values():
        assert f"| `{source.name}` |" in data
        if source.remote is not None:
            assert source.remote.file in data
            assert f"{source.remote.n_bytes:,} bytes" in data
            assert f"| `{source.name}` | `{source.remote.sha256}` |" in data
            for (folder, _), number in source.counts.items():
                row = next(line for line in data.splitlines() if line.startswith(f"| {folder} f"))
                assert f" {number:,} |" in row
    rows = {
        (backbone, name, record.remote.file)
        for backbone, of_backbone in WEIGHTS.items()
        for name, record in of_backbone.items()
    }
    assert rows == set(
        re.findall(r"^\| `(\w+)` \| `(\w+)` \| `([\w.-]+)` \|", weights, re.MULTILINE)
    )


@pytest.mark.parametrize("document", ["README.md", "MODEL_CARD.md"])
def test_who_reads_the_first_page_knows_that_it_is_not_for_diagnosis(document):
    # The model card begins with what machines read.
    assert "**Not for diagnosis.**" in text_of(document).split("\n---\n", 1)[-1][:1200]


def test_one_version_everywhere():
    version = re.search(r'^version = "(.+)"', text_of("pyproject.toml"), re.MULTILINE).group(1)
    assert str(parse_yaml(text_of("CITATION.cff"), "CITATION.cff")["version"]) == version
    assert f"\n## {version}" in text_of("CHANGELOG.md")


def test_figures_quoted_are_the_figures_recorded():
    # Without a record there is nothing to quote.
    expected = ""
    if (ROOT / recorded.METRICS).exists():
        expected = recorded.readme_block(
            read_json(ROOT / recorded.METRICS), read_json(ROOT / recorded.SHORTCUTS), PARAMS
        )
    assert recorded.block_of(text_of("README.md"), "README.md") == expected, (
        "run `python -m pneumonia.documents.readme`"
    )


def test_every_picture_under_the_figures_is_one_that_evaluate_writes():
    assert {f"plots/evaluate/{name}.png" for name in recorded.PICTURES} <= outputs("evaluate")


# ---- the command that writes them ----


def measured(tn: int, fp: int, fn: int, tp: int) -> dict:
    """Counts, and figures that tell in the table where they came from."""
    named = {"accuracy": 0.1, "precision": 0.2, "recall": 0.3, "specificity": 0.4}
    return {"tn": tn, "fp": fp, "fn": fn, "tp": tp} | {
        f"{name}{end}": value + extra
        for name, value in named.items()
        for end, extra in (("", 0.05), ("_low", 0.0), ("_high", 0.0999))
    }


AREA = {"roc_auc": 0.98, "roc_auc_low": 0.9, "roc_auc_high": 0.99}
EVALUATE = {
    "source": "phantoms",
    "seed": 7,
    "target_recall": 0.98,
    "operating_threshold": 0.25,
    "test": {"n_images": 10, "n_patients": 9, **AREA,
             "at_operating_threshold": measured(1, 2, 3, 4), "at_half": measured(2, 1, 5, 2)},
    "validation": {"n_images": 6, "n_patients": 5, **AREA,
                   "at_operating_threshold": measured(3, 0, 1, 2), "at_half": measured(3, 0, 0, 3)},
}  # fmt: skip

SHORTCUTS = {
    "thumbnail": {
        "roc_auc": 0.88, "roc_auc_low": 0.85, "roc_auc_high": 0.91,
        "roc_auc_behind": 0.02, "roc_auc_behind_low": -0.01, "roc_auc_behind_high": 0.05,
    }
}  # fmt: skip


def test_the_table_puts_each_figure_into_its_row_and_column():
    lines = recorded.figures_block(EVALUATE, PARAMS).splitlines()
    rows = dict(line.strip("| ").split(" | ", 1) for line in lines if line.startswith("| "))
    # Each made-up figure has the same interval in all columns but the paper's.
    #                 test            test at 0.5     the paper             validation
    assert rows["pneumonia missed"] == "3 of 7 | 5 of 7 | 39 of 390 | 1 of 3"
    assert rows["false alarms"] == "2 of 3 | 1 of 3 | 50 of 234 | 0 of 3"
    ours = "0.350 (0.300–0.400)"
    # 351 of 390 is .900; the interval stands in many tables of Wilson's: .866–.926.
    assert rows["recall (sensitivity)"] == f"{ours} | {ours} | 0.900 (0.866–0.926) | {ours}"
    assert rows["specificity"].split(" | ")[2].startswith("0.786 ")  # 184 of 234
    assert rows["precision"].split(" | ")[2].startswith("0.875 ")  # 351 of 401
    assert rows["accuracy"].split(" | ")[2].startswith("0.857 ")  # 535 of 624
    assert rows["specificity"].split(" | ")[0] == "0.450 (0.400–0.500)"
    area = "0.980 (0.900–0.990)"
    assert rows["ROC-AUC"] == f"{area} | {area} | 0.905 | {area}"


def test_the_block_says_what_the_figures_are_of():
    block = recorded.readme_block(EVALUATE, SHORTCUTS, PARAMS)
    assert "phantoms (drawn, no patients)" in block
    assert "Test: 10 images of 9 patients. Validation: 6 images of 5 patients." in block
    assert "Operating threshold 0.250000, chosen on validation for a recall of 0.98." in block
    assert f"Network `{PARAMS['model']['backbone']}`" in block
    assert "seed 7" in block
    assert "8×8 thumbnail has an area of 0.880 (0.850–0.910);" in block
    assert "larger by 0.020 (-0.010–0.050)." in block
    assert "![ROC curves of validation and test](plots/evaluate/roc.png)" in block


def test_the_block_is_replaced_and_the_rest_of_the_document_kept():
    text = "above\n<!-- recorded:begin -->\nold\n<!-- recorded:end -->\nbelow\n"
    once = recorded.with_block(text, "| new |", "a.md")
    assert once == "above\n<!-- recorded:begin -->\n| new |\n<!-- recorded:end -->\nbelow\n"
    assert recorded.with_block(once, "| new |", "a.md") == once
    assert recorded.block_of(once, "a.md") == "| new |"


@pytest.mark.parametrize(
    "text",
    [
        "no marker",
        "<!-- recorded:begin --> only one",
        "<!-- recorded:end --> the wrong way round <!-- recorded:begin -->",
        "<!-- recorded:begin --><!-- recorded:end --><!-- recorded:end -->",
    ],
)
def test_a_document_without_both_markers_is_one_clear_error(text):
    with pytest.raises(PipelineError, match=r"a\.md: expected <!-- recorded:begin --> and"):
        recorded.with_block(text, "new", "a.md")


def test_a_document_without_its_place_is_left_as_it_was_and_one_with_it_is_filled(tmp_path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "params.yaml").write_text(text_of("params.yaml"))
    write_json(tmp_path / recorded.METRICS, EVALUATE)
    write_json(tmp_path / recorded.SHORTCUTS, SHORTCUTS)
    readme = tmp_path / "README.md"
    readme.write_text("no marker")
    with pytest.raises(PipelineError):
        recorded.main(tmp_path)
    assert readme.read_text() == "no marker"

    readme.write_text("<!-- recorded:begin -->\n<!-- recorded:end -->\n")
    recorded.main(tmp_path)
    assert "| pneumonia missed | 3 of 7 |" in readme.read_text()
    assert "plots/evaluate/roc.png" in readme.read_text()


def test_the_model_card_is_that_of_the_recorded_run():
    assert card.rendered(ROOT) == text_of("MODEL_CARD.md"), "run `make record`"

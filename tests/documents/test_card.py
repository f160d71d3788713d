"""The model card: all its figures come from the recorded run, and a stale one is told."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pneumonia.documents import card
from pneumonia.documents.card import Record, front_matter, model_card
from pneumonia.errors import PipelineError
from pneumonia.evaluation.shortcuts import shortcuts
from pneumonia.store.arrays import Split
from pneumonia.store.files import read_json, write_json, write_table
from pneumonia.store.yaml12 import load_yaml

ROOT = Path(__file__).parents[2]
TEMPLATE = (ROOT / card.TEMPLATE).read_text(encoding="utf-8")


def measured(tn: int, fp: int, fn: int, tp: int) -> dict:
    """Counts, and made-up figures: accuracy .11, precision .22, recall .33, specificity .44."""
    figures = {"accuracy": 0.11, "precision": 0.22, "recall": 0.33, "specificity": 0.44, "f1": 0.55}
    return {"tn": tn, "fp": fp, "fn": fn, "tp": tp} | {
        f"{name}{end}": round(value + extra, 6)
        for name, value in figures.items()
        for end, extra in (("", 0), ("_low", -0.1), ("_high", 0.1))
    }


AREAS = {
    "roc_auc": 0.9, "roc_auc_low": 0.8, "roc_auc_high": 0.95,
    "average_precision": 0.7, "average_precision_low": 0.6, "average_precision_high": 0.75,
}  # fmt: skip
EVALUATE = {
    "source": "chestxray2017-224",
    "seed": 7,
    "target_recall": 0.97,
    "operating_threshold": 0.25,
    "test": {"n_images": 624, "n_patients": 428, **AREAS,
             "at_operating_threshold": measured(100, 134, 3, 387),
             "at_half": measured(184, 50, 39, 351)},
    "validation": {"n_images": 522, "n_patients": 461, **AREAS,
                   "at_operating_threshold": measured(100, 34, 4, 384),
                   "at_half": measured(110, 24, 8, 380)},
}  # fmt: skip
PARAMS = load_yaml(ROOT / "params.yaml")
LOCK = {
    "stages": {
        "fetch": {"outs": [{"path": "data/raw/radiographs.zip", "md5": "aaa", "size": 1234}]},
        "finetune": {"outs": [{"path": "models/finetune.keras", "md5": "bbb", "size": 5678}]},
    }
}
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "validation_loss": [0.5, 0.3, 0.4],
        "validation_accuracy": [0.7, 0.8, 0.9],
    }
)
HISTORIES = {"train_frozen": HISTORY[:1], "finetune": HISTORY}


def record(**changes) -> Record:
    return Record(
        **{
            "evaluate": EVALUATE, "params": PARAMS, "lock": LOCK, "histories": HISTORIES,
            "shortcuts": None, "robustness": None, "maps": None,
        } | changes
    )  # fmt: skip


def rendered(**changes) -> str:
    return model_card(TEMPLATE, record(**changes))


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next."""
    return re.split(r"\n#+ ", text.split(f"# {title}\n", 1)[1])[0]


def rows(text: str) -> dict[str, list[str]]:
    """Rows of the Markdown tables by their first cell."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return {first: rest for first, *rest in cells}


# ---- front matter ----


def test_the_front_matter_is_yaml_between_two_lines_at_the_very_top():
    text = rendered()
    assert text.startswith("---\n")
    assert yaml.safe_load(text.split("---\n")[1]) == front_matter(EVALUATE, PARAMS)


def test_the_front_matter_has_what_hugging_face_asks_for():
    found = front_matter(EVALUATE, PARAMS)
    assert found["license"] == "mit"
    assert found["library_name"] == "keras"
    assert found["pipeline_tag"] == "image-classification"
    assert "not-for-diagnosis" in found["tags"]
    assert found["datasets"] == ["hf-vision/chest-xray-pneumonia"]
    (model,) = found["model-index"]
    assert model["name"] == f"pneumonia-{PARAMS['model']['backbone']}"
    (result,) = model["results"]
    # Required by its specification, in each result and metric.
    assert result["task"]["type"] == "image-classification"
    assert {"type", "name"} <= set(result["dataset"])
    assert result["dataset"]["split"] == "test"
    assert all({"type", "value"} <= set(metric) for metric in result["metrics"])


def test_the_model_index_has_tests_figures_at_their_thresholds():
    (result,) = front_matter(EVALUATE, PARAMS)["model-index"][0]["results"]
    found = {(m["type"], m.get("args", {}).get("threshold")): m["value"] for m in result["metrics"]}
    assert found["roc_auc", None] == 0.9
    assert found["average_precision", None] == 0.7
    assert {name: found[name, 0.25] for name in ("accuracy", "precision", "recall", "f1")} == {
        "accuracy": 0.11, "precision": 0.22, "recall": 0.33, "f1": 0.55,
    }  # fmt: skip
    assert found["specificity", 0.5] == 0.44
    assert len(found) == len(result["metrics"]) == 12
    other = {**EVALUATE, "test": EVALUATE["test"] | {"at_half": measured(1, 1, 1, 1) | {"f1": 1}}}
    (changed,) = front_matter(other, PARAMS)["model-index"][0]["results"]
    assert [m["value"] for m in changed["metrics"]][-1] == 1  # f1 at 0.5, and only it
    assert [m["value"] for m in changed["metrics"]][:-1] == [m["value"] for m in result["metrics"]][
        :-1
    ]


@pytest.mark.parametrize("source", ["phantoms", "own"])
def test_figures_of_other_films_never_look_like_the_studys(source):
    evaluate = {**EVALUATE, "source": source}
    found = front_matter(evaluate, PARAMS)
    assert "datasets" not in found
    assert found["model-index"][0]["results"][0]["dataset"]["type"] == source
    text = rendered(evaluate=evaluate)
    assert "**Not the study's films.**" in text
    assert "5,856" not in text
    assert "Guangzhou" not in text
    assert rows(section(text, "Beside the paper"))["Accuracy"][-1] == "not comparable"
    assert "Not the study's films" not in rendered()


# ---- what is filled in ----


def test_model_and_archive_are_named_by_the_md5_of_the_lock():
    found = rows(section(rendered(), "What it is"))
    assert found["model file"] == ["md5 `bbb`, 5,678 bytes"]
    assert found["archive of films"] == ["md5 `aaa`, 1,234 bytes"]
    assert found["`finetune`"][0] == (
        f"3 of at most {PARAMS['finetune']['epochs']}; handed on: 2, the lowest validation loss"
    )
    assert found["`train_frozen`"][0].startswith("1 of at most ")


def test_settings_come_from_params():
    params = {
        **PARAMS,
        "model": PARAMS["model"] | {"weights": "imagenet", "pixel_divisor": 255.0},
        "preprocess": PARAMS["preprocess"] | {"image_size": 77},
        "finetune": PARAMS["finetune"] | {"learning_rate": 0.00001},
    }
    text = rendered(params=params)
    assert rows(text)["starting weights"] == ["`imagenet`"]
    assert rows(text)["pixels"] == ["divided by 255 before the backbone's own scaling"]
    assert "both sides 77 pixels" in text
    assert "1e-05" in rows(text)["`finetune`"][1]


def test_a_phase_of_no_epochs_says_so():
    text = rendered(histories={"train_frozen": HISTORY[:0], "finetune": HISTORY})
    assert rows(text)["`train_frozen`"][0] == "0: handed on unchanged"
    assert rows(text)["Accuracy on validation, frozen phase"][0] == "not measured"


def test_the_data_are_counted_from_their_record():
    data = section(rendered(), "Data")
    assert "5,856 chest radiographs: 1,583 normal, 2,780 bacterial and 1,493 viral" in data
    # 5,232 of the train folder less 522; 3,883 of 5,232 and 390 of 624 are pneumonia.
    assert "train 4,710 images, validation 522 images of 461 patients, test 624 images" in data
    assert "The train folder is 74.2 % pneumonia, test 62.5 %." in data


def test_the_threshold_and_its_target_are_the_recorded_ones():
    verdict = section(rendered(), "Input, output, verdict")
    assert "`models/operating_point.json`: 0.250000 |" in verdict
    assert "a recall of 0.97 on validation" in verdict


def test_the_comparison_has_its_rule_beneath_it():
    text = section(rendered(), "Beside the paper")
    assert rows(text)["Recall"][:2] == ["0.900 (0.866–0.926), 351 of 390"] * 2
    assert "wholly within 5 points of 0 reproduced" in " ".join(text.split())


OPTIONAL = (
    "By kind, and what a verdict is worth",
    "Shortcuts",
    "Corrupted films",
    "Where it looks",
)


@pytest.mark.parametrize("title", OPTIONAL)
def test_what_was_not_measured_is_said_to_be_missing(title):
    assert section(rendered(), title).strip() == "Not measured in this run."


def test_shortcuts_stand_beside_the_model():
    labels = np.repeat([0, 1], 20)
    index = pd.DataFrame(
        {"label": labels, "patient_id": [f"p{i}" for i in range(40)],
         "width": 224, "height": 224, "mode": "L"}
    )  # fmt: skip
    split = Split(np.full((40, 8, 8), 9, np.uint8), index)
    text = section(rendered(shortcuts=shortcuts(split, split, labels * 1.0, 40, [1])), "Shortcuts")
    assert rows(text)["the model"][:2] == ["1.000 (1.000–1.000)", ""]
    assert rows(text)["8×8 thumbnail"][:2] == ["0.500 (0.500–0.500)", "0.500 (0.500–0.500)"]
    assert rows(text)["file metadata"][0] == "carries nothing: every film is 224×224 L"
    assert "fitted on the 40 train images" in " ".join(text.split())


def corrupted(corruption: str, severity: int, recall: float, recall_change_high: float) -> dict:
    figures = {
        f"{metric}{end}": 0.6
        for metric in ("recall", "specificity", "roc_auc")
        for end in ("", "_low", "_high", "_change_high")
    }
    return figures | {
        "corruption": corruption, "severity": severity, "n_images": 300, "n_patients": 240,
        "recall": recall, "recall_change_high": recall_change_high,
    }  # fmt: skip


def test_of_each_corruption_the_severest_grade_and_what_fell():
    table = pd.DataFrame(
        [
            corrupted("none", 0, 0.9, -1.0),  # no change from itself, whatever the table says
            corrupted("blur", 1, 0.8, -0.1),
            corrupted("blur", 5, 0.3, -0.2),
            corrupted("shift", 1, 0.9, 0.1),
        ]
    )
    text = rendered(robustness=table)
    found = rows(section(text, "Corrupted films"))
    assert list(found) == ["films", "as they came", "blur, grade 5", "shift, grade 1"]
    assert found["as they came"][0].startswith("0.900 ")
    assert found["blur, grade 5"][0].startswith("0.300 ")
    assert [row[-1] for row in list(found.values())[1:]] == ["", "recall", ""]
    assert "300 test images of 240 patients" in text
    assert "only the first is measured here" in text


@pytest.mark.parametrize("table", [None, pd.DataFrame(columns=["corruption", "severity"])])
def test_a_robustness_that_was_turned_off_is_not_claimed(table):
    text = rendered(robustness=table)
    assert section(text, "Corrupted films").strip() == "Not measured in this run."
    assert "None of the four is measured here either." in text


def test_by_kind_and_by_prevalence():
    def of(name: str, value: float) -> dict:
        return {name: value, f"{name}_low": value - 0.1, f"{name}_high": value + 0.1}

    test = EVALUATE["test"] | {
        "by_kind": {
            "bacterial": {"n_images": 242, **of("recall", 0.5)},
            "normal": {"n_images": 234, **of("specificity", 0.4)},
        },
        "at_prevalence_05": of("npv", 0.8) | of("ppv", 0.2),
        **of("brier", 0.3),
        **of("calibration_error", 0.15),
    }
    found = rows(section(rendered(evaluate={**EVALUATE, "test": test}), OPTIONAL[0]))
    assert found["bacterial"] == ["242", "recall 0.500 (0.400–0.600)"]
    assert found["normal"] == ["234", "specificity 0.400 (0.300–0.500)"]
    assert found["5 %"] == ["0.800 (0.700–0.900)", "0.200 (0.100–0.300)"]


def test_maps_are_told_in_numbers():
    quartiles = {"median": 0.2, "q1": 0.1, "q3": 0.3}
    keys = ("head_randomised", "backbone_randomised", "another_film", "chance")
    maps = {
        "map_height": 3,
        "map_width": 4,
        "border": {"width": 0.125, "even_share": 0.4375,
                   "true_positive": {"n_images": 9} | quartiles,
                   "false_negative": {"n_images": 2, "n_with_positive_place": 0}},
        "sanity": {"n_images": 200, "n_draws": 3, **dict.fromkeys(keys, quartiles)},
    }  # fmt: skip
    text = section(rendered(maps=maps), "Where it looks")
    assert rows(text)["chance"] == ["0.200 (0.100–0.300)"]
    assert rows(text)["true positive"] == ["9", "0.200"]
    assert "false negative" not in text
    assert "200 test images" in text
    assert "A map has 3 × 4 places." in text


# ---- what cannot be filled in ----


def test_a_template_that_asks_for_what_is_not_known_is_one_clear_error():
    with pytest.raises(PipelineError, match=r"model_card\.template: expected \$name, one of .*'x'"):
        model_card("$x", record())


def test_a_lock_without_the_model_is_one_clear_error():
    with pytest.raises(PipelineError, match=r"dvc\.lock: models/finetune\.keras is missing"):
        rendered(lock={"stages": {"fetch": LOCK["stages"]["fetch"]}})


def test_nothing_of_the_template_is_left_unfilled():
    assert re.findall(r"\$\w+", rendered()) == []


# ---- the command ----


@pytest.fixture
def root(tmp_path) -> Path:
    """A repository with what the card is made from, and no more."""
    for path in (card.TEMPLATE, card.PARAMS):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    write_json(tmp_path / card.EVALUATE, EVALUATE)
    (tmp_path / card.LOCK).write_text(yaml.safe_dump(LOCK))
    for phase, path in card.HISTORIES.items():
        write_table(tmp_path / path, HISTORIES[phase])
    return tmp_path


def test_what_was_written_passes_the_check_and_what_is_stale_does_not(root):
    card.main(root)
    before = (root / card.CARD).read_bytes()
    card.main(root, only_check=True)
    write_json(root / card.EVALUATE, {**EVALUATE, "operating_threshold": 0.5})
    with pytest.raises(PipelineError, match=r"MODEL_CARD\.md is not .* run `python -m pneumonia"):
        card.main(root, only_check=True)
    assert (root / card.CARD).read_bytes() == before  # a check writes nothing
    card.main(root)
    card.main(root, only_check=True)


def test_a_check_says_where_the_card_differs(root):
    card.main(root)
    lines = (root / card.CARD).read_text().splitlines(keepends=True)
    (root / card.CARD).write_text("".join([*lines[:3], "typed by hand\n", *lines[4:]]))
    with pytest.raises(PipelineError, match=r"from line 4; .* Received there: typed by hand"):
        card.main(root, only_check=True)
    (root / card.CARD).write_text("".join(lines[:-1]))
    with pytest.raises(PipelineError, match=f"from line {len(lines)}; .*Received there: its end"):
        card.main(root, only_check=True)
    (root / card.CARD).unlink()
    with pytest.raises(PipelineError, match="from line 1; "):
        card.main(root, only_check=True)


@pytest.mark.parametrize("path", [card.EVALUATE, card.LOCK, card.TEMPLATE, card.PARAMS])
def test_a_missing_file_is_one_clear_error_and_leaves_the_card(root, path):
    card.main(root)
    before = (root / card.CARD).read_bytes()
    (root / path).unlink()
    with pytest.raises(PipelineError, match=re.escape(path.name)):
        card.main(root)
    assert (root / card.CARD).read_bytes() == before


def test_optional_files_are_read_where_they_are(root):
    table = pd.DataFrame([corrupted("none", 0, 0.9, 0), corrupted("blur", 1, 0.8, -0.1)])
    write_table(root / card.ROBUSTNESS, table)
    card.main(root)
    assert "blur, grade 1" in (root / card.CARD).read_text()


def test_the_card_of_this_repository_is_up_to_date():
    if_recorded = (ROOT / card.EVALUATE).exists()  # without a record there is nothing to render
    if if_recorded:
        card.main(ROOT, only_check=True)
        assert read_json(ROOT / card.EVALUATE)["source"] in (ROOT / card.CARD).read_text()

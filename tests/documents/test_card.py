"""The model card: all its numbers come from the files of the run."""

import re

import pandas as pd
import pytest
import yaml

from pneumonia.documents.card import model_card
from pneumonia.errors import PipelineError
from pneumonia.evaluation.predictions import as_printed
from pneumonia.store.files import read_json, write_json, write_table, write_text
from pneumonia.store.yaml12 import load_yaml
from report_record import ROOT, shortcut_rows, write_run

METRICS = ("recall", "specificity", "precision", "accuracy", "f1")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("card") / "run")


@pytest.fixture(scope="module")
def card(root):
    return model_card(root)


def section(text: str, title: str) -> str:
    """The text under a heading, up to the next."""
    return re.split(r"\n#+ ", text.split(f"# {title}\n", 1)[1])[0]


def rows(text: str) -> dict[str, list[str]]:
    """Rows of the Markdown tables by their first cell."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return {first: rest for first, *rest in cells}


def front_matter(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


# ---- front matter ----


def test_the_front_matter_has_what_hugging_face_asks_for(card):
    assert card.startswith("---\n")
    found = front_matter(card)
    assert found["license"] == "mit"
    assert found["library_name"] == "keras"
    assert found["pipeline_tag"] == "image-classification"
    assert "not-for-diagnosis" in found["tags"]
    assert found["datasets"] == ["hf-vision/chest-xray-pneumonia"]
    (model,) = found["model-index"]
    assert model["name"] == "pneumonia-efficientnet_v2_s"
    (result,) = model["results"]
    # Required by its specification, in each result and metric.
    assert result["task"]["type"] == "image-classification"
    assert {"type", "name"} <= set(result["dataset"])
    assert result["dataset"]["split"] == "test"
    assert all({"type", "value"} <= set(metric) for metric in result["metrics"])


def test_the_model_index_has_the_metrics_of_test_at_their_thresholds(root, card):
    table = pd.read_csv(root / "metrics/intervals.csv").query("split == 'test'")
    table = table.query("group == 'all'").set_index(["threshold", "metric"])["value"]
    (result,) = front_matter(card)["model-index"][0]["results"]
    found = {(m.get("args", {}).get("threshold"), m["type"]): m["value"] for m in result["metrics"]}
    assert found == {
        **{(None, name): table["none", name] for name in ("roc_auc", "average_precision")},
        **{(0.9, name): table["operating", name] for name in METRICS},
        **{(0.5, name): table["half", name] for name in METRICS},
    }
    assert [m["name"] for m in result["metrics"]][-1] == "f1 at 0.5"


@pytest.mark.parametrize("dataset", ["phantoms", "own"])
def test_metrics_of_other_images_never_look_like_the_studys(tmp_path, card, dataset):
    text = model_card(write_run(tmp_path / "run", dataset))
    assert "datasets" not in front_matter(text)
    assert front_matter(text)["model-index"][0]["results"][0]["dataset"]["type"] == dataset
    assert "**Not the study's radiographs.**" in text
    assert "5,856" not in text
    assert "Guangzhou" not in text
    assert rows(section(text, "Beside the paper"))["Accuracy"][-1] == "not comparable"
    assert "Not the study's radiographs" not in card


# ---- the text ----


def test_the_reader_knows_that_it_is_not_for_diagnosis(card):
    assert "**Not for diagnosis.**" in card.split("\n---\n", 1)[1][:600]


def test_model_and_archive_are_named_by_the_md5_of_the_lock(card):
    found = rows(section(card, "What it is"))
    assert found["model file"] == ["md5 `md5-of-finetune`, 1,234 bytes"]
    assert found["archive of radiographs"] == ["md5 `md5-of-fetch`, 1,234 bytes"]
    at_most = load_yaml(ROOT / "params.yaml")["finetune"]["epochs"]
    assert found["`finetune`"][0] == (
        f"2 of at most {at_most}; handed on: 1, the lowest validation loss"
    )


def test_settings_come_from_params(tmp_path):
    params = load_yaml(ROOT / "params.yaml")
    root = write_run(
        tmp_path / "run",
        model=params["model"] | {"weights": "imagenet", "pixel_divisor": 255.0},
        preprocess=params["preprocess"] | {"image_size": 77},
        finetune=params["finetune"] | {"learning_rate": 0.00001},
    )
    text = model_card(root)
    assert rows(text)["starting weights"] == ["`imagenet`"]
    assert rows(text)["pixels"] == ["divided by 255.0 before the backbone scales them itself"]
    assert "both sides 77 pixels" in text
    assert "1e-05" in rows(text)["`finetune`"][1]


def test_a_phase_of_no_epochs_says_so(tmp_path):
    root = write_run(tmp_path / "run")
    header = (root / "plots/history_train_frozen.csv").read_text().splitlines()[0]
    write_text(root / "plots/history_train_frozen.csv", header + "\n")
    text = model_card(root)
    assert rows(text)["`train_frozen`"][0] == "0: the model is handed on unchanged"
    assert rows(text)["Accuracy on validation, frozen phase"][0] == "not measured"


def test_the_data_are_counted_from_their_dataset(card):
    data = section(card, "Data")
    assert "5,856 chest radiographs: 1,583 normal, 2,780 bacterial and 1,493 viral" in data
    # 5,232 of the train folder less 20; 3,883 of 5,232 and 390 of 624 are pneumonia.
    assert "train 5,212 images, validation 20 images of 10 patients, test 160 images" in data
    assert "The train folder is 74.2 % pneumonia, test 62.5 %." in data


def test_threshold_and_headline_are_those_of_the_run(card):
    verdict = section(card, "Input, output, verdict")
    assert "`models/operating_point.json`: 0.900000 |" in verdict
    assert "a recall of 0.9 on validation" in verdict
    metrics = section(card, "Metrics")
    assert "misses 3 of 100 images with pneumonia: recall 0.970 (0.915–0.990)" in metrics
    assert "a false alarm on 2 of 60 normal images: specificity 0.967 (0.886–0.991)" in metrics
    assert "Of the patients with pneumonia, 49 of 50 have" in metrics
    assert "it misses 0 of 10 and raises a false alarm on 0 of 10" in metrics


def test_by_kind_and_by_prevalence(card):
    found = rows(section(card, "By kind, and what a verdict is worth"))
    assert found["bacterial"][0] == "60"
    assert found["bacterial"][1].startswith("recall 0.950 (")
    assert found["viral"][1].startswith("recall 1.000 (")
    assert found["normal"][1].startswith("specificity 0.967 (")
    # Of 20, 19.4 caught and .6 missed; of 80, 77.3 cleared and 2.7 called.
    assert [cell[:5] for cell in found["20 %"]] == ["0.992", "0.879"]


def test_the_comparison_has_the_papers_counts_and_its_rule_beneath_it(card):
    text = section(card, "Beside the paper")
    assert rows(text)["Recall"][1] == "0.900 (0.866–0.926), 351 of 390"
    assert rows(text)["ROC-AUC"][1] == "0.905"  # without an interval
    assert rows(text)["Recall"][0] == "0.970 (0.915–0.990), 97 of 100"
    rule = " ".join(text.split())
    assert "Within 5 points of 0 on both sides: reproduced." in rule
    assert "454 of 512: no count of 522" in rule


def test_shortcuts_stand_beside_the_model(tmp_path, card):
    found = rows(section(card, "Shortcuts"))
    assert found["the model"][:2] == ["0.900 (0.800–1.000)", ""]
    assert found["8×8 thumbnail"][:2] == ["0.600 (0.500–0.700)", "0.300 (0.200–0.400)"]
    assert found["file metadata"][0] == "carries nothing: every file is 224×224 L"
    root = write_run(tmp_path / "run")
    write_table(root / "metrics/shortcuts.csv", as_printed(shortcut_rows()))
    found = rows(section(model_card(root), "Shortcuts"))
    assert found["file metadata"][:2] == ["0.500 (0.400–0.600)", "0.400 (0.300–0.500)"]


def test_of_each_corruption_the_severest_grade_and_the_metrics_that_fell(card):
    text = section(card, "Corrupted images")
    found = rows(text)
    assert list(found) == ["images", "as they came", "blur, grade 3"]
    assert found["as they came"][0] == "0.800 (0.700–0.900)"
    assert found["blur, grade 3"][0] == "0.600 (0.500–0.700)"
    assert [row[-1] for row in list(found.values())[1:]] == ["", "recall"]
    assert "30 images of 17 patients" in text
    assert "only the first is measured here" in card


def test_activation_maps_are_shown_in_numbers(card):
    text = section(card, "Where it looks")
    assert rows(text)["chance"] == ["0.125 (0.000–0.250)", "10,000 pairs"]
    assert rows(text)["true positive"] == ["0.375 (0.250–0.500)", "95", "of 97 images"]
    assert "of 23 test images" in text


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("shortcuts", "Shortcuts"),
        ("robustness", "Corrupted images"),
        ("activation_maps", "Where it looks"),
    ],
)
def test_what_was_not_measured_is_said_to_be_missing(tmp_path, name, title):
    root = write_run(tmp_path / "run")
    (root / f"metrics/{name}.csv").unlink()
    text = model_card(root)
    assert section(text, title).strip() == "Not measured in this run."
    assert ("None of the four is measured here either." in text) == (name == "robustness")


def test_a_robustness_that_was_turned_off_is_not_claimed(tmp_path):
    root = write_run(tmp_path / "run")
    header = (root / "metrics/robustness.csv").read_text().splitlines()[0]
    write_text(root / "metrics/robustness.csv", header + "\n")
    assert section(model_card(root), "Corrupted images").strip() == "Not measured in this run."


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("models/finetune.keras", r"models/finetune\.keras in dvc\.lock"),
        ("metrics/intervals.csv", r"metrics/intervals\.csv"),
        ("metrics/evaluate.json", r"metrics/evaluate\.json"),
        ("params.yaml", r"params\.yaml"),
    ],
)
def test_a_missing_file_is_one_clear_error(tmp_path, lost, words):
    root = write_run(tmp_path / "run")
    if lost.startswith("models"):
        lock = load_yaml(root / "dvc.lock")
        del lock["stages"]["finetune"]
        write_text(root / "dvc.lock", yaml.safe_dump(lock))
    else:
        (root / lost).unlink()
    with pytest.raises(PipelineError, match=words):
        model_card(root)


def test_a_value_with_markdown_in_it_stays_text(tmp_path):
    root = write_run(tmp_path / "run", split={"strategy": "paper"})
    evaluate = read_json(root / "metrics/evaluate.json")
    write_json(root / "metrics/evaluate.json", evaluate | {"dataset": "own | [x](y)"})
    assert r"All metrics are of dataset own \| \[x\](y)." in model_card(root)

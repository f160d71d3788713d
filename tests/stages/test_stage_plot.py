"""Stage plot: everything from predictions, in seconds, without a model, a pixel or TensorFlow."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evaluated_root import declared, mean_grey, write_curves, write_root, written
from pneumonia.errors import PipelineError
from pneumonia.evaluation.interval_table import TEXT_COLUMNS, measured
from pneumonia.store.files import read_json, read_table
from stages import evaluate, plot

OF_EVALUATE = ("models/", "metrics/evaluate.json", "metrics/predictions.csv")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    root = write_root(tmp_path_factory.mktemp("evaluated") / "root")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(evaluate, "load_classifier", lambda path: "mean grey")
        monkeypatch.setattr(evaluate, "predict_probabilities", mean_grey)
        evaluate.main(root)
    # It reads none of these.
    shutil.rmtree(root / "data")
    shutil.rmtree(root / "models")
    return root


@pytest.fixture
def root(evaluated, tmp_path) -> Path:
    return shutil.copytree(evaluated, tmp_path / "root")


@pytest.fixture
def quick(figures) -> None:
    """No PNG is made."""


def plotted(root: Path) -> dict[str, bytes]:
    return {path: data for path, data in written(root).items() if not path.startswith(OF_EVALUATE)}


def test_it_writes_what_dvc_yaml_declares_and_a_second_run_the_same_bytes(root):
    plot.main(root)
    once = plotted(root)
    assert sorted(once) == declared("plot")
    for path in once:
        (root / path).unlink()
    plot.main(root)
    assert plotted(root) == once


def test_no_model_is_loaded_and_tensorflow_does_not_start():
    code = (
        "import sys, stages.plot; heavy = {'tensorflow', 'keras', 'pneumonia.store.arrays',"
        " 'pneumonia.training'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_intervals_hold_the_metrics_of_evaluate_json(root, quick):
    plot.main(root)
    evaluate_json = read_json(root / "metrics/evaluate.json")
    intervals = measured(read_table(root / "metrics/intervals.csv", TEXT_COLUMNS))
    for split in ("validation", "test"):
        of_split = evaluate_json[split]
        for metric in ("recall", "specificity", "precision", "accuracy", "f1"):
            assert intervals[split, "operating", "all", metric].value == of_split[metric]
        assert intervals[split, "none", "all", "roc_auc"].value == of_split["roc_auc"]
        recall = intervals[split, "operating", "all", "recall"]
        assert recall.n_total - recall.n_hits == of_split["missed"]


def test_tables_have_no_empty_and_no_infinite_cell(root, quick):
    plot.main(root)
    tables = sorted((root / "plots").glob("*.csv"))
    assert [table.name for table in tables] == [
        "confusion.csv", "decision.csv", "history_finetune.csv", "history_train_frozen.csv",
        "precision_recall.csv", "reliability.csv", "roc.csv",
    ]  # fmt: skip
    for table in tables:
        cells = {cell for row in csv.reader(table.open()) for cell in row}
        assert not {"", "inf", "-inf", "nan", "Infinity"} & cells, table.name
    phases = ("train_frozen", "finetune")
    histories = [read_table(root / f"plots/history_{phase}.csv") for phase in phases]
    assert [len(history) for history in histories] == [1, 4]


def test_a_phase_of_no_epochs_leaves_a_heading(root, quick):
    shutil.rmtree(root / "metrics/train_frozen/plots/metrics/train")
    shutil.rmtree(root / "metrics/train_frozen/plots/metrics/eval")
    plot.main(root)
    assert (root / "plots/history_train_frozen.csv").read_text() == (
        "epoch,train_loss,validation_loss,train_accuracy,validation_accuracy,validation_roc_auc\n"
    )


def test_broken_curves_are_one_line_and_leave_nothing(root, quick):
    (root / "metrics/finetune/plots/metrics/eval/loss.tsv").unlink()
    with pytest.raises(PipelineError, match=r"curves are missing: eval/loss\.tsv"):
        plot.main(root)
    assert plotted(root) == {}
    write_curves(root, "finetune", 4)
    plot.main(root)
    assert plotted(root)


def test_the_number_of_resamples_changes_intervals_and_no_value(root, quick):
    plot.main(root)
    before = read_table(root / "metrics/intervals.csv", TEXT_COLUMNS)
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("n_bootstrap: 100", "n_bootstrap: 41"))
    plot.main(root)
    after = read_table(root / "metrics/intervals.csv", TEXT_COLUMNS)
    assert after["value"].equals(before["value"])
    assert not after["low"].equals(before["low"])

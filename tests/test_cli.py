"""The command line: what it prints, what it refuses, and how fast it answers."""

import csv
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pneumonia import cli, recipes
from pneumonia.documents import report as report_module
from pneumonia.evaluation import metrics
from pneumonia.serving import answers
from pneumonia.serving import export as export_module
from pneumonia.serving import predict as predict_module

ROOT = Path(__file__).parent.parent


def pneumonia(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pneumonia.cli", *arguments],
        cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip


def test_help_lists_the_commands_and_says_what_this_is_not_for():
    done = pneumonia("--help")
    assert done.returncode == 0
    assert "repro" in done.stdout
    for command in (
        "demo", "gate", "ledger", "remote", "confirm", "summary", "report", "predict", "export",
    ):  # fmt: skip
        assert f"    {command} " in done.stdout
    assert "not for diagnosis" in done.stdout


def test_help_does_not_wait_for_pandas_dvc_or_keras():
    code = (
        "import sys, pneumonia.cli; print({'pandas', 'numpy', 'dvc', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
        env={"PYTHONPATH": "src"},
    )  # fmt: skip
    assert done.stdout == "set()\n"


def test_without_a_command_it_says_which_there_are():
    done = pneumonia()
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


def test_a_wrong_recipe_is_one_line_and_status_1_before_anything_runs():
    started = time.monotonic()
    done = pneumonia("repro", "papre")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: recipes/: there is no recipe 'papre'. "
        "Accepted: demo, imagenet, mobilenet, paper"
    ]  # fmt: skip
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("command", [["demo"], ["repro", "paper"]])
def test_outside_a_checkout_it_is_one_line_and_status_1(tmp_path, command):
    done = pneumonia(*command, folder=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "a clone of the repository" in done.stderr


def test_a_reader_who_has_read_enough_gets_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "pneumonia.cli", "ledger"],
        cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the command line asks of `recipes`, in order; nothing runs, the checkout is empty."""
    calls = []

    def record(name, answer):
        def called(*arguments):
            calls.append((name, *arguments[1:]))
            return answer

        monkeypatch.setattr(recipes, name, called)

    monkeypatch.setattr(recipes, "checkout", lambda: tmp_path)
    record("load_recipe", {"seed": 7})
    record("refuse_foreign_changes", None)
    record("run_experiment", "refs/exps/aa/bb/demo")
    record("copy_committed", None)
    return calls


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["pneumonia", *arguments])
    cli.main()


def test_repro_checks_recipe_and_tree_then_runs_and_says_how_to_go_on(asked, monkeypatch, capsys):
    run(monkeypatch, "repro", "paper")
    assert asked == [
        ("load_recipe", "paper"),
        ("refuse_foreign_changes", "paper", {"seed": 7}),
        ("run_experiment", "paper", {"seed": 7}),
    ]
    said = capsys.readouterr().out
    for way_on in ("dvc exp show", "git commit", "git restore", "dvc exp apply paper"):
        assert way_on in said


def test_repro_can_take_from_the_remote_what_another_machine_finished(asked, monkeypatch):
    run(monkeypatch, "repro", "paper", "--pull")
    assert asked[-1] == ("run_experiment", "paper", {"seed": 7}, "--pull")


@pytest.mark.parametrize(
    ("typed", "asks"),
    [
        (["ledger"], ("ledger", "openings", "ROOT")),
        (["remote"], ("remote", "completeness", "ROOT", None)),
        (
            ["remote", "--name", "mine", "--candidate", "there"],
            ("remote", "completeness", Path("there"), "mine"),
        ),
        (["confirm"], ("confirm", "confirmed", "ROOT")),
        (["confirm", "--candidate", "there"], ("confirm", "confirmed", Path("there"))),
        (["summary", "--base", "main"], ("summary", "summary", "ROOT", "main", None, None, None)),
        (
            ["summary", "--base", "main", "--candidate", "topic", "--gate", "g.md",
             "--pictures", "https://host.example"],
            ("summary", "summary", "ROOT", "main", Path("g.md"), "https://host.example", "topic"),
        ),
    ],
)  # fmt: skip
def test_what_is_typed_reaches_the_module_that_answers(typed, asks, asked, monkeypatch, capsys):
    module, function, *given = asks
    found: list = []
    imported = importlib.import_module(f"pneumonia.{module}")
    monkeypatch.setattr(imported, function, lambda *a: found.extend(a) or "the answer")
    if module == "ledger":
        monkeypatch.setattr(imported, "as_table", lambda rows: f"a table of {rows}")
    run(monkeypatch, *typed)
    root = recipes.checkout()
    assert found == [root if argument == "ROOT" else argument for argument in given]
    assert "the answer" in capsys.readouterr().out


@pytest.fixture
def predicted(monkeypatch, tmp_path):
    """`predict` without a model: one film answered and, if it is named bad, one not."""
    asked: dict = {}

    def predict(films, predictor, heatmaps):
        asked.update(films=films, heatmaps=heatmaps)
        for path, reason in films:
            answered = reason is None
            yield answers.Row(
                path,
                0.75 if answered else None,
                "pneumonia" if answered else None,
                0.5,
                "phantoms",
                error=reason,
            )

    class Predictor:
        operating_threshold, dataset = 0.5, "phantoms"

    def load(*files):
        asked["files"] = files
        return Predictor()

    monkeypatch.setattr(recipes, "checkout", lambda: tmp_path)
    monkeypatch.setattr(predict_module, "predict", predict)
    monkeypatch.setattr(predict_module, "load_predictor", load)
    monkeypatch.setattr(
        predict_module,
        "find_radiographs",
        lambda paths: [(path, "no film" if path.name == "bad" else None) for path in paths],
    )
    return asked


def test_predict_answers_by_the_recorded_model_and_says_what_it_is_not_for(
    predicted, monkeypatch, capsys, tmp_path
):
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, "predict", "a.png", "b.dcm")
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert predicted["files"] == (
        tmp_path / "models/finetune.keras",
        tmp_path / "models/operating_point.json",
        tmp_path / "params.yaml",
    )
    assert said.count("0.750000  pneumonia") == 2
    assert "2 of 2 answered; pneumonia from 0.500000 on." in said
    assert "phantoms (drawn, no patients). Not for diagnosis." in said


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_one_bad_film_is_told_by_the_exit_status_and_the_others_are_answered(
    predicted, monkeypatch, capsys, form
):
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, "predict", *form, "a.png", "bad", "c.png", "--heatmap", "maps")
    assert left.value.code == 1
    said = capsys.readouterr().out
    assert said.count("0.75") == 2
    assert said.count("no film") == 1
    assert predicted["heatmaps"] == Path("maps")
    if form == ["--json"]:
        assert [json.loads(line)["path"] for line in said.splitlines()] == ["a.png", "bad", "c.png"]
    if form == ["--csv"]:
        assert len(list(csv.DictReader(said.splitlines()))) == 3


def test_export_writes_beside_the_model_what_the_card_says(monkeypatch, capsys, tmp_path):
    asked = []
    monkeypatch.setattr(recipes, "checkout", lambda: tmp_path)
    monkeypatch.setattr(export_module, "export", lambda *given: asked.append(given) or given[-1])
    monkeypatch.setattr(export_module, "summary", lambda folder: f"what is in {folder}")
    run(monkeypatch, "export", "--format", "onnx")
    run(monkeypatch, "export", "--format", "tflite", "--model", "m/x.keras", "--output", "there")
    assert asked == [
        (
            tmp_path / "models/finetune.keras",
            tmp_path / "models/operating_point.json",
            tmp_path / "params.yaml",
            tmp_path / "MODEL_CARD.md",
            "onnx",
            tmp_path / "models/export/onnx",
        ),
        (
            Path("m/x.keras"),
            Path("m/operating_point.json"),
            tmp_path / "params.yaml",
            tmp_path / "MODEL_CARD.md",
            "tflite",
            Path("there"),
        ),
    ]
    assert "what is in there" in capsys.readouterr().out


def test_report_writes_the_page_and_says_where(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(recipes, "checkout", lambda: tmp_path)
    monkeypatch.setattr(report_module, "report", lambda root: f"a page of {root}")
    run(monkeypatch, "report", "--output", str(tmp_path / "r/page.html"))
    assert (tmp_path / "r/page.html").read_text() == f"a page of {tmp_path}"
    assert str(tmp_path / "r/page.html") in capsys.readouterr().out


def test_the_demo_runs_in_a_copy_and_ends_with_the_table_and_the_folder(
    asked, monkeypatch, capsys, tmp_path
):
    (tmp_path / "demo/metrics").mkdir(parents=True)
    (tmp_path / "demo/metrics/evaluate.json").write_text('{"source": "phantoms"}')
    monkeypatch.setattr(metrics, "metrics_table", lambda found: f"the table of {found['source']}")
    run(monkeypatch, "demo")
    assert asked == [
        ("load_recipe", "demo"),
        ("run_experiment", "demo", {"seed": 7}, "--temp"),
        ("copy_committed", "refs/exps/aa/bb/demo", ("metrics", "plots"), Path("demo")),
    ]
    said = capsys.readouterr().out
    assert "the table of phantoms" in said
    assert f"{tmp_path}/demo" in said

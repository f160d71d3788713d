"""The command line: what it prints, what it refuses, and how fast it answers."""

import csv
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pneumonia import cli, recipes
from pneumonia.documents import report as report_module
from pneumonia.evaluation import metrics
from pneumonia.serving import answers
from pneumonia.serving import export as export_module
from pneumonia.serving import predict as predict_module

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "repro", "demo", "gate", "ledger", "remote", "confirm", "summary", "report", "predict", "export"
)  # fmt: skip


def pneumonia(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pneumonia.cli", *arguments],
        cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip


def test_help_lists_the_commands_and_warns_against_diagnosis():
    done = pneumonia("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"    {command} " in done.stdout
    assert "not for diagnosis" in done.stdout


def test_help_does_not_wait_for_slow_imports():
    slow = {"pandas", "numpy", "dvc", "keras", "pydantic", "yaml", "importlib.metadata"}
    code = f"import sys, pneumonia.cli; pneumonia.cli._parser(); print({slow} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
        env={"PYTHONPATH": "src"},
    )  # fmt: skip
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_shows_an_example_that_it_accepts(command, monkeypatch, capsys):
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, command, "--help")
    assert left.value.code == 0
    shown = capsys.readouterr().out
    _, example = shown.rsplit(f"Example: pneumonia {command}", 1)
    assert cli._parser().parse_args([command, *example.split()])


def test_the_version_is_that_of_pyproject():
    done = pneumonia("--version")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (done.returncode, done.stdout) == (0, f"pneumonia {version}\n")


def test_without_a_command_the_error_lists_the_commands():
    done = pneumonia()
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


def test_a_wrong_recipe_is_one_line_and_status_1_before_anything_runs():
    done = pneumonia("repro", "papre")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: recipes/: no recipe 'papre'. Accepted: demo, imagenet, mobilenet, paper"
    ]


@pytest.mark.parametrize("command", [["demo"], ["repro", "paper"]])
def test_outside_a_checkout_it_is_one_line_and_status_1(tmp_path, command):
    done = pneumonia(*command, folder=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "a clone of the repository" in done.stderr


def test_a_pipe_that_closes_early_gives_no_traceback():
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


def test_repro_checks_recipe_and_tree_then_runs_and_says_what_is_next(asked, monkeypatch, capsys):
    run(monkeypatch, "repro", "paper")
    assert asked == [
        ("load_recipe", "paper"),
        ("refuse_foreign_changes", "paper", {"seed": 7}),
        ("run_experiment", "paper", {"seed": 7}),
    ]
    said = capsys.readouterr().out
    for way_on in ("dvc exp show", "git commit", "git restore", "dvc exp apply paper"):
        assert way_on in said


def test_repro_can_take_stages_of_another_machine_from_the_remote(asked, monkeypatch):
    run(monkeypatch, "repro", "paper", "--pull")
    assert asked[-1] == ("run_experiment", "paper", {"seed": 7}, "--pull")


SUMMARY = ("documents.comment", "summary")


@pytest.mark.parametrize(
    ("typed", "asks"),
    [
        (["ledger"], ("gate.ledger", "openings", "ROOT")),
        (["remote"], ("remote", "completeness", "ROOT", None)),
        (
            ["remote", "--name", "mine", "--candidate", "there"],
            ("remote", "completeness", Path("there"), "mine"),
        ),
        (["confirm"], ("gate.confirm", "confirmed", "ROOT")),
        (["confirm", "--candidate", "there"], ("gate.confirm", "confirmed", Path("there"))),
        (["summary", "--base", "main"], (*SUMMARY, "ROOT", "main", None, None, None)),
        (
            ["summary", "--base", "main", "--candidate", "topic", "--gate", "g.md",
             "--pictures", "https://host.example"],
            (*SUMMARY, "ROOT", "main", Path("g.md"), "https://host.example", "topic"),
        ),
    ],
)  # fmt: skip
def test_arguments_reach_the_module_that_answers(typed, asks, asked, monkeypatch, capsys):
    module, function, *given = asks
    found: list = []
    imported = importlib.import_module(f"pneumonia.{module}")
    monkeypatch.setattr(imported, function, lambda *a: found.extend(a) or "the answer")
    if module == "gate.ledger":
        monkeypatch.setattr(imported, "as_table", lambda rows: f"a table of {rows}")
    run(monkeypatch, *typed)
    root = recipes.checkout()
    assert found == [root if argument == "ROOT" else argument for argument in given]
    assert "the answer" in capsys.readouterr().out


@pytest.fixture
def predicted(monkeypatch, tmp_path):
    """`predict` without a model: every path is answered unless it is named bad."""
    asked: dict = {}
    (tmp_path / "models").mkdir()
    (tmp_path / "models/finetune.keras").touch()

    def predict(radiographs, predictor, heatmaps):
        asked.update(heatmaps=heatmaps)
        for path, reason in radiographs:
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
        lambda paths: [(path, "no image" if path.name == "bad" else None) for path in paths],
    )
    return asked


def test_predict_uses_the_pipelines_model_and_warns_against_diagnosis(
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
def test_a_bad_file_gives_exit_status_1_and_the_others_are_answered(
    predicted, monkeypatch, capsys, form
):
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, "predict", *form, "a.png", "bad", "c.png", "--heatmap", "maps")
    assert left.value.code == 1
    said = capsys.readouterr().out
    assert said.count("0.75") == 2
    assert said.count("no image") == 1
    assert predicted["heatmaps"] == Path("maps")
    if form == ["--json"]:
        assert [json.loads(line)["path"] for line in said.splitlines()] == ["a.png", "bad", "c.png"]
    if form == ["--csv"]:
        assert len(list(csv.DictReader(said.splitlines()))) == 3


@pytest.mark.parametrize("command", [["predict", "a.png"], ["export", "--format", "onnx"]])
def test_without_a_model_one_line_says_how_to_get_one(command, monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "checkout", lambda: tmp_path)
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, *command)
    (line,) = str(left.value.code).splitlines()
    assert line.startswith(f"error: {tmp_path}/models/finetune.keras: there is no trained model")
    assert re.search(r"`make pull` .*300 MB.*`make repro` .*hour", line)


def test_export_takes_the_files_of_one_run(monkeypatch, capsys, tmp_path):
    asked = []
    (tmp_path / "models").mkdir()
    (tmp_path / "models/finetune.keras").touch()
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


def test_the_demo_runs_in_a_copy_and_ends_with_the_metrics_and_the_folder(
    asked, monkeypatch, capsys, tmp_path
):
    (tmp_path / "demo/metrics").mkdir(parents=True)
    (tmp_path / "demo/metrics/evaluate.json").write_text('{"dataset": "phantoms"}')
    monkeypatch.setattr(metrics, "metrics_table", lambda found: f"the table of {found['dataset']}")
    run(monkeypatch, "demo")
    assert asked == [
        ("load_recipe", "demo"),
        ("run_experiment", "demo", {"seed": 7}, "--temp"),
        ("copy_committed", "refs/exps/aa/bb/demo", ("metrics", "plots"), Path("demo")),
    ]
    said = capsys.readouterr().out
    assert "the table of phantoms" in said
    assert f"{tmp_path}/demo" in said

"""The documents that hold metrics of the baseline: README's block, and the command for both."""

import os
import re
import subprocess
import sys

import pytest

from gate_repository import commit, predictions, write_record
from pneumonia.documents.__main__ import main
from pneumonia.documents.card import CARD, model_card
from pneumonia.documents.readme import BEGIN, END, README, readme
from pneumonia.errors import PipelineError
from pneumonia.git import is_shallow
from pneumonia.store.files import write_text
from report_record import ROOT, write_run

AROUND = f"# Title\n\nabove\n\n{BEGIN}\nwas here\n{END}\n\nbelow\n"


@pytest.fixture
def root(tmp_path):
    """A repository with a baseline, one before it, and a README."""
    root = write_run(tmp_path / "run", before={"bacterial": 5, "normal": 2})
    write_text(root / README, AROUND)
    return root


def block(text: str) -> str:
    return text.split(f"{BEGIN}\n")[1].split(f"\n{END}")[0]


def rows(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if line.startswith("| "))
    return dict(line.strip("| ").split(" | ", 1) for line in lines)


def test_every_metric_names_its_file_and_key(root):
    found = rows(block(readme(root)))
    recall = "0.970 (0.915–0.990) | 1.000 (0.722–1.000)"  # 97 of 100, 10 of 10
    assert found["recall (sensitivity)"] == f"{recall} | `operating,all,recall`"
    assert found["recall per patient"].startswith("0.980 (")
    assert found["recall per patient"].endswith("| `operating,patients,recall`")
    assert found["pneumonia missed"] == "3 of 100 | 0 of 10 | `missed`"
    assert found["false alarms"] == "2 of 60 | 0 of 10 | `false_alarms`"
    keys = re.findall(r"\| `(.*,.*)` \|", readme(root))
    table = (root / "metrics/intervals.csv").read_text()
    assert len(keys) == 6
    assert all(f"\ntest,{key}," in table for key in keys)


def test_the_block_says_what_the_metrics_are_of(root):
    text = block(readme(root))
    assert "Dataset chestxray2017-224; network `efficientnet_v2_s`" in text
    assert "Test: 160 images of 80 patients; validation: 20 images of 10 patients." in text
    assert "Operating threshold 0.900000, chosen on validation for a recall of 0.9." in text
    assert "8×8 thumbnail reaches a ROC-AUC of 0.600 (0.500–0.700);" in text
    assert "higher by 0.300 (0.200–0.400)." in text


def test_the_gates_verdict_stands_with_the_command_that_repeats_it(root):
    text = block(readme(root))
    assert "**The gate's verdict on this baseline: PASS**, every rule holds." in text
    assert "2 fewer pneumonias missed of 100" in text
    assert "`make gate` on a clean main repeats it." in text


def test_a_verdict_that_does_not_hold_is_written_as_well(tmp_path):
    root = write_run(tmp_path / "run", before={"normal": 2}, missed={"bacterial": 40})
    write_text(root / README, AROUND)
    assert "**The gate's verdict on this baseline: FAIL**" in readme(root)


def test_the_first_baseline_has_nothing_to_be_compared_with(tmp_path):
    root = write_run(tmp_path / "run")
    write_text(root / README, AROUND)
    assert "There is no baseline before it with the same test images." in readme(root)


def test_every_plot_of_the_block_is_there(root):
    for path in ("plots/roc.png", "plots/examine/samples.png"):
        assert f"]({path})" in readme(root)
    paths = [line.split("](")[1][:-1] for line in readme(root).splitlines() if line[:2] == "!["]
    assert all((root / path).is_file() for path in paths)


def test_the_block_is_replaced_and_the_rest_of_the_document_kept(root):
    text = readme(root)
    assert text.startswith(f"# Title\n\nabove\n\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\n\nbelow\n")
    assert "was here" not in text
    write_text(root / README, text)
    assert readme(root) == text


def test_documents_stay_fresh_when_the_run_is_committed_and_other_commits_follow(tmp_path):
    root = write_run(tmp_path / "run")
    write_text(root / README, AROUND)
    commit(root)
    write_record(root, predictions({"bacterial": 1, "normal": 1}))
    before_commit = readme(root)
    write_text(root / README, before_commit)
    commit(root, "another baseline")
    assert readme(root) == before_commit
    write_text(root / "note.txt", "x")
    commit(root, "something else")
    assert readme(root) == before_commit


@pytest.mark.parametrize(
    "text", ["no marker", f"{BEGIN} only one", f"{END} wrong way {BEGIN}", f"{BEGIN}{END}{END}"]
)
def test_a_readme_without_both_markers_is_one_clear_error_and_nothing_is_written(root, text):
    write_text(root / README, text)
    with pytest.raises(PipelineError, match=rf"README\.md: expected {BEGIN} and"):
        main(root)
    assert (root / README).read_text() == text
    assert not (root / CARD).exists()


# ---- the command ----


def test_fresh_documents_pass_the_check_and_a_stale_one_is_named(root):
    main(root)
    main(root, check=True)
    for path in (README, CARD):
        fresh = (root / path).read_text()
        write_text(root / path, fresh.replace("0.970 (0.915", "0.999 (0.915"))
        with pytest.raises(PipelineError, match=rf"^{path}: expected .* run `make documents`"):
            main(root, check=True)
        assert "0.999 (0.915" in (root / path).read_text()  # a check writes nothing
        main(root)
        assert (root / path).read_text() == fresh
    (root / CARD).unlink()
    with pytest.raises(PipelineError, match=f"^{CARD}: "):
        main(root, check=True)


def test_the_command_checks_the_folder_that_it_is_called_in(root):
    here = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-m", "pneumonia.documents", "--check"],
        cwd=root, capture_output=True, text=True, env=here,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"error: README\.md and MODEL_CARD\.md: [^\n]*\n", done.stderr)


def test_the_documents_of_this_repository_are_fresh():
    if is_shallow(ROOT):  # README holds the gate's verdict, which needs the history
        assert model_card(ROOT) == (ROOT / CARD).read_text(encoding="utf-8"), "run `make documents`"
    else:
        main(ROOT, check=True)

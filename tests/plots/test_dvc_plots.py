"""What `dvc plots show` and `dvc plots diff` draw, in a real browser without a network.

A repository with the tables of two revisions and no training: `first` in Git, the other in the
working tree. Vega describes axes and marks in ARIA labels, so that the tests read what a screen
reader reads, and measure where it lies.
"""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pneumonia.evaluation import map_study, robustness, shortcuts
from pneumonia.evaluation.calibration import reliability_table
from pneumonia.evaluation.decision import decision_table
from pneumonia.evaluation.interval_table import interval_table
from pneumonia.evaluation.predictions import as_printed, one_split
from pneumonia.plots.curves import precision_recall_table, roc_table
from pneumonia.plots.probabilities import strategies_table
from pneumonia.plots.training_curves import HISTORY_FILES
from pneumonia.plots.verdicts import confusion_table
from pneumonia.store.files import write_table
from pneumonia.store.yaml12 import load_yaml
from tiny_repository import ROOT, dvc

pytestmark = pytest.mark.browser

KINDS = ("normal", "bacterial", "viral")
N_OF_KIND = 8
THRESHOLD = 0.3  # below every ill image: none is missed, and that cell must say 0
CORRUPTIONS = sorted({name for name, _ in robustness.SETTINGS} - {robustness.CLEAN})
BLUE, VERMILLION = "rgb(0, 114, 178)", "rgb(213, 94, 0)"
BOTH_SPLITS = ["validation", "test"]

# Each plot: its axes with their labels, its marks, its legends, its title and those of its panels.
READ = """async () => {
  await Promise.all(plots);
  const place = element => {
    const {left, right, top, bottom, width, height} = element.getBoundingClientRect();
    return {left, right, top, bottom, width, height,
      x: (left + right) / 2, y: (top + bottom) / 2};
  };
  const symbols = (plot, role) =>
    [...plot.querySelectorAll(`[aria-roledescription="${role}"]`)];
  const read = plot => ({
    axes: symbols(plot, "axis").map(axis => ({
      label: axis.getAttribute("aria-label"),
      ticks: Object.fromEntries([...axis.querySelectorAll(".role-axis-label text")]
        .filter(text => getComputedStyle(text).opacity !== "0")
        .map(text => [text.textContent, place(text)])),
    })),
    marks: [...plot.querySelectorAll('[role="graphics-symbol"]')]
      .filter(mark => !/^(axis|legend|title)$/.test(mark.getAttribute("aria-roledescription")))
      .map(mark => ({
        role: mark.getAttribute("aria-roledescription"),
        label: mark.getAttribute("aria-label"),
        text: mark.textContent,
        stroke: getComputedStyle(mark).stroke,
        fill: getComputedStyle(mark).fill,
        seen: mark.checkVisibility({opacityProperty: true, visibilityProperty: true})
          && getComputedStyle(mark).opacity > 0,
        ...place(mark),
      })),
    legends: symbols(plot, "legend").map(legend => legend.getAttribute("aria-label")),
    titles: symbols(plot, "title").map(title => title.querySelector("text").textContent),
  });
  return [...document.querySelectorAll(".vega-embed")].map(plot => [plot.id, read(plot)]);
}"""


def predictions(seed: int) -> pd.DataFrame:
    """Eight images of each kind in each split, an image a patient; the ill have 0.3 or more."""
    random = np.random.default_rng(seed)
    rows = [
        (f"{split}/{kind}/{number}.jpeg", f"{split}-{kind}-{number}", kind, split)
        for split in BOTH_SPLITS
        for kind in KINDS
        for number in range(N_OF_KIND)
    ]
    table = pd.DataFrame(rows, columns=["name", "patient_id", "kind", "split"])
    table.insert(3, "label", (table["kind"] != "normal").astype(int))
    return table.assign(
        probability=(random.uniform(0, 0.7, len(table)) + 0.3 * table["label"]).round(6)
    )


def history(n_epochs: int, seed: int) -> pd.DataFrame:
    values = np.random.default_rng(seed).uniform(0.3, 0.9, (n_epochs, len(HISTORY_FILES)))
    table = pd.DataFrame(values, columns=list(HISTORY_FILES))
    table.insert(0, "epoch", np.arange(n_epochs) + 1)
    return table


def robustness_of(seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    table = pd.DataFrame(robustness.SETTINGS, columns=["corruption", "severity"])
    table = table.reindex(columns=list(robustness.COLUMNS), fill_value=0.5)
    return table.assign(
        **{
            f"{metric}{end}": value + away
            for metric in ("recall", "specificity")
            for value in [random.uniform(0.3, 0.7, len(table))]
            for end, away in (("", 0), ("_low", -0.1), ("_high", 0.1))
        }
    )


def write_tables(folder: Path, seed: int) -> None:
    """Every table that dvc.yaml declares, and in place of each PNG one pixel."""
    predicted = predictions(seed)
    test = one_split(predicted, "test"), 20, [seed]
    tables = {
        "metrics/predictions.csv": predicted,
        "metrics/intervals.csv": interval_table(predicted, THRESHOLD, 20, seed),
        "plots/roc.csv": roc_table(predicted),
        "plots/precision_recall.csv": precision_recall_table(predicted),
        "plots/confusion.csv": confusion_table(predicted, THRESHOLD),
        "plots/reliability.csv": reliability_table(*test),
        "plots/decision.csv": strategies_table(decision_table(*test)),
        "plots/history_train_frozen.csv": history(1, seed),
        "plots/history_finetune.csv": history(3, seed),
        "metrics/robustness.csv": robustness_of(seed),
        "metrics/shortcuts.csv": pd.DataFrame(
            [
                (classifier, "none", "roc_auc", value, value - 0.1, value + 0.1, "", "", "")
                for classifier, value in (("model", 0.8), ("thumbnail", 0.6 + seed / 100))
            ],
            columns=list(shortcuts.COLUMNS),
        ),
        "metrics/activation_maps.csv": pd.DataFrame(
            [
                (study, group, 9, 0.5 + seed / 100, 0.4, 0.7, "")
                for study, group in (("border", "true_positive"), ("sanity", "chance"))
            ],
            columns=list(map_study.COLUMNS),
        ),
    }
    for name, table in tables.items():
        write_table(folder / name, as_printed(table))
    for name in declared(".png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1)).save(folder / name)


def declared(suffix: str) -> dict[str, str | None]:
    """Path -> title of the plots of dvc.yaml with this suffix."""
    return {
        path: settings.get("title")
        for stage in load_yaml(ROOT / "dvc.yaml")["stages"].values()
        for entry in stage.get("plots", [])
        for path, settings in (entry if isinstance(entry, dict) else {entry: {}}).items()
        if path.endswith(suffix)
    }


def key(path: str) -> str:
    """The id that DVC gives the element of a plot."""
    return re.sub(r"[/.]", "_", path)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    shutil.copy(ROOT / "dvc.yaml", folder)
    unwanted = shutil.ignore_patterns("tmp", "cache", "config.local")
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=unwanted)
    write_tables(folder, seed=1)
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        user = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        subprocess.run(["git", *user, *arguments], cwd=folder, check=True)
    write_tables(folder, seed=2)
    return folder


def opened(browser, file: Path):
    """The plots of a page by id, what the console said, the addresses asked for, and the page."""
    page = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    plots = page.evaluate(READ)
    assert len(dict(plots)) == len(plots), "a plot is drawn twice"
    return dict(plots), said, asked, page


@pytest.fixture(scope="module")
def show(repository, browser):
    assert "failed" not in dvc(repository, "plots", "show", "--out", "show")
    return opened(browser, repository / "show/index.html")


@pytest.fixture(scope="module")
def diff(repository, browser):
    assert "failed" not in dvc(repository, "plots", "diff", "--out", "diff")
    return opened(browser, repository / "diff/index.html")


@pytest.fixture(scope="module", params=["show", "diff"])
def page(request):
    """Both pages, one after the other."""
    return request.getfixturevalue(request.param)


def axis(plot, name: str):
    """The first axis X or Y of a plot."""
    return next(axis for axis in plot["axes"] if axis["label"].startswith(name))


def panels(plot):
    """The titles of the panels of a plot."""
    return [title for title in plot["titles"] if title not in declared(".csv").values()]


def marks(plot, role: str, words: str = ""):
    """The marks of a plot that can be seen, by their role and a part of their label."""
    return [m for m in plot["marks"] if m["role"] == role and words in m["label"] and m["seen"]]


def test_the_console_stays_silent_and_nothing_but_the_pages_own_files_is_asked_for(
    page, repository
):
    _, said, asked, _ = page
    assert said == []
    outside = [url for url in asked if not url.startswith((repository.as_uri(), "data:"))]
    assert outside == []


def test_each_table_is_drawn_and_each_png_shown_once_a_revision(page):
    plots, _, _, opened_page = page
    tables = declared(".csv")
    assert sorted(plots) == sorted(map(key, tables))
    for path, title in tables.items():
        assert title in plots[key(path)]["titles"]
        assert plots[key(path)]["marks"]
    sources = opened_page.evaluate("() => [...document.images].map(image => image.src)")
    revisions = 2 if any("HEAD" in source for source in sources) else 1
    assert len(set(sources)) == len(sources) == revisions * len(declared(".png"))


def test_no_axis_of_numbers_takes_them_for_names(page):
    plots, _, _, _ = page
    names = ("kind", "predicted", "actual")
    discrete = {
        label
        for plot in plots.values()
        for axis in plot["axes"]
        if "discrete" in (label := axis["label"]) and not re.search(f"'({'|'.join(names)})'", label)
    }
    # Rows of names without a title: metrics, classifiers, maps.
    assert all(
        re.match(r"Y-axis for a discrete scale with \d+ values: [A-Za-z]", d) for d in discrete
    )
    assert len(discrete) == 3


def test_probabilities_rise_from_0_to_1_upwards_in_a_panel_a_split(show):
    plot = show[0]["metrics_predictions_csv"]
    assert axis(plot, "Y")["label"] == (
        "Y-axis titled 'predicted P(pneumonia)' for a linear scale with values from 0.0 to 1.0"
    )
    ticks = axis(plot, "Y")["ticks"]
    assert ticks["0.0"]["y"] > ticks["0.5"]["y"] > ticks["1.0"]["y"]
    assert list(axis(plot, "X")["ticks"]) == list(KINDS)
    assert panels(plot) == BOTH_SPLITS
    points = marks(plot, "point")
    assert len(points) == 2 * len(KINDS) * N_OF_KIND
    # Each point lies where its number is on the axis, and beside the label of its kind.
    length = ticks["0.0"]["y"] - ticks["1.0"]["y"]
    for point in points:
        value = float(re.search(r"P\(pneumonia\): ([\d.]+)", point["label"])[1])
        assert point["y"] == pytest.approx(ticks["0.0"]["y"] - value * length, abs=1.5)
    # Sideways they are spread, so that equal probabilities do not hide one another.
    for kind in KINDS:
        places = [p["x"] for p in points if f"kind: {kind}" in p["label"]]
        assert len({round(x) for x in places}) > len(places) / 2


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("plots_roc_csv", "false positive rate (1 − specificity)", "recall (sensitivity)"),
        (
            "plots_precision_recall_csv",
            "recall (sensitivity)",
            "precision (positive predictive value)",
        ),
    ],
)
def test_curves_of_both_splits_run_from_0_to_1(show, name, x, y):
    plot = show[0][name]
    for direction, title in (("X", x), ("Y", y)):
        assert axis(plot, direction)["label"] == (
            f"{direction}-axis titled '{title}' for a linear scale with values from 0.0 to 1.0"
        )
    assert panels(plot) == BOTH_SPLITS
    assert len([m for m in marks(plot, "line mark") if m["stroke"] == BLUE]) == 2


def diagonal(plot, words: str):
    """The first grey line of a plot beside the places of 0 and 1 on its axes."""
    line = marks(plot, "line mark", words)[0]
    x, y = axis(plot, "X")["ticks"], axis(plot, "Y")["ticks"]
    return line, (x["0.0"]["x"], x["1.0"]["x"], y["0.0"]["y"], y["1.0"]["y"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plots_roc_csv", "false_positive_rate: 0; recall: 0"),  # chance
        ("plots_reliability_csv", "predicted: 0; observed: 0"),  # as often as predicted
    ],
)
def test_a_diagonal_runs_from_0_0_to_1_1(page, name, words):
    line, (left, right, bottom, top) = diagonal(page[0][name], words)
    assert line["left"] == pytest.approx(left, abs=4)  # a label may be moved to stay inside
    assert line["right"] == pytest.approx(right, abs=4)
    assert line["bottom"] == pytest.approx(bottom, abs=2)
    assert line["top"] == pytest.approx(top, abs=2)


def test_reliability_has_a_point_and_an_interval_a_bin(show, repository):
    plot = show[0]["plots_reliability_csv"]
    n_bins = len(pd.read_csv(repository / "plots/reliability.csv"))
    assert len(marks(plot, "point")) == len(marks(plot, "rule mark")) == n_bins > 1
    assert "images in the bin" in " ".join(plot["legends"])
    for direction in "XY":
        assert "a linear scale with values from 0.0 to 1.0" in axis(plot, direction)["label"]


def test_net_benefit_has_the_model_treat_all_and_treat_none(show):
    plot = show[0]["plots_decision_csv"]
    lines = {
        re.search("strategy: ([a-z ]+)", line["label"])[1]: line
        for line in marks(plot, "line mark")
    }
    assert set(lines) == {"model", "treat all", "treat none"}
    assert lines["model"]["stroke"] == BLUE
    assert lines["treat all"]["stroke"] == lines["treat none"]["stroke"] == "rgb(85, 85, 85)"
    assert all(line["width"] > 400 for line in lines.values())
    zero = axis(plot, "Y")["ticks"]["0.0"]["y"]
    assert lines["treat none"]["y"] == pytest.approx(zero, abs=1.5)
    assert lines["treat all"]["height"] > 20
    assert "linear" in axis(plot, "X")["label"]
    assert len(marks(plot, "area mark")) == 1


def test_the_confusion_matrix_counts_every_image_and_says_zero(show):
    plot = show[0]["plots_confusion_csv"]
    cells = [mark["text"] for mark in marks(plot, "text mark")]
    counts = [int(text) for text in cells if text.isdigit()]
    assert len(counts) == 4
    assert sum(counts) == len(KINDS) * N_OF_KIND
    assert "0" in cells
    assert "0.0% of 16" in cells  # of 16 ill images none is called normal
    assert axis(plot, "Y")["label"] == (
        "Y-axis titled 'actual' for a discrete scale with 2 values: normal, pneumonia"
    )


def test_each_corruption_has_a_panel_with_intervals_and_the_uncorrupted_level(show):
    plot = show[0]["metrics_robustness_csv"]
    assert sorted(panels(plot)) == [name.replace("_", " ") for name in CORRUPTIONS]
    n_settings = len(robustness.SETTINGS) - 1
    for metric in ("recall", "specificity"):
        points = marks(plot, "point", f"metric: {metric}")
        assert len(points) == n_settings
    lines = marks(plot, "rule mark")
    assert len([m for m in lines if m["height"] > 5]) == 2 * n_settings
    assert len([m for m in lines if m["width"] > 100]) == 2 * len(CORRUPTIONS)


def test_one_epoch_is_a_mark_that_one_sees(show):
    plot = show[0]["plots_history_train_frozen_csv"]
    assert panels(plot) == ["loss", "accuracy", "ROC-AUC"]
    points = marks(plot, "point", "epoch: 1")
    assert len(points) == len(HISTORY_FILES)
    assert all(4 < point["width"] < 20 and 4 < point["height"] < 20 for point in points)
    assert {re.search("split: ([a-z]+)", p["label"])[1] for p in points} == {"train", "validation"}
    assert list(axis(plot, "X")["ticks"]) == ["1"]
    for place in plot[
        "axes"
    ]:  # an axis without length would have one label, at no place of its own
        assert place["label"].startswith("X") or len(place["ticks"]) > 1


def test_epochs_are_joined_by_a_line_for_train_and_for_validation(show):
    plot = show[0]["plots_history_finetune_csv"]
    assert len([m for m in marks(plot, "line mark") if m["width"] > 100]) == len(HISTORY_FILES)
    assert list(axis(plot, "X")["ticks"]) == ["1", "2", "3"]


def test_every_metric_at_the_operating_threshold_has_its_interval(show):
    plot = show[0]["metrics_intervals_csv"]
    rows = {"recall", "recall, viral", "recall, patients", "npv if 5 % are ill", "ROC-AUC"}
    assert rows <= set(axis(plot, "Y")["ticks"])
    assert len(marks(plot, "rule mark")) == len(marks(plot, "point")) > 20
    assert panels(plot) == BOTH_SPLITS


def test_revisions_differ_in_colour_and_stand_in_the_legend(diff):
    plots, _, _, _ = diff
    confusion = plots.pop("plots_confusion_csv")
    assert panels(confusion) == ["HEAD", "workspace"]  # here a panel is a revision
    for name, plot in plots.items():
        assert any("HEAD, workspace" in legend for legend in plot["legends"]), name
        of_revision = {"HEAD": set(), "workspace": set()}
        for mark in plot["marks"]:
            revision = re.search("rev(?:ision)?: (HEAD|workspace)", mark["label"])
            if revision and mark["seen"] and "strategy: treat" not in mark["label"]:
                colours = {mark["stroke"], mark["fill"]} - {"none"}
                of_revision[revision[1]] |= colours
        assert of_revision == {"HEAD": {BLUE}, "workspace": {VERMILLION}}, name


def test_no_menu_hands_the_table_to_a_page_on_the_web(page):
    _, _, _, opened_page = page
    assert opened_page.locator(".vega-actions").count() > 0
    assert "Vega Editor" not in opened_page.content().split("</script>")[-1]
    assert opened_page.locator('.vega-actions a[href^="http"]').count() == 0


def test_a_table_without_rows_leaves_no_gap_and_no_error(repository, browser, tmp_path):
    # Robustness can be turned off, and a phase can have no epoch.
    name = "metrics/robustness.csv"
    shutil.copytree(repository, tmp_path / "copy", ignore=shutil.ignore_patterns("show", "diff"))
    header = (repository / name).read_text().splitlines()[0]
    (tmp_path / "copy" / name).write_text(f"{header}\n")
    dvc(tmp_path / "copy", "plots", "show", "--out", "out", name, "metrics/shortcuts.csv")
    plots, said, _, opened_page = opened(browser, tmp_path / "copy/out/index.html")
    assert said == []
    assert list(plots) == ["metrics_shortcuts_csv"]
    assert opened_page.locator(f"#{key(name)}").count() == 0

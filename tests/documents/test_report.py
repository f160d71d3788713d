"""The report: all that a run's files say, escaped, in one file, and a line for what is missing."""

import html.parser
import json
import re
import time

import pytest

from gate_repository import commit
from pneumonia.documents.report import address, of_hundred, report
from pneumonia.documents.run import read_run
from pneumonia.errors import PipelineError
from pneumonia.store.files import read_json, write_bytes, write_json, write_text
from pneumonia.store.yaml12 import load_yaml
from report_record import EARLIER, PLOTS, ROOT, png, write_run

VOID = {"meta", "link", "img", "input", "br"}


class Page(html.parser.HTMLParser):
    """A parsed page: its tags with attributes, its text by part, and whether it is well nested."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.parts, self.style = [], [], {"": []}, ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))
        if tag == "section":
            self.parts[dict(attrs)["id"]] = []

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "style":
            self.style += data
            return
        section = next((attrs["id"] for tag, attrs in self.open if tag == "section"), "")
        self.parts[section].append(data)

    def text(self, part=None):
        """The words of a part ("" is the page before and after all parts), or of the page."""
        found = self.parts.values() if part is None else [self.parts[part]]
        return re.sub(r"\s+", " ", " ".join(data for texts in found for data in texts)).strip()

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("report") / "run"
    return write_run(root, before={"bacterial": 5, "normal": 2})


@pytest.fixture(scope="module")
def page(whole):
    return Page(report(whole))


# ---- the first screen ----


def test_the_first_screen_has_the_warning_and_the_main_metrics_with_intervals(page):
    """Test: 100 pneumonia images, 3 missed; 60 normal ones, 2 called."""
    first = page.text("")
    assert (
        first.index("Not for diagnosis.") < first.index("Of 100 children") < first.index("Recall")
    )
    assert "measured on 160 images of 80 patients" in first
    assert "Recall (sensitivity) 0.970 0.915–0.990" in first  # Wilson's of 97 of 100
    assert "Specificity 0.967 0.886–0.991" in first  # of 58 of 60
    assert "Pneumonia missed 3 of 100 images" in first
    assert "False alarms 2 of 60 images" in first
    assert (
        "the operating threshold, 0.900000. It was chosen on validation for a recall of 0.9"
        in first
    )
    # bacterial000 and 001 are of one patient, who is missed; 002 has a sibling that is caught.
    assert "Recall per patient 0.980" in first
    assert "49 of 50 with pneumonia" in first
    assert "Phantoms" not in first
    assert "Files of different runs" not in first


def test_three_sentences_say_what_the_verdicts_mean(whole):
    # .97 of the 20 are 19.4; of the 80, 2 of 60 are 2.7. 19.4 of 22.1 are 88 %; 77.3 of 77.9, 99.2.
    assert of_hundred(read_run(whole)) == [
        "Of 100 children of whom 20 are ill, the model calls 22 ill: 19 who are, "
        "and 3 who are not.",
        "Of the 20 who are ill, fewer than one is missed.",
        "A pneumonia verdict is right in 88 of 100 cases, a normal verdict in 99.2 of 100.",
    ]


@pytest.mark.parametrize(
    ("missed", "dataset", "sentence"),
    [
        (
            {"bacterial": 1, "viral": 9, "normal": 9},
            "phantoms",
            "Of the 20 who are ill, 2 are missed.",
        ),
        ({"bacterial": 6, "normal": 9}, "own", "Of the 20 who are ill, 1 is missed."),
        ({"normal": 9}, "own", "Of the 20 who are ill, none is missed."),
    ],
)
def test_the_sentences_count_and_name_what_was_measured(tmp_path, missed, dataset, sentence):
    found = of_hundred(read_run(write_run(tmp_path / "run", dataset, missed=missed)))
    assert found[1] == sentence
    people = {"phantoms": "phantoms", "own": "patients"}[dataset]
    assert found[0].startswith(f"Of 100 {people} of whom 20 are ill")


# ---- the parts ----


def test_the_report_compares_with_the_baseline_before(page):
    """Five missed before, three now."""
    text = page.text("change")
    assert "The gate's verdict on this baseline: PASS" in text
    assert re.search(r"recall 0\.950 0\.970 \+0\.020", text)
    assert re.search(r"missed 5 of 100 3 of 100 \N{MINUS SIGN}2", text)


def test_a_baseline_whose_evidence_is_not_sound_is_not_compared(tmp_path):
    root = write_run(tmp_path / "run", before={"bacterial": 5})
    evaluate = read_json(root / "metrics/evaluate.json")
    evaluate["test"]["roc_auc"] = 1.0
    write_json(root / "metrics/evaluate.json", evaluate)
    text = Page(report(root)).text("change")
    assert "No comparison: this baseline: metrics/evaluate.json" in text
    assert "PASS" not in text


def test_every_part_that_is_there_is_shown(page):
    for part, words in {
        "data": "bacterial test 60 30",
        "model": "train_frozen 2 epoch 1 0.6000 0.7500",  # the lower loss, not the last epoch
        "metrics": "pneumonia missed 3 of 100",
        "clinic": "57 of 60 viral recall 1.000",
        "radiographs": "Pneumonia missed: 3 images",
        "comparison": "not comparable",  # 160 images are not the paper's 624
        "robustness": "3 0.600 (0.500–0.700) 0.800 (0.700–0.900) 0.800 (0.700–0.900) recall All",
        "maps": "head randomised 0.250 (0.125–0.500) 20 random heads",
        "shortcuts": "carry nothing: every file is 224×224 L",
        "limits": "one hospital",
        "looks": "chestxray2017-224 2. Looks at the study's test radiographs in all: 2.",
    }.items():
        assert words in page.text(part), part
    assert "A sample of test: 30 images of 17 patients" in page.text("robustness")
    assert "true positive 0.375 (0.250–0.500) 95 of 97 images" in page.text("maps")
    assert "8×8 thumbnail 0.600 (0.500–0.700) 0.300 (0.200–0.400)" in page.text("shortcuts")
    for words in ("not there", "Not in this run", "turned off", "withheld", "No comparison"):
        assert words not in page.text()


def test_each_metric_stands_in_the_row_and_column_of_its_name(whole, page):
    """As made-up values that occur once."""
    rows = (whole / "metrics/intervals.csv").read_text().splitlines()
    places = [row.split(",") for row in rows[1:]]
    made_up = {tuple(place[:4]): f"0.{123 + i}" for i, place in enumerate(places)}
    table = [
        ",".join([*place[:4], made_up[tuple(place[:4])], "0.000000", "1.000000", *place[7:]])
        for place in places
    ]
    root = whole.parent / "made-up"
    write_run(root)
    write_text(root / "metrics/intervals.csv", "\n".join([rows[0], *table]) + "\n")
    text = Page(report(root)).text()

    def shown(*key):
        return f"{made_up[key]} (0.000–1.000)"

    for words, name in (("recall (sensitivity)", "recall"), ("F1", "f1")):
        four = [
            shown(split, at, "all", name)
            for split in ("test", "validation")
            for at in ("operating", "half")
        ]
        assert f"{words} {' '.join(four)}" in text
    for words, *key in (
        ("ROC-AUC", "none", "all", "roc_auc"),
        ("bacterial recall", "operating", "bacterial", "recall"),
        ("normal specificity", "operating", "normal", "specificity"),
        ("specificity at 98 % recall", "recall_98", "all", "specificity"),
        ("recall at 90 % specificity", "specificity_90", "all", "recall"),
        ("Brier score", "none", "all", "brier"),
        ("calibration error", "none", "all", "calibration_error"),
        ("treating all or none, at 20 %", "0.20", "all", "net_benefit_gain"),
    ):
        assert f"{words} {shown('test', *key)}" in text, words
    values = [shown("test", "operating", "prevalence_05", name) for name in ("npv", "ppv")]
    assert f"5 % {' '.join(values)}" in text


def test_of_each_corruption_the_severest_stands_open_and_the_rest_is_folded(page):
    open_rows, folded_rows = page.text("robustness").split("All 3 grades")
    assert re.findall(r"blur (\d) ", open_rows) == ["3"]
    assert re.findall(r"blur (\d) ", folded_rows) == ["1", "3"]
    assert "as it came 0.800 (0.700–0.900)" in open_rows  # and nothing fell, from itself


def test_what_is_not_there_is_left_out_and_said(tmp_path):
    page = Page(report(write_run(tmp_path / "run", whole=False)))
    assert page.all("img") == []
    for part, words in {
        "": "The predictive values are missing",
        "change": "No comparison",
        "data": "metrics/predictions.csv is not there",
        "model": "history_train_frozen.csv is not there. Training by epoch: plots/history_finetune",
        "made": "dvc.lock is not there",
        "metrics": "Not in this run: confusion.png, roc.png, precision_recall.png.",
        "clinic": "Not in this run: kinds.png, reliability.png, decision.png.",
        "radiographs": "metrics/predictions.csv is not there",
        "comparison": "Not compared",
        "robustness": "metrics/robustness.csv is not there",
        "maps": "metrics/activation_maps.csv is not there",
        "shortcuts": "metrics/shortcuts.csv is not there",
        "looks": "docs/earlier_looks.csv",
    }.items():
        assert words in page.text(part), part
    assert "Recall (sensitivity) 0.970 Specificity 0.967" in page.text("")
    assert str(tmp_path) not in page.text()


@pytest.mark.parametrize("table_is_there", [True, False])
def test_robustness_that_is_turned_off_is_said_to_be(tmp_path, table_is_there):
    # With the table, the table alone tells; without it, the parameter.
    root = write_run(tmp_path / "run", robustness={"n_images": 300 if table_is_there else 0})
    header = (root / "metrics/robustness.csv").read_text().splitlines()[0]
    (root / "metrics/robustness.csv").unlink()
    if table_is_there:  # as stage examine leaves it: no row
        write_text(root / "metrics/robustness.csv", header + "\n")
    page = Page(report(root))
    assert page.text("robustness") == "Corrupted images Robustness: turned off in this run."


def test_phantoms_say_so_at_the_top_and_are_not_compared_with_the_paper(tmp_path):
    text = report(write_run(tmp_path / "run", "phantoms"))
    page = Page(text)
    first = page.text("")
    assert first.index("Phantoms, not radiographs.") < first.index("Recall")
    assert "these are others" in page.text("comparison")
    assert "Phantoms are drawn" in page.text("limits")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, re.DOTALL)
    assert len(captions) == len(PLOTS)
    assert all(caption.endswith("; phantoms (drawn, no patients).") for caption in captions)


def test_radiographs_that_are_not_public_are_neither_named_nor_shown(tmp_path):
    root = write_run(
        tmp_path / "run",
        "own",
        fetch={"source": "own", "archive": "https://ward.example/token-7", "sha256": "ab" * 32},
    )
    write_bytes(root / "plots/patient-smith.png", png())
    text = report(root)
    for secret in ("bacterial000", "test-bacterial", "token-7", "smith"):
        assert secret not in text
    page = Page(text)
    assert "withheld" in page.text("radiographs")
    assert "1 other plots: withheld" in page.text("other")
    assert "ab" * 32 in page.text("model")
    assert "one hospital" not in page.text("limits")
    assert len(page.all("img")) == len(PLOTS)


def test_the_errors_are_listed_the_gravest_first(tmp_path):
    """Of the three that are missed and the two false alarms, the second is the furthest off."""
    root = write_run(tmp_path / "run")
    table = (root / "metrics/predictions.csv").read_text()
    for name, kind, off in (
        ("bacterial001", "1,test,0.1", "0.0"),
        ("normal001", "0,test,0.9", "1.0"),
    ):
        row = next(row for row in table.splitlines() if row.startswith("test/") and name in row)
        assert kind in row
        table = table.replace(row, row.replace(kind, kind[:-3] + off))
    write_text(root / "metrics/predictions.csv", table)
    text = Page(report(root)).text("radiographs")
    missed, alarms = text.split("False alarms: 2 images")
    assert re.findall(r"bacterial\d+", missed) == ["bacterial001", "bacterial000", "bacterial002"]
    assert re.findall(r"normal\d+", alarms) == ["normal001", "normal000"]
    assert "0.100000" in missed
    assert "0.900000" in alarms


@pytest.mark.parametrize("nasty", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "a&b;"])
def test_every_value_is_escaped(tmp_path, nasty):
    """An image's name, a parameter, a plot's name, a note of the ledger and an output's path."""
    root = write_run(tmp_path / "run", split={"strategy": nasty})
    table = (root / "metrics/predictions.csv").read_text()
    quoted = '"' + f"{nasty}image".replace('"', '""') + '"'
    write_text(
        root / "metrics/predictions.csv",
        table.replace("test/PNEUMONIA/bacterial000.jpeg", quoted),
    )
    plot = f"{nasty}.png".replace("/", "")
    write_bytes(root / "plots" / plot, png())
    note = '"' + nasty.replace('"', '""') + '"'
    write_text(root / "docs/earlier_looks.csv", f"{EARLIER},,phantoms,,1,,,,{note}\n")
    lock = load_yaml(root / "dvc.lock")
    lock["stages"]["evaluate"]["outs"].append({"path": nasty, "md5": nasty})
    write_text(root / "dvc.lock", json.dumps(lock))
    page = Page(report(root))
    assert "script" not in {tag for tag, _ in page.tags}
    assert len(page.all("img")) == len(PLOTS) + 1
    assert [attrs for attrs in page.all("img") if "onerror" in attrs] == []
    assert f"{nasty}image bacterial" in page.text("radiographs")
    assert f"split.strategy {nasty}" in page.text("model")
    assert plot in page.text("other")
    assert f"The plot {plot}." in [attrs["alt"] for attrs in page.all("img")]
    assert nasty in page.text("looks")
    assert f"evaluate {nasty} {nasty}" in page.text("made")


# ---- where it comes from ----


@pytest.mark.parametrize("role", ["output", "dependency"])
def test_files_that_are_not_those_of_the_lock_are_named_at_the_top(tmp_path, role):
    root = write_run(tmp_path / "run")
    assert "are those that dvc.lock names" in Page(report(root)).text("made")
    name = "metrics/robustness.csv"
    if role == "dependency":  # drawn from other predictions than are there
        name = "metrics/predictions.csv"
        lock = load_yaml(root / "dvc.lock")
        lock["stages"]["plot"]["deps"] = [{"path": name, "md5": "0" * 32}]
        write_text(root / "dvc.lock", json.dumps(lock))
    else:
        lock = load_yaml(root / "dvc.lock")
        lock["stages"]["examine"] = {"outs": [{"path": name, "md5": "0" * 32}]}
        write_text(root / "dvc.lock", json.dumps(lock))
    page = Page(report(root))
    assert "Files of different runs." in page.text("")
    assert f"not the bytes that dvc.lock names: {name} ." in page.text("made")
    assert "Tracked files that differ from it: 1." in page.text("made")
    assert "are those that" not in page.text("made")


def test_parameters_that_the_run_did_not_have_are_named(tmp_path):
    root = write_run(tmp_path / "run")
    lock = load_yaml(root / "dvc.lock")
    ran_with = {"evaluate": {"target_recall": 0.9, "n_bootstrap": 41}, "fetch.source": "phantoms"}
    lock["stages"]["evaluate"]["params"] = {"params.yaml": ran_with}
    write_text(root / "dvc.lock", json.dumps(lock))
    text = Page(report(root)).text("made")
    names = "evaluate.n_bootstrap , fetch.source ."
    assert f"otherwise than the run that dvc.lock names: {names}" in text


def test_the_commit_is_named_with_its_date_and_no_date_of_today(tmp_path, monkeypatch):
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_DATE", "2020-02-29T23:30:00-03:00")
    root = write_run(tmp_path / "run")
    hash_of_it = commit(root)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "XXX+12")  # where it is February still
        time.tzset()
        text = Page(report(root)).text("made")
    time.tzset()
    assert f"Commit {hash_of_it} of 2020-03-01." in text  # UTC


def test_without_git_the_page_is_made_all_the_same(tmp_path):
    root = write_run(tmp_path / "run")
    (root / ".git").rename(tmp_path / "away")
    page = Page(report(root))
    for part in ("made", "looks", "change"):
        assert "this is no Git checkout" in page.text(part)


def test_the_same_files_give_the_same_bytes(whole):
    assert report(whole) == report(whole)


# ---- the page as a page ----


def test_the_page_is_one_file_that_asks_nothing_of_any_host(page):
    allowed = {"src": "data:image/png;base64,", "href": ("#", "data:,")}
    for tag, attrs in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form", "svg"}
        for name, value in attrs.items():
            assert not name.startswith("on")
            assert name not in {"style", "srcset", "action", "background", "poster"}
            if name in allowed:
                assert value.startswith(allowed[name])
    assert not re.search(r"url\(|@import|https?:", page.style)
    policy = page.all("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_the_page_can_be_read_without_seeing_it(page):
    assert page.all("html") == [{"lang": "en"}]
    assert page.text().count("Pneumonia on chest radiographs: report of a run") == 2  # title, h1
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert set(headings[1:]) == {2}
    images = page.all("img")
    assert len(images) == len(PLOTS)
    assert all(len(attrs["alt"]) > 20 for attrs in images)
    identifiers = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    targets = {attrs["href"][1:] for attrs in page.all("a")}
    assert targets == {attrs["id"] for attrs in page.all("section")}
    assert {attrs["for"] for attrs in page.all("label")} <= set(identifiers)


def test_every_plot_has_a_caption_with_n_and_dataset(whole):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", report(whole), re.DOTALL)
    assert len(captions) == len(PLOTS)
    assert all(re.search(r"\d+ images.*; dataset chestxray2017-224\.$", c) for c in captions)
    assert [c for c in captions if "23 images" in c] == [
        c for c in captions if "random weights" in c
    ]


def test_every_plot_that_a_stage_draws_is_known_to_the_page():
    drawn = set()
    for stage in load_yaml(ROOT / "dvc.yaml")["stages"].values():
        plots = stage.get("plots", [])
        names = [plot if isinstance(plot, str) else next(iter(plot)) for plot in plots]
        drawn |= {name.removeprefix("plots/") for name in names if name.endswith(".png")}
    assert drawn == set(PLOTS)


def test_a_plot_that_is_none_is_refused():
    with pytest.raises(PipelineError, match=r"roc\.png: expected a PNG image.*6 bytes"):
        address("roc.png", b"GIF89a")


@pytest.mark.parametrize("schema", [1, None])
def test_metrics_of_another_schema_are_refused(tmp_path, schema):
    root = write_run(tmp_path / "run")
    write_json(root / "metrics/evaluate.json", {"schema": schema})
    with pytest.raises(PipelineError, match=f"expected metrics of schema 2. Received: {schema}"):
        report(root)


@pytest.mark.parametrize("name", ["intervals", "robustness", "shortcuts", "activation_maps"])
def test_a_broken_table_is_one_clear_error(tmp_path, name):
    root = write_run(tmp_path / "run")
    for content in ("a,b\n1,2\n", "", "\0", "{}"):
        write_text(root / f"metrics/{name}.csv", content)
        with pytest.raises(PipelineError, match=rf"{name}\.csv: [^\n]*$"):
            read_run(root)


def test_without_metrics_there_is_no_report(tmp_path):
    with pytest.raises(PipelineError, match=r"evaluate\.json"):
        report(tmp_path)


def test_the_baseline_has_its_report():
    page = Page(report(ROOT))
    evaluate = read_json(ROOT / "metrics/evaluate.json")
    assert f"the operating threshold, {evaluate['operating_threshold']:.6f}." in page.text("")
    assert len(page.all("img")) == len(list((ROOT / "plots").rglob("*.png")))
    assert str(ROOT) not in page.text()

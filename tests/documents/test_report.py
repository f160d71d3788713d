"""The report: all that a run's files tell, escaped, in one file; and what is not there is said."""

import html.parser
import json
import re
import time

import pytest

from gate_repository import commit
from pneumonia.documents.report import KNOWN_PICTURES, PICTURES, report
from pneumonia.errors import PipelineError
from pneumonia.store.files import read_json, write_bytes, write_json, write_text
from pneumonia.store.yaml12 import load_yaml
from report_record import EARLIER, ROOT, png, write_run

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
        """The words of a part ("" is what stands before and after all parts), or of the page."""
        found = self.parts.values() if part is None else [self.parts[part]]
        return re.sub(r"\s+", " ", " ".join(data for texts in found for data in texts)).strip()

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(whole):
    return Page(report(whole))


def test_the_first_screen_has_the_warning_and_the_main_figures_with_intervals(page):
    """Test: 100 pneumonia images, 3 missed; 60 normal ones, 2 called."""
    first = page.text("")
    assert first.index("Not for diagnosis.") < first.index("Recall")
    assert "measured on 160 images of 80 patients" in first
    assert "Recall (sensitivity) 0.970 0.915–0.990" in first  # Wilson's of 97 of 100
    assert "Specificity 0.967 0.886–0.991" in first  # of 58 of 60
    assert "Pneumonia missed 3 of 100 images" in first
    assert "False alarms 2 of 60 images" in first
    assert "Operating threshold 0.900000 for a recall of 0.9" in first
    assert "Phantoms" not in first
    assert "Not one run" not in first


def test_every_part_that_is_there_is_shown(page):
    for part, words in {
        "data": "bacterial test 60 30",
        "model": "train_frozen 2 epoch 1 0.6000 0.7500",  # the lower loss, not the last epoch
        "figures": "pneumonia missed 3 of 100",
        "films": "Pneumonia missed: 3 films",
        "comparison": "reproduced",
        "robustness": "3 0.600 (0.500–0.700) 0.800 (0.700–0.900) 0.800 (0.700–0.900) recall All",
        "maps": "the head drawn anew 0.250 (0.125–0.500)",
        "shortcuts": "carries nothing: every film is 224×224 L",
        "limits": "one hospital",
        "looks": "chestxray2017-224 1",
    }.items():
        assert words in page.text(part)
    assert "A sample of test: 30 images of 17 patients" in page.text("robustness")
    assert "true positive 95 0.375" in page.text("maps")
    assert "false negative" not in page.text("maps")  # has no median
    for words in ("not there", "Not in this run", "turned off", "withheld"):
        assert words not in page.text()


def test_of_each_corruption_the_severest_stands_open_and_the_rest_is_folded(page):
    open_rows, folded_rows = page.text("robustness").split("All 3 settings")
    assert re.findall(r"blur (\d) ", open_rows) == ["3"]
    assert re.findall(r"blur (\d) ", folded_rows) == ["1", "3"]


def test_clinical_figures_are_shown_when_they_were_measured(tmp_path):
    root = write_run(tmp_path / "run")
    evaluate = read_json(root / "metrics/evaluate.json")
    # As runs have it from before there were clinical figures.
    basic = ("n_images", "n_patients", "roc_auc", "average_precision", "at_operating", "at_half")
    evaluate["test"] = {k: v for k, v in evaluate["test"].items() if k.startswith(basic)}
    write_json(root / "metrics/evaluate.json", evaluate)
    assert "not measured in this run" in Page(report(root)).text("clinical")
    ends = {"recall_low": 0.25, "recall_high": 0.75}
    evaluate["test"] |= {
        "by_kind": {"viral": {"n_images": 40, "n_patients": 20, "recall": 0.5, **ends}},
        "at_prevalence_05": {
            "npv": 0.875, "npv_low": 0.8, "npv_high": 0.9,
            "ppv": 0.125, "ppv_low": 0.1, "ppv_high": 0.2,
        },
        "at_specificity_90": {"recall": 0.625, **ends},
        "brier": 0.0625, "brier_low": 0.05, "brier_high": 0.075,
    }  # fmt: skip
    write_json(root / "metrics/evaluate.json", evaluate)
    text = Page(report(root)).text("clinical")
    assert "viral 40 of 20 recall 0.500 (0.250–0.750)" in text
    assert "5 % 0.875 (0.800–0.900) 0.125 (0.100–0.200)" in text
    assert "recall at 90 % specificity 0.625 (0.250–0.750)" in text
    assert "Brier score 0.062 (0.050–0.075)" in text
    assert "not measured" not in text


def test_what_is_not_there_is_left_out_and_said(tmp_path):
    page = Page(report(write_run(tmp_path / "run", whole=False)))
    assert page.all("img") == []
    for part, words in {
        "data": "metrics/predictions.csv is not there",
        "model": "history_train_frozen.csv and plots/evaluate/history_finetune.csv not there",
        "made": "dvc.lock is not there",
        "figures": "Not in this run: confusion.png, roc.png, precision_recall.png",
        "clinical": "Not in this run: kinds.png, reliability.png, decision.png",
        "films": "metrics/predictions.csv is not there",
        "comparison": "Not compared",
        "robustness": "metrics/robustness.csv is not there",
        "maps": "metrics/maps.json is not there",
        "shortcuts": "metrics/shortcuts.json is not there",
        "looks": "docs/earlier_looks.csv",
    }.items():
        assert words in page.text(part), part
    assert str(tmp_path) not in page.text()


@pytest.mark.parametrize("table_is_there", [True, False])
def test_robustness_that_is_turned_off_is_said_to_be(tmp_path, table_is_there):
    # With the table, the table alone tells; without it, the setting.
    root = write_run(tmp_path / "run", robustness={"n_images": 300 if table_is_there else 0})
    header = (root / "metrics/robustness.csv").read_text().splitlines()[0]
    (root / "metrics/robustness.csv").unlink()
    if table_is_there:  # as stage evaluate leaves it: no row
        write_text(root / "metrics/robustness.csv", header + "\n")
    page = Page(report(root))
    assert page.text("robustness") == "Corrupted films Robustness: turned off in this run."
    assert "A sample of test: 30" not in page.text()


def test_phantoms_say_so_at_the_top_and_are_not_compared_with_the_paper(tmp_path):
    text = report(write_run(tmp_path / "run", "phantoms"))
    page = Page(text)
    first = page.text("")
    assert first.index("Phantoms, not films.") < first.index("Recall")
    assert "reproduced" not in page.text()
    assert "Phantoms are drawn" in page.text("limits")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, re.DOTALL)
    assert len(captions) == len(KNOWN_PICTURES)
    assert all(caption.endswith("; phantoms (drawn, no patients).") for caption in captions)


def test_films_that_are_not_public_are_neither_named_nor_shown(tmp_path):
    root = write_run(
        tmp_path / "run",
        "own",
        fetch={"source": "own", "archive": "https://ward.example/token-7", "sha256": "ab" * 32},
    )
    write_bytes(root / PICTURES / "patient-smith.png", png())
    text = report(root)
    for secret in ("bacterial000", "test-bacterial", "token-7", "smith"):
        assert secret not in text
    page = Page(text)
    assert "withheld" in page.text("films")
    assert "1 other pictures: withheld" in page.text("other")
    assert "ab" * 32 in page.text("model")
    assert "one hospital" not in page.text("limits")
    assert len(page.all("img")) == len(KNOWN_PICTURES)


def test_the_errors_are_listed_the_gravest_first(whole, page):
    """A film of 0.1 that is missed; the three have one probability, so names settle the order."""
    missed, alarms = page.text("films").split("False alarms: 2 films")
    assert re.findall(r"bacterial\d+", missed) == ["bacterial000", "bacterial001", "bacterial002"]
    assert re.findall(r"normal\d+", alarms) == ["normal000", "normal001"]
    assert "0.100000" in missed
    assert "0.900000" in alarms


@pytest.mark.parametrize("nasty", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "a&b;"])
def test_every_value_is_escaped(tmp_path, nasty):
    """A film's name, a setting, a picture's name, a note of the ledger and an output's path."""
    root = write_run(tmp_path / "run", split={"strategy": nasty})
    table = (root / "metrics/predictions.csv").read_text()
    quoted = '"' + f"{nasty}film".replace('"', '""') + '"'
    write_text(
        root / "metrics/predictions.csv",
        table.replace("test/PNEUMONIA/bacterial000.jpeg", quoted),
    )
    picture = f"{nasty}.png".replace("/", "")
    write_bytes(root / PICTURES / picture, png())
    note = '"' + nasty.replace('"', '""') + '"'
    write_text(root / "docs/earlier_looks.csv", f"{EARLIER},,phantoms,,1,,,,{note}\n")
    lock = load_yaml(root / "dvc.lock")
    lock["stages"]["evaluate"]["outs"].append({"path": nasty, "md5": nasty})
    write_text(root / "dvc.lock", json.dumps(lock))
    text = report(root)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert len(page.all("img")) == len(KNOWN_PICTURES) + 1
    assert [attrs for attrs in page.all("img") if "onerror" in attrs] == []
    assert f"{nasty}film bacterial" in page.text("films")
    assert f"split.strategy {nasty}" in page.text("model")
    assert picture in page.text("other")
    assert f"The picture {picture}." in [attrs["alt"] for attrs in page.all("img")]
    assert nasty in page.text("looks")
    assert f"evaluate {nasty} {nasty}" in page.text("made")


def test_files_that_are_not_those_of_the_lock_are_told_at_the_top(tmp_path):
    root = write_run(tmp_path / "run")
    assert "are those that dvc.lock names" in Page(report(root)).text("made")
    evaluate = read_json(root / "metrics/evaluate.json")
    evaluate["test"]["roc_auc"] = 1.0
    write_json(root / "metrics/evaluate.json", evaluate)
    page = Page(report(root))
    assert "Not one run." in page.text("")
    assert "or missing: metrics/evaluate.json ." in page.text("made")
    assert "Tracked files that differ from it: 1." in page.text("made")
    assert "are those that" not in page.text("made")


def test_settings_that_the_run_did_not_have_are_told(tmp_path):
    root = write_run(tmp_path / "run")
    lock = load_yaml(root / "dvc.lock")
    ran_with = {"evaluate": {"target_recall": 0.9, "n_bootstrap": 41}, "fetch.source": "phantoms"}
    lock["stages"]["evaluate"]["params"] = {"params.yaml": ran_with}
    write_text(root / "dvc.lock", json.dumps(lock))
    text = Page(report(root)).text("made")
    names = "evaluate.n_bootstrap , fetch.source ."
    assert f"otherwise than the run that dvc.lock names: {names}" in text


def test_the_commit_is_named_with_its_date_and_no_date_of_now(tmp_path, monkeypatch):
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
    assert "this is no Git checkout" in page.text("made")
    assert "this is no Git checkout" in page.text("looks")


def test_the_same_files_give_the_same_bytes(whole):
    assert report(whole) == report(whole)


def test_the_page_is_one_file_that_asks_nothing_of_any_host(page, whole):
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


def test_the_page_can_be_read_by_who_does_not_see_it(page):
    assert page.all("html") == [{"lang": "en"}]
    assert page.text().count("Pneumonia on chest radiographs: report of a run") == 2  # title, h1
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert set(headings[1:]) == {2}
    pictures = page.all("img")
    assert len(pictures) == len(KNOWN_PICTURES)
    assert all(len(attrs["alt"]) > 20 for attrs in pictures)
    assert {(attrs["width"], attrs["height"]) for attrs in pictures} == {("800", "400")}
    identifiers = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    targets = {attrs["href"][1:] for attrs in page.all("a")}
    assert targets == {attrs["id"] for attrs in page.all("section")}
    assert {attrs["for"] for attrs in page.all("label")} <= set(identifiers)


def test_every_picture_has_a_caption_with_n_and_source(whole, page):
    text = report(whole)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, re.DOTALL)
    assert len(captions) == len(KNOWN_PICTURES)
    assert all(re.search(r"\d+ images.*; source chestxray2017-224\.$", c) for c in captions)
    assert [c for c in captions if "23 images" in c] == [c for c in captions if "drawn anew" in c]


def test_a_picture_that_is_none_is_refused(tmp_path):
    root = write_run(tmp_path / "run")
    write_bytes(root / PICTURES / "roc.png", b"GIF89a")
    with pytest.raises(PipelineError, match=r"roc\.png: expected a PNG picture.*6 bytes"):
        report(root)


@pytest.mark.parametrize("schema", [2, None])
def test_figures_of_another_schema_are_refused(tmp_path, schema):
    root = write_run(tmp_path / "run")
    write_json(root / "metrics/evaluate.json", {"schema": schema})
    with pytest.raises(PipelineError, match=f"expected figures of schema 1. Received: {schema}"):
        report(root)


def test_without_figures_there_is_no_report(tmp_path):
    with pytest.raises(PipelineError, match=r"evaluate\.json"):
        report(tmp_path)


def test_the_recorded_run_has_its_report():
    page = Page(report(ROOT))
    recorded = read_json(ROOT / "metrics/evaluate.json")
    assert f"Operating threshold {recorded['operating_threshold']:.6f}" in page.text("")
    assert len(page.all("img")) == len(list((ROOT / PICTURES).glob("*.png")))
    assert str(ROOT) not in page.text()

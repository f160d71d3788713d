"""The files of `dvc plots` in .dvc/plots: templates, and the page that holds Vega."""

import hashlib
import json
import re

from pneumonia.store.yaml12 import load_yaml
from tiny_repository import ROOT

FOLDER = ROOT / ".dvc/plots"
PAGE = (FOLDER / "page.html").read_text("utf-8")
# Code of each package, by the name and version and the SHA-256 that stand beside it.
SCRIPTS = re.findall(
    r'<script data-package="(\S+)" data-sha256="(\w+)">(.*?)</script>', PAGE, re.DOTALL
)


def test_the_page_is_its_frame_with_the_published_scripts_in_it():
    elements = [
        f'<script data-package="{name}" data-sha256="{digest}">{code}</script>'
        for name, digest, code in SCRIPTS
    ]
    frame = (FOLDER / "page_frame.html").read_text("utf-8")
    # Where this fails: python .dvc/plots/make_page.py
    assert frame.replace("<!-- scripts -->", "\n".join(elements)) == PAGE
    assert [name.split("@")[0] for name, _, _ in SCRIPTS] == ["vega", "vega-lite", "vega-embed"]
    for name, digest, code in SCRIPTS:
        published = code.replace("<\\/script", "</script")
        assert hashlib.sha256(published.encode()).hexdigest() == digest, name


def test_dvc_finds_its_place_in_the_page_and_takes_no_script_from_the_web():
    assert PAGE.count("{plot_divs}") == PAGE.count("{refresh_tag}") == 1
    assert "{scripts}" not in PAGE
    frame = (FOLDER / "page_frame.html").read_text("utf-8")
    assert not re.search(r"(?:src|href)=|https?:|@import|url\(", frame)


def test_the_licences_of_the_scripts_stand_beside_the_page():
    headings = re.findall(r"^={72}\n\n(.+)$", (FOLDER / "page_licences.txt").read_text(), re.M)
    packages = {name for heading in headings for name in heading.split(", ")}
    assert packages > {name.split("@")[0] for name, _, _ in SCRIPTS} | {"d3-scale", "semver"}


def test_every_table_has_a_template_here_and_every_template_a_table():
    settings = {
        path: of_path
        for stage in load_yaml(ROOT / "dvc.yaml")["stages"].values()
        for entry in stage.get("plots", [])
        for path, of_path in (entry if isinstance(entry, dict) else {entry: {}}).items()
        if not path.endswith(".png")
    }
    assert [path for path, of_path in settings.items() if not of_path.get("title")] == []
    templates = {path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}
    assert {of_path.get("template") for of_path in settings.values()} == set(templates)
    for name, template in templates.items():
        assert template["data"]["values"] == "<DVC_METRIC_DATA>", name
        assert template["title"]["text"] == "<DVC_METRIC_TITLE>", name

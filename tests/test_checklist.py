"""The checklist is whole: every item has a row. tests/test_documents.py follows its links."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/checklist.md"
TEXT = PAGE.read_text(encoding="utf-8")
ANSWERS = {"Yes", "In part", "No", "Not applicable"}


def rows(guideline: str) -> list[list[str]]:
    part = TEXT.split(f"## {guideline}", 1)[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in part.splitlines()
        if re.match(r"\| \d", line)
    ]


def test_every_item_of_both_guidelines_has_one_row_in_order():
    assert [row[0] for row in rows("CLAIM")] == [str(i) for i in range(1, 45)]
    parts = {15: "abcd", 16: "abc", 17: "ab", 26: "ab", 40: "ab"}
    expected = [f"{i}{part}" for i in range(1, 41) for part in parts.get(i, [""])]
    assert [row[0] for row in rows("STARD-AI")] == expected


@pytest.mark.parametrize("guideline", ["CLAIM", "STARD-AI"])
def test_every_row_says_what_is_asked_and_whether_and_where_it_is_answered(guideline):
    for number, asked, answered, where in rows(guideline):
        assert asked, number
        assert answered in ANSWERS, number
        assert where, number

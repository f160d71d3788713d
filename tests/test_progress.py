import logging

import pytest

from pneumonia import progress
from pneumonia.progress import reported

log = logging.getLogger("fetch")


def test_every_item_comes_through_in_order(capsys):
    assert list(reported(iter("abc"), 3, "films drawn", log)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""  # no bar where there is no terminal


def test_lines_tell_how_far_it_is(caplog, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "fetch"):
        list(reported("abc", 3, "films drawn", log))
    assert caplog.messages == ["0 of 3 films drawn", "1 of 3 films drawn", "2 of 3 films drawn"]


def test_quick_work_says_nothing(caplog):
    with caplog.at_level(logging.INFO, "fetch"):
        list(reported("abc", 3, "films drawn", log))
    assert caplog.messages == []


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    list(reported("abc", 3, "films drawn", log))
    assert "films drawn: 100%" in capsys.readouterr().err


def test_an_error_on_the_way_passes_through():
    def items():
        yield "a"
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(reported(items(), 3, "films drawn", log))

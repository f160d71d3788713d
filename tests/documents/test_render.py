"""Escaping in one place: no value of a run starts anything in a page, whatever it holds."""

import re

import pytest
from jinja2 import DictLoader, UndefinedError
from markupsafe import Markup

from pneumonia.documents import render
from pneumonia.documents.render import cells, markdown, markdown_code

# Every one is a value that somebody can write into a file name, a parameter or a note.
NASTY = (
    "<script>alert(1)</script>",
    "**bold** _it_ ~~out~~ `code`",
    "[link](https://evil.example) ![image](x)",
    "www.evil.example and https://evil.example",
    "@everyone, please",
    "a | b\n| c | d |",
    "line\r\n# heading\x0b- item\u2028> quote",
    "back\\slash \\[",
    "&lt; &amp; &#64;",
)


@pytest.fixture
def template(monkeypatch):
    """template(name, text): a template of that name and text, in place of the package's."""

    def make(name, text):
        for environment in render._ENVIRONMENTS.values():
            monkeypatch.setattr(environment, "loader", DictLoader({name: text}))
            environment.cache.clear()
        return name

    yield make
    for environment in render._ENVIRONMENTS.values():
        environment.cache.clear()


@pytest.mark.parametrize("value", NASTY)
def test_a_value_in_markdown_stays_one_line_of_plain_text(value):
    text = str(markdown(value))
    assert "\n" not in text
    assert all(c.isprintable() for c in text)
    # Without what is escaped or put between, nothing is left that Markdown or GitHub reads.
    rest = re.sub(r"\\.|&(lt|gt|amp|#39|#34);|(?<=[@:w])<!-- -->", "·", text)
    assert not re.search(r"[\\`*\[\]|~<>]|@\w|://|www\.|\b_|_\b", rest)


def test_words_and_numbers_are_left_as_they_are():
    for text in ("0.995 (0.981–0.999)", "chestxray2017-224", "efficientnet_v2_s", "5 % of 3,883"):
        assert markdown(text) == text
    assert markdown(Markup("**done**")) == "**done**"


@pytest.mark.parametrize("value", NASTY)
def test_code_in_markdown_ends_where_the_value_ends(value):
    text = str(markdown_code(value))
    assert text[0] == text[-1] == "`"
    assert text.count("`") == 2
    assert "\n" not in text
    assert not re.search(r"(?<!\\)\|", text)
    assert markdown_code("") == "` `"  # two backticks would open code of two


def test_a_row_has_as_many_cells_as_values():
    row = str(cells(NASTY))
    assert "\n" not in row
    assert len(re.findall(r"(?<!\\)\|", row)) == len(NASTY) + 1


@pytest.mark.parametrize("value", NASTY)
def test_a_template_escapes_for_the_format_in_its_name(template, value):
    page = render.rendered(template("x.html.jinja", "<p>{{ a }}</p>{{ a|code }}"), a=value)
    assert page.count("<") == 4  # two elements
    assert render.rendered(template("x.md.jinja", "{{ a }}"), a=value) == markdown(value)
    assert render.rendered(template("x.md.jinja", "{{ a|code }}"), a=value) == markdown_code(value)


def test_what_a_macro_gives_is_not_escaped_twice(template):
    text = "{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(a) }}"
    assert render.rendered(template("x.html.jinja", text), a="&") == "<&amp;>"
    assert render.rendered(template("x.md.jinja", text), a="*") == r"<\*>"


def test_a_name_that_is_not_there_is_an_error(template):
    with pytest.raises(UndefinedError):
        render.rendered(template("x.html.jinja", "{{ nothing }}"))

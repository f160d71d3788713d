"""The Jinja2 templates of this package. HTML and Markdown are escaped here and nowhere else."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

TEMPLATES = Path(__file__).parent / "templates"


def rendered(template: str, **context: Any) -> str:
    """The text of a template; a value that the context lacks is a bug and raises.

    Every value is escaped for the format that the template's name says, `.html.jinja` or
    `.md.jinja`: a value starts no tag, link, mention, table cell or line of its own.
    """
    return _ENVIRONMENTS[Path(template).suffixes[-2]].get_template(template).render(context)


def markdown(value: Any) -> Markup:
    """The value as Markdown that shows it as it is, on one line."""
    if isinstance(value, Markup):
        return value
    text = re.sub(r"([\\`*\[\]|~]|\b_|_\b)", r"\\\1", str(escape(_one_line(value))))
    # GitHub makes a mention of @name and a link of an address, unless something stands within.
    return Markup(re.sub(r"(@|:(?=//)|www(?=\.))", r"\1<!-- -->", text))


def _one_line(value: Any) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value))


def cells(row: Iterable[Any]) -> Markup:
    """One line of a Markdown table."""
    return Markup(f"| {' | '.join(map(markdown, row))} |")


def markdown_code(value: Any) -> Markup:
    """The value as code: nothing in it is read as Markdown."""
    plain = _one_line(value).replace("`", "'").replace("|", "\\|")
    return Markup(f"`{plain or ' '}`")


def _html_code(value: Any) -> Markup:
    return Markup("<code>{}</code>").format(value)


def _environment(code: Callable[[Any], Markup], **settings: Any) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, **settings,
    )  # fmt: skip
    environment.filters |= {
        "code": code,
        "cells": cells,
        "thousands": "{:,}".format,
        "decimals": lambda value, n=3: f"{value:.{n}f}",
        # For places where no escape exists, such as a Mermaid drawing.
        "plain": lambda value: Markup(re.sub("[^a-zA-Z0-9_ .@/-]", "_", str(value))),
    }
    return environment


_ENVIRONMENTS = {
    ".html": _environment(_html_code),
    # The result is Markup, which automatic escaping leaves alone.
    ".md": _environment(markdown_code, finalize=markdown),
}

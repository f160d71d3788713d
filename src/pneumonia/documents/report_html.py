"""A page of HTML in one file: elements, tables, pictures inside, and the look of it.

Elements are built as a tree and written out by the standard library, so that every text and every
attribute is escaped; nothing here puts markup together from strings.
"""

import base64
import struct
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from pneumonia.errors import PipelineError

Element = ElementTree.Element
Child = str | Element

_PNG = b"\x89PNG\r\n\x1a\n"
# A line each in the file, so that two reports can be compared.
_WITHIN_A_LINE = frozenset(("a", "code", "strong", "th", "td", "dt", "dd", "img"))

# Nothing is fetched and nothing runs: pictures come as data, the style stands in the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

# Every pair of text and background here has a contrast of at least 4.5 to 1, WCAG's AA.
STYLE = """
:root { --text: #1b1f24; --muted: #565e67; --page: #ffffff; --box: #f3f5f7; --line: #c9d0d6;
  --link: #0b57a4; --warn-text: #4a2f00; --warn: #fff3d6; --warn-line: #b26a00; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --muted: #a8b1ba; --page: #15191d; --box: #20262c; --line: #3d464f;
    --link: #86b8f0; --warn-text: #ffe2ad; --warn: #3a2b10; --warn-line: #d99a32; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: var(--text);
  background: var(--page); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
p, ul { margin: .5rem 0; }
ul { padding-left: 1.25rem; }
a { color: var(--link); }
code { font: .9em ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.muted, .caption, figcaption { color: var(--muted); font-size: .9rem; }
.notice { margin: .75rem 0; padding: .5rem .75rem; color: var(--warn-text);
  background: var(--warn); border-left: .3rem solid var(--warn-line); }
.missing { margin: .75rem 0; padding-left: .75rem; color: var(--muted);
  border-left: .3rem solid var(--line); }
nav { margin: 1rem 0 0; font-size: .95rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 0; padding: 0;
  list-style: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(max(9.25rem, 30%), 1fr));
  gap: .5rem; margin: 1rem 0 .5rem; }
.cards div { padding: .5rem .75rem; background: var(--box); border: 1px solid var(--line);
  border-radius: .4rem; }
.cards dt { color: var(--muted); font-size: .85rem; }
.cards dd { margin: 0; }
.cards .value { font-size: 1.3rem; line-height: 1.4; font-weight: 600; white-space: nowrap; }
.cards .more { color: var(--muted); font-size: .85rem; }
.scroll { margin: .25rem 0 .75rem; overflow-x: auto; }
.scroll:focus-visible, summary:focus-visible, a:focus-visible, input:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
.caption { margin: 1.25rem 0 0; }
th, td { padding: .3rem .75rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; }
th { font-weight: 600; }
tbody th { min-width: 6.5rem; }
td.long { min-width: 14rem; }
td.whole { white-space: nowrap; }
details { margin: .75rem 0; }
summary { color: var(--link); cursor: pointer; padding: .25rem 0; }
figure { margin: 1.25rem 0; }
/* The pictures are drawn on white, in the dark too. */
.picture { overflow-x: auto; background: #ffffff; border: 1px solid var(--line);
  border-radius: .4rem; }
.picture img { display: block; width: auto; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { margin-top: .25rem; }
.zoom { color: var(--link); font-size: .85rem; }
input:checked ~ .picture img { max-width: none; }
@media (min-width: 56rem) { .zoom, figure input { display: none; } }
@media print {
  :root { --text: #000000; --muted: #444444; --page: #ffffff; --box: #ffffff; --line: #999999;
    --link: #000000; --warn-text: #000000; --warn: #ffffff; --warn-line: #000000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, .zoom, figure input { display: none; }
  figure, tr, .cards div { break-inside: avoid; }
  h2, summary, .caption { break-after: avoid; }
  .scroll, .picture { overflow: visible; }
  .picture img { max-height: 22cm; }
  /* Print what is folded, too. */
  details::details-content { display: block; content-visibility: visible; }
}
"""


def el(tag: str, *children: Child | None, **attributes: str) -> Element:
    """An element with its children in order; None is left out.

    Args:
        tag: its name.
        children: text, which is escaped, and elements.
        attributes: by name; `class_` and `aria_label` stand for class and aria-label.
    """
    element = ElementTree.Element(
        tag, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    )
    last: Element | None = None
    for child in children:
        if child is None:
            continue
        if not isinstance(child, str):
            element.append(child)
            last = child
        elif last is None:
            element.text = (element.text or "") + child
        else:
            last.tail = (last.tail or "") + child
    if tag not in _WITHIN_A_LINE:
        element.tail = "\n"
    return element


def document(title: str, *body: Element) -> str:
    """The whole page, which asks nothing of any host and runs nothing."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        # Before all that it is about.
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="robots", content="noindex"),
        # A browser would ask the host for /favicon.ico.
        el("link", rel="icon", href="data:,"),
        el("title", title),
        el("style", STYLE),
    )
    page = el("html", head, "\n", el("body", *body), "\n", lang="en")
    return "<!DOCTYPE html>\n" + ElementTree.tostring(page, encoding="unicode", method="html")


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[Child]], long: Sequence[str] = ()
) -> Element:
    """A caption, and its table in a box of its own, which scrolls where the page is narrower.

    Args:
        caption: what it shows, of what.
        columns: headings; the first cell of each row is a heading too.
        rows: a cell a column.
        long: columns of prose, whose lines may break.
    """
    body = [
        el(
            "tr",
            *(
                el("th", cell, scope="row")
                if number == 0
                else el("td", cell, class_="long" if column in long else "whole")
                for number, (column, cell) in enumerate(zip(columns, row, strict=True))
            ),
        )
        for row in rows
    ]
    box = el(
        "div",
        el(
            "table",
            el("thead", el("tr", *(el("th", column, scope="col") for column in columns))),
            el("tbody", *body),
        ),
        # A box that scrolls must be within reach of the keyboard.
        class_="scroll", tabindex="0", role="region", aria_label=caption,
    )  # fmt: skip
    # A <caption> would be as wide as its table, and scroll out of sight with it.
    return el("div", el("p", caption, class_="caption"), box)


def folded(summary: str, *children: Child | None) -> Element:
    """What is long, behind a line that opens it."""
    return el("details", el("summary", summary), *children)


def missing(text: str) -> Element:
    """A line about what this run does not have."""
    return el("p", text, class_="missing")


def listed(items: Iterable[Child]) -> Element:
    """A list without order."""
    return el("ul", *(el("li", item) for item in items))


def figure(name: str, png: bytes, alt: str, caption: str) -> Element:
    """A picture inside the page, with its caption; on a narrow screen it can be had in full size.

    Args:
        name: of the file, for the error and the identifier.
        png: its bytes.
        alt: what it shows, for who cannot see it.
        caption: what stands below it.

    Raises:
        PipelineError: the bytes are no PNG.
    """
    if not (png.startswith(_PNG) and png[12:16] == b"IHDR" and len(png) >= 24):
        raise PipelineError(
            f"{name}: expected a PNG picture. Received: {len(png)} bytes that begin {png[:8]!r}"
        )
    width, height = struct.unpack(">II", png[16:24])
    switch = "full-size-" + "".join(c if c.isalnum() else "-" for c in name)
    return el(
        "figure",
        el("input", type="checkbox", id=switch),
        el("label", " full size, to be scrolled", for_=switch, class_="zoom"),
        el(
            "div",
            el(
                "img",
                src="data:image/png;base64," + base64.b64encode(png).decode("ascii"),
                alt=alt, width=f"{width}", height=f"{height}",
            ),
            class_="picture",
        ),
        el("figcaption", caption),
    )  # fmt: skip


def cards(facts: Iterable[tuple[str, str, str]]) -> Element:
    """The main figures: name, value and what belongs to it."""
    return el(
        "dl",
        *(
            el(
                "div",
                el("dt", name),
                el("dd", value, class_="value"),
                el("dd", more, class_="more"),
            )
            for name, value, more in facts
        ),
        class_="cards",
    )


def paragraph(*children: Child) -> Element:
    """A paragraph."""
    return el("p", *children)


def coded(values: Iterable[str]) -> list[Child]:
    """Values as code, with commas between them."""
    parts: list[Child] = []
    for value in values:
        parts += [", ", el("code", value)]
    return parts[1:]

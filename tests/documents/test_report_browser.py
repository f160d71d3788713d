"""The report in a real browser: nothing goes wrong, nothing is fetched, everything can be seen."""

from itertools import product

import pytest

from pneumonia.documents.report import report
from report_record import PLOTS, write_run

pytestmark = pytest.mark.browser

WIDTHS = {"phone": 360, "desk": 1280}
SCHEMES = ("light", "dark")

# Contrast of every text with what lies behind it, by WCAG 2: (L1 + 0.05) / (L2 + 0.05) of the
# relative luminances. https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRASTS = """() => {
  const rgba = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return {colour: [r, g, b], a};
  };
  const luminance = colour => colour
    .map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const {colour, a} = rgba(getComputedStyle(e).backgroundColor);
      if (a === 1) return colour;
      if (a !== 0) throw new Error("half transparent");
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const words = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!words) continue;
    const {colour, a} = rgba(getComputedStyle(element).color);
    if (a !== 1) throw new Error("half transparent");
    const [low, high] = [luminance(colour), luminance(behind(element))].sort((x, y) => x - y);
    found.push([words, (high + 0.05) / (low + 0.05)]);
  }
  return found;
}"""

IMAGES = """() => [...document.images].map(image => {
  const {left, right, top, width, height} = image.getBoundingClientRect();
  const box = image.parentElement;
  return {
    natural: [image.naturalWidth, image.naturalHeight],
    left, right, top, width, height,
    shown: image.checkVisibility({opacityProperty: true, visibilityProperty: true}),
    cut: box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight,
  };
})"""

# Tables that reach beyond the page, or whose cells are wider than they are shown.
CUT_TABLES = """() => [...document.querySelectorAll('table')].filter(table =>
  [table, ...table.querySelectorAll('th, td, span, code')].some(e => {
    const {left, right} = e.getBoundingClientRect();
    return left < 0 || right > innerWidth - 15 || (e.clientWidth && e.scrollWidth > e.clientWidth);
  })).map(table => table.ariaLabel)"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.html"
    root = write_run(folder / "run", before={"bacterial": 5, "viral": 30})
    path.write_text(report(root), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=product(WIDTHS, SCHEMES), ids="-".join)
def opened(request, browser, file):
    """The page with what it said and asked for, in one width and one colour scheme."""
    size, scheme = request.param
    page = browser.new_page(
        viewport={"width": WIDTHS[size], "height": 760}, color_scheme=scheme, has_touch=True
    )
    said, asked = [], []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))

    def route(request):
        asked.append(request.request.url)
        if request.request.url == file.as_uri():
            request.continue_()
        else:
            request.abort()

    page.route("**/*", route)
    page.goto(file.as_uri(), wait_until="networkidle")
    yield page, said, asked
    page.close()


def test_the_console_stays_silent_and_nothing_else_is_asked_for(opened, file):
    _, said, asked = opened
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]


def test_every_plot_is_seen_whole_and_within_the_page(opened):
    page, _, _ = opened
    images = page.evaluate(IMAGES)
    assert len(images) == len(PLOTS)
    for image in images:
        assert image["natural"] == [800, 400]
        assert image["shown"]
        assert not image["cut"]
        assert image["left"] >= 0
        assert image["right"] <= page.viewport_size["width"]
        assert image["width"] >= min(800, 0.85 * page.viewport_size["width"])
        assert image["height"] == pytest.approx(image["width"] / 2, abs=1)


@pytest.mark.parametrize("unfolded", [False, True])
def test_no_table_is_cut_off_and_nothing_sticks_out(opened, unfolded):
    page, _, _ = opened
    page.evaluate("on => document.querySelectorAll('details').forEach(d => d.open = on)", unfolded)
    assert page.evaluate(CUT_TABLES) == []
    wide = page.evaluate(
        "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide == [page.viewport_size["width"]] * 2
    # Hidden overflow would pass for none.
    outside = """() => [...document.querySelectorAll('body *')].filter(e =>
      e.getBoundingClientRect().right > innerWidth + 0.5
    ).map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""
    assert page.evaluate(outside) == []


def test_on_a_phone_every_cell_of_a_wide_table_stands_beside_its_heading(opened):
    page, _, _ = opened
    row = page.locator("#metrics").get_by_role("row", name="specificity").first
    cell = row.get_by_role("cell").nth(2)
    heading = cell.evaluate("e => getComputedStyle(e, '::before').content")
    narrow = page.viewport_size["width"] == WIDTHS["phone"]
    assert heading == ('"validation"' if narrow else "none")
    assert page.get_by_role("columnheader", name="validation at 0.5").is_visible() != narrow


def test_all_text_has_the_contrast_that_aa_asks_for(opened):
    page, _, _ = opened
    page.evaluate("() => document.querySelectorAll('details').forEach(d => d.open = true)")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 300
    assert [(words, ratio) for words, ratio in contrasts if ratio < 4.5] == []


def test_the_schemes_differ(opened, request):
    page, _, _ = opened
    dark = "dark" in request.node.callspec.id
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (not dark)


def test_the_first_screen_holds_warning_sentences_and_recall(opened):
    page, _, _ = opened
    page.evaluate("() => scrollTo(0, 0)")
    sentence = "A pneumonia verdict is right in 88 of 100 cases, a normal verdict in 99.2 of 100."
    for words in ("Not for diagnosis.", sentence, "Recall (sensitivity)", "0.915–0.990"):
        box = page.get_by_text(words, exact=True).first.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 760
    too_wide = """() => [...document.querySelectorAll('.cards *')].filter(e =>
      e.scrollWidth > e.clientWidth).map(e => e.textContent)"""
    assert page.evaluate(too_wide) == []


@pytest.mark.parametrize("way", ["click", "keyboard"])
def test_a_plot_fills_the_screen_and_goes_back_to_its_place(opened, way):
    page, _, _ = opened
    box = page.locator("label.image").nth(5)
    box.scroll_into_view_if_needed()
    before = page.evaluate(IMAGES)[5]

    def toggle():
        if way == "click":
            box.click()
        else:
            page.locator("figure input").nth(5).focus()
            page.keyboard.press("Space")

    toggle()
    image = page.evaluate(IMAGES)[5]
    width = page.viewport_size["width"]
    assert (image["left"], image["top"]) == (0, 0)
    # On a phone it is to be scrolled, within its box; the page itself gets no wider.
    assert image["width"] == max(width, 800)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert box.evaluate("e => [e.clientWidth, e.clientHeight]") == [width, 760]
    toggle()
    assert page.evaluate(IMAGES)[5] == before


def test_a_link_of_the_contents_leads_to_its_part(opened):
    page, said, asked = opened
    page.get_by_role("link", name="Looks at test").click()
    assert page.url.endswith("#looks")
    assert page.locator("#looks h2").is_visible()
    assert said == []
    assert len([url for url in asked if url.startswith("http")]) == 0


def test_print_shows_what_is_folded(opened):
    page, _, _ = opened
    page.evaluate("() => document.querySelectorAll('details').forEach(d => d.open = false)")
    folded = page.get_by_text("split.strategy", exact=True)
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.is_visible()
    page.emulate_media(media="screen")

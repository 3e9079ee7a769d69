"""Accessibility: axe-core's rules for WCAG 2.2 AA on every tab and chapter, and the keyboard."""

import pytest
from playwright.sync_api import expect

from resnet_demo.ui.learn.guess import QUESTIONS
from resnet_demo.ui.learn.tab import CHAPTERS, chapter_title
from tests.browser.conftest import npm_package

pytestmark = pytest.mark.browser

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
COLOUR_RULES = ["color-contrast", "link-in-text-block"]  # all that the colours of a theme decide
RUN_AXE = """async (rules) => {
  const found = await axe.run(document, {runOnly: rules, resultTypes: ['violations']});
  const checks = ({any, all, none}) => any.concat(all, none).map(({message}) => message);
  return found.violations.flatMap(({id, nodes}) => nodes.map(
    (node) => [id, node.target.join(' '), ...checks(node)].join(': ')
  ));
}"""
WIDE, PHONE = (1280, 900), (390, 844)
# (size, theme): each change of theme restyles the whole page, so themes change least often.
STATES = ((WIDE, "light"), (WIDE, "dark"), (PHONE, "dark"), (PHONE, "light"))
# Gradio fades a component while its event runs, which lowers the contrast.
IS_SETTLED = """() => ![...document.querySelectorAll('.pending')].some(e => e.checkVisibility())
  && document.getAnimations().every(a => a.effect.getTiming().iterations == Infinity
    || a.playState != 'running')"""
# A chart takes its new width in the next frame.
NEXT_FRAME = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
# What a chapter shows as its result; the others draw curves. The duel of the app has no events.
DRAWN = {"duel": "svg.chart-svg", "bugs": "table"}
# Returns how the focused element is marked.
DEFINE_FOCUSED = """() => {
  window.walked = new Set();
  window.focused = () => {
    const element = document.activeElement;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    return {
      name: element.outerHTML.slice(0, 160),
      marked: style.outlineStyle != 'none' && parseFloat(style.outlineWidth) >= 2,
      shown: box.width > 0 && box.bottom > 0 && box.top < innerHeight && style.opacity > 0,
    };
  };
}"""
# Null on the document itself, where the walk ends.
WALK = """() => {
  const element = document.activeElement;
  if (!element || element == document.body || window.walked.has(element)) return null;
  window.walked.add(element);
  return window.focused();
}"""
# Focuses each of them again, as the Tab key does.
WALK_AGAIN = """() => [...window.walked].map((element) => {
  element.focus({focusVisible: true});
  return document.activeElement == element ? window.focused() : null;
}).filter((each) => each)"""


@pytest.fixture(scope="module")
def axe():
    """Return the script of axe-core, of the version in package-lock.json."""
    return (npm_package("axe-core") / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def page(visiting, untrained, axe):
    """Yield one page for all tests; each test opens its own tab."""
    with visiting() as visit:
        page = visit(f"{untrained.url}?run=cifar10-shipped")
        page.evaluate(axe)
        yield page


def open_tab(page, name):
    show(page, *STATES[0])
    page.get_by_role("tab", name=name, exact=True).first.click()


def show(page, size, theme):
    """Give the page a size and a theme, and wait until it has them."""
    page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    page.emulate_media(color_scheme=theme)
    page.wait_for_function(
        "(theme) => document.body.classList.contains('dark') == (theme == 'dark')", arg=theme
    )
    page.evaluate(NEXT_FRAME)
    page.wait_for_function(IS_SETTLED)


def violations(page, states=STATES):
    """Return what axe finds in these states, in the dark theme about colours only."""
    found = []
    for size, theme in states:
        show(page, size, theme)
        rules = TAGS if theme == "light" else COLOUR_RULES
        found += [f"{size} {theme}: {line}" for line in page.evaluate(RUN_AXE, rules)]
    return found


def test_a_finished_run_and_the_form(page):
    expect(page.locator("#curves path[data-line=validation]").first).to_be_attached()
    page.locator("#train-export > button").click()
    expect(page.locator("#train-export-start")).to_be_enabled()
    assert violations(page) == []


def test_the_images_of_a_dataset(page):
    open_tab(page, "Data")
    expect(page.locator("#data-images img").first).to_be_visible()
    assert violations(page) == []


def test_an_evaluated_run_and_its_images(page):
    open_tab(page, "Evaluate")
    page.locator("#matrix button[data-cell]").first.click()
    expect(page.locator("#shown img").first).to_be_visible()
    assert violations(page) == []


def test_a_classified_picture(page):
    open_tab(page, "Classify")
    page.locator("#shipped button").first.click()
    expect(page.locator("#labels")).to_be_visible()
    expect(page.locator("#class-maps img").first).to_be_visible()
    page.locator("#classify-export > button").click()
    expect(page.locator("#classify-export-start")).to_be_enabled()
    assert violations(page) == []


@pytest.mark.parametrize("number", range(len(CHAPTERS)))
def test_a_chapter(page, number):
    open_tab(page, "Learn")
    page.locator("#chapters").get_by_role("tab", name=chapter_title(number)).click()
    panel = page.locator("#chapters [role=tabpanel]:visible")
    for kind in (kind for kind, question in QUESTIONS.items() if question.chapter == number):
        expect(page.locator(f"#{kind}-guess input").first).to_be_enabled()
        # Before the guess there is little to lay out: each theme and each width once.
        assert violations(page, STATES[:1] + STATES[2:3]) == []
        page.locator(f"#{kind}-show").click()
        expect(panel.locator(".learn-answer").first).to_be_visible()
        expect(panel.locator(DRAWN.get(kind, "svg.chart-svg path[d^=M]")).first).to_be_visible()
    assert violations(page) == []


def test_every_control_that_the_tab_key_reaches_is_outlined(page):
    page.evaluate(DEFINE_FOCUSED)
    for name in ("Train", "Data", "Evaluate", "Classify", "Learn"):
        open_tab(page, name)
        page.evaluate("window.walked.clear()")
        walked = []
        while focused := press_tab(page):
            walked.append(focused)
        assert len(walked) > 5, name
        show(page, WIDE, "dark")
        again = page.evaluate(WALK_AGAIN)
        assert len(again) == len(walked), name
        for theme, elements in (("light", walked), ("dark", again)):
            for each in elements:
                assert each["marked"], f"{name}, {theme}: {each['name']}"
                assert each["shown"], f"{name}, {theme}: {each['name']}"


def press_tab(page):
    """Move the focus on; return the element, or None at the end."""
    page.keyboard.press("Tab")
    return page.evaluate(WALK)

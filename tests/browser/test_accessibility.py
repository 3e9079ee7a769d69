"""Accessibility: axe-core's rules for WCAG 2.2 AA on every tab and chapter, and the keyboard."""

from contextlib import suppress

import pytest
from playwright.sync_api import TimeoutError, expect

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
SIZES = [(1280, 900), (390, 844)]
# Gradio fades a component while its event runs, which lowers the contrast.
IS_SETTLED = """() => ![...document.querySelectorAll('.pending')].some(e => e.checkVisibility())
  && document.getAnimations().every(a => a.effect.getTiming().iterations == Infinity
    || a.playState != 'running')"""
CHAPTERS = ["Contents", "1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "7 ", "8 "]
# The focused element and how it is marked; null on the document itself.
FOCUSED = """() => {
  const element = document.activeElement;
  if (!element || element == document.body) return null;
  window.walked ??= new Set();
  if (window.walked.has(element)) return null;
  window.walked.add(element);
  const style = getComputedStyle(element), box = element.getBoundingClientRect();
  return {
    name: element.outerHTML.slice(0, 160),
    marked: style.outlineStyle != 'none' && parseFloat(style.outlineWidth) >= 2,
    shown: box.width > 0 && box.bottom > 0 && box.top < innerHeight && style.opacity > 0,
  };
}"""


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
    page.set_viewport_size({"width": 1280, "height": 900})
    page.get_by_role("tab", name=name, exact=True).first.click()


def show_theme(page, theme):
    page.emulate_media(color_scheme=theme)
    page.wait_for_function(
        "(theme) => document.body.classList.contains('dark') == (theme == 'dark')", arg=theme
    )
    page.wait_for_function(IS_SETTLED)


def violations(page):
    """Return what axe finds at both widths, in the dark theme about colours only."""
    found = []
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(300)  # for charts to take their new width
        for theme, rules in (("light", TAGS), ("dark", COLOUR_RULES)):
            show_theme(page, theme)
            found += [f"{width} {theme}: {line}" for line in page.evaluate(RUN_AXE, rules)]
    show_theme(page, "light")
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


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter(page, chapter):
    open_tab(page, "Learn")
    page.locator("#chapters").get_by_role("tab", name=chapter).first.click()
    page.wait_for_function(IS_SETTLED)
    for button in page.get_by_role("button", name="Show me").locator("visible=true").all():
        assert violations(page) == []  # before the guess
        button.click()
    with suppress(TimeoutError):  # not every chapter draws
        page.locator("#chapters [role=tabpanel]:visible svg").first.wait_for(timeout=3_000)
    assert violations(page) == []


def test_every_control_that_the_tab_key_reaches_is_outlined(page):
    for name in ("Train", "Data", "Evaluate", "Classify", "Learn"):
        open_tab(page, name)
        for theme in ("light", "dark"):
            show_theme(page, theme)
            page.evaluate("window.walked = new Set()")
            walked = 0
            while focused := press_tab(page):
                assert focused["marked"], f"{name}, {theme}: {focused['name']}"
                assert focused["shown"], f"{name}, {theme}: {focused['name']}"
                walked += 1
            assert walked > 5, name
    show_theme(page, "light")


def press_tab(page):
    """Move the focus on; return the element, or None at the end."""
    page.keyboard.press("Tab")
    return page.evaluate(FOCUSED)

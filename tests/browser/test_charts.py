"""Line charts in a real browser, without an app: axes, lines, smoothing, values, names."""

import json
import re
from itertools import pairwise

import pytest

from resnet_demo.ui import plots
from resnet_demo.ui.app import CSS

pytestmark = pytest.mark.browser

DRAW = """([value, width]) => {
  document.body.innerHTML = '<div id="holder"><div class="line-chart"></div></div>';
  const holder = document.getElementById('holder');
  holder.style.width = `${width}px`;
  window.props = {value};
  window.lineChart(holder, window.props, (name, callback) => { window.update = callback; });
}"""
OVERLAPS = """() => [...document.querySelectorAll('svg.chart-svg')].flatMap((svg) => {
  const boxes = [...svg.querySelectorAll('text')].map((text) => text.getBoundingClientRect());
  return boxes.filter((a, i) => boxes.some((b, j) => i < j && a.left < b.right + 2
    && b.left < a.right + 2 && a.top + 2 < b.bottom && b.top + 2 < a.bottom));
}).length"""
NUMBER = re.compile(r"-?[\d.]+")


@pytest.fixture(scope="module")
def page(browser):
    """Yield a page with the script, the style and one chart at a time."""
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    page.set_content(f"<style>{CSS.read_text()}</style><script>{plots.SCRIPT.read_text()}</script>")
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    page.close()
    assert wrong == []


def draw(page, lines, width=600, x_max=10, name="my-run", log_x=False, **options):
    """Draw one plot of these lines."""
    value = plots.chart(
        "epoch",
        [plots.plot("loss", "Loss", lines, log=True, **options)],
        x_max=x_max,
        log_x=log_x,
        steps=100,
        name=name,
    )
    page.evaluate(DRAW, [json.loads(json.dumps(value)), width])


def line(points, name="training", **options):
    return plots.line(name, points, "#0072B2", **options)


def curve(page, kind=".chart-line"):
    """Return the (x, y) in pixels of the first line of that kind."""
    path = page.locator(f"svg.chart-svg path{kind}").first.get_attribute("d")
    numbers = [float(number) for number in NUMBER.findall(path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def ticks(page, axis):
    """Return text -> position of the ticks of an axis, without its title."""
    found = page.locator(f"text.chart-{axis}").evaluate_all(
        f"(all) => all.map((one) => [one.textContent, Number(one.getAttribute('{axis}'))])"
    )
    return {text: position for text, position in found if text != "epoch"}


def press(page, name):
    page.get_by_role("button", name=name).click()


def test_the_axis_spans_the_whole_run_from_its_first_step(page):
    draw(page, [line([(0.5, 2.0), (1.0, 1.0)])], x_max=10)
    places = ticks(page, "x")
    assert list(places) == [str(n) for n in range(11)]
    assert curve(page)[-1][0] == pytest.approx(places["1"], abs=0.2)
    press(page, "fit the axes")
    assert curve(page)[-1][0] > 0.9 * places["10"]
    press(page, "fit the axes")


def test_accuracy_spans_0_to_100_until_a_click(page):
    draw(page, [line([(1, 70.0), (2, 71.0)])], y=(0, 100))
    assert list(ticks(page, "y")) == ["0", "20", "40", "60", "80", "100"]
    press(page, "fit the axes")
    values = [float(text) for text in ticks(page, "y")]
    assert min(values) >= 69
    assert max(values) <= 72
    press(page, "fit the axes")


@pytest.mark.parametrize("log_x", [False, True])
@pytest.mark.parametrize("x_max", [0.04, 1, 24, 1000])
def test_the_labels_of_an_axis_never_touch(page, x_max, log_x):
    for width in (170, 320, 960):
        for scale in (1e-6, 1.0, 1e9):
            points = [(x_max * (n + 1) / 50, scale * (1 + n % 7)) for n in range(50)]
            draw(page, [line(points)], width=width, x_max=x_max, log_x=log_x, height=130)
            for _ in range(2):
                assert page.evaluate(OVERLAPS) == 0, (width, scale)
                assert len(ticks(page, "y")) > 1
                press(page, "logarithmic scale")


def test_a_single_point_is_drawn_as_a_point_at_its_place(page):
    draw(page, [line([(3.0, 1.0)])])
    dots = page.locator("svg.chart-svg circle.chart-dot")
    assert dots.count() == 1
    assert float(dots.get_attribute("cx")) == pytest.approx(ticks(page, "x")["3"], abs=0.1)


def test_the_logarithmic_axis_has_real_values_at_equal_ratios(page):
    draw(page, [line([(1, 0.01), (2, 0.1), (3, 0.0), (4, 1.0), (5, 10.0)])])
    press(page, "logarithmic scale")
    places = [at for text, at in ticks(page, "y").items() if text in ("0.01", "0.1", "1", "10")]
    gaps = [after - before for before, after in pairwise(places)]
    assert len(gaps) == 3
    assert gaps == pytest.approx([gaps[0]] * 3, abs=0.1)
    assert len(curve(page)) == 4  # zero has no logarithm
    press(page, "logarithmic scale")


def test_smoothing_is_an_average_without_bias_and_0_is_the_curve_itself(page):
    ys = [3.0, 1.0, 2.0, 4.0]
    draw(page, [line(list(enumerate(ys, 1)), smooth=True)])
    slider = page.get_by_label("Smoothing")

    def heights(weight):
        slider.fill(str(weight))
        places = ticks(page, "y")
        zero, one = places["0"] - 4, places["1"] - 4  # a label is 4 pixels below its line
        return [(y - zero) / (one - zero) for _, y in curve(page)]

    assert heights(0) == pytest.approx(ys, abs=0.02)
    weights = [[0.5**k for k in range(n)][::-1] for n in range(1, 5)]
    means = [sum(w * y for w, y in zip(row, ys, strict=False)) / sum(row) for row in weights]
    assert heights(0.5) == pytest.approx(means, abs=0.02)
    slider.fill("0.6")


def test_the_highest_value_of_a_bin_stays_visible(page):
    draw(page, [line([(1, 1.0, 0.5, 9.0), (2, 1.0, 0.5, 1.5)], smooth=True)])
    edges = curve(page, ".chart-band")
    assert len(edges) == 4
    low, high = (ticks(page, "y")[text] - 4 for text in ("0", "8"))
    assert min(y for _, y in edges) < high < low


def test_pointing_shows_the_values_with_the_name_of_the_run_as_text(page):
    name = "<img src=x9 onerror=\"document.title='owned'\"> ${document.title='owned'}"
    lines = [line([(1, 2.0), (2, 1.5), (3, 1.25)]), line([(2, 1.75)], "validation", marks=True)]
    draw(page, lines, name=name)
    plot, tip = page.locator("svg.chart-svg"), page.locator(".chart-tip")
    assert tip.is_hidden()
    plot.hover(position={"x": 48 + ticks(page, "x")["2"], "y": 60})
    assert tip.inner_text().split("\n") == [
        name,
        "epoch 2, step 200",
        "training 1.5",
        "validation 1.75",
    ]
    page.mouse.move(0, 690)
    assert tip.is_hidden()
    assert page.locator("img").count() == 0
    assert page.title() != "owned"


def test_the_arrow_keys_read_the_curve_and_name_the_values(page):
    draw(page, [line([(1, 2.0), (2, 1.5), (3, 1.25)])])
    plot = page.get_by_role("slider", name=re.compile("^Loss: training 1.25 at epoch 3"))
    plot.focus()
    for key, spoken in (("ArrowLeft", "1.5"), ("Home", "2"), ("End", "1.25")):
        page.keyboard.press(key)
        assert plot.get_attribute("aria-valuetext").endswith(f"training {spoken}")
    page.keyboard.press("Escape")
    assert page.locator(".chart-tip").is_hidden()


def test_new_data_replaces_the_lines_and_keeps_the_choices(page):
    draw(page, [line([(1, 2.0)])])
    press(page, "logarithmic scale")
    lines = [line([(1, 2.0), (2, 1.0)])]
    value = plots.chart("epoch", [plots.plot("loss", "Loss", lines, log=True)])
    page.evaluate("(value) => { window.props.value = value; window.update(); }", value)
    assert len(curve(page)) == 2
    value["plots"][0]["lines"][0]["points"] = [[1, 3.0]]  # another run, with fewer points
    page.evaluate("(value) => { window.props.value = value; window.update(); }", value)
    plot = page.get_by_role("slider", name=re.compile("^Loss"))
    assert (plot.get_attribute("aria-valuemax"), plot.get_attribute("aria-valuenow")) == ("0", "0")
    pressed = page.get_by_role("button", name="logarithmic scale").get_attribute("aria-pressed")
    assert pressed == "true"


def test_a_plot_without_points_has_axes_and_no_line(page):
    draw(page, [line([]), line([], "validation")], x_max=None)
    assert "1.0" in ticks(page, "x")
    assert page.locator("svg.chart-svg path[d*=M]").count() == 0
    assert page.get_by_role("img", name="Loss: no data yet").count() == 1

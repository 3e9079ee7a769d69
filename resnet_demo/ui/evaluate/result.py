"""What came out of an evaluation: the parts of the page, and what each click in them does."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.errors import DemoError
from resnet_demo.evaluation.figures import (
    confidence_figure,
    confusion_figure,
    reliability_figure,
    robustness_figure,
)
from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS, read_result
from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.evaluate import images
from resnet_demo.ui.evaluate.evaluation_status import Asked, Standings
from resnet_demo.ui.evaluate.files import SAVE, classes_csv, handed, report_zip
from resnet_demo.ui.evaluate.images import View
from resnet_demo.ui.evaluate.matrix import MOST_CLASSES, ON_LOAD, UNMARK, cell_of, safe
from resnet_demo.ui.evaluate.text import comparison_html, robustness_words
from resnet_demo.ui.evaluate.tick import FOLLOWS, MATRIX_HINT, STATES
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

Parts = dict[str, Any]  # the components of the tab by name
COLUMNS = ["class", "precision %", "recall %", "F1 %", "images"]
UNITS = [("percent of the row", "percent"), ("images", "images")]
RELIABILITY = (
    "**Is it as often right as it is sure?** Bars that end on the dashed line mean yes. Below it, "
    "the network is too sure of itself; above it, not sure enough."
)
CONFIDENCE = (
    "**How sure is it when it is wrong?** At best, wrong answers come with little confidence."
)
CLASSES = (
    "Precision: of the images that it called so, how many are. Recall: of those that are, how "
    "many it found. F1: both in one."
)
BEND = (
    "How much does it bear? Some images of the split are made brighter, blurred, noisy, turned "
    "and so on, each in five strengths, and asked about again."
)
IN_SIGHT = """() => {
  if (window.innerWidth < 700)
    document.getElementById('shown-words').scrollIntoView({behavior: 'smooth', block: 'start'});
}"""  # on a phone the images are below the matrix
WAIT = "Loading the network: the first time this takes some seconds …"
CLICK = {"show_progress": "minimal", "api_visibility": "private"}


def result_panel(parts: Parts) -> None:
    """Build it, hidden at first."""
    for name in (*STATES, "view"):
        parts[name] = gr.State(None)
    with gr.Column(visible=False, elem_id="evaluate-results") as parts["results"]:
        parts["headline"] = gr.HTML(padding=False, elem_id="evaluate-summary")
        with gr.Column(visible=False, elem_classes="section") as parts["pair_box"]:
            gr.Markdown("### Side by side")
            parts["compared"] = gr.HTML(padding=False, elem_id="compared")
        with gr.Row(equal_height=False, elem_classes="section"):
            with gr.Column(scale=6, min_width=330):
                matrix_panel(parts)
            with gr.Column(scale=5, min_width=330):
                gr.Markdown("### Images")
                parts |= images.viewer()
        with gr.Row(equal_height=False, elem_classes="section"):
            for name, text in (("reliability", RELIABILITY), ("confidence", CONFIDENCE)):
                with gr.Column(min_width=330):
                    gr.Markdown(text)
                    parts[name] = gr.Plot(show_label=False, elem_id=name)
        with gr.Column(elem_classes="section"):
            classes_panel(parts)
        with gr.Column(elem_classes="section"):
            robustness_panel(parts)


def matrix_panel(parts: Parts) -> None:
    """The confusion matrix; with many classes, a figure of it too."""
    gr.Markdown("### Confusion matrix")
    parts["unit"] = gr.Radio(
        UNITS, value="percent", show_label=False, container=False, interactive=True, elem_id="unit"
    )
    parts["matrix"] = gr.HTML(padding=False, elem_id="matrix", js_on_load=ON_LOAD)
    parts["matrix_hint"] = gr.Markdown(MATRIX_HINT, elem_classes="hint")
    parts["confusion"] = gr.Plot(show_label=False, elem_id="confusion", visible=False)


def classes_panel(parts: Parts) -> None:
    """Every class's numbers, and what can be taken home."""
    gr.Markdown("### Classes")
    parts["table"] = gr.Dataframe(
        headers=COLUMNS, datatype=["str", *["number"] * 4], interactive=False, elem_id="per-class",
        max_height=460,
    )  # fmt: skip
    gr.Markdown(CLASSES, elem_classes="hint")
    with gr.Row(elem_classes="buttons"):
        parts["csv"] = gr.Button("Save this table (CSV)", size="sm", elem_id="save-csv")
        parts["zip"] = gr.Button("Save numbers and figures (ZIP)", size="sm", elem_id="save-zip")
    parts["file"] = gr.DownloadButton(visible="hidden")


def robustness_panel(parts: Parts) -> None:
    """Measured when somebody asks for it: it takes a while."""
    gr.Markdown(f"### Robustness\n{BEND}")
    with gr.Row(elem_classes="buttons"):
        parts["bent_start"] = gr.Button("Measure robustness", size="sm", elem_id="bend")
        parts["bent_cancel"] = gr.Button(
            "Cancel", size="sm", elem_id="bend-cancel", interactive=False, visible=False
        )
    parts["bent_words"] = gr.Markdown(elem_id="bend-words")
    parts["bent_progress"] = gr.HTML(padding=False, elem_id="bend-progress", visible=False)
    parts["curve_words"] = gr.Markdown(elem_id="curve-words", visible=False)
    parts["curves"] = gr.Plot(show_label=False, elem_id="curves", visible=False)


def on_result(services: Services, standings: Standings, parts: Parts, asked: list[Any]) -> None:
    """Say what follows from a new result, and from each click in an old one."""
    on_states(parts)
    on_images(services, standings, parts, asked)
    on_files(standings, parts, asked)

    @show_errors()
    def on_bend(run: str | None, split: str) -> None:
        services.evaluating.start_robustness(run, split, services.caller())

    @show_errors()
    def on_bend_cancel(run: str | None, split: str) -> None:
        services.caller().must_own("cancel a measurement")
        services.launcher.stop_task(standings.robustness_folder(Asked(run, split)))

    parts["bent_start"].click(on_bend, asked[:2], None, **QUIET_EVENT)
    parts["bent_cancel"].click(on_bend_cancel, asked[:2], None, **QUIET_EVENT)


def on_states(parts: Parts) -> None:
    """What follows the states that a tick changed: words at once, figures in their own time."""

    def told_by(tell: Callable[..., dict[str, Any]]) -> Callable[..., dict[Any, Any]]:
        return lambda *values: {parts[name]: told for name, told in tell(*values).items()}

    changed = {}
    for name, (tell, names) in FOLLOWS.items():
        outputs = [parts[one] for one in names]
        changed[name] = parts[name].change(told_by(tell), parts[name], outputs, **QUIET_EVENT)
    figures = [parts[name] for name in ("reliability", "confidence", "confusion", "table")]
    parts["drawn"].change(drawings, parts["drawn"], figures, **QUIET_EVENT)
    curved = [parts["curves"], parts["curve_words"]]
    parts["curve"].change(curves, parts["curve"], curved, **QUIET_EVENT)
    changed["pair"].then(compared, parts["pair"], parts["compared"], **QUIET_EVENT)
    viewer = [parts[name] for name in (*images.PARTS, "view")]
    parts["pair"].change(told_by(viewed), [parts["pair"], parts["view"]], viewer, **QUIET_EVENT)


def drawings(drawn: tuple[str | None, bool]) -> tuple[Any, ...]:
    """Both diagrams, the matrix as a figure where it has many classes, and the table."""
    folder, dark = drawn
    if folder is None:
        return (gr.skip(),) * 4
    with show_errors():
        result = read_result(Path(folder))
    labels = [row["label"] for row in result["per_class"]]
    many = len(labels) > MOST_CLASSES
    figure = confusion_figure(result["confusion"], labels, dark=dark) if many else None
    return (
        reliability_figure(result["calibration"], dark=dark),
        confidence_figure(result["histogram"], dark=dark),
        gr.update(value=figure, visible=many),
        class_rows(result["per_class"]),
    )


def class_rows(classes: list[dict[str, Any]]) -> dict[str, Any]:
    """The table as gr.Dataframe takes it: numbers to sort by, and how they are written."""
    shares = ("precision", "recall", "f1")
    data = [
        [row["label"], *(100 * row[share] for share in shares), row["support"]] for row in classes
    ]
    written = [[name, *(f"{value:.1f}" for value in row[:3]), f"{row[3]:,}"] for name, *row in data]
    return {"headers": COLUMNS, "data": data, "metadata": {"display_value": written}}


def compared(pair: dict[str, Any]) -> str:
    """Two runs' numbers and McNemar's p; the sentence where they cannot be compared."""
    if pair["other"] is None:
        return ""
    from resnet_demo.evaluation.comparison import compare_evaluations
    from resnet_demo.evaluation.evaluate_run import read_evaluation

    try:
        first, second = (read_evaluation(Path(pair[which])) for which in ("of", "other"))
        told = compare_evaluations(first, second)
    except DemoError as error:
        return f"<p>⚠ {safe(str(error))}</p>"
    return comparison_html(told, first.result, second.result)


def curves(state: tuple[str | None, bool]) -> tuple[Any, Any]:
    """The robustness as curves, and in words; hidden where it was not measured."""
    folder, dark = state
    hidden = gr.update(visible=False)
    if folder is None:
        return hidden, hidden
    try:
        result = read_result(Path(folder), ROBUSTNESS_KEYS)
    except DemoError as error:
        return hidden, gr.update(value=f"⚠ {escape_markdown(str(error))}", visible=True)
    return (
        gr.update(value=robustness_figure(result, dark=dark), visible=True),
        gr.update(value=robustness_words(result), visible=True),
    )


def on_images(services: Services, standings: Standings, parts: Parts, asked: list[Any]) -> None:
    """What a click in the matrix, on a choice of images or on a page shows."""
    viewer = [parts[name] for name in (*images.PARTS, "view")]
    shows = {**CLICK, "show_progress_on": parts["shown_words"]}

    def show(view: View, **more: Any) -> Iterator[dict[Any, Any]]:
        if "torch" not in sys.modules:
            yield {parts["shown_words"]: WAIT}
        told = {**images.look(services, view), "view": view, **more}
        yield {parts[name]: update for name, update in told.items()}

    def on_cell(event: gr.EventData, *values: Any) -> Iterator[dict[Any, Any]]:
        with show_errors():
            folder = standings.folder(Asked.of(*values))
            truth, said = cell_of(event, len(read_result(folder)["per_class"]))
        yield from show(View(str(folder), None, "cell", truth, said), which=gr.update(value=None))

    def on_which(which: str, *values: Any) -> Iterator[dict[Any, Any]]:
        asked = Asked.of(*values)
        with show_errors():
            folder = standings.folder(asked)
            is_pair = which in images.OF_BOTH and asked.other
            other = str(standings.folder(asked, other=True)) if is_pair else None
        yield from show(View(str(folder), other, which))

    def on_page(pages: int) -> Any:
        def turn(view: View | None) -> Iterator[dict[Any, Any]]:
            if view is not None:
                yield from show(view.turned(pages))

        return turn

    parts["matrix"].click(on_cell, asked, viewer, **shows).then(None, None, None, js=IN_SIGHT)
    parts["which"].input(on_which, [parts["which"], *asked], viewer, **shows)
    parts["which"].input(None, None, None, js=UNMARK, **QUIET_EVENT)
    parts["back"].click(on_page(-1), parts["view"], viewer, **shows)
    parts["on"].click(on_page(1), parts["view"], viewer, **shows)


def viewed(pair: dict[str, Any], view: View | None) -> dict[str, Any]:
    """Name -> update. The images stay as long as they belong to what is shown."""
    stays = view and view.of == pair["of"] and view.other in (None, pair["other"])
    told = {"which": images.choices(*pair["runs"], keep=bool(stays))}
    if stays:
        return told
    hint = images.NO_IMAGES if pair["stored"] else images.HINT
    return {**told, **images.nothing(hint), "view": None}


def on_files(standings: Standings, parts: Parts, asked: list[Any]) -> None:
    """Both buttons make a file, and then the browser saves it."""

    def ask(write: Any) -> Any:
        @show_errors()
        def make(*values: Any) -> str:
            asked = Asked.of(*values)
            bent = standings.robustness(asked).done
            return handed(parts["file"], write, standings.folder(asked), bent and Path(bent))

        return make

    for name, write in (("csv", classes_csv), ("zip", report_zip)):
        made = parts[name].click(ask(write), asked, parts["file"], **CLICK)
        made.success(None, parts["file"], None, js=SAVE, **QUIET_EVENT)

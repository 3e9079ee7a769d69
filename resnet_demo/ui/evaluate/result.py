"""The result of an evaluation: its components, figures, comparison, robustness and downloads."""

import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.errors import DemoError
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS, read_result
from resnet_demo.runs.text import FEW_IMAGES, count_of, escape_markdown
from resnet_demo.ui.components import SAVE_FILE, Parts
from resnet_demo.ui.evaluate.evaluation_status import (
    MATRIX_HINT,
    STATES,
    UPDATES,
    Selection,
    StatusCache,
)
from resnet_demo.ui.evaluate.images import VIEWER, connect_images, image_viewer, viewer_updates
from resnet_demo.ui.evaluate.matrix import MAX_CLASSES, ON_LOAD, escape_html
from resnet_demo.ui.evaluate.text import comparison_html, interval_text, robustness_text
from resnet_demo.ui.gradio_fixes import serve_file
from resnet_demo.ui.services import FAIR_EVENT, QUIET_EVENT, Services, show_errors

COLUMNS = ["class", "images", "recall %", "95 % interval", "precision %", "F1 %"]
TABLE_HEIGHT = 1200  # pixels: some 30 classes; more are scrolled
UNITS = [("percent of the row", "percent"), ("images", "images")]
RELIABILITY = (
    "**Does confidence match accuracy?** Bars up to the dashed line: yes. Below it the network is "
    "overconfident, above it underconfident."
)
CONFIDENCE = "**How confident are wrong predictions?** Ideally not very."
CLASSES = (
    "Recall: share of the cats that it finds, with the likely range on new images. Precision: "
    "share of its 'cat' answers that are cats. F1: the harmonic mean of both."
)
ROBUSTNESS_HINT = (
    "How well does it cope with damaged images? Accuracy under seven corruptions (noise, blur, "
    "rotation, …), each at five strengths, on a sample of the split."
)
WriteFile = Callable[[Path, Path | None, Path], Path]  # folder, robustness, directory to write to


def result_panel(parts: Parts) -> None:
    """Build the panel, hidden until there is a result."""
    # One state for each part of the page: a change of one updates no other.
    for name in (*STATES, "view"):
        parts[name] = gr.State(None)
    with gr.Column(visible=False, elem_id="evaluate-results") as parts["results"]:
        parts["headline"] = gr.HTML(padding=False, elem_id="evaluate-summary")
        with gr.Column(visible=False, elem_classes="section") as parts["comparison_box"]:
            gr.Markdown("### Comparison")
            parts["compared"] = gr.HTML(padding=False, elem_id="compared")
        with gr.Row(equal_height=False, elem_classes="section"):
            with gr.Column(scale=6, min_width=330):
                matrix_panel(parts)
            # It stays in view beside a long matrix or list of mistakes.
            with gr.Column(scale=5, min_width=330, elem_id="images"):
                gr.Markdown("### Images")
                image_viewer(parts)
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
    """Build the confusion matrix, and a figure of it for many classes."""
    gr.Markdown("### Confusion matrix")
    parts["unit"] = gr.Radio(
        UNITS, value="percent", show_label=False, container=False, interactive=True, elem_id="unit"
    )
    parts["matrix"] = gr.HTML(padding=False, elem_id="matrix", js_on_load=ON_LOAD)
    parts["matrix_hint"] = gr.Markdown(MATRIX_HINT, elem_classes="hint")
    parts["confusion"] = gr.Plot(show_label=False, elem_id="confusion", visible=False)


def classes_panel(parts: Parts) -> None:
    """Build the per-class table and the downloads."""
    gr.Markdown("### Classes")
    parts["table"] = gr.Dataframe(
        headers=COLUMNS,
        datatype=["str", *["number"] * 5],
        interactive=False,
        elem_id="per-class",
        max_height=TABLE_HEIGHT,
    )
    gr.Markdown(CLASSES, elem_classes="hint")
    file_buttons(parts)


def file_buttons(parts: dict[str, Any]) -> None:
    """Build both buttons, and the hidden component through which the browser gets the file."""
    with gr.Row(elem_classes="buttons"):
        parts["csv"] = gr.Button("Save table (CSV)", size="sm", elem_id="save-csv")
        parts["zip"] = gr.Button("Save numbers and figures (ZIP)", size="sm", elem_id="save-zip")
    # Hidden by CSS: Gradio forgets `visible="hidden"` when the results are hidden and shown again.
    parts["file"] = gr.DownloadButton(elem_classes=["gone"])


def robustness_panel(parts: Parts) -> None:
    """Build the robustness, which is measured on request because it takes minutes."""
    gr.Markdown(f"### Robustness\n{ROBUSTNESS_HINT}")
    with gr.Row(elem_classes="buttons"):
        parts["robustness_start"] = gr.Button(
            "Measure robustness", size="sm", elem_id="robustness-start"
        )
        parts["robustness_cancel"] = gr.Button(
            "Cancel", size="sm", elem_id="robustness-cancel", interactive=False, visible=False
        )
    parts["robustness_message"] = gr.Markdown(elem_id="robustness-text")
    parts["robustness_progress"] = gr.HTML(
        padding=False, elem_id="robustness-progress", visible=False
    )
    parts["curve_text"] = gr.Markdown(elem_id="curve-text", visible=False)
    parts["curves"] = gr.Plot(show_label=False, elem_id="curves", visible=False)


def connect_result(
    services: Services, statuses: StatusCache, parts: Parts, selectors: list[Any]
) -> None:
    """Connect the panel's states and buttons. selectors: the components of a Selection."""
    connect_states(services, parts)
    connect_images(services, statuses, parts, selectors)
    connect_files(services, statuses, parts, selectors)

    @show_errors()
    def on_start(run: str | None, split: str) -> None:
        services.evaluations.start_robustness(run, split, services.caller())

    @show_errors()
    def on_cancel(run: str | None, split: str) -> None:
        services.caller().require_owner("cancel a measurement")
        services.launcher.stop_task(statuses.robustness_folder(Selection(run, split)))

    # Robustness is measured without test-time modes and of one run.
    run_and_split = selectors[:2]
    parts["robustness_start"].click(on_start, run_and_split, None, **QUIET_EVENT)
    parts["robustness_cancel"].click(on_cancel, run_and_split, None, **QUIET_EVENT)


def connect_states(services: Services, parts: Parts) -> None:
    """Update a part of the page when its state changes: text at once, figures separately.

    A state is None where the page has been left in the meantime: Gradio has forgotten its states.
    """

    def drawn(draw: Callable[[Any], Any]) -> Callable[..., Any]:
        async def on_change(state: Any) -> Any:
            if state is None:
                return gr.skip()
            # Nothing is drawn for a panel that is hidden, so that waits for nobody.
            is_hidden = (state["second"] if isinstance(state, dict) else state[0]) is None
            return draw(state) if is_hidden else await services.compute(draw, state)

        return on_change

    def by_component(update: Callable[..., dict[str, Any]]) -> Callable[..., dict[Any, Any]]:
        def on_change(state: Any, *values: Any) -> Any:
            if state is None:
                return gr.skip()
            return {parts[name]: value for name, value in update(state, *values).items()}

        return on_change

    changed = {}
    for name, (update, names) in UPDATES.items():
        outputs = [parts[output] for output in names]
        changed[name] = parts[name].change(
            by_component(update), parts[name], outputs, **QUIET_EVENT
        )
    figures = [parts[name] for name in ("reliability", "confidence", "confusion", "table")]
    parts["figures"].change(drawn(figure_updates), parts["figures"], figures, **FAIR_EVENT)
    curve = [parts["curves"], parts["curve_text"]]
    parts["curve"].change(drawn(curve_updates), parts["curve"], curve, **FAIR_EVENT)
    comparison = parts["comparison"]
    # `then`: the placeholder appears first, and comparing reads both runs' predictions.
    changed["comparison"].then(drawn(compare_runs), comparison, parts["compared"], **FAIR_EVENT)
    viewer = [parts[name] for name in (*VIEWER, "view")]
    comparison.change(
        by_component(viewer_updates), [comparison, parts["view"]], viewer, **QUIET_EVENT
    )


def figure_updates(state: tuple[str | None, bool]) -> tuple[Any, ...]:
    """Return both diagrams, the matrix as a figure for many classes, and the per-class table."""
    folder, dark = state
    if folder is None:  # the whole panel is hidden
        return (gr.skip(),) * 4
    # imports matplotlib, and the first page does not wait for it
    from resnet_demo.evaluation.figures import (
        confidence_figure,
        confusion_figure,
        reliability_figure,
    )

    with show_errors():
        result = read_result(Path(folder))
    labels = [row["label"] for row in result["per_class"]]
    # With many classes the cells are too small for buttons: the picture shows the pattern.
    is_large = len(labels) > MAX_CLASSES
    matrix = confusion_figure(result["confusion"], labels, dark=dark) if is_large else None
    return (
        reliability_figure(result["calibration"], dark=dark),
        confidence_figure(result["histogram"], dark=dark),
        gr.update(value=matrix, visible=is_large),
        class_table(result["per_class"], result["confusion"]),
    )


def class_table(
    classes: list[dict[str, Any]], confusion: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Return the table for gr.Dataframe: numbers to sort by, and how they are displayed.

    confusion: counts (C, C), true class in rows. A share of few images is displayed as a count, one
    of no images as a dash.
    """
    answered = [sum(column) for column in zip(*confusion, strict=True)]
    data, display = [], []
    for place, row in enumerate(classes):
        right, support = confusion[place][place], row["support"]
        interval = wilson_interval(right, support) if support else None
        recall, precision = Share(right, support), Share(right, answered[place])
        f1 = None if row["f1"] is None else 100 * row["f1"]
        # The table sorts by numbers; an interval is sorted by its lower end.
        low = interval and 100 * interval[0]
        data.append([row["label"], support, recall.percent, low, precision.percent, f1])
        display.append(
            [
                row["label"],
                f"{support:,}",
                str(recall),
                "–" if interval is None else interval_text(*interval, digits=1),
                str(precision),
                "–" if f1 is None else f"{f1:.1f}",
            ]
        )
    return {"headers": COLUMNS, "data": data, "metadata": {"display_value": display}}


@dataclass(frozen=True)
class Share:
    """A share of a class's images, which may be few or none."""

    count: int
    n: int

    @property
    def percent(self) -> float | None:
        """Return the percentage; None of no images."""
        return 100 * self.count / self.n if self.n else None

    def __str__(self) -> str:
        if self.percent is None:
            return "–"
        return count_of(self.count, self.n) if self.n < FEW_IMAGES else f"{self.percent:.1f}"


def compare_runs(comparison: dict[str, Any]) -> str:
    """Return the comparison of two runs as HTML, or why they cannot be compared."""
    if comparison["second"] is None:
        return ""
    from resnet_demo.evaluation.comparison import compare_evaluations
    from resnet_demo.evaluation.evaluate_run import read_evaluation

    try:
        # The comparison is by image, so both runs' stored predictions are read.
        first, second = (read_evaluation(Path(comparison[key])) for key in ("first", "second"))
        compared = compare_evaluations(first, second)
    except DemoError as error:
        return f"<p>⚠ {escape_html(str(error))}</p>"
    return comparison_html(compared, first.result, second.result)


def curve_updates(state: tuple[str | None, bool]) -> tuple[Any, Any]:
    """Return the updates of the robustness' curves and text; hidden before it is measured."""
    folder, dark = state
    hidden = gr.update(visible=False)
    if folder is None:
        return hidden, hidden
    from resnet_demo.evaluation.figures import robustness_figure  # imports matplotlib

    try:
        result = read_result(Path(folder), ROBUSTNESS_KEYS)
    except DemoError as error:
        return hidden, gr.update(value=f"⚠ {escape_markdown(str(error))}", visible=True)
    return (
        gr.update(value=robustness_figure(result, dark=dark), visible=True),
        gr.update(value=robustness_text(result), visible=True),
    )


def connect_files(
    services: Services, statuses: StatusCache, parts: dict[str, Any], selectors: list[Any]
) -> None:
    """Connect both buttons: write the file, then have the browser save it."""

    def handler(write: WriteFile) -> Callable[..., Any]:
        async def make(*values: Any) -> str:
            selection = Selection.from_page(*values)
            with show_errors():
                # On the event loop, to which `statuses` belongs; the file is written in a thread.
                robustness = statuses.robustness(selection).result_folder
                folder = statuses.folder(selection)
            return await services.compute(
                write_to_cache, parts["file"], write, folder, robustness and Path(robustness)
            )

        return make

    progress = {**FAIR_EVENT, "show_progress": "minimal"}
    for name, write in (("csv", write_csv), ("zip", write_zip)):
        made = parts[name].click(handler(write), selectors, parts["file"], **progress)
        # `success`, not `then`: after an error there is no file.
        made.success(None, parts["file"], None, js=SAVE_FILE, **QUIET_EVENT)


def write_csv(folder: Path, robustness: Path | None, directory: Path) -> Path:
    """Write the per-class table of an evaluation's folder. Raises DamagedError."""
    from resnet_demo.evaluation.report import CLASS_COLUMNS, csv_table

    result = read_result(folder)
    # All columns of the stored result, unrounded: the table of the page is for reading.
    file = directory / f"{file_name(result)}-per-class.csv"
    rows = [[row[column] for column in CLASS_COLUMNS] for row in result["per_class"]]
    file.write_bytes(csv_table(CLASS_COLUMNS, rows))
    return file


def write_zip(folder: Path, robustness: Path | None, directory: Path) -> Path:
    """Write all numbers and figures, with the robustness if it was measured, to a ZIP archive."""
    from resnet_demo.evaluation.evaluate_run import read_evaluation
    from resnet_demo.evaluation.report import write_report

    evaluated = read_evaluation(folder)
    measured = read_result(robustness, ROBUSTNESS_KEYS) if robustness else None
    name = file_name(evaluated.result)
    # All files in one folder, so that unpacking does not spread them.
    with zipfile.ZipFile(directory / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in write_report(evaluated, directory / name, measured):
            archive.write(file, f"{name}/{file.name}")
    return directory / f"{name}.zip"


def write_to_cache(
    download: gr.DownloadButton, write: WriteFile, folder: Path, robustness: Path | None
) -> str:
    """Write a file and move it to where Gradio serves and later deletes it."""
    with tempfile.TemporaryDirectory() as directory:
        file = write(folder, robustness, Path(directory))
        return serve_file(download, file)


def file_name(result: dict[str, Any]) -> str:
    """Return a file name: run, split, dataset, and the mode unless it is plain."""
    mode = [] if result["mode"] == "plain" else [result["mode"]]
    return "-".join([result["run"], result["split"], result["dataset"], *mode])

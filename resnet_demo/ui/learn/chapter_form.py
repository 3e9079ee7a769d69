"""The common parts of the chapters: layout, text, form with its expected cost, and events."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.data.recipe_fit import check_data
from resnet_demo.errors import DemoError
from resnet_demo.learn.lessons import Arms
from resnet_demo.runs.text import duration_text, escape_markdown
from resnet_demo.tasks.estimate import estimate
from resnet_demo.ui.evaluate.tab import keep_choice
from resnet_demo.ui.form import dataset_choices
from resnet_demo.ui.learn.arm_plots import no_chart
from resnet_demo.ui.learn.group_panel import (
    GroupReader,
    GroupSnapshot,
    group_label,
    group_panel,
    watch_group,
)
from resnet_demo.ui.learn.guess import SHOWN, guess_panel, known_guesses
from resnet_demo.ui.plots import line_chart
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

TEXTS = Path(__file__).with_name("texts")
# Gradio's default knows `$$` only, and most formulas stand within a line.
FORMULAS = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]


# On a phone the results follow the guess, although they are in the other column (page.css).
LAYOUT = {"equal_height": False, "elem_classes": "chapter-row"}
LEFT = {"scale": 6, "min_width": 330, "elem_classes": "chapter-left"}
RIGHT = {"scale": 7, "min_width": 330, "elem_classes": "chapter-right"}


@dataclass(frozen=True, kw_only=True)
class ChapterForm:
    """The inputs of a chapter, its start button, and the line that shows what a start costs.

    inputs: in the order of the parameters of the chapter's `arms`; dataset is one of them.
    """

    inputs: Sequence[Any]
    dataset: gr.Dropdown
    start: gr.Button
    cost: gr.Markdown = field(default_factory=lambda: gr.Markdown(elem_classes="hint"))


def number_field(
    kind: str,
    name: str,
    value: int,
    label: str,
    info: str | None = None,
    low: int = 1,
    high: int | None = None,
) -> gr.Number:
    """Build a field for a whole number; TrainConfig validates it."""
    # The limits help while typing only: the server does not enforce them.
    return gr.Number(
        value,
        label=label,
        info=info,
        precision=0,
        minimum=low,
        maximum=high,
        interactive=True,
        elem_id=f"{kind}-{name}",
        min_width=120,
    )


def images_field(kind: str) -> gr.Number:
    """Build the field for the number of training images."""
    return number_field(kind, "images", 5000, "Training images", "0 = all", low=0)


def seeds_field(kind: str, value: int) -> gr.Number:
    """Build the field for the number of runs of each arm."""
    return number_field(kind, "seeds", value, "Seeds", "1 to 5 runs of each", high=5)


def dataset_field(services: Services, kind: str) -> gr.Dropdown:
    """Build the choice of the datasets on this machine; the first is selected."""
    choices = dataset_choices(services.datasets.list())
    return gr.Dropdown(
        choices,
        value=choices[0][1],
        label="Dataset",
        interactive=True,
        elem_id=f"{kind}-dataset",
        scale=2,
        min_width=170,
    )


@dataclass(frozen=True)
class Chapter:
    """A chapter with an experiment. panel: of `group_panel`, and guess, show and answer."""

    kind: str
    form: ChapterForm
    panel: dict[str, Any]


@contextmanager
def chapter_layout(
    kind: str,
    text: str,
    form: Callable[[], ChapterForm],
    above: Callable[[], Any] | None = None,
) -> Iterator[Chapter]:
    """Build a chapter; what is built inside the `with` block goes among its results.

    On the left: text, guess, form. On the right: what `above` builds, then the group's panel.
    text: start of the names of its two files.
    """
    with gr.Row(**LAYOUT):
        with gr.Column(**LEFT):
            panel = text_and_guess(kind, text)
            # Folded: the recording answers the question at once, a training takes minutes.
            with gr.Accordion("Run it yourself", open=False, elem_classes="learn-form"):
                parts = form()
        with gr.Column(**RIGHT):
            if above is not None:
                above()
            panel |= group_panel(kind)
            with panel["results"]:
                yield Chapter(kind, parts, panel)


def text_and_guess(kind: str, text: str) -> dict[str, Any]:
    """Build text, guess, and the text that waits for it; return guess, show and answer."""
    chapter_text(text)
    return {**guess_panel(kind), "answer": answer_text(text)}


def chart_and_table(kind: str) -> list[Any]:
    """Build an empty chart, and the text below it for a table."""
    return [
        line_chart(f"{kind}-chart", no_chart()),
        gr.Markdown(elem_id=f"{kind}-table", elem_classes="learn-table"),
    ]


def connect_chapter(
    reader: GroupReader,
    tab: gr.Tab,
    guesses: gr.BrowserState,
    chapter: Chapter,
    arms: Callable[..., Arms],
    results: Sequence[Any],
    draw: Callable[..., Sequence[Any]],
    conclusion: Callable[[GroupSnapshot], str],
    answer: Callable[[GroupSnapshot], str | None],
    controls: Sequence[Any] = (),
) -> None:
    """Connect the form, and keep the results up to date, as `connect_form` and `watch_group`."""
    kind, panel = chapter.kind, chapter.panel
    connect_form(reader, kind, tab, guesses, chapter.form, arms, panel["choice"])
    watch_group(reader, kind, tab, guesses, panel, results, draw, conclusion, answer, controls)


def connect_form(
    reader: GroupReader,
    kind: str,
    tab: gr.Tab,
    guesses: gr.BrowserState,
    form: ChapterForm,
    arms: Callable[..., Arms],
    choice: gr.Dropdown,
) -> None:
    """Connect the start button to a group of these arms, and show the cost before a start.

    guesses: that the browser keeps. A start without a guess shows the results without one. choice:
    of the group that is shown; a start selects the new group.
    """
    services = reader.services

    @show_errors()
    def on_start(stored: Any, *values: Any) -> list[Any]:
        known = {kind: SHOWN, **known_guesses(stored)}
        # Stored with the group: its result is compared with the guess that came before it.
        group = services.run_groups.start(kind, arms(*values), services.caller(), known[kind])
        labels = [(group_label(group), group.id) for group in reader.groups(kind)]
        # The change of the choice draws the new group and starts the panel's timer.
        return [gr.update(choices=labels, value=group, visible=True), known]

    def on_change(*values: Any) -> str:
        return cost_text(services, lambda: arms(*values))

    def on_select(chosen: str | None) -> dict[str, Any]:
        choices = dataset_choices(services.datasets.list())
        return keep_choice(choices, chosen, choices[0][1])

    outputs = [choice, guesses]
    form.start.click(on_start, [guesses, *form.inputs], outputs, **QUIET_EVENT)
    # Other pages may have added datasets since this page was loaded.
    tab.select(on_select, form.dataset, form.dataset, **QUIET_EVENT)
    events = [tab.select, *(component.change for component in form.inputs)]
    # Of quick changes the last one counts: an estimate reads the logs of earlier runs.
    latest = QUIET_EVENT | {"trigger_mode": "always_last"}
    gr.on(events, on_change, list(form.inputs), form.cost, **latest)


def cost_text(services: Services, arms: Callable[[], Arms]) -> str:
    """Return the number of runs, and their duration if similar runs have been measured here."""
    try:
        configs = [config for _, config in arms()]
        infos = [check_data(config, services.datasets) for config in configs]
    except DemoError as error:
        # A text, not a toast: while a number is being typed, the form is wrong for a moment.
        return f"⚠ {escape_markdown(str(error))}"
    estimates = [
        estimate(config, info, services.runs, services.run_speeds)
        for config, info in zip(configs, infos, strict=True)
    ]
    runs = "1 run" if len(configs) == 1 else f"{len(configs)} runs, one after the other"
    if all(estimates):  # a sum over some of the runs would promise too little
        return f"{runs}, ≈ **{duration_text(sum(known.seconds for known in estimates))}**"
    return f"{runs}. How long is not known yet: nothing like it has run here."


def as_int(value: Any) -> Any:
    """Return a Number's value, with 5.0 as 5; any other value is left to the validation."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def chapter_text(name: str, **options: Any) -> gr.Markdown:
    """Build the text of a chapter from its file, with formulas. options: of gr.Markdown."""
    text = (TEXTS / f"{name}.md").read_text("utf-8")
    return gr.Markdown(text, latex_delimiters=FORMULAS, elem_classes="chapter", **options)


def answer_text(name: str) -> gr.Markdown:
    """Build the part of a chapter's text that has the answer, hidden before the guess."""
    text = (TEXTS / f"{name}-answer.md").read_text("utf-8")
    classes = ["chapter", "learn-answer"]
    return gr.Markdown(text, latex_delimiters=FORMULAS, elem_classes=classes, visible=False)

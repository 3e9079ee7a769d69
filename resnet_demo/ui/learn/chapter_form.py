"""The form of a chapter: what it would start, what that costs, and the button that starts it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.config import TrainConfig
from resnet_demo.data.store import check_data
from resnet_demo.errors import DemoError
from resnet_demo.runs.groups import groups
from resnet_demo.runs.text import duration_text, escape_markdown
from resnet_demo.tasks.estimate import estimate
from resnet_demo.ui.form import dataset_choices
from resnet_demo.ui.learn.group_panel import group_label
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

TEXTS = Path(__file__).with_name("texts")
FORMULAS = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]
Arms = list[tuple[str, TrainConfig]]


@dataclass(frozen=True, kw_only=True)
class ChapterForm:
    """What a person chooses, the button that starts it, and the line that says what it costs.

    inputs: in the order in which the chapter's `arms` takes them; dataset is one of them.
    """

    inputs: Sequence[Any]
    dataset: gr.Dropdown
    start: gr.Button
    guess: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", gr.Markdown(elem_classes="hint"))


def number_field(
    kind: str,
    name: str,
    value: int,
    label: str,
    info: str = "",
    low: int = 1,
    high: int | None = None,
) -> gr.Number:
    """A whole number; what is allowed is TrainConfig's to say."""
    return gr.Number(
        value, label=label, info=info or None, precision=0, minimum=low, maximum=high,
        interactive=True, elem_id=f"{kind}-{name}", min_width=120,
    )  # fmt: skip


def images_field(kind: str) -> gr.Number:
    """How many of the training images."""
    return number_field(kind, "images", 5000, "Training images", "0 is all of them", low=0)


def seeds_field(kind: str, value: int) -> gr.Number:
    """How many runs of each arm."""
    return number_field(kind, "seeds", value, "Seeds", "1 to 5: runs of each", high=5)


def connect_form(
    services: Services,
    kind: str,
    tab: gr.Tab,
    form: ChapterForm,
    arms: Callable[..., Arms],
    choice: gr.Dropdown,
) -> None:
    """Let the button start a group of the arms that the inputs decide, and tell its cost before.

    choice: of the group that is shown; it goes to the new one. Datasets may come meanwhile.
    """

    @show_errors()
    def on_start(guess: Any, *values: Any) -> dict[str, Any]:
        group = services.run_groups.start(kind, arms(*values), services.caller(), guess_text(guess))
        labels = [(group_label(one), one.id) for one in groups(services.runs.list(), kind)]
        return gr.update(choices=labels, value=group, visible=True)

    def on_change(*values: Any) -> str:
        return cost_text(services, lambda: arms(*values))

    def on_select(chosen: str | None) -> dict[str, Any]:
        return update_choices(dataset_choices(services.datasets.list()), chosen)

    guess = form.guess if form.guess is not None else gr.State("")
    form.start.click(on_start, [guess, *form.inputs], choice, **QUIET_EVENT)
    latest = {**QUIET_EVENT, "trigger_mode": "always_last"}
    tab.select(on_select, form.dataset, form.dataset, **QUIET_EVENT)
    changes = [one.change for one in form.inputs]
    gr.on([tab.select, *changes], on_change, list(form.inputs), form.line, **latest)


def update_choices(labels: list[tuple[str, str]], chosen: str | None) -> dict[str, Any]:
    """Other choices; the choice stays if it is still one of them."""
    if chosen in [name for _, name in labels]:
        return gr.update(choices=labels)
    return gr.update(choices=labels, value=labels[0][1])


def cost_text(services: Services, arms: Callable[[], Arms]) -> str:
    """How many runs, how many steps, how long where that is known from runs like these."""
    try:
        configs = [config for _, config in arms()]
        infos = [check_data(config, services.datasets) for config in configs]
    except DemoError as error:
        return f"⚠ {escape_markdown(str(error))}"
    known = [
        estimate(config, info, services.runs, services.run_speeds)
        for config, info in zip(configs, infos, strict=True)
    ]
    one = len(configs) == 1
    runs = "1 run" if one else f"{len(configs)} runs, one after the other"
    if all(known):
        return (
            f"{runs}: about **{duration_text(sum(one.seconds for one in known))}** on this machine"
        )
    return f"{runs}; how long {'it takes' if one else 'they take'} is not known on this machine yet"


def guess_text(guess: Any) -> str:
    """A guess as group.json keeps it."""
    return "\n".join(guess) if isinstance(guess, list) else guess or ""


def dataset_field(services: Services, kind: str) -> gr.Dropdown:
    """The datasets on this machine, the first chosen."""
    choices = dataset_choices(services.datasets.list())
    return gr.Dropdown(
        choices, value=choices[0][1], label="Dataset", interactive=True, elem_id=f"{kind}-dataset",
        min_width=140,
    )  # fmt: skip


def as_int(value: Any) -> Any:
    """A Number's value: 5.0, as Gradio has it at times, is 5; the check names what is wrong."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def chapter_text(name: str) -> gr.Markdown:
    """A chapter's words, which have a file of their own, with their formulas."""
    text = (TEXTS / f"{name}.md").read_text("utf-8")
    return gr.Markdown(text, latex_delimiters=FORMULAS, elem_classes="chapter")

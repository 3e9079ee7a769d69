"""The preview on the Train tab: what each knob does to the pictures, before any training.

Nothing is computed while it is closed, and torch is loaded when it is opened for the first time.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from resnet_demo.config import TrainConfig, make_config
from resnet_demo.data.image_sizes import GROWTH_SHARE, image_sizes
from resnet_demo.data.store import check_data
from resnet_demo.errors import DemoError
from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.components import enlarge, gallery, grid_classes
from resnet_demo.ui.form import Form
from resnet_demo.ui.services import QUIET_EVENT, Services

if TYPE_CHECKING:  # torch, which the page must not wait for
    from resnet_demo.training.preview import Preview

CLOSED = {"open": False, "epoch": 1, "page": 0}  # where a page stands: a gr.State
LOADING = "Loading … the first time this takes some seconds."
HOW = (
    "The very pixels that Train with this form will use, each image at the step at which this "
    "epoch's order puts it. They are then normalized, which is undone here for the eye."
)
COLUMNS = 4
FRESH, STALE = grid_classes(COLUMNS), gr.update(elem_classes=grid_classes(COLUMNS, "stale"))
Updates = tuple[Any, ...]  # for the components in `Panel.outputs`, in that order


def preview_panel(services: Services, form: Form) -> None:
    """The accordion, folded. Every knob of the form must have been placed."""
    at, seen = gr.State(CLOSED), gr.State(None)
    with gr.Accordion(
        "Preview: what the network is shown", open=False, elem_id="preview"
    ) as accordion:
        above = gr.Markdown(elem_id="preview-stored-words")
        stored = gallery("preview-stored", COLUMNS)
        words = gr.Markdown(LOADING, elem_id="preview-words")
        shown = gallery("preview-shown", COLUMNS)
        with gr.Row(elem_id="preview-buttons"):
            further = gr.Button("Next epoch", size="sm", min_width=90)
            others = gr.Button("Other images", size="sm", min_width=90)
            back = gr.Button("Back to the first", size="sm", min_width=90, interactive=False)
        gr.Markdown(HOW, elem_classes="hint")
    outputs = [above, stored, words, shown, further, back, seen]
    ready: set[str] = set()  # datasets that were shown before: the next time takes no seconds

    def on_change(*values: Any) -> Iterator[Updates]:
        *knobs, place, before = values
        yield from draw(services, form.asked(knobs), place, before, ready)

    gr.on(
        [*(knob.change for knob in form.components()), at.change],
        on_change,
        [*form.components(), at, seen],
        outputs,
        **QUIET_EVENT,
        trigger_mode="always_last",
        concurrency_limit=1,
    )
    accordion.expand(lambda at: {**at, "open": True}, at, at, **QUIET_EVENT)
    accordion.collapse(lambda at: {**at, "open": False}, at, at, **QUIET_EVENT)
    further.click(lambda at: {**at, "epoch": at["epoch"] + 1}, at, at, **QUIET_EVENT)
    others.click(lambda at: {**at, "page": at["page"] + 1}, at, at, **QUIET_EVENT)
    back.click(lambda: {**CLOSED, "open": True}, None, at, **QUIET_EVENT)


def draw(
    services: Services,
    values: dict[str, Any],
    at: dict[str, Any],
    before: dict[str, int] | None,
    ready: set[str],
) -> Iterator[Updates]:
    """Words and pictures for the form's values, as far as they changed; a wait is said first.

    before: what the page was last sent, for the next call. ready: datasets shown before; one is
    added.
    """
    skip = gr.skip()
    if not at["open"]:
        yield (skip,) * 7
        return
    try:
        config = make_config(values)
        check_data(config, services.datasets)
        if config.dataset not in ready:
            yield skip, STALE, LOADING, STALE, skip, skip, skip
        from resnet_demo.training.preview import preview

        page = preview(config, services.datasets, at["epoch"], at["page"])
    except DemoError as error:
        yield skip, skip, f"⚠ {escape_markdown(str(error))}", STALE, skip, skip, skip
    else:
        ready.add(config.dataset)
        yield drawn(config, page, before)


def drawn(config: TrainConfig, page: "Preview", before: dict[str, int] | None) -> Updates:
    """Words, rows and buttons; pictures that the page has already are not sent again."""
    steps = [f"step {step}" if step else "left out" for step in page.steps]
    rows = {"stored": (page.stored, page.labels), "shown": (page.shown, steps)}
    now = {name: hash((*map(bytes, row[0]), *row[1])) for name, row in rows.items()}
    stored, shown = (
        gr.update(elem_classes=FRESH, visible=True)
        if before and before[name] == now[name]
        else gr.update(elem_classes=FRESH, visible=True, value=captioned(*row))
        for name, row in rows.items()
    )
    return (
        stored_words(config, page),
        stored,
        shown_words(config, page),
        shown,
        gr.update(interactive=config.epochs > 1),
        gr.update(interactive=(page.epoch, page.first) != (1, 0)),
        now,
    )


def captioned(
    images: Iterable[np.ndarray], captions: Sequence[str]
) -> list[tuple[np.ndarray, str]]:
    """What a gallery takes."""
    return list(zip(map(enlarge, images), captions, strict=True))


def stored_words(config: TrainConfig, page: "Preview") -> str:
    """Which images these are."""
    count = len(page.labels)
    name = f"{page.info.name}, synthetic" if page.info.synthetic else page.info.name
    which = f"images {page.first + 1} to {page.first + count}" if page.first else f"first {count}"
    return (
        f"**As stored**: {name}, {square(page.info.size)} pixels. The {which} in the order of "
        f"epoch 1, seed {config.seed}."
    )


def shown_words(config: TrainConfig, page: "Preview") -> str:
    """What is done to them, and in which epoch."""
    epoch = f"**As epoch {page.epoch} of {config.epochs} shows them**: "
    if not changes(config, page.info.size):
        return f"{epoch}no augmentation and no resizing, both rows are the same."
    return f"{epoch}{applied(config)}; {resized(config, page.info.size)}."


def changes(config: TrainConfig, size: int) -> bool:
    """Whether anything is done to images of this side, pixels."""
    return bool(config.flip or config.crop or config.cutout or image_sizes(config) != [size])


def applied(config: TrainConfig) -> str:
    """The augmentation in words."""
    moved = f"moved by up to {config.crop} pixel{'s' * (config.crop != 1)} each way"
    blanked = f"a square of {square(config.cutout)} blanked out"
    return ", ".join(
        (
            "mirrored in every other epoch" if config.flip else "not mirrored",
            moved if config.crop else "not moved",
            blanked if config.cutout else "no cutout",
        )
    )


def resized(config: TrainConfig, size: int) -> str:
    """Stored and shown side in words."""
    first, *others = image_sizes(config)
    if others:
        return (
            f"then resized to {square(first)} at first, and by and by to "
            f"{square(config.image_size)}, the size of the last {1 - GROWTH_SHARE:.0%} of the run"
        )
    if first == size:
        return f"shown at {square(first)}, as stored"
    return f"then {'enlarged' if first > size else 'shrunk'} to {square(first)}"


def square(side: int) -> str:
    """A size in words that no line break tears apart."""
    return f"{side}\u00a0×\u00a0{side}"

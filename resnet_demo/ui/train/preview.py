"""The preview on the Train tab: what the settings do to the images, before any training.

Nothing is computed while it is closed. torch is loaded when it is opened for the first time.
"""

from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from resnet_demo.config import TrainConfig, chosen_values
from resnet_demo.data.image_sizes import GROWTH_SHARE, image_sizes
from resnet_demo.data.recipe_fit import fit_recipe
from resnet_demo.errors import DemoError
from resnet_demo.runs.text import escape_markdown, share_text
from resnet_demo.ui.components import enlarge, gallery, grid_classes
from resnet_demo.ui.form import Form, wrong_fields, wrong_text
from resnet_demo.ui.services import QUIET_EVENT, Services

if TYPE_CHECKING:  # imports torch, and the page must appear without it
    from resnet_demo.training.preview import Preview

CLOSED = {"open": False, "epoch": 1, "page": 0}  # the value of a gr.State
LOADING = "Loading, a few seconds…"
NOTE = "What the network sees, before normalization. The captions name the training step."
COLUMNS = 4
FRESH, STALE = grid_classes(COLUMNS), gr.update(elem_classes=grid_classes(COLUMNS, "stale"))
Updates = tuple[Any, ...]  # of the seven outputs of `preview_panel`, in that order


def preview_panel(services: Services, form: Form) -> None:
    """Build the closed accordion. Every component of the form must have been placed."""
    position, sent = gr.State(CLOSED), gr.State(None)
    with gr.Accordion("Preview of the training images", open=False, elem_id="preview") as accordion:
        stored_text = gr.Markdown(elem_id="preview-stored-text")
        stored = gallery("preview-stored", COLUMNS)
        shown_text = gr.Markdown(LOADING, elem_id="preview-text")
        shown = gallery("preview-shown", COLUMNS)
        with gr.Row(elem_id="preview-buttons"):
            further = gr.Button("Next epoch", size="sm", min_width=90)
            others = gr.Button("Other images", size="sm", min_width=90)
            back = gr.Button("Back to the first", size="sm", min_width=90, interactive=False)
        gr.Markdown(NOTE, elem_classes="hint")
    # The buttons change only the position, whose change is drawn like one of the form.
    outputs = [stored_text, stored, shown_text, shown, further, back, sent]
    loaded: set[str] = set()  # datasets that are in memory: showing them again takes no time

    async def on_change(*values: Any) -> AsyncIterator[Updates]:
        *settings, where, before = values
        steps = draw(services, form.to_dict(settings), where, before, loaded)
        if not where["open"]:
            yield next(steps)  # computes nothing, so it waits for nobody
            return
        async for updates in services.stream_in_turn(steps):
            yield updates

    gr.on(
        [*(component.change for component in form.components()), position.change],
        on_change,
        [*form.components(), position, sent],
        outputs,
        **QUIET_EVENT,
        # While a preview is drawn, only the latest change waits.
        trigger_mode="always_last",
        concurrency_limit=None,  # the fair queue of Services limits it
    )
    accordion.expand(lambda at: {**at, "open": True}, position, position, **QUIET_EVENT)
    accordion.collapse(lambda at: {**at, "open": False}, position, position, **QUIET_EVENT)
    further.click(lambda at: {**at, "epoch": at["epoch"] + 1}, position, position, **QUIET_EVENT)
    others.click(lambda at: {**at, "page": at["page"] + 1}, position, position, **QUIET_EVENT)
    back.click(lambda: {**CLOSED, "open": True}, None, position, **QUIET_EVENT)


def draw(
    services: Services,
    values: dict[str, Any],
    position: dict[str, Any],
    before: dict[str, int] | None,
    loaded: set[str],
) -> Generator[Updates, None, None]:
    """Yield the updates for the form's values, after a message if loading takes time.

    before: hashes of the images that the page has. loaded: datasets shown before; one is added.
    """
    skip = gr.skip()
    if not position["open"]:
        yield (skip,) * 7
        return
    if wrong := wrong_fields(values, services.datasets):
        # The old images stay, faded: while a number is being typed, the form is wrong for a moment.
        yield skip, skip, wrong_text(wrong), STALE, skip, skip, skip
        return
    try:
        config, _ = fit_recipe(chosen_values(values), services.datasets)
        services.allowance.count_pictures(services.caller())
        if config.dataset not in loaded:
            yield skip, STALE, LOADING, STALE, skip, skip, skip
        # Imports torch, which takes seconds the first time: hence the message before.
        from resnet_demo.training.preview import preview

        page = preview(config, services.datasets, position["epoch"], position["page"])
    except DemoError as error:
        # As a wrong field: the old images stay, faded.
        yield skip, skip, f"⚠ {escape_markdown(str(error))}", STALE, skip, skip, skip
    else:
        loaded.add(config.dataset)
        yield draw_page(config, page, before)


def draw_page(config: TrainConfig, page: "Preview", before: dict[str, int] | None) -> Updates:
    """Return texts, images and buttons. Images that the page already has are not sent again."""
    steps = [f"step {step}" if step else "left out" for step in page.steps]
    rows = {"stored": (page.stored, page.labels), "shown": (page.shown, steps)}
    # The page keeps hashes of what it has: most changes of the form leave the stored row alone.
    hashes = {name: hash((*map(bytes, row[0]), *row[1])) for name, row in rows.items()}
    stored, shown = (
        gr.update(elem_classes=FRESH, visible=True)
        if before and before[name] == hashes[name]
        else gr.update(elem_classes=FRESH, visible=True, value=captioned(*row))
        for name, row in rows.items()
    )
    return (
        describe_stored(config, page),
        stored,
        describe_shown(config, page),
        shown,
        gr.update(interactive=config.epochs > 1),
        gr.update(interactive=(page.epoch, page.first) != (1, 0)),
        hashes,
    )


def captioned(
    images: Iterable[np.ndarray], captions: Sequence[str]
) -> list[tuple[np.ndarray, str]]:
    """Return enlarged images and their captions, as a gallery takes them."""
    return list(zip(map(enlarge, images), captions, strict=True))


def describe_stored(config: TrainConfig, page: "Preview") -> str:
    """Return a heading that names the images (Markdown)."""
    count = len(page.labels)
    name = f"{page.info.name}, synthetic" if page.info.synthetic else page.info.name
    which = f"images {page.first + 1} to {page.first + count}" if page.first else f"first {count}"
    return (
        f"**As stored**: {name}, {square(page.info.size)} pixels. The {which} in the order of "
        f"epoch 1, seed {config.seed}."
    )


def describe_shown(config: TrainConfig, page: "Preview") -> str:
    """Return a heading that names the changes to the images in this epoch (Markdown)."""
    heading = f"**After augmentation**, epoch {page.epoch} of {config.epochs}: "
    if not changes_images(config, page.info.size):
        return f"{heading}no augmentation and no resizing, both rows are the same."
    return f"{heading}{describe_augmentation(config)}; {describe_size(config, page.info.size)}."


def changes_images(config: TrainConfig, size: int) -> bool:
    """Return whether anything is done to images of this side in pixels."""
    photographic = config.crop_area < 1 or config.rotation or config.colour_jitter
    plain = config.flip or config.crop or config.cutout
    return bool(photographic or plain or image_sizes(config) != [size])


def describe_augmentation(config: TrainConfig) -> str:
    """Return the augmentation in words."""
    moved = f"moved by up to {config.crop} pixel{'s' * (config.crop != 1)} each way"
    blanked = f"a square of {square(config.cutout)} blanked out"
    return ", ".join(
        (
            "mirrored in every other epoch" if config.flip else "not mirrored",
            moved if config.crop else "not moved",
            blanked if config.cutout else "no cutout",
            *describe_photographic(config),
        )
    )


def describe_photographic(config: TrainConfig) -> Iterator[str]:
    """Yield the augmentations for photographs that are on, in words."""
    if config.crop_area < 1:
        yield f"cropped to between {share_text(config.crop_area, 0)} and 100 % of the area"
    if config.rotation:
        yield f"rotated by up to {config.rotation:g}° either way"
    if config.colour_jitter:
        most = share_text(config.colour_jitter, 0)
        yield f"brightness, contrast and saturation changed by up to {most}"


def describe_size(config: TrainConfig, size: int) -> str:
    """Return the change of the stored size in words."""
    first, *later = image_sizes(config)
    if later:
        return (
            f"resized to {square(first)}, growing to {square(config.image_size)} for the last "
            f"{share_text(1 - GROWTH_SHARE, 0)} of the run"
        )
    if first == size:
        return f"shown at {square(first)}, as stored"
    return f"{'enlarged' if first > size else 'shrunk'} to {square(first)}"


def square(side: int) -> str:
    """Return a size that no line break splits."""
    return f"{side}\u00a0×\u00a0{side}"

"""The Data tab: the datasets on this machine, and importing a person's own images."""

from dataclasses import asdict
from typing import Any

import gradio as gr
import numpy as np

from resnet_demo.data.info import DatasetInfo
from resnet_demo.errors import DemoError
from resnet_demo.runs.text import dataset_text, escape_markdown
from resnet_demo.tasks.status import Status
from resnet_demo.ui.components import enlarge, gallery
from resnet_demo.ui.data.import_panel import (
    class_table,
    import_panel,
    panel_updates,
    survey_updates,
)
from resnet_demo.ui.first_steps import has_trained, steps_updates
from resnet_demo.ui.form import dataset_choices
from resnet_demo.ui.services import LATEST_EVENT, QUIET_EVENT, Services, show_errors

PAGE_SIZE = 20  # images
LOADING = "Loading the images, a few seconds…"  # the first time, shapes10 is drawn
DELETE_HELP = "The imported images are removed from disk. Your originals are kept."


def data_tab(services: Services) -> dict[str, Any]:
    """Build the tab; return its parts: those that `data_updates` updates, and Train on it."""
    imported = import_panel(services)
    gr.Markdown("### Datasets on this machine")
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=330, elem_classes="panel"):
            name = gr.Dropdown([], label="Dataset", interactive=True, elem_id="data-name")
            facts = gr.Markdown(LOADING, elem_id="data-facts")
            classes = gr.Dataframe(
                interactive=False, visible=False, elem_id="data-classes", max_height=440
            )
            with gr.Row(elem_classes="buttons"):
                train = gr.Button("Train on it", size="sm", elem_id="data-train")
                delete = gr.Button("Delete…", size="sm", elem_id="data-delete", variant="stop")
            # A question first: unlike a run, a dataset does not go to the trash.
            with gr.Group(visible=False) as deletion:
                question = gr.Markdown(elem_id="data-delete-question", padding=True)
                with gr.Row():
                    yes = gr.Button(
                        "Delete it", size="sm", variant="stop", elem_id="data-delete-yes"
                    )
                    no = gr.Button("Keep it", size="sm")
        with gr.Column(scale=8, min_width=330):
            images = gallery("data-images", 5)
            shuffle = gr.Button("Shuffle", size="sm", elem_id="data-shuffle")
    page = gr.State(0)

    def on_shuffle(name: str | None, page: int) -> tuple[Any, ...]:
        return show_dataset(services, name, page + 1)

    @show_errors()
    def on_delete(name: str) -> Any:
        services.data.delete(name, services.caller())
        return gr.update(visible=False)

    shown = [facts, classes, images, delete, deletion, page]
    name.change(lambda name: show_dataset(services, name, 0), name, shown, **QUIET_EVENT)
    shuffle.click(on_shuffle, [name, page], shown, **QUIET_EVENT)
    delete.click(
        lambda name: deletion_question(services, name), name, [deletion, question], **QUIET_EVENT
    )
    no.click(lambda: gr.update(visible=False), None, deletion, **QUIET_EVENT)
    yes.click(on_delete, name, deletion, **QUIET_EVENT)
    return {"name": name, "train": train, **imported}


def show_dataset(services: Services, name: str | None, page: int) -> tuple[Any, ...]:
    """Return facts, classes and images of a dataset, or the error if it is damaged."""
    # Another dataset hides the question about the one before. shapes10 is generated, so there is
    # nothing to delete.
    hidden, can_delete = gr.update(visible=False), gr.update(visible=name not in (None, "shapes10"))
    try:
        info, counts = services.datasets.get(name), services.datasets.class_counts(name)
    except DemoError as error:
        return f"⚠ {escape_markdown(str(error))}", hidden, hidden, can_delete, hidden, page
    columns = {split: list(per_class.values()) for split, per_class in counts.items()}
    return (
        dataset_facts(info),
        gr.update(value=class_table(info.classes, columns), visible=True),
        gr.update(value=random_images(services, info, page), visible=True),
        can_delete,
        hidden,
        page,
    )


def dataset_facts(info: DatasetInfo) -> str:
    """Return sizes, source and pixel statistics of a dataset (Markdown)."""
    mean, std = (" ".join(f"{value:.3f}" for value in triple) for triple in (info.mean, info.std))
    lines = [
        escape_markdown(dataset_text(info)) + ".",
        f"Pixel values: mean {mean}, standard deviation {std}.",
    ]
    if info.skipped_count:
        first = escape_markdown(", ".join(info.skipped[:3]))
        lines.append(f"Unreadable and left out: {info.skipped_count:,}, such as {first}.")
    return "\n\n".join(lines)


def random_images(services: Services, info: DatasetInfo, page: int) -> list[tuple[np.ndarray, str]]:
    """Return random training images and their labels, the same ones for the same page number."""
    images, labels = services.datasets.load(info.name, "train")
    count = min(PAGE_SIZE, len(images))
    # Seeded by the page number: the same page shows the same images again.
    chosen = np.random.RandomState(page).choice(len(images), count, replace=False)
    return [(enlarge(images[i]), info.classes[labels[i]]) for i in chosen]


def deletion_question(services: Services, name: str) -> tuple[Any, str]:
    """Return the updates that show the question before a deletion."""
    # A run needs the images again for a resume and for its evaluation.
    users = len(services.data.runs_using(name))
    runs = "1 run was" if users == 1 else f"{users} runs were"
    more = f" {runs} trained on it and can then not be evaluated or resumed." if users else ""
    return gr.update(visible=True), f"Delete **{escape_markdown(name)}**? {DELETE_HELP}{more}"


def follow_data(
    services: Services, steps: dict, data: dict, form: gr.Dropdown, version: gr.Textbox
) -> gr.State:
    """Update first steps, tab and the Train form's datasets when `version` changes.

    Returns the state that holds what the page shows.
    """
    # Kept for each page, so that a change sends only what this page does not show yet.
    seen = gr.State(None)
    parts = {**steps, **data, "form": form, "seen": seen}

    # Async, because a tick must not wait for one of Gradio's threads.
    async def on_version(chosen: str | None, shown: str | None, before: Any) -> dict:
        return data_updates(services, parts, chosen, shown, before)

    version.change(on_version, [form, data["name"], seen], [*parts.values()], **LATEST_EVENT)
    return seen


def task_states(services: Services) -> dict[str, Status | None]:
    """Return the status of the last task of each kind."""
    return {kind: services.data.status(kind) for kind in ("get", "survey", "import")}


def data_version(
    services: Services, tasks: dict[str, Status | None] | None = None
) -> dict[str, Any]:
    """Return a value that changes when the first steps or the tab have something new to show."""
    tasks = tasks or task_states(services)
    survey = tasks["survey"]
    return {
        "names": list(services.datasets.names()),
        "trained": has_trained(services),
        # Unlike the whole status, this does not change with the progress of a survey.
        "found": [survey.state, survey.queued_at] if survey else None,
        **{kind: asdict(status) if status else None for kind, status in tasks.items()},
    }


def data_updates(
    services: Services, parts: dict, chosen: str | None, shown: str | None, before: dict | None
) -> dict[Any, Any]:
    """Return component -> update of what has changed since `before`.

    chosen: the Train form's dataset. shown: this tab's.
    """
    tasks = task_states(services)
    _, survey, importing = tasks.values()
    now = data_version(services, tasks)
    before = before or {}  # a page that has just been opened shows nothing of this yet
    changed = [key for key in now if key not in before or now[key] != before[key]]
    updates = {parts["seen"]: now if changed else gr.skip()}
    if "names" in changed:
        updates |= choice_updates(services, parts, chosen, shown, before.get("names"))
    if {"names", "get", "trained"}.intersection(changed):
        updates |= steps_updates(services, parts)
    if "survey" in changed or "import" in changed:
        updates |= panel_updates(parts, survey, importing)
    if "found" in changed:
        updates |= survey_updates(services, parts, survey)
    return updates


def choice_updates(
    services: Services, parts: dict, chosen: str | None, shown: str | None, before: list | None
) -> dict[Any, Any]:
    """Return the updates of both choices of a dataset.

    A dataset that has just arrived is chosen on this tab; cifar10 also in the form, in place of
    shapes10. One of a person's own waits for Train on it, which chooses a recipe too.
    """
    infos = services.datasets.list()
    choices, names = dataset_choices(infos), [info.name for info in infos]
    new = [name for name in names if before is not None and name not in before]

    def update(now: str | None, wanted: str | None) -> Any:
        if wanted == now:  # no value: by the time it arrives, a person may have chosen another
            return gr.update(choices=choices)
        return gr.update(choices=choices, value=wanted)

    def existing(name: str | None) -> str:
        return name if name in names else names[0]

    arrived = "cifar10" if "cifar10" in new and chosen == "shapes10" else existing(chosen)
    return {
        parts["form"]: update(chosen, arrived),
        parts["name"]: update(shown, new[0] if new else existing(shown)),
    }

"""The Data tab: the datasets on this machine, and bringing a person's own images."""

from dataclasses import asdict
from typing import Any

import gradio as gr
import numpy as np

from resnet_demo.data.store import DatasetInfo
from resnet_demo.errors import DemoError
from resnet_demo.runs.text import dataset_text, escape_markdown
from resnet_demo.tasks.status import Status
from resnet_demo.ui.components import enlarge, gallery
from resnet_demo.ui.data.download_banner import banner_updates
from resnet_demo.ui.data.import_panel import bring_panel, panel_updates, report
from resnet_demo.ui.form import dataset_choices
from resnet_demo.ui.services import LATEST_EVENT, QUIET_EVENT, Services, show_errors

CLASS_COLUMNS = ["class", "training", "test"]
PAGE = 20  # images
DELETE_HELP = "The images are removed from disk. What they were made from stays where it is."


def data_tab(services: Services) -> dict[str, Any]:
    """Build the tab; the components that the page fills when it is loaded."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=330, elem_classes="panel"):
            name = gr.Dropdown([], label="Dataset", interactive=True, elem_id="data-name")
            facts = gr.Markdown(elem_id="data-facts")
            classes = gr.Dataframe(
                headers=CLASS_COLUMNS, interactive=False, elem_id="data-classes", max_height=300,
            )  # fmt: skip
            delete = gr.Button("Delete…", size="sm", elem_id="data-delete", variant="stop")
            with gr.Group(visible=False) as sure:
                question = gr.Markdown(elem_id="data-sure", padding=True)
                with gr.Row():
                    really = gr.Button(
                        "Delete it", size="sm", variant="stop", elem_id="data-really"
                    )
                    keep = gr.Button("Keep it", size="sm")
        with gr.Column(scale=8, min_width=330):
            images = gallery("data-images", 5)
            more = gr.Button("Other images", size="sm", elem_id="data-more")
    page = gr.State(0)

    shown = [facts, classes, images, delete, sure, page]
    name.change(lambda name: show(services, name, 0), name, shown, **QUIET_EVENT)
    more.click(
        lambda name, page: show(services, name, page + 1), [name, page], shown, **QUIET_EVENT
    )
    delete.click(lambda name: ask(services, name), name, [sure, question], **QUIET_EVENT)
    keep.click(lambda: gr.update(visible=False), None, sure, **QUIET_EVENT)

    @show_errors()
    def on_delete(name: str) -> Any:
        services.data.delete(name, services.caller())
        return gr.update(visible=False)

    really.click(on_delete, name, sure, **QUIET_EVENT)
    return {"name": name, **bring_panel(services)}


def show(services: Services, name: str | None, page: int) -> tuple[Any, ...]:
    """Facts, classes and images of a dataset; the sentence on it where it is damaged."""
    hidden, own = gr.update(visible=False), name not in (None, "shapes10")
    try:
        info, counts = services.datasets.get(name), services.datasets.class_counts(name)
    except DemoError as error:
        return (
            f"⚠ {escape_markdown(str(error))}",
            hidden,
            hidden,
            gr.update(visible=own),
            hidden,
            page,
        )
    rows = [[label, counts["train"][label], counts["test"][label]] for label in info.classes]
    return (
        facts_of(info),
        gr.update(value=rows, visible=True),
        gr.update(value=images_of(services, info, page), visible=True),
        gr.update(visible=own),
        hidden,
        page,
    )


def facts_of(info: DatasetInfo) -> str:
    """What is known about a dataset (Markdown)."""
    mean, std = (" ".join(f"{value:.3f}" for value in triple) for triple in (info.mean, info.std))
    lines = [escape_markdown(dataset_text(info)) + ".", f"Pixels: mean {mean}, deviation {std}."]
    if info.skipped_count:
        first = escape_markdown(", ".join(info.skipped[:3]))
        lines.append(f"Unreadable and left out: {info.skipped_count:,}, such as {first}.")
    return "\n\n".join(lines)


def images_of(services: Services, info: DatasetInfo, page: int) -> list[tuple[np.ndarray, str]]:
    """A page of training images drawn at random, the same ones for the same page."""
    images, labels = services.datasets.load(info.name, "train")
    count = min(PAGE, len(images))
    chosen = np.random.RandomState(page).choice(len(images), count, replace=False)
    return [(enlarge(images[i]), info.classes[labels[i]]) for i in chosen]


def ask(services: Services, name: str) -> tuple[Any, str]:
    """The question before a deletion."""
    users = len(services.data.runs_using(name))
    runs = "1 run was" if users == 1 else f"{users} runs were"
    told = f" {runs} trained on it and could then not be evaluated or resumed." if users else ""
    return gr.update(visible=True), f"Delete **{escape_markdown(name)}**? {DELETE_HELP}{told}"


def follow_data(
    services: Services, get: dict, data: dict, form: gr.Dropdown, mark: gr.Textbox
) -> gr.State:
    """Banner, tab and the Train form's choice of dataset, as far as they changed.

    mark: on the page, another one whenever something did.
    """
    seen = gr.State(None)

    async def on_news(chosen: str | None, shown: str | None, before: Any) -> dict:
        return tick(services, {**get, **data, "form": form, "seen": seen}, chosen, shown, before)

    outputs = [*get.values(), *data.values(), form, seen]
    mark.change(on_news, [form, data["name"], seen], outputs, **LATEST_EVENT)
    return seen


def under_way(services: Services) -> dict[str, Status | None]:
    """How the tasks about datasets stand, one of a kind."""
    return {kind: services.data.status(kind) for kind in ("get", "survey", "import")}


def data_version(
    services: Services, tasks: dict[str, Status | None] | None = None
) -> dict[str, Any]:
    """All that may move without a word of this page."""
    tasks = tasks or under_way(services)
    survey = tasks["survey"]
    return {
        "names": list(services.datasets.names()),
        "found": [survey.state, survey.queued_at] if survey else None,
        **{kind: asdict(status) if status else None for kind, status in tasks.items()},
    }


def tick(
    services: Services, parts: dict, chosen: str | None, shown: str | None, before: dict | None
) -> dict[Any, Any]:
    """Component -> update, of what changed since the page was last told; mostly nothing.

    chosen: the form's dataset; shown: the tab's.
    """
    tasks = under_way(services)
    get, survey, bring = tasks.values()
    now = data_version(services, tasks)
    before = before or {}
    fresh = [key for key in now if key not in before or now[key] != before[key]]
    updates = {parts["seen"]: now if fresh else gr.skip()}
    if "names" in fresh:
        updates |= choices(services, parts, chosen, shown, before.get("names"))
    if "names" in fresh or "get" in fresh:
        updates |= banner_updates(parts, "cifar10" in now["names"], get)
    if "survey" in fresh or "import" in fresh:
        updates |= panel_updates(parts, survey, bring)
    if "found" in fresh:
        updates |= report(services, parts, survey)
    return updates


def choices(
    services: Services, parts: dict, chosen: str | None, shown: str | None, before: list | None
) -> dict[Any, Any]:
    """Both choices of a dataset; the drawn shapes give way to real images that have just come."""
    infos = services.datasets.list()
    labels, names = dataset_choices(infos), [info.name for info in infos]
    new = [name for name in names if before is not None and name not in before]

    def update(now: str | None, wanted: str | None) -> Any:
        if wanted == now:  # not sent: by the time it arrives a person may have chosen another
            return gr.update(choices=labels)
        return gr.update(choices=labels, value=wanted)

    def kept(now: str | None) -> str:
        return now if now in names else names[0]

    return {
        parts["form"]: update(chosen, new[0] if new and chosen == "shapes10" else kept(chosen)),
        parts["name"]: update(shown, new[0] if new else kept(shown)),
    }

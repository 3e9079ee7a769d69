"""Components that several tabs use: grids of images, progress bars, downloads, choices of runs."""

from typing import Any

import gradio as gr
import numpy as np

from resnet_demo.runs.text import bytes_text, escape_markdown, transfer_text
from resnet_demo.tasks.status import Status
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

THUMBNAIL_PX = 128  # images are enlarged up to this side
NO_COMPARISON = ("no other run", "")
LOADING_NETWORK = "Loading the network, a few seconds…"
HIDDEN = gr.update(visible=False)
OFF, ON = gr.update(interactive=False), gr.update(interactive=True)
Parts = dict[str, Any]  # components by name
# Clicks a link to the file, as a person would: a browser saves no file by itself.
SAVE_FILE = """(file) => {
  const link = document.createElement('a');
  link.href = file.url; link.download = file.orig_name; link.click();
}"""


def gallery(elem_id: str, columns: int) -> gr.Gallery:
    """Return a grid of images and their labels, hidden at first.

    columns: 2, 3, 4, 5, 6 or 8, the counts that page.css knows. Gradio shows labels as plain text.
    """
    return gr.Gallery(
        show_label=False,
        columns=columns,
        height="auto",
        allow_preview=False,  # a click selects an image instead of enlarging it
        format="png",  # lossless, so that the enlarged pixels keep sharp edges
        elem_id=elem_id,
        elem_classes=grid_classes(columns),
        interactive=False,
        buttons=[],
        visible=False,
    )


def grid_classes(columns: int, *more: str) -> list[str]:
    """Return the CSS classes of a gallery. An update replaces all of them."""
    return ["grid", f"grid-{columns}", *more]


def enlarge(image: np.ndarray) -> np.ndarray:
    """Return an image, (H, W, 3) uint8, with each pixel repeated to fill THUMBNAIL_PX.

    An image whose side exceeds half of that is returned as it is.
    """
    # The browser would blur enlarged images; repeated pixels stay sharp.
    times = max(1, THUMBNAIL_PX // image.shape[0])
    return np.kron(image, np.ones((times, times, 1), np.uint8))


def progress_bar(share: float) -> str:
    """Return a progress bar as HTML. share: from 0 to 1."""
    return (
        f'<div class="bar" role="progressbar" aria-label="progress" aria-valuemin="0" '
        f'aria-valuemax="100" '
        f'aria-valuenow="{100 * share:.0f}"><div style="width:{100 * share:.1f}%"></div></div>'
    )


def progress_share(status: Status) -> float:
    """Return a task's progress from 0 to 1; 0 if its total is unknown."""
    return min(1.0, status.done / status.total) if status.total else 0.0


def progress_text(status: Status) -> str:
    """Return the message, amount and rate of a live task."""
    return transfer_text(
        status.message, status.done, status.total or None, status.unit, status.rate
    )


def download_row(name: str, label: str, variant: str = "primary") -> dict[str, Any]:
    """Build a hidden row; return its components.

    name: start of their ids. label, variant: of the button.
    """
    with gr.Row(visible=False, elem_id=f"{name}-banner", elem_classes="download-row") as box:
        with gr.Column(scale=8, min_width=260):
            text = gr.Markdown(elem_id=f"{name}-text")
            progress = gr.HTML(padding=False, elem_id=f"{name}-progress", visible=False)
        start = gr.Button(label, variant=variant, elem_id=name, scale=0, min_width=150)
        cancel = gr.Button(
            "Cancel", elem_id=f"{name}-cancel", scale=0, min_width=150, visible=False
        )
    return {"box": box, "text": text, "progress": progress, "start": start, "cancel": cancel}


def connect_download_row(
    services: Services, parts: dict[str, Any], name_of: Any, inputs: list[Any]
) -> None:
    """Connect the buttons of a row. name_of: returns the download's name for these inputs."""

    @show_errors()
    def on_start(*values: Any) -> None:
        services.data.get(name_of(*values), services.caller())

    @show_errors()
    def on_cancel() -> None:
        services.data.cancel("get", services.caller())

    parts["start"].click(on_start, inputs, None, **QUIET_EVENT)
    parts["cancel"].click(on_cancel, None, None, **QUIET_EVENT)


def is_download_of(services: Services, name: str) -> bool:
    """Return whether the latest download is the one of that name."""
    return services.data.request("get").get("name") == name


def download_row_updates(
    parts: dict[str, Any], visible: bool, text: str, status: Status | None
) -> dict[Any, Any]:
    """Return the updates of a row. status: of its download, None if there was none."""
    # The buttons take turns: Cancel exists only during a download, and Get only outside of one.
    live = status is not None and status.is_live
    return {
        parts["box"]: gr.update(visible=visible),
        parts["text"]: text,
        parts["progress"]: gr.update(
            value=progress_bar(progress_share(status)) if live else "", visible=live
        ),
        parts["start"]: gr.update(visible=not live),
        parts["cancel"]: gr.update(visible=live, interactive=live and status.state != "stopping"),
    }


def download_text(what: str, missing: str, status: Status | None) -> str:
    """Return the state of a download (Markdown). missing: the text while there is none."""
    if status is None or status.state == "finished":
        return missing
    if status.state == "stopping":
        return f"**{what}:** stopping…"
    if status.state == "stopped":
        # Only the download continues; the import after it counts pictures.
        partial = status.unit == "bytes" and status.done
        more = f"; it will continue from {bytes_text(status.done)}" if partial else ""
        return f"{missing} Download cancelled{more}."
    if status.state == "failed":
        return f"⚠ {escape_markdown(status.message)}"
    return f"**{what}:** " + escape_markdown(progress_text(status))


class RunDropdown(gr.Dropdown):
    """A dropdown of runs that accepts runs made after the page was opened.

    gr.Dropdown refuses a value that was not among the choices it last sent to this page.
    """

    is_template = True  # else Gradio looks for a front end of this class's own name

    def preprocess(self, payload: Any) -> str | None:
        """Return the chosen run id, whether or not the run exists. Raises gr.Error."""
        if payload is not None and not isinstance(payload, str):
            raise gr.Error(f"run must be an id, got {payload!r:.100}", print_exception=False)
        return payload


def experiments_box(elem_id: str) -> gr.Checkbox:
    """Return the switch below a choice of runs that also lists the runs of lessons."""
    return gr.Checkbox(
        label="show experiments",
        value=False,
        container=False,
        interactive=True,
        visible=False,  # until there are experiments
        elem_id=elem_id,
        elem_classes="experiments",
    )


def run_choices(
    services: Services, run_id: str | None, experiments: bool = False, pretrained: bool = False
) -> dict[str, Any]:
    """Return an update: the runs that have weights; the selected one stays if it is listed.

    experiments, pretrained: as for `Services.run_choices`.
    """
    labels = services.run_choices(True, experiments, pretrained=pretrained)
    return keep_choice(labels, run_id, services.default_trained_run())


def keep_choice(
    labels: list[tuple[str, str]], value: str | None, default: str | None
) -> dict[str, Any]:
    """Return an update of the choices, with `default` selected if `value` is not one of them."""
    if value in [choice for _, choice in labels]:
        # Not sent again: the person may have selected another one meanwhile.
        return gr.update(choices=labels)
    return gr.update(choices=labels, value=default)

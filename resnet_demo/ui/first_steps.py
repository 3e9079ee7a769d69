"""The first steps above the tabs: what a new user may do, one next step marked, done ones ticked.

The browser remembers whether they are folded and whether a photo was tried: page.js sets classes on
the page before it is drawn. The other steps are done if the run or the dataset is there.
"""

from typing import Any

import gradio as gr

from resnet_demo.config import make_config
from resnet_demo.learn.lessons import is_experiment
from resnet_demo.tasks.status import Status
from resnet_demo.ui.classify.examples import shipped_picture
from resnet_demo.ui.components import (
    Parts,
    connect_download_row,
    download_row,
    download_row_updates,
    download_text,
    is_download_of,
)
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

PHOTO, SHIPPED_RUN = "cat", "cifar10-shipped"
# Three epochs: a curve instead of a point, in about a minute on two cores.
SHAPES_RUN = {"recipe": "quick", "dataset": "shapes10", "epochs": 3}
STEPS = {  # the first line of a button is what it does
    "photo": "Try a photo\nanswered at once",
    "shapes": "Train on shapes\nabout a minute",
    "cifar": "Get CIFAR-10\nonce, up to 171 MB",
    "own": "Bring your own pictures\na folder or a zip",
}
NOT_OWN = ("shapes10", "cifar10")
MISSING = "**CIFAR-10 is not on this machine yet.**"
# Scripts in the browser.
PHOTO_TRIED = "() => window.rememberChoice('is-photo-tried', true)"
FOLD, UNFOLD = (f"() => window.rememberChoice('is-folded', {value})" for value in ("true", "false"))
SCROLL_TO_IMPORT = """() => setTimeout(() => document.getElementById('import-file')
  ?.scrollIntoView({behavior: 'smooth', block: 'center'}), 300)"""


def first_steps(services: Services) -> Parts:
    """Build the steps and the row of the download; return their components."""
    with gr.Column(visible=False, elem_id="first-steps") as box:
        with gr.Row(elem_classes="steps"):
            buttons = {
                name: gr.Button(text, elem_id=f"step-{name}", elem_classes="step", min_width=140)
                for name, text in STEPS.items()
            }
            fold = gr.Button("Hide", size="sm", elem_id="fold-steps", scale=0, min_width=60)
        unfold = gr.Button("First steps", size="sm", elem_id="unfold-steps", scale=0)
    row = download_row("get", "Get CIFAR-10", variant="secondary")
    connect_download_row(services, row, lambda: "cifar10", [])
    fold.click(None, None, None, js=FOLD, **QUIET_EVENT)
    unfold.click(None, None, None, js=UNFOLD, **QUIET_EVENT)
    return {"steps": box, **buttons, **row}


def connect_steps(
    services: Services, parts: Parts, tabs: gr.Tabs, run: gr.Dropdown, classify: Parts
) -> None:
    """Connect the steps. run: shown on the Train tab. classify: run and picture of that tab."""

    @show_errors()
    def on_photo() -> list[Any]:
        # The shipped network, because a run of one's own may know other classes than a cat.
        shipped = [run.id for run in services.trained_runs() if run.id == SHIPPED_RUN]
        run_id = shipped[0] if shipped else services.default_trained_run()
        choices = services.run_choices(trained=True, keep=run_id, pretrained=True)
        chosen = gr.update(choices=choices, value=run_id)
        return [gr.Tabs(selected="classify"), chosen, shipped_picture(PHOTO)]

    @show_errors()
    def on_shapes() -> list[Any]:
        run_id = services.launcher.start(make_config(SHAPES_RUN), services.caller())
        chosen = gr.update(choices=services.run_choices(), value=run_id, visible=True)
        # Off at once, because polling reports the run a moment later: one press, one run.
        return [gr.Tabs(selected="train"), chosen, gr.update(interactive=False)]

    @show_errors()
    def on_cifar() -> None:
        services.data.get("cifar10", services.caller())

    outputs = [tabs, classify["run"], classify["picture"]]
    parts["photo"].click(on_photo, None, outputs, **QUIET_EVENT)
    parts["photo"].click(None, None, None, js=PHOTO_TRIED, **QUIET_EVENT)
    parts["shapes"].click(on_shapes, None, [tabs, run, parts["shapes"]], **QUIET_EVENT)
    parts["cifar"].click(on_cifar, None, None, **QUIET_EVENT)
    shown = parts["own"].click(lambda: gr.Tabs(selected="data"), None, tabs, **QUIET_EVENT)
    shown.then(None, None, None, js=SCROLL_TO_IMPORT, **QUIET_EVENT)


def has_trained(services: Services) -> bool:
    """Return whether there is a run of one's own, outside of the lessons."""
    return any(not run.shipped and not is_experiment(run) for run in services.runs.list())


def steps_updates(services: Services, parts: Parts) -> dict[Any, Any]:
    """Return the updates of the steps and of CIFAR-10's download, as things are now.

    The owner sees the steps until all are done. The row of the download is visible while it runs,
    and afterwards if it was not finished.
    """
    names = services.datasets.names()
    status = services.data.status("get") if is_download_of(services, "cifar10") else None
    done = {
        "shapes": has_trained(services),
        "cifar": "cifar10" in names,
        "own": any(name not in NOT_OWN for name in names),
    }
    live = status is not None and status.is_live
    # Strangers cannot train or import, and on ZeroGPU no worker can be started.
    is_offered = services.slices is None and services.caller().is_owner
    return {
        parts["steps"]: gr.update(visible=is_offered and not all(done.values())),
        **{parts[name]: step_update(done[name], live and name == "cifar") for name in done},
        **download_updates(parts, done["cifar"], status),
    }


def step_update(is_done: bool, is_running: bool) -> dict[str, Any]:
    """Return the update of one step's button."""
    classes = ["step", "done"] if is_done else ["step"]
    return gr.update(elem_classes=classes, interactive=not (is_done or is_running))


def download_updates(parts: Parts, is_here: bool, status: Status | None) -> dict[Any, Any]:
    """Return the updates of the row of CIFAR-10's download. status: None if there was none."""
    is_open = status is not None and status.state != "finished" and not is_here
    return download_row_updates(parts, is_open, download_text("CIFAR-10", MISSING, status), status)

"""Deleting a run from the page: asked first, then moved to the trash folder."""

from typing import Any

import gradio as gr

from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.services import QUIET, Services, plainly

FOCUS = "() => document.getElementById('delete-yes').focus()"  # where a keyboard goes on


def deletion(services: Services, run: gr.Dropdown, delete: gr.Button) -> None:
    """What comes between a press on Delete and the trash: a question that names the run."""
    with gr.Row(visible=False, elem_id="deletion") as asking:
        question = gr.Markdown(elem_id="deletion-words")
        yes = gr.Button("Delete", elem_id="delete-yes", size="sm", variant="stop")
        no = gr.Button("Keep", elem_id="delete-no", size="sm")
    doomed = gr.State(None)

    def ask(run_id: str | None) -> tuple[Any, ...]:
        words = f"Move **{escape_markdown(str(run_id))}** and its checkpoints to the trash folder?"
        return gr.update(visible=run_id is not None), words, run_id

    def on_yes(run_id: str) -> tuple[Any, ...]:
        return gr.update(visible=False), deleted(services, run_id)

    delete.click(ask, run, [asking, question, doomed], **QUIET).then(
        None, None, None, js=FOCUS, **QUIET
    )
    yes.click(plainly()(on_yes), doomed, [asking, run], **QUIET)
    for gone in (no.click, run.change):
        gone(lambda: gr.update(visible=False), None, asking, **QUIET)


def deleted(services: Services, run_id: str) -> dict[str, Any]:
    """Move the run to the trash folder; the choice of runs, at another one."""
    services.launcher.delete(run_id, services.caller())
    gr.Info(f"{run_id} lies in the trash folder beside the runs")
    labels = services.run_labels()
    return gr.update(choices=labels, value=services.latest(), visible=bool(labels))

"""The Evaluate tab: a run, a split, a task with its progress, and what came out."""

import json
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.analysis.figures import confusion_figure
from resnet_demo.errors import DemoError
from resnet_demo.runs.words import loss_text
from resnet_demo.tasks.status import settle
from resnet_demo.ui.live import bar
from resnet_demo.ui.services import QUIET, TICK, Services, plainly
from resnet_demo.ui.text import literal

COLUMNS = ["class", "precision", "recall", "F1", "images"]
SPLITS = [("test", "test"), ("validation", "val")]
NOTHING = "Nothing to evaluate yet: train a network first, its best epoch is then measured here."
READY = "Press **Evaluate**: the best epoch's weights answer every picture of the split, once."
IS_DARK = "() => document.body.classList.contains('dark')"


def evaluate_tab(services: Services, tab: gr.Tab) -> dict[str, Any]:
    """Build the tab; the components that the page fills when it is loaded."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=330, elem_classes="panel"):
            run = gr.Dropdown([], label="Run", interactive=True, elem_id="evaluate-run")
            split = gr.Radio(SPLITS, value="test", label="Split", interactive=True)
            with gr.Row():
                start = gr.Button("Evaluate", variant="primary", elem_id="evaluate")
                cancel = gr.Button("Cancel", interactive=False, elem_id="evaluate-cancel")
            progress = gr.HTML(padding=False, elem_id="evaluate-progress")
            words = gr.Markdown(NOTHING, elem_id="evaluate-words")
        with gr.Column(scale=8, min_width=330):
            summary = gr.Markdown(elem_id="evaluate-summary")
            figure = gr.Plot(show_label=False, elem_id="confusion", visible=False)
            table = gr.Dataframe(
                headers=COLUMNS, interactive=False, visible=False, elem_id="per-class",
                max_height=460,
            )  # fmt: skip
    seen, dark = gr.State(None), gr.Checkbox(False, visible="hidden")
    outputs = [progress, words, cancel, summary, figure, table, seen]

    async def on_tick(run_id: str | None, split: str, dark: bool, before: Any) -> Any:
        return tick(services, run_id, split, dark, before)

    @plainly()
    def on_start(run_id: str | None, split: str) -> None:
        services.evaluating.start(run_id, split, services.caller())

    @plainly()
    def on_cancel(run_id: str | None, split: str) -> None:
        services.launcher.stop_task(folder_of(services, run_id, split))

    start.click(on_start, [run, split], None, **QUIET)
    cancel.click(on_cancel, [run, split], None, **QUIET)
    timer = gr.Timer(1.0)
    triggers = [timer.tick, run.change, split.change]
    gr.on(triggers, on_tick, [run, split, dark, seen], outputs, **TICK)
    tab.select(lambda chosen: choices(services, chosen), run, run, **QUIET)
    return {"run": run, "dark": dark}


def choices(services: Services, chosen: str | None) -> dict[str, Any]:
    """The runs that have weights by now; the choice stays if it is still one of them."""
    labels = services.run_labels(trained=True)
    known = [run_id for _, run_id in labels]
    value = chosen if chosen in known else services.first_choice()
    return gr.update(choices=labels, value=value)


def folder_of(services: Services, run_id: str | None, split: str) -> Path:
    """Where the run's own weights and dataset have their result for the split."""
    run = services.runs.get(run_id)
    return services.evaluating.folder(run, split, run.config().dataset)


def tick(services: Services, run_id: str | None, split: str, dark: bool, before: Any) -> Any:
    """Progress or result, where it changed since the page was last told."""
    now = ["", NOTHING, False, None]  # bar, words, can be cancelled, finished folder
    if run_id is not None:
        try:
            now = standing(folder_of(services, run_id, split))
        except DemoError as error:
            now = ["", f"⚠ {literal(str(error))}", False, None]
    if [*now, dark] == before:
        return (gr.skip(),) * 7
    figures, words, live, done = now
    return figures, words, gr.update(interactive=live), *results(done, dark), [*now, dark]


def standing(folder: Path) -> list[Any]:
    """Bar, words, whether it can be cancelled, and the folder as text if there is a result."""
    if not folder.exists():
        return ["", READY, False, None]
    status = settle(folder, "its worker ended without a word")
    if status.state == "finished":
        return ["", "", False, str(folder)]
    if not status.is_live:
        return ["", f"{status.state.capitalize()}: {literal(status.message)}.", False, None]
    share = status.done / status.total if status.total else 0.0
    words = (
        f"{status.done:,} of {status.total:,} images" if status.total else literal(status.message)
    )
    return [bar(share), f"{status.state.capitalize()}: {words}", status.state != "stopping", None]


def results(folder: str | None, dark: bool) -> tuple[Any, Any, Any]:
    """Sentence, confusion matrix and table of a finished evaluation; hidden where there is none."""
    if folder is None:
        return "", gr.update(visible=False), gr.update(visible=False)
    result = json.loads((Path(folder) / "result.json").read_text("utf-8"))
    rows = [
        [
            row["label"],
            *(f"{row[name]:.1%}" for name in ("precision", "recall", "f1")),
            row["support"],
        ]
        for row in result["per_class"]
    ]
    figure = confusion_figure(
        result["confusion"], [row["label"] for row in result["per_class"]], dark=dark
    )
    return (
        summary(result),
        gr.update(value=figure, visible=True),
        gr.update(value=rows, visible=True),
    )


def summary(result: dict[str, Any]) -> str:
    """Accuracy first, then what it was measured on."""
    split = "test" if result["split"] == "test" else "validation"
    stored = "counted on the answers kept with the run · " if result.get("stored") else ""
    loss = loss_text(result) if result["loss"] is None else f"{loss_text(result)} nats"
    return (
        f"## {result['top1']:.2%} top-1\n{result['run']} on the {result['n']:,} {split} images of "
        f"{result['dataset']} · {stored}loss {loss} · "
        f"weights `{result['weights'][:12]}`"
    )

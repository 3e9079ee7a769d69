"""Beside a run on the Train tab: the next steps, its settings, title and notes, and the trash."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import gradio as gr

from resnet_demo.config import CHOSEN, TrainConfig, make_config
from resnet_demo.errors import DamagedError, counted
from resnet_demo.files import file_version
from resnet_demo.models.description import WEIGHTS
from resnet_demo.runs.store import Run
from resnet_demo.runs.text import bytes_text, escape_markdown
from resnet_demo.tasks.snapshot import RunSnapshot, config_or_none
from resnet_demo.tasks.trash import KEEP_DAYS, TRASH, trash_size
from resnet_demo.ui.components import HIDDEN
from resnet_demo.ui.evaluate.evaluation_status import Selection
from resnet_demo.ui.evaluate.tab import comparison_choices, start_evaluations
from resnet_demo.ui.form import SCROLL_TO_FORM, Form, field_label, value_text
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

LONGER = 2  # times the epochs of the run
NOTHING_TO_COMPARE = "No other run can be evaluated on the same images."
FOCUS_UNDO = "() => document.getElementById('undo').focus()"
EMPTY_DETAILS = {
    "next": HIDDEN,
    "longer": gr.update(visible=True),
    "finetune": HIDDEN,
    "export": HIDDEN,
    "details": HIDDEN,
    "settings": "",
    "title": "",
    "notes": "",
}


def next_steps() -> dict[str, Any]:
    """Build the row of what to do with a trained run; return its components."""
    with gr.Row(visible=False, elem_id="next-steps") as row:
        buttons = {
            name: gr.Button(label, size="sm", elem_id=f"next-{name}")
            for name, label in (
                ("evaluate", "Evaluate"),
                ("classify", "Classify"),
                ("longer", "Train longer"),
                ("finetune", "Fine-tune"),
                ("compare", "Compare"),
            )
        }
    return {"next": row, **buttons}


def details_panel() -> dict[str, Any]:
    """Build settings, title, notes and trash; return their components."""
    with gr.Accordion(
        "Settings, title and notes", open=False, visible=False, elem_id="run-details"
    ) as details:
        settings = gr.Markdown(elem_id="run-settings")
        copy = gr.Button("Copy to form", size="sm", elem_id="copy-settings")
        # A title is data of the person's; the id of a run is made by the program and stays.
        title = gr.Textbox(
            label="Title",
            info="shown in every list of runs",
            max_lines=1,
            interactive=True,
            elem_id="run-title",
        )
        notes = gr.Textbox(label="Notes", lines=2, interactive=True, elem_id="run-notes")
    with gr.Accordion("Trash", open=False, visible=False, elem_id="trash") as trash:
        gr.Markdown(f"A deleted run stays in the trash for {KEEP_DAYS} days.", elem_classes="hint")
        empty = gr.Button("Empty the trash", size="sm", elem_id="empty-trash")
        with gr.Row(visible=False, elem_classes="question") as question:
            gr.Markdown("Remove these runs from the disk? They cannot be brought back.")
            yes = gr.Button("Remove", size="sm", variant="stop", elem_id="empty-trash-yes")
            no = gr.Button("Keep", size="sm", elem_id="empty-trash-no")
    return {
        "details": details,
        "settings": settings,
        "copy": copy,
        "title": title,
        "notes": notes,
        "trash": trash,
        "empty": empty,
        "question": question,
        "yes": yes,
        "no": no,
    }


def details_parts(services: Services, seen: RunSnapshot) -> dict[str, Any]:
    """Return the parts of polling that `next_steps` and `details_panel` show of a run."""
    run, is_live = seen.run, seen.status.is_live
    is_trained = not is_live and (run.path / WEIGHTS).exists()
    about, config = run.about_or_empty(), config_or_none(run)
    is_head = bool(config) and config["train_layers"] == "head"
    return {
        "next": ([run.id, is_trained], lambda: gr.update(visible=is_trained)),
        # A fitted head has converged: more iterations change nothing, and more layers may.
        "longer": ([run.id, is_head], lambda: gr.update(visible=not is_head)),
        "finetune": ([run.id, is_head], lambda: gr.update(visible=is_head)),
        "export": ([run.id, is_trained], lambda: gr.update(visible=is_trained)),
        "details": (run.id, lambda: gr.update(visible=True)),
        # By the run alone: its configuration never changes.
        "settings": (run.id, lambda: settings_text(run)),
        # Each by its own text: a title that was saved must not replace notes that are being typed.
        "title": ([run.id, about.title], lambda: text_update(run, about.title)),
        "notes": ([run.id, about.notes], lambda: text_update(run, about.notes)),
    }


def text_update(run: Run, text: str) -> dict[str, Any]:
    """Return the update of a person's text about a run."""
    return gr.update(value=text, interactive=not run.shipped)


def trash_part(services: Services) -> dict[str, Any]:
    """Return the part of polling that shows the size of the trash, hidden while it is empty."""
    root = services.paths.runs

    def update() -> dict[str, Any]:
        runs, size = trash_size(root)
        label = f"Trash: {runs} run{'s' * (runs != 1)}, {bytes_text(size)}"
        return gr.update(label=label, visible=runs > 0)

    return {"trash": (file_version(root / TRASH), update)}


def settings_text(run: Run) -> str:
    """Return what differs from the run's recipe as a table (Markdown)."""
    try:
        config = run.config()
    except DamagedError as error:
        return f"⚠ {escape_markdown(str(error))}."
    # With its dataset, to which a recipe is not fitted here: what was adapted is listed, too.
    recipe = make_config({"recipe": config.recipe, "dataset": config.dataset})
    head = f"Recipe **{config.recipe}** on **{escape_markdown(config.dataset)}**"
    rows = [
        f"| {field_label(field)} | {escape_markdown(value_text(mine))} | {value_text(usual)} |"
        for field in fields(TrainConfig)
        if (mine := getattr(config, field.name)) != (usual := getattr(recipe, field.name))
    ]
    if not rows:
        return f"{head}, unchanged."
    table = "\n".join(["| setting | this run | recipe |", "| --- | --- | --- |", *rows])
    return f"{head}, with:\n\n{table}"


def connect_details(services: Services, form: Form, panel: dict[str, Any]) -> None:
    """Connect the buttons and fields that stay on the Train tab."""
    run, title, notes = panel["run"], panel["title"], panel["notes"]

    @show_errors()
    def on_text(run_id: str | None, title: str, notes: str) -> None:
        if run_id is None:
            return
        about = services.runs.get(run_id).about_or_empty()
        # Leaving a field without a change is no edit: nothing is written, and nothing refused.
        if (about.title, about.notes) != (title.strip(), notes.strip()):
            services.launcher.describe(run_id, services.caller(), title, notes)

    # Leaving the title while it is saved must not drop the notes that are left next.
    latest = QUIET_EVENT | {"trigger_mode": "always_last"}
    gr.on([title.submit, title.blur, notes.blur], on_text, [run, title, notes], None, **latest)

    @show_errors()
    def on_copy(run_id: str) -> dict[Any, Any]:
        return fill_from_run(services, form, run_id)

    @show_errors()
    def on_longer(run_id: str) -> dict[Any, Any]:
        return fill_from_run(services, form, run_id, longer=True)

    @show_errors()
    def on_finetune(run_id: str) -> dict[Any, Any]:
        return fill_to_finetune(services, form, run_id)

    buttons = {"copy": on_copy, "longer": on_longer, "finetune": on_finetune}
    for button, fill in ((panel[name], fill) for name, fill in buttons.items()):
        button.click(fill, run, form.components(), **QUIET_EVENT).success(
            None, None, None, js=SCROLL_TO_FORM, **QUIET_EVENT
        )
    connect_trash(services, panel)


def fill_from_run(
    services: Services, form: Form, run_id: str, longer: bool = False
) -> dict[Any, Any]:
    """Return the updates that copy a run's settings to the form; longer: with more epochs."""
    values = services.runs.get(run_id).config().to_dict()
    if longer:
        limit = form.fields["epochs"].metadata["high"]
        values["epochs"] = min(LONGER * values["epochs"], limit)
        gr.Info(
            f"The settings of {run_id} are in the form, with {counted(values['epochs'], 'epoch')}."
        )
    else:
        gr.Info(f"The settings of {run_id} are in the form.")
    # The run's own values, whatever its recipe would be for this dataset.
    return fill_known(services, form, {**values, CHOSEN: ",".join(values)})


def fill_to_finetune(services: Services, form: Form, run_id: str) -> dict[Any, Any]:
    """Return the updates that fill the form to train all layers of a run whose head was trained.

    The head is fitted again, without the validation images, which are then new to it.
    """
    config = services.runs.get(run_id).config()
    kept = ("dataset", "model", "weights", "stem", "batch_norm", "image_size", "seed", "views")
    values = make_config({"recipe": "finetune"}).to_dict()
    values |= {name: getattr(config, name) for name in kept}
    gr.Info(
        f"The form is filled to fine-tune {run_id}: press Train. The result is kept only if it is "
        "clearly better on held-out pictures."
    )
    return fill_known(services, form, values)


def fill_known(services: Services, form: Form, values: dict[str, Any]) -> dict[Any, Any]:
    """Return the updates that put a run's settings into the form; warn of a missing dataset."""
    if values["dataset"] not in services.datasets.names():
        # The choice of the form keeps its own: it could not show a name that is not listed.
        gr.Warning(f"Its dataset {values.pop('dataset')} is not on this machine.")
    return form.fill(values)


def connect_trash(services: Services, panel: dict[str, Any]) -> None:
    """Connect the question that precedes emptying the trash, and its answers."""
    question = panel["question"]

    @show_errors()
    def on_yes() -> Any:
        # This one is asked before: what leaves the trash is gone.
        removed = services.launcher.empty_trash(services.caller())
        gr.Info(f"{removed} run{'s' * (removed != 1)} removed.")
        return HIDDEN

    panel["empty"].click(lambda: gr.update(visible=True), None, question, **QUIET_EVENT)
    panel["yes"].click(on_yes, None, question, **QUIET_EVENT)
    panel["no"].click(lambda: HIDDEN, None, question, **QUIET_EVENT)


def deletion(services: Services, run: gr.Dropdown, delete: gr.Button) -> None:
    """Build the row that offers to undo a deletion, and connect it."""
    # No question before a deletion: Undo brings the run back.
    with gr.Row(visible=False, elem_id="deleted", elem_classes="question") as row:
        text = gr.Markdown(elem_id="deleted-text")
        undo = gr.Button("Undo", elem_id="undo", size="sm", min_width=80)
    deleted = gr.State(None)  # run id, and its name in the trash

    @show_errors()
    def on_delete(run_id: str) -> tuple[Any, ...]:
        name = services.launcher.delete(run_id, services.caller())
        choices = services.run_choices()
        other = gr.update(choices=choices, value=services.default_run(), visible=bool(choices))
        moved = f"**{escape_markdown(run_id)}** moved to trash."
        return gr.update(visible=True), moved, (run_id, name), other

    @show_errors()
    def on_undo(deleted: tuple[str, str]) -> tuple[Any, ...]:
        run_id, name = deleted
        services.launcher.undelete(run_id, name, services.caller())
        return HIDDEN, gr.update(choices=services.run_choices(), value=run_id, visible=True)

    # `then`: a button that is not visible yet cannot be focused.
    delete.click(on_delete, run, [row, text, deleted, run], **QUIET_EVENT).success(
        None, None, None, js=FOCUS_UNDO, **QUIET_EVENT
    )
    undo.click(on_undo, deleted, [row, run], **QUIET_EVENT)
    # `input`, not `change`: a deletion selects another run itself, and Undo must stay then.
    run.input(lambda: HIDDEN, None, row, **QUIET_EVENT)


def connect_next_steps(
    services: Services,
    panel: dict[str, Any],
    tabs: gr.Tabs,
    evaluation: Mapping[str, Any],
    classification: Mapping[str, Any],
) -> None:
    """Connect the buttons that lead to other tabs with the run of this one.

    evaluation, classification: the components of those tabs by name.
    """
    run, selectors = panel["run"], [evaluation[name] for name in ("run", "other")]

    def chosen(run_id: str) -> dict[str, Any]:
        return gr.update(choices=services.run_choices(trained=True, keep=run_id), value=run_id)

    @show_errors()
    def on_evaluate(run_id: str, other: str = "") -> list[Any]:
        # Before the tab changes: after an error the person stays at the button.
        start_evaluations(services, Selection(run_id, other=other or None))
        others = comparison_choices(services, False, run_id, "test", "plain", other)
        return [gr.Tabs(selected="evaluate"), chosen(run_id), {**others, "value": other}]

    @show_errors()
    def on_compare(run_id: str) -> list[Any]:
        others = comparison_choices(services, False, run_id, "test", "plain", "")["choices"]
        if len(others) < 2:  # the first choice is "no other run"
            raise gr.Error(NOTHING_TO_COMPARE, print_exception=False)
        return on_evaluate(run_id, others[1][1])

    @show_errors()
    def on_classify(run_id: str) -> list[Any]:
        return [gr.Tabs(selected="classify"), chosen(run_id)]

    outputs = [tabs, *selectors]
    panel["evaluate"].click(on_evaluate, run, outputs, **QUIET_EVENT)
    panel["compare"].click(on_compare, run, outputs, **QUIET_EVENT)
    panel["classify"].click(on_classify, run, [tabs, classification["run"]], **QUIET_EVENT)

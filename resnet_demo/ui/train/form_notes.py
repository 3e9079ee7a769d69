"""Below the form of the Train tab: the recipe that suits a dataset, and weights to download."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from resnet_demo.config import chosen_values, make_config
from resnet_demo.data.recipe_fit import fine_tuning_pays, proposed_recipe
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError
from resnet_demo.models.pretrained import (
    DOWNLOAD_SUFFIX,
    WEIGHTS,
    download_source,
    missing_weights_error,
    weights_available,
)
from resnet_demo.runs.text import bytes_text, escape_markdown
from resnet_demo.ui.components import (
    connect_download_row,
    download_row,
    download_row_updates,
    download_text,
    is_download_of,
)
from resnet_demo.ui.form import SCROLL_TO_FORM, Form
from resnet_demo.ui.services import LATEST_EVENT, QUIET_EVENT, Services, show_errors

SYNTHETIC = "**shapes10 is synthetic**: generated practice images, ready now."
# Recipes that start from learned features. Only between them and the others is there a proposal.
LEARNED = ("transfer", "finetune")
# As measured (docs/experiments.md).
PAYS = (
    "Fine-tuning (recipe **finetune**) may gain more, in minutes: 82.0 instead of 77.5 % with 300 "
    "pictures a class of CIFAR-10, both at 96 pixels."
)
GAINS_NOTHING = (
    "Fine-tuning gained nothing on 122 photographs a class of ants and bees. It may pay with more "
    "pictures, and its result is kept only if it is clearly better on held-out ones."
)
BUSY = "Another download is running."


def dataset_note() -> dict[str, Any]:
    """Build the note below the choice of a dataset, and the button that follows its advice."""
    with gr.Row(visible=False, elem_id="dataset-note") as box:
        note = gr.Markdown()
        use = gr.Button(
            "Use it", size="sm", elem_id="use-recipe", visible=False, scale=0, min_width=80
        )
    return {"box": box, "note": note, "use": use}


def note_updates(datasets: Datasets, dataset: str | None, recipe: str | None) -> list[Any]:
    """Return the updates of box, note and button."""
    text, is_offered = note_text(datasets, dataset, recipe)
    return [gr.update(visible=bool(text)), text, gr.update(visible=is_offered)]


def note_text(datasets: Datasets, dataset: str | None, recipe: str | None) -> tuple[str, bool]:
    """Return the note (Markdown), and whether it advises another recipe."""
    if dataset == "shapes10":
        return SYNTHETIC, False
    try:
        proposed, reason = proposed_recipe(datasets, dataset)
        pays = fine_tuning_pays(datasets.get(dataset))
    except DemoError:  # no dataset, or it was deleted meanwhile
        return "", False
    if proposed not in LEARNED:
        return "", False
    advice = PAYS if pays else GAINS_NOTHING
    if recipe == "finetune" and pays:
        return advice, False
    is_other = recipe != proposed
    head = f"Suggested recipe: **{proposed}**" if is_other else f"Recipe **{proposed}**"
    return f"{head}. {escape_markdown(reason[0].upper() + reason[1:])}. {advice}", is_other


def proposed_values(datasets: Datasets, dataset: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the form that suit a dataset which a person has just chosen.

    values: of the whole form. What a person has set stays: then the note only advises.
    """
    try:
        proposed, _ = proposed_recipe(datasets, dataset)
    except DemoError:
        return {}
    is_changed = chosen_values(values).keys() - {"recipe", "dataset"}
    if is_changed or (proposed in LEARNED) == (values["recipe"] in LEARNED):
        return {}
    return recipe_values(proposed)


def recipe_values(recipe: str) -> dict[str, Any]:
    """Return all values of a recipe but the dataset."""
    values = make_config({"recipe": recipe}).to_dict()
    # The dataset is the person's choice, to which the recipe was chosen.
    del values["dataset"]
    return values


def connect_dataset(services: Services, form: Form, note: dict[str, Any]) -> None:
    """Propose a recipe when a person chooses a dataset, and keep the note current."""
    dataset, recipe = form.parts["dataset"], form.parts["recipe"]
    datasets = services.datasets

    def on_dataset(*values: Any) -> dict[Any, Any]:
        now = form.to_dict(values)
        # At least one output: Gradio refuses an empty dict.
        return {recipe: gr.skip()} | form.fill(proposed_values(datasets, now["dataset"], now))

    @show_errors()
    def on_use(dataset: str) -> dict[Any, Any]:
        return form.fill(recipe_values(proposed_recipe(datasets, dataset)[0]))

    def on_change(dataset: str | None, recipe: str | None) -> list[Any]:
        return note_updates(datasets, dataset, recipe)

    # `input`, not `change`: a form that is restored or copied from a run stays as it is.
    dataset.input(on_dataset, form.components(), form.components(), **QUIET_EVENT)
    note["use"].click(on_use, dataset, form.components(), **QUIET_EVENT)
    shown = [note["box"], note["note"], note["use"]]
    gr.on([dataset.change, recipe.change], on_change, [dataset, recipe], shown, **QUIET_EVENT)


def connect_train_on(
    services: Services, form: Form, tabs: gr.Tabs, button: gr.Button, shown: gr.Dropdown | None
) -> None:
    """Let a button open the Train tab with a dataset and the recipe that suits it.

    shown: the choice of the dataset; None for the dataset of the latest import.
    """

    @show_errors()
    def on_click(name: str | None = None) -> dict[Any, Any]:
        # The request of the import, because a person may have typed another name since.
        name = name if shown else services.data.request("import").get("name")
        recipe, _ = proposed_recipe(services.datasets, name)
        values = recipe_values(recipe) | {"dataset": name}
        return {tabs: gr.Tabs(selected="train")} | form.fill(values)

    button.click(on_click, shown, [tabs, *form.components()], **QUIET_EVENT).success(
        None, None, None, js=SCROLL_TO_FORM, **QUIET_EVENT
    )


def weights_row() -> dict[str, Any]:
    """Build the row that offers missing weights of the form's network; return its components."""
    return download_row("get-weights", "Get the weights")


def follow_weights(
    services: Services, parts: dict[str, Any], form: dict[str, Any], version: gr.Textbox
) -> None:
    """Connect the row of weights and keep it current.

    form: the components of the settings. version: changes with the state of a download.
    """
    chosen = [form["model"], form["weights"]]
    connect_download_row(services, parts, lambda model, _: f"{model}{DOWNLOAD_SUFFIX}", chosen)

    # Async, because a tick must not wait for one of Gradio's threads.
    async def on_change(model: str, weights: str) -> dict[Any, Any]:
        return weights_updates(services, parts, model, weights)

    triggers = [version.change, *(component.change for component in chosen)]
    gr.on(triggers, on_change, chosen, [*parts.values()], **LATEST_EVENT)


def weights_updates(
    services: Services, parts: dict[str, Any], model: str, weights: str
) -> dict[Any, Any]:
    """Return the updates of the row of weights, visible if the form's network needs them."""
    paths = services.paths
    is_missing = (
        weights == "imagenet" and model in WEIGHTS and not weights_available(model, paths.weights)
    )
    if not is_missing:
        return {parts["box"]: gr.update(visible=False)}
    known, status = WEIGHTS[model], services.data.status("get")
    # Weights of a package are installed with it, not downloaded: there is nothing to press.
    if known.package:
        text = f"⚠ {missing_weights_error(model)}"
        return download_row_updates(parts, True, text, None) | {
            parts["start"]: gr.update(visible=False)
        }
    size, source = bytes_text(known.size), download_source(paths.weights_mirror)
    missing = (
        f"**The ImageNet weights of {model} are not on this machine yet.** One-time download, "
        f"{size}, from {source}."
    )
    if not is_download_of(services, f"{model}{DOWNLOAD_SUFFIX}"):
        # One download at a time: the row that shows the other one has its Cancel.
        other = status is not None and status.is_live
        return download_row_updates(parts, True, f"{missing} {BUSY}" if other else missing, None)
    text = download_text(f"ImageNet weights of {model}", missing, status)
    return download_row_updates(parts, True, text, status)

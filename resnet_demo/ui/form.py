"""The form of TrainConfig: a component a knob, made from the field's own default, rule and help."""

from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any

import gradio as gr

from resnet_demo.config import RECIPE_HELP, RECIPES, TrainConfig, make_config
from resnet_demo.data.store import DatasetInfo

CHOSEN_APART = ("recipe", "dataset")  # a recipe fills the form, and says nothing of the data

SPELLED = {
    "peak_lr": "peak learning rate",
    "val_share": "validation share",
    "decay_all": "decay all",
}


def config_form(datasets: Sequence[DatasetInfo]) -> dict[str, gr.components.Component]:
    """Field name -> component, in the fields' order; the rarer ones folded away."""
    knobs = {knob.name: knob for knob in fields(TrainConfig)}
    form = {"recipe": recipe_choice(), "dataset": dataset_choice(datasets)}
    rest = [knob for name, knob in knobs.items() if name not in CHOSEN_APART]
    for row in pairs([knob for knob in rest if not knob.metadata.get("rare")]):
        with gr.Row():
            form |= {knob.name: component(knob) for knob in row}
    with gr.Accordion("More knobs", open=False, elem_id="more-knobs"):
        for row in pairs([knob for knob in rest if knob.metadata.get("rare")]):
            with gr.Row():
                form |= {knob.name: component(knob) for knob in row}
    form["recipe"].input(
        lambda recipe: fill(form, recipe),
        form["recipe"],
        [c for name, c in form.items() if name not in CHOSEN_APART],
        show_progress="hidden",
        api_visibility="private",
    )
    return form


def recipe_choice() -> gr.Radio:
    """The recipes, each with its sentence in the help."""
    help = "; ".join(f"{name}: {RECIPE_HELP[name]}" for name in RECIPES)
    return gr.Radio(list(RECIPES), value="quick", label="recipe", info=help, interactive=True)


def dataset_choice(datasets: Sequence[DatasetInfo]) -> gr.Dropdown:
    """The datasets on this machine; the first stands chosen."""
    choices = dataset_labels(datasets)
    return gr.Dropdown(
        choices, value=choices[0][1], label="dataset", interactive=True, elem_id="dataset"
    )


def dataset_labels(datasets: Sequence[DatasetInfo]) -> list[tuple[str, str]]:
    """What the choice shows, and the name behind it."""
    return [
        (f"{d.name}, synthetic" if d.synthetic else d.name, d.name) for d in datasets
    ]  # a synthetic one says so wherever it shows


def component(knob: Field) -> gr.components.Component:
    """The component of one knob. Limits are TrainConfig's to enforce: it names field and rule."""
    rule, label = knob.metadata, SPELLED.get(knob.name, knob.name.replace("_", " "))
    if rule.get("unit"):
        label += f" ({rule['unit']})"
    same = {"value": knob.default, "label": label, "interactive": True, "elem_id": knob.name}
    if knob.type is bool:
        return gr.Checkbox(info=rule["help"], **same)
    if "choices" in rule:
        return gr.Dropdown(list(rule["choices"]), info=rule["help"], **same)
    limits = f"{rule['low']:g} to {rule['high']:.10g}"
    return gr.Number(info=f"{rule['help']} ({limits})", **same)


def pairs(knobs: list[Field]) -> list[list[Field]]:
    """Two to a row."""
    return [knobs[i : i + 2] for i in range(0, len(knobs), 2)]


def fill(form: dict[str, Any], recipe: str) -> list[Any]:
    """A recipe's values, in the form's order, but for what is chosen apart."""
    values = make_config({"recipe": recipe}).to_dict()
    return [values[name] for name in form if name not in CHOSEN_APART]


def asked(form: dict[str, Any], values: Sequence[Any]) -> dict[str, Any]:
    """Field name -> value as the form stands."""
    return dict(zip(form, values, strict=True))

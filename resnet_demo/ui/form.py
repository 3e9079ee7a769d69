"""The form of TrainConfig: one component for each field, made from its default, rule and help."""

from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any

import gradio as gr

from resnet_demo.config import RECIPE_HELP, RECIPES, TrainConfig, make_config
from resnet_demo.data.info import DatasetInfo

OWN_COMPONENTS = ("recipe", "dataset")  # made by the tab; a recipe does not fill them
MAIN = ("model", "epochs")  # above the Train button, with recipe and dataset
LABELS = {  # of fields whose name with a capital letter is no good label
    "peak_lr": "Peak learning rate",
    "val_share": "Validation share",
    "warmup_epochs": "Warm-up",
    "decay_all": "Decay everything",
    "per_image_std": "Per-image deviation",
    "batch_norm": "BatchNorm",
    "ema_decay": "EMA decay",
    "sync_batch_norm": "Synchronized BatchNorm",
    "backbone_lr": "Backbone learning rate",
    "freeze_batch_norm": "Freeze BatchNorm",
    "stratify": "Stratified validation",
    "weights": "Initial weights",
    "train_layers": "Trained layers",
}


class Form:
    """The components of TrainConfig's fields, by field name."""

    def __init__(self) -> None:
        self.fields = {config_field.name: config_field for config_field in fields(TrainConfig)}
        self.parts: dict[str, gr.components.Component] = {}

    def place(self, names: Sequence[str], columns: int = 2) -> None:
        """Build the components of these fields in rows."""
        for start in range(0, len(names), columns):
            with gr.Row():
                for name in names[start : start + columns]:
                    self.parts[name] = component(self.fields[name])

    def names(self, rare: bool) -> list[str]:
        """Return the fields below the Train button, either the rare or the common ones."""
        return [
            name
            for name, config_field in self.fields.items()
            if name not in (*OWN_COMPONENTS, *MAIN)
            and bool(config_field.metadata.get("rare")) == rare
        ]

    def components(self) -> list[gr.components.Component]:
        """Return all components, in the order in which they were placed."""
        return list(self.parts.values())

    def to_dict(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return field name -> value, for the values of `components`."""
        return dict(zip(self.parts, values, strict=True))

    def fill_from_recipe(self) -> None:
        """Connect the recipe, which fills the form. Call this once every component is placed."""
        filled = [name for name in self.parts if name not in OWN_COMPONENTS]

        def on_recipe(recipe: str) -> list[Any]:
            values = make_config({"recipe": recipe}).to_dict()
            return [gr.update(info=recipe_help(recipe)), *(values[name] for name in filled)]

        # `input`, not `change`: only a person's choice may replace the values of the form.
        outputs = [self.parts["recipe"], *(self.parts[name] for name in filled)]
        self.parts["recipe"].input(
            on_recipe,
            self.parts["recipe"],
            outputs,
            show_progress="hidden",
            api_visibility="private",
        )


def recipe_help(recipe: str) -> str:
    """Return the help below the choice of a recipe."""
    return f"{recipe}: {RECIPE_HELP[recipe]}"


def recipe_radio() -> gr.Radio:
    """Return the choice of a recipe, with the help of the chosen one."""
    return gr.Radio(
        list(RECIPES),
        value="quick",
        label="Recipe",
        info=recipe_help("quick"),
        interactive=True,
        elem_id="recipe",
    )


def dataset_dropdown(datasets: Sequence[DatasetInfo]) -> gr.Dropdown:
    """Return the choice of a dataset, at the first one."""
    choices = dataset_choices(datasets)
    return gr.Dropdown(
        choices,
        value=choices[0][1],
        label="Dataset",
        info="dataset to train on",
        interactive=True,
        elem_id="dataset",
    )


def dataset_choices(datasets: Sequence[DatasetInfo]) -> list[tuple[str, str]]:
    """Return (label, name) of each dataset. The label of a synthetic one says so."""
    return [(f"{d.name}, synthetic" if d.synthetic else d.name, d.name) for d in datasets]


def component(config_field: Field) -> gr.components.Component:
    """Return the component of a field. TrainConfig enforces the limits, not the component."""
    rule = config_field.metadata
    label = LABELS.get(config_field.name, config_field.name.replace("_", " ").capitalize())
    if rule.get("unit"):
        label += f" ({rule['unit']})"
    options = {
        "value": config_field.default,
        "label": label,
        "interactive": True,  # Gradio disables a component that is the input of no event
        "elem_id": config_field.name,
    }
    # No minimum, maximum or step: a raw request could pass any value, and TrainConfig checks all.
    if config_field.type is bool:
        return gr.Checkbox(info=rule["help"], **options)
    if "choices" in rule:
        return gr.Dropdown(list(rule["choices"]), info=rule["help"], **options)
    if config_field.type is str:
        return gr.Textbox(info=rule["help"], **options)
    limits = f"{rule['low']:g} to {rule['high']:.10g}"
    return gr.Number(info=f"{rule['help']} ({limits})", **options)

"""The form of TrainConfig: one component for each field, made from its default, rule and help.

The group `main` is always in sight; the others are folded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from typing import Any

import gradio as gr

from resnet_demo.config import GROUPS, RECIPE_HELP, RECIPES, TrainConfig, make_config
from resnet_demo.data.info import DatasetInfo

OWN_COMPONENTS = ("recipe", "dataset")  # a recipe does not fill them


class Form:
    """The components of TrainConfig's fields, by field name."""

    def __init__(self, datasets: Sequence[DatasetInfo]) -> None:
        self.fields = {config_field.name: config_field for config_field in fields(TrainConfig)}
        self.parts: dict[str, gr.components.Component] = {
            "recipe": recipe_radio(),
            "dataset": dataset_dropdown(datasets),
        }
        with gr.Row():
            self.place("main")

    def place(self, group: str) -> None:
        """Build the components of a group."""
        for name in self.names(group):
            self.parts[name] = component(self.fields[name], in_row=group == "main")

    def place_folded(self) -> None:
        """Build the other groups, each folded, and connect the recipe, which fills the form."""
        for group, title in GROUPS.items():
            if group != "main":
                with gr.Accordion(title, open=False, elem_id=f"group-{group}"):
                    self.place(group)
        self._fill_from_recipe()

    def names(self, group: str) -> list[str]:
        """Return the fields of a group, without those that have a component of their own."""
        return [
            name
            for name, config_field in self.fields.items()
            if config_field.metadata["group"] == group and name not in OWN_COMPONENTS
        ]

    def components(self) -> list[gr.components.Component]:
        """Return all components, in the order in which they were placed."""
        return list(self.parts.values())

    def to_dict(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return field name -> value, for the values of `components`."""
        return dict(zip(self.parts, values, strict=True))

    def _fill_from_recipe(self) -> None:
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
    return RECIPE_HELP[recipe]


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
        choices, value=choices[0][1], label="Dataset", interactive=True, elem_id="dataset"
    )


def dataset_choices(datasets: Sequence[DatasetInfo]) -> list[tuple[str, str]]:
    """Return (label, name) of each dataset. The label of a synthetic one says so."""
    return [(f"{d.name}, synthetic" if d.synthetic else d.name, d.name) for d in datasets]


def component(config_field: Field, in_row: bool = False) -> gr.components.Component:
    """Return the component of a field. TrainConfig enforces the limits, not the component.

    in_row: beside others, so that its help appears only while it is pointed at or in use.
    """
    rule = config_field.metadata
    options = {
        "value": config_field.default,
        "label": field_label(config_field),
        "info": rule["help"],
        "interactive": True,  # Gradio disables a component that is the input of no event
        "elem_id": config_field.name,
        "elem_classes": field_classes(in_row),
    }
    # No minimum, maximum or step: a raw request could pass any value, and TrainConfig checks all.
    if config_field.type is bool:
        return gr.Checkbox(**options)
    if "choices" in rule:
        return gr.Dropdown(labelled_choices(rule["choices"]), min_width=140, **options)
    if config_field.type is str:
        return gr.Textbox(max_lines=1, **options)
    return gr.Number(min_width=80 if len(options["label"]) < 10 else 135, **options)


def field_label(config_field: Field) -> str:
    """Return the label of a field, with its unit."""
    rule = config_field.metadata
    label = rule["label"] or config_field.name.replace("_", " ").capitalize()
    return f"{label} ({rule['unit']})" if rule.get("unit") else label


def field_classes(in_row: bool, *more: str) -> list[str]:
    """Return the CSS classes of a field. An update replaces all of them."""
    return ["setting", "in-row" if in_row else "in-list", *more]


def labelled_choices(choices: Sequence[str] | Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (label, value) of each choice; the label has the meaning where there is one."""
    if isinstance(choices, Mapping):
        return [(f"{name}: {meaning}", name) for name, meaning in choices.items()]
    return [(name, name) for name in choices]

"""The form of TrainConfig: a component a knob, made from the field's own default, rule and help."""

from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any

import gradio as gr

from resnet_demo.config import RECIPE_HELP, RECIPES, TrainConfig, make_config
from resnet_demo.data.store import DatasetInfo

CHOSEN_APART = ("recipe", "dataset")  # a recipe fills the form, and says nothing of the data

SPELLED = {
    "peak_lr": "Peak learning rate",
    "val_share": "Validation share",
    "warmup_epochs": "Warm-up",
    "decay_all": "Decay everything",
    "per_image_std": "Per-image deviation",
    "batch_norm": "BatchNorm",
    "ema_decay": "EMA decay",
    "nesterov": "Nesterov",
    "optimizer": "Optimizer",
    "sync_batch_norm": "Synchronized BatchNorm",
}
MAIN = ("model", "epochs")  # beside recipe and dataset, above the Train button


class Form:
    """A component for every knob, by name; the parts are placed where the page wants them."""

    def __init__(self) -> None:
        self.knobs = {knob.name: knob for knob in fields(TrainConfig)}
        self.parts: dict[str, gr.components.Component] = {}

    def place(self, names: Sequence[str], columns: int = 2) -> None:
        """Components for these knobs, here, so many to a row."""
        for start in range(0, len(names), columns):
            with gr.Row():
                for name in names[start : start + columns]:
                    self.parts[name] = component(self.knobs[name])

    def names(self, rare: bool) -> list[str]:
        """The knobs that are placed below the Train button, the common or the rare ones."""
        apart = (*CHOSEN_APART, *MAIN)
        return [
            name
            for name, knob in self.knobs.items()
            if name not in apart and bool(knob.metadata.get("rare")) == rare
        ]

    def components(self) -> list[gr.components.Component]:
        """All of them, in the order in which they were placed."""
        return list(self.parts.values())

    def asked(self, values: Sequence[Any]) -> dict[str, Any]:
        """Field name -> value, of what `components` holds."""
        return dict(zip(self.parts, values, strict=True))

    def fill_from_recipe(self) -> None:
        """A choice of recipe fills the form. Wired when every part is placed."""
        filled = [name for name in self.parts if name not in CHOSEN_APART]

        def fill(recipe: str) -> list[Any]:
            values = make_config({"recipe": recipe}).to_dict()
            return [gr.update(info=recipe_help(recipe)), *(values[name] for name in filled)]

        outputs = [self.parts["recipe"], *(self.parts[name] for name in filled)]
        self.parts["recipe"].input(
            fill, self.parts["recipe"], outputs, show_progress="hidden", api_visibility="private"
        )


def recipe_help(recipe: str) -> str:
    """What the form says below the choice of recipe."""
    return f"{recipe}: {RECIPE_HELP[recipe]}"


def recipe_radio() -> gr.Radio:
    """The recipes; the help is the chosen one's."""
    return gr.Radio(
        list(RECIPES), value="quick", label="Recipe", info=recipe_help("quick"), interactive=True,
        elem_id="recipe",
    )  # fmt: skip


def dataset_dropdown(datasets: Sequence[DatasetInfo]) -> gr.Dropdown:
    """The datasets on this machine; the first stands chosen."""
    choices = dataset_choices(datasets)
    return gr.Dropdown(
        choices, value=choices[0][1], label="Dataset", info="dataset to train on",
        interactive=True, elem_id="dataset",
    )  # fmt: skip


def dataset_choices(datasets: Sequence[DatasetInfo]) -> list[tuple[str, str]]:
    """What the choice shows, and the name behind it."""
    return [
        (f"{d.name}, synthetic" if d.synthetic else d.name, d.name) for d in datasets
    ]  # a synthetic one says so wherever it shows


def component(knob: Field) -> gr.components.Component:
    """The component of one knob. Limits are TrainConfig's to enforce: it names field and rule."""
    rule = knob.metadata
    label = SPELLED.get(knob.name, knob.name.replace("_", " ").capitalize())
    if rule.get("unit"):
        label += f" ({rule['unit']})"
    same = {"value": knob.default, "label": label, "interactive": True, "elem_id": knob.name}
    if knob.type is bool:
        return gr.Checkbox(info=rule["help"], **same)
    if "choices" in rule:
        return gr.Dropdown(list(rule["choices"]), info=rule["help"], **same)
    limits = f"{rule['low']:g} to {rule['high']:.10g}"
    return gr.Number(info=f"{rule['help']} ({limits})", **same)

"""The form of TrainConfig: one component for each field, made from its default, rule and help.

The group `main` is always in sight; the others are folded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from typing import Any

import gradio as gr

from resnet_demo.config import (
    CHOSEN,
    GROUPS,
    TrainConfig,
    checked_value,
    chosen_values,
    make_config,
)
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.recipe_fit import check_data, fit_recipe
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.json_files import parse_json
from resnet_demo.recipes import RECIPE_HELP, RECIPES
from resnet_demo.runs.text import escape_markdown
from resnet_demo.runs.weights import IMAGENET, RANDOM
from resnet_demo.ui.services import QUIET_EVENT, Services

WEIGHTS_CHOICES = [("random", RANDOM), ("imagenet: learned on photographs", IMAGENET)]
OWN_COMPONENTS = ("recipe", "dataset")  # a recipe does not fill them
# The form of this browser tab, kept for a reload. Not written before the page has looked for it.
SAVED_FORM = "resnet-demo-form"
SAVE = """(...values) => {
  if (window.formIsRead) sessionStorage.setItem('KEY', JSON.stringify(values));
}""".replace("KEY", SAVED_FORM)
READ = """() => {
  const saved = sessionStorage.getItem('KEY') ?? '';
  if (!saved) window.formIsRead = true;
  return saved;
}""".replace("KEY", SAVED_FORM)
IS_READ = "() => { window.formIsRead = true; }"
SCROLL_TO_FORM = "() => document.getElementById('train').scrollIntoView({block: 'center'})"
# For screen readers. Gradio has no property for it.
MARK_INVALID = """() => document.querySelectorAll('.setting input').forEach((input) =>
  input.setAttribute('aria-invalid', Boolean(input.closest('.wrong'))))"""


class Form:
    """The components of TrainConfig's fields, by field name.

    chosen: hidden, the names of the fields that a person has set since the recipe was chosen. A
    dataset never changes these, also where their value is that of the recipe.
    """

    def __init__(self, datasets: Sequence[DatasetInfo]) -> None:
        self.fields = {config_field.name: config_field for config_field in fields(TrainConfig)}
        self.folds: dict[str, gr.Accordion] = {}  # by group
        self.chosen = gr.Textbox("", visible="hidden", elem_id="chosen")
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

    def offer_runs(self, services: Services) -> None:
        """Offer the finished runs that fit as initial weights, when their group is opened."""
        inputs = [self.parts[name] for name in ("model", "stem", "batch_norm")]

        def on_open(*network: Any) -> dict[str, Any]:
            # An update of the choices alone keeps what is chosen.
            return gr.update(choices=[*WEIGHTS_CHOICES, *services.runs_of_network(*network)])

        gr.on(
            [self.folds["transfer"].expand, *(part.change for part in inputs)],
            on_open,
            inputs,
            self.parts["weights"],
            **QUIET_EVENT,
        )

    def place_folded(self) -> None:
        """Build the other groups, each folded, and connect the recipe, which fills the form."""
        for group, title in GROUPS.items():
            if group != "main":
                with gr.Accordion(title, open=False, elem_id=f"group-{group}") as fold:
                    self.place(group)
                self.folds[group] = fold
        self._fill_from_recipe()
        self._note_chosen()

    def names(self, group: str) -> list[str]:
        """Return the fields of a group, without those that have a component of their own."""
        return [
            name
            for name, config_field in self.fields.items()
            if config_field.metadata["group"] == group and name not in OWN_COMPONENTS
        ]

    def components(self) -> list[gr.components.Component]:
        """Return all components, in the order in which they were placed, and `chosen`."""
        return [*self.parts.values(), self.chosen]

    def to_dict(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return field name -> value, and CHOSEN -> names, for the values of `components`."""
        return dict(zip((*self.parts, CHOSEN), values, strict=True))

    def fill(self, values: Mapping[str, Any]) -> dict[Any, Any]:
        """Return the updates that put values into the form; other fields stay as they are."""
        updates = {self.parts[name]: value for name, value in values.items() if name != CHOSEN}
        if "recipe" in values:
            recipe = values["recipe"]
            updates[self.parts["recipe"]] = gr.update(value=recipe, info=recipe_help(recipe))
            updates[self.chosen] = values.get(CHOSEN, "")
        return updates

    def remember(self, services: Services) -> gr.Textbox:
        """Keep the form in the browser tab; return the component that READ fills after a reload."""
        saved = gr.Textbox(visible="hidden")

        def on_saved(text: str) -> dict[Any, Any]:
            # At least one output: Gradio refuses an empty dict.
            return {saved: gr.skip()} | self.fill(self.saved_values(text, services.datasets))

        changes = [part.change for part in self.components()]
        gr.on(
            changes,
            None,
            self.components(),
            None,
            js=SAVE,
            trigger_mode="multiple",
            **QUIET_EVENT,
        )
        saved.change(on_saved, saved, [saved, *self.components()], **QUIET_EVENT).then(
            None, None, None, js=IS_READ, **QUIET_EVENT
        )
        return saved

    def saved_values(self, text: str, datasets: Datasets) -> dict[str, Any]:
        """Return the values of a saved form that still fit a field; empty if it is damaged."""
        try:
            values = parse_json(text)
            saved = self.to_dict(values)  # of another version: other fields
        except (TypeError, ValueError):
            return {}
        return {name: value for name, value in saved.items() if self._takes(name, value, datasets)}

    def _takes(self, name: str, value: Any, datasets: Datasets) -> bool:
        if name == CHOSEN:
            return isinstance(value, str)
        if name == "dataset":
            return value in datasets.names()
        field = self.fields[name]
        choices = RECIPES if name == "recipe" else field.metadata.get("choices")
        if choices:
            return value in list(choices)
        # A number may be empty or outside its range: it is shown as it was typed.
        kinds = {bool: bool, str: str}.get(field.type, int | float | None)
        return isinstance(value, kinds) and (field.type is bool) == isinstance(value, bool)

    def _fill_from_recipe(self) -> None:
        def on_recipe(recipe: str) -> dict[Any, Any]:
            values = make_config({"recipe": recipe}).to_dict()
            del values["dataset"]
            return self.fill(values)

        # `input`, not `change`: only a person's choice may replace the values of the form.
        outputs = [part for part in self.components() if part is not self.parts["dataset"]]
        self.parts["recipe"].input(on_recipe, self.parts["recipe"], outputs, **QUIET_EVENT)

    def _note_chosen(self) -> None:
        settings = {name: part for name, part in self.parts.items() if name not in OWN_COMPONENTS}
        names = {part._id: name for name, part in settings.items()}

        def on_input(before: str, event: gr.EventData) -> Any:
            name = names[event.target._id]
            return gr.skip() if name in before.split(",") else f"{before},{name}".strip(",")

        # `input`: by a person, not by a recipe or a run that fills the form.
        gr.on(
            [part.input for part in settings.values()],
            on_input,
            self.chosen,
            self.chosen,
            trigger_mode="multiple",
            **QUIET_EVENT,
        )

    def connect_marks(self, marks: gr.State, advanced: gr.Accordion) -> None:
        """Mark the fields in error, and those that a dataset changes, whenever `marks` changes.

        marks: {"wrong": field name -> what to enter, "adapted": field name -> what is used}.
        advanced: holds the folded groups; a group opens for a field in error.
        """
        marked = gr.State([])

        def on_marks(marks: dict[str, dict[str, str]], before: list[str]) -> dict[Any, Any]:
            wrong, adapted = marks["wrong"], marks["adapted"]
            updates = {marked: [*wrong, *adapted]}
            # Those marked before as well: a field that is right again loses its mark.
            for name in {*wrong, *adapted, *before} & self.parts.keys():
                updates[self.parts[name]] = self.mark(name, wrong.get(name), adapted.get(name))
            groups = {self.fields[name].metadata["group"] for name in wrong if name in self.fields}
            for group in groups & self.folds.keys():
                updates |= {part: gr.update(open=True) for part in (advanced, self.folds[group])}
            return updates

        outputs = [marked, advanced, *self.folds.values(), *self.components()]
        marks.change(on_marks, [marks, marked], outputs, **QUIET_EVENT).then(
            None, None, None, js=MARK_INVALID, **QUIET_EVENT
        )

    def mark(self, name: str, wrong: str | None, adapted: str | None) -> dict[str, Any]:
        """Return the update of a field that is in error or has another value in the run."""
        more = ["wrong"] if wrong else ["adapted"] if adapted else []
        if name in OWN_COMPONENTS:  # their help is not that of the field
            return gr.update(elem_classes=more)
        rule = self.fields[name].metadata
        classes = field_classes(rule["group"] == "main", *more)
        return gr.update(info=wrong or adapted or rule["help"], elem_classes=classes)


def wrong_fields(values: Mapping[str, Any], datasets: Datasets) -> dict[str, str]:
    """Return field name -> what to enter instead, such as `Enter 1 to 1000`; empty if all is well.

    values: of the whole form. The name is "" for an error that concerns no field.
    """
    wrong = {}
    for config_field in fields(TrainConfig):
        if config_field.name in values:
            try:
                checked_value(config_field, values[config_field.name])
            except ConfigError as error:
                wrong[config_field.name] = what_to_enter(error, values[config_field.name])
    if wrong:  # the rules below need values of the right kind
        return wrong
    try:
        config, _ = fit_recipe(chosen_values(values), datasets)
        check_data(config, datasets)
    except DemoError as error:
        name = getattr(error, "field", None) or ""
        return {name: what_to_enter(error, values.get(name))}
    return {}


def what_to_enter(error: DemoError, value: Any) -> str:
    """Return what to enter in place of a value, or the error if it names no rule."""
    expected = getattr(error, "expected", "")
    if not expected:
        return str(error)
    if expected.startswith("one of "):
        return f"Choose {expected}"
    # "a whole number" is of use only where a fraction was entered.
    if not isinstance(value, float) or value.is_integer():
        expected = expected.removeprefix("a whole number from ")
    return f"Enter {without_underscores(expected).removeprefix('a number from ')}"


def without_underscores(text: str) -> str:
    """Return a text in which the names of fields are words."""
    for config_field in fields(TrainConfig):
        text = text.replace(config_field.name, config_field.name.replace("_", " "))
    return text


def adapted_fields(values: Mapping[str, Any], datasets: Datasets) -> dict[str, str]:
    """Return field name -> the value that a run would use in place of the form's, in words.

    Empty if the form is wrong.
    """
    try:
        config, _ = fit_recipe(chosen_values(values), datasets)
    except DemoError:
        return {}
    return {
        name: f"{value_text(used)} for this dataset"
        for name, used in config.to_dict().items()
        if name in values and values[name] != used
    }


def value_text(value: Any) -> str:
    """Return a value of a setting."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def wrong_text(wrong: Mapping[str, str]) -> str:
    """Return the reason why Train is dimmed (Markdown)."""
    labels = {config_field.name: field_label(config_field) for config_field in fields(TrainConfig)}
    reasons = []
    for name, text in wrong.items():
        if name in labels and text.startswith(("Enter ", "Choose ")):
            text = f"{labels[name]}: {text[0].lower()}{text[1:]}"
        reasons.append(escape_markdown(text))
    return "⚠ " + "; ".join(reasons)


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
    choices = dataset_choices(datasets)  # shapes10 is built in, so there is always one
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
    if config_field.type is str:  # the initial weights; a directory of a run is no choice
        return gr.Dropdown(WEIGHTS_CHOICES, allow_custom_value=True, min_width=140, **options)
    return gr.Number(min_width=80 if len(options["label"]) < 10 else 135, **options)


def field_label(config_field: Field) -> str:
    """Return the label of a field, with its unit if the label does not end with it."""
    rule = config_field.metadata
    label = rule["label"] or config_field.name.replace("_", " ").capitalize()
    unit = rule.get("unit", "")
    return f"{label} ({unit})" if unit and not label.endswith(unit) else label


def field_classes(in_row: bool, *more: str) -> list[str]:
    """Return the CSS classes of a field. An update replaces all of them."""
    return ["setting", "in-row" if in_row else "in-list", *more]


def labelled_choices(choices: Sequence[str] | Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (label, value) of each choice; the label has the meaning where there is one."""
    if isinstance(choices, Mapping):
        return [(f"{name}: {meaning}", name) for name, meaning in choices.items()]
    return [(name, name) for name in choices]

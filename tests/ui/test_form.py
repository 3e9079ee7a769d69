"""The form of TrainConfig: one component for each field, and recipes that fill it."""

from dataclasses import fields

import gradio as gr
import pytest

from resnet_demo.config import GROUPS, TrainConfig, defaults, make_config
from resnet_demo.recipes import RECIPE_HELP, RECIPES
from resnet_demo.ui.form import OWN_COMPONENTS, Form
from tests.ui.fake_evaluations import untrained_runs

FIELDS = {field.name: field for field in fields(TrainConfig)}


@pytest.fixture
def form(services):
    """Return the form as the Train tab places it."""
    with gr.Blocks(analytics_enabled=False) as page:
        form = Form(services.datasets.list())
        form.place_folded()
    form.page = page
    return form


def test_every_field_has_one_component_with_label_and_help(form):
    assert sorted(form.parts) == sorted(FIELDS)
    assert len({part.label for part in form.parts.values()}) == len(FIELDS)
    assert len({part.elem_id for part in form.parts.values()}) == len(FIELDS)
    for name, part in form.parts.items():
        assert part.label, name
        assert part.interactive, name
        if name not in OWN_COMPONENTS:
            assert part.info == FIELDS[name].metadata["help"]


def test_each_group_but_the_first_is_folded(form):
    blocks = form.page.blocks.values()
    folded = {block.label: block for block in blocks if isinstance(block, gr.Accordion)}
    assert [*folded] == [title for group, title in GROUPS.items() if group != "main"]
    assert not any(accordion.open for accordion in folded.values())
    for name, part in form.parts.items():
        group = FIELDS[name].metadata["group"]
        parents = [part.parent, part.parent.parent]
        assert group == "main" or folded[GROUPS[group]] in parents, name


def test_the_component_fits_the_type_of_the_field(form):
    for name, part in form.parts.items():
        kind, rule = FIELDS[name].type, FIELDS[name].metadata
        if kind is bool:
            assert isinstance(part, gr.Checkbox), name
        elif kind is str:
            assert isinstance(part, gr.Dropdown | gr.Radio), name
            has_choices = "choices" in rule or name in OWN_COMPONENTS
            if not has_choices:  # the initial weights may be any run
                assert part.allow_custom_value, name
            if "choices" in rule:
                assert [value for _, value in part.choices] == list(rule["choices"])
        else:
            assert isinstance(part, gr.Number), name
            assert rule.get("unit", "") in part.label


def test_the_form_starts_with_the_defaults_and_the_first_dataset_here(form):
    values = {name: part.value for name, part in form.parts.items()}
    assert values == {**defaults(), "dataset": "shapes10"}


def test_a_synthetic_dataset_is_labelled_so(form):
    assert form.parts["dataset"].choices == [
        ("shapes10, synthetic", "shapes10"),
        ("colours", "colours"),
    ]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_fills_every_field_but_the_dataset(recipe, form):
    wired = next(iter(form.page.fns.values()))
    updates = wired.fn(recipe)
    assert updates.keys() <= set(wired.outputs)
    assert updates.pop(form.chosen) == ""
    assert updates.pop(form.parts["recipe"])["info"] == RECIPE_HELP[recipe]
    expected = make_config({"recipe": recipe}).to_dict()
    assert updates == {
        form.parts[name]: value for name, value in expected.items() if name not in OWN_COMPONENTS
    }


def test_the_form_s_values_are_keyed_by_field_name(form):
    values = [part.value for part in form.components()]
    named = form.to_dict(values)
    assert named.pop("chosen") == ""
    assert named == {**defaults(), "dataset": "shapes10"}
    assert make_config(named).to_dict() == named


def test_a_field_that_a_person_sets_is_noted_once(form):
    _, wired = form.page.fns.values()
    set_by = {name: gr.EventData(form.parts[name], None) for name in ("epochs", "flip")}
    assert wired.fn("", set_by["epochs"]) == "epochs"
    assert wired.fn("epochs", set_by["flip"]) == "epochs,flip"
    assert wired.fn("epochs,flip", set_by["epochs"]) == gr.skip()
    assert {component for component, _ in wired.targets} == {
        part._id for name, part in form.parts.items() if name not in OWN_COMPONENTS
    }


def test_finished_runs_of_the_same_network_are_offered_as_initial_weights(services):
    untrained_runs(services.paths.runs, "mine", "other")
    config = services.runs.get("mine").config()
    offered = [name for _, name in services.runs_of_network(config.model, "small", True)]
    assert sorted(offered) == ["mine", "other"]
    # Only some networks have a choice of the stem.
    assert len(services.runs_of_network(config.model, "imagenet", True)) == 2
    assert services.runs_of_network("vgg16", "small", True) == []
    assert services.runs_of_network(config.model, "small", False) == []
    (services.paths.runs / "other" / "config.json").write_text("{")
    assert [name for _, name in services.runs_of_network(config.model, "small", True)] == ["mine"]

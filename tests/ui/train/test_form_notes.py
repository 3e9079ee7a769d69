"""The notes below the form: the recipe that suits a dataset."""

import gradio as gr
import pytest

from resnet_demo.config import make_config
from resnet_demo.ui.form import Form, adapted_fields
from resnet_demo.ui.train.form_notes import (
    GAINS_NOTHING,
    PAYS,
    SYNTHETIC,
    note_text,
    note_updates,
    proposed_values,
    recipe_values,
)


def form_values(dataset, recipe="quick", **values):
    """Return the values of a whole form."""
    return {**make_config({"recipe": recipe}).to_dict(), "dataset": dataset, **values}


def test_a_small_dataset_of_one_s_own_is_trained_by_transfer(services):
    values = proposed_values(services.datasets, "colours", form_values("colours"))
    assert values == recipe_values("transfer")
    assert "dataset" not in values
    text, advises = note_text(services.datasets, "colours", "transfer")
    assert text.startswith("Recipe **transfer**. 50 pictures a class")
    assert not advises


def test_back_on_generated_images_training_starts_from_scratch(services):
    before = form_values("shapes10", "transfer")
    assert proposed_values(services.datasets, "shapes10", before) == recipe_values("quick")


@pytest.mark.parametrize(
    "values",
    [
        form_values("colours", "transfer"),  # is that recipe already
        form_values("colours", "finetune"),
        form_values("colours", epochs=3),  # a person has set something
        form_values("shapes10", "paper"),
        form_values("gone"),
    ],
    ids=lambda values: f"{values['dataset']}-{values['recipe']}-{values['epochs']}",
)
def test_a_chosen_recipe_or_value_stays(values, services):
    assert proposed_values(services.datasets, values["dataset"], values) == {}


def test_the_note_advises_where_another_recipe_was_chosen(services):
    text, advises = note_text(services.datasets, "colours", "paper")
    assert text.startswith("Suggested recipe: **transfer**. 50 pictures a class")
    assert advises
    assert note_text(services.datasets, "shapes10", "paper") == (SYNTHETIC, False)
    assert note_text(services.datasets, "gone", "quick") == ("", False)
    assert note_updates(services.datasets, "gone", "quick")[0] == gr.update(visible=False)


def test_fine_tuning_is_proposed_only_where_it_has_paid(services, monkeypatch):
    text, advises = note_text(services.datasets, "colours", "transfer")
    assert text.endswith(f"need the fewest. {GAINS_NOTHING}")
    text, advises = note_text(services.datasets, "colours", "finetune")
    assert text.startswith("Suggested recipe: **transfer**.")
    assert advises
    # 50 pictures of 12 pixels a class are too few, but for a lower limit.
    monkeypatch.setattr("resnet_demo.data.recipe_fit.FINE_TUNING_PER_CLASS", 50)
    assert note_text(services.datasets, "colours", "finetune") == (PAYS, False)
    text, advises = note_text(services.datasets, "colours", "transfer")
    assert (text.endswith(f"need the fewest. {PAYS}"), advises) == (True, False)
    monkeypatch.setattr("resnet_demo.data.recipe_fit.FINE_TUNING_SIZE", 11)
    assert GAINS_NOTHING in note_text(services.datasets, "colours", "transfer")[0]


def test_values_that_the_dataset_changes_are_named(services):
    adapted = adapted_fields(form_values("colours"), services.datasets)
    assert adapted["batch_size"] == "32 for this dataset"
    assert adapted_fields(form_values("colours", batch_size=16), services.datasets).keys() == (
        adapted.keys() - {"batch_size"}
    )
    assert adapted_fields(form_values("colours", epochs=0), services.datasets) == {}
    # A value that a person has set stays, also where it is the recipe's.
    set_by_hand = adapted_fields(form_values("colours", chosen="epochs,keep"), services.datasets)
    assert set_by_hand.keys() == adapted.keys() - {"epochs", "keep"}
    before = form_values("colours", chosen="epochs")
    assert proposed_values(services.datasets, "colours", before) == {}


def test_a_changed_value_is_shown_in_its_field(services):
    with gr.Blocks(analytics_enabled=False):
        form = Form(services.datasets.list())
        form.place_folded()
    update = form.mark("batch_size", None, "32 for this dataset")
    assert update["info"] == "32 for this dataset"
    assert update["elem_classes"][-1] == "adapted"
    assert form.mark("batch_size", "Enter 1", "x")["elem_classes"][-1] == "wrong"
    back = form.mark("batch_size", None, None)
    assert back["info"] == form.fields["batch_size"].metadata["help"]
    assert back["elem_classes"] == ["setting", "in-list"]

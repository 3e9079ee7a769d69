"""Beside a run: the next steps, its settings, title and notes, and the trash."""

import json
from dataclasses import replace

import gradio as gr
import pytest

from resnet_demo.config import make_config, to_json
from resnet_demo.events import Finished
from resnet_demo.runs.store import Run
from resnet_demo.tasks.status import Status, status_json
from resnet_demo.ui.form import Form
from resnet_demo.ui.train.run_details import fill_from_run, fill_to_finetune, settings_text
from resnet_demo.ui.train.run_panel import EMPTY_PANEL, run_parts
from tests.ui.conftest import END

ON_COLOURS = {"dataset": "colours", "batch_size": 16, "epochs": 2}


@pytest.fixture
def make_run(services):
    """Return a function that writes a finished run with this config."""

    def write(name="some-run-1", state="finished", trained=True, **values):
        run = Run(services.paths.runs / name)
        run.path.mkdir(parents=True)
        config = make_config(ON_COLOURS | values)
        (run.path / "config.json").write_text(to_json(config, "0"))
        (run.path / "status.json").write_bytes(status_json(Status(state=state)))
        run.log().append(Finished(step=5, epoch=2, **END))
        if trained:
            (run.path / "model.safetensors").write_bytes(b"")
        return run

    return write


@pytest.fixture
def form(services):
    """Return the form in a page."""
    with gr.Blocks(analytics_enabled=False):
        form = Form(services.datasets.list())
        form.place_folded()
        form.saved = form.remember(services)
    return form


def shown(services, run_id="some-run-1"):
    """Return the value of each part of the page."""
    return {name: make() for name, (_, make) in run_parts(services, run_id).items()}


def filled(form, updates):
    """Return field name -> value of the updates of a form."""
    values = {name: updates[part] for name, part in form.parts.items() if part in updates}
    return {name: value["value"] if name == "recipe" else value for name, value in values.items()}


@pytest.mark.parametrize(
    ("state", "trained", "offered"),
    [("finished", True, True), ("stopped", True, True), ("failed", False, False)],
)
def test_the_next_steps_stand_beside_a_trained_run(state, trained, offered, services, make_run):
    make_run(state=state, trained=trained)
    assert shown(services)["next"]["visible"] == offered


def test_the_settings_are_the_differences_from_the_recipe(make_run):
    text = settings_text(make_run(flip=False, peak_lr=0.05))
    assert text.startswith("Recipe **quick** on **colours**, with:\n\n| setting | this run |")
    assert text.splitlines()[4:] == [
        "| Epochs | 2 | 1 |",
        "| Peak learning rate | 0.05 | 0.2 |",
        "| Batch size (images) | 16 | 250 |",
        "| Flip | off | on |",
    ]
    assert settings_text(make_run("other", epochs=1, batch_size=250)) == (
        "Recipe **quick** on **colours**, unchanged."
    )


def test_foreign_text_in_the_settings_is_shown_as_text(make_run):
    text = settings_text(make_run(weights="<img src=x9> | [x](http://x9)"))
    assert r"\<img src=x9\> \| \[x\](http\://x9)" in text


def test_damaged_settings_are_reported(make_run):
    run = make_run()
    (run.path / "config.json").write_text("[]")
    assert settings_text(run) == "⚠ config.json of run some-run-1 is damaged."


def test_settings_are_copied_to_the_form(services, form, make_run, monkeypatch):
    messages = []
    monkeypatch.setattr(gr, "Info", messages.append)
    config = make_run(recipe="paper", flip=False).config()
    updates = fill_from_run(services, form, "some-run-1")
    assert filled(form, updates) == config.to_dict()
    assert updates[form.chosen].split(",") == [*config.to_dict()]  # a dataset changes none of them
    longer = fill_from_run(services, form, "some-run-1", longer=True)
    assert filled(form, longer) == replace(config, epochs=4).to_dict()
    assert messages[-1] == "The settings of some-run-1 are in the form, with 4 epochs."


def test_a_trained_head_can_be_fine_tuned_and_other_runs_trained_longer(
    services, form, make_run, monkeypatch
):
    messages = []
    monkeypatch.setattr(gr, "Info", messages.append)
    make_run("head", recipe="transfer", image_size=96, seed=3)
    make_run("all", recipe="paper")
    visible = {
        run: {name: shown(services, run)[name]["visible"] for name in ("longer", "finetune")}
        for run in ("head", "all")
    }
    assert visible == {
        "head": {"longer": False, "finetune": True},
        "all": {"longer": True, "finetune": False},
    }
    assert {"longer", "finetune"} <= EMPTY_PANEL.keys()  # which are sent to the page
    values = filled(form, fill_to_finetune(services, form, "head"))
    expected = {"recipe": "finetune", "dataset": "colours", "image_size": 96, "seed": 3}
    assert values == make_config(expected).to_dict()
    assert messages[0].startswith("The form is filled to fine-tune head: press Train. The result ")


def test_a_dataset_that_is_gone_is_not_copied(services, form, make_run, monkeypatch):
    warnings = []
    monkeypatch.setattr(gr, "Info", lambda text: None)
    monkeypatch.setattr(gr, "Warning", warnings.append)
    make_run(dataset="flowers", epochs=1000)
    values = filled(form, fill_from_run(services, form, "some-run-1", longer=True))
    assert ("dataset" in values, values["epochs"]) == (False, 1000)
    assert warnings == ["Its dataset flowers is not on this machine."]


def test_a_changed_title_is_sent_again(services, make_run):
    run = make_run()
    before = run_parts(services, "some-run-1")
    assert (before["title"][1]()["value"], before["notes"][1]()["interactive"]) == ("", True)
    run.describe(title="Roses", notes="red\nones")
    after = run_parts(services, "some-run-1")
    changed = {name for name in before if before[name][0] != after[name][0]}
    assert changed == {"run", "title", "notes"}
    assert after["run"][0] == [("Roses · some-run-1 · finished", "some-run-1")]
    assert (after["title"][1]()["value"], after["notes"][1]()["value"]) == ("Roses", "red\nones")


def test_the_trash_is_shown_with_its_size_while_there_is_something_in_it(services, make_run):
    make_run()
    assert not shown(services)["trash"]["visible"]
    owner = services.caller()
    before = run_parts(services, None)["trash"][0]
    name = services.launcher.delete("some-run-1", owner)
    trash = shown(services, None)["trash"]
    assert trash["visible"]
    assert trash["label"].startswith("Trash: 1 run, ")
    assert run_parts(services, None)["trash"][0] != before
    services.launcher.undelete("some-run-1", name, owner)
    assert not shown(services)["trash"]["visible"]


def test_a_saved_form_is_read_without_what_no_longer_fits(form, services):
    values = {name: part.value for name, part in form.parts.items()} | {"chosen": "epochs"}
    values |= {"dataset": "colours", "recipe": "good", "epochs": 0, "peak_lr": None, "flip": False}
    text = json.dumps([*values.values()])
    assert form.saved_values(text, services.datasets) == values
    wrong = {"dataset": "gone", "recipe": "x", "model": ["a"], "epochs": "3", "flip": 1, "seed": []}
    text = json.dumps([*(values | wrong).values()])
    expected = {name: value for name, value in values.items() if name not in wrong}
    assert form.saved_values(text, services.datasets) == expected
    for damaged in ("", "{", "[]", "3", "[1, 2]", "null"):
        assert form.saved_values(damaged, services.datasets) == {}

"""The first steps: who sees them, what is done, and what a click starts."""

import gradio as gr
import pytest

from resnet_demo.config import TrainConfig, make_config, to_json
from resnet_demo.hosting.access import Access
from resnet_demo.tasks.status import Status
from resnet_demo.ui import first_steps
from resnet_demo.ui.services import Services

PARTS = {
    name: name
    for name in (*("steps", *first_steps.STEPS), *("box", "text", "progress", "start", "cancel"))
}


def updates(services):
    return first_steps.steps_updates(services, PARTS)


@pytest.fixture
def empty(services, tmp_path):
    """Return services without runs and datasets of one's own."""
    services.datasets.root = tmp_path / "data"
    services.data.root = tmp_path / "data" / ".tasks"
    return services


def add_dataset(services, name):
    folder = services.datasets.root / name
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")


def add_run(services):
    folder = services.paths.runs / "some-run-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(to_json(make_config({}), "0"))


def done(services):
    now = updates(services)
    return [
        name for name in first_steps.STEPS if "done" in now.get(name, {}).get("elem_classes", ())
    ]


def test_a_step_is_done_when_its_run_or_dataset_is_there(empty):
    assert done(empty) == []
    add_run(empty)
    assert done(empty) == ["shapes"]
    add_dataset(empty, "cifar10")
    assert done(empty) == ["shapes", "cifar"]
    assert updates(empty)["steps"]["visible"]
    add_dataset(empty, "my-pets")
    assert done(empty) == ["shapes", "cifar", "own"]
    assert not updates(empty)["steps"]["visible"]


def test_only_the_owner_of_a_machine_sees_the_steps(empty):
    assert updates(empty)["steps"]["visible"]
    empty.slices = object()  # on ZeroGPU visitors train on slices of their own
    assert not updates(empty)["steps"]["visible"]
    public = Services(empty.paths, Access("closed"))
    assert not updates(public)["steps"]["visible"]


def test_the_row_of_the_download_is_shown_until_it_has_finished(empty):
    assert not updates(empty)["box"]["visible"]
    for state in ("running", "stopping", "stopped", "failed"):
        assert first_steps.download_updates(PARTS, False, Status(state=state))["box"]["visible"]
    over = first_steps.download_updates(PARTS, True, Status(state="finished"))
    assert not over["box"]["visible"]


def test_the_run_on_shapes_is_valid_and_short():
    config = make_config(first_steps.SHAPES_RUN)
    assert isinstance(config, TrainConfig)
    assert (config.dataset, config.epochs) == ("shapes10", 3)


def test_no_step_is_as_blue_as_the_train_button(empty):
    with gr.Blocks():
        parts = first_steps.first_steps(empty)
    assert {part.variant for part in parts.values() if isinstance(part, gr.Button)} == {"secondary"}

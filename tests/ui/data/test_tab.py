"""The Data tab: datasets, downloads and the import panel."""

import json
import os
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest

from resnet_demo.config import make_config, to_json
from resnet_demo.data.importer.survey import Survey, write_survey
from resnet_demo.errors import ConfigError
from resnet_demo.models.pretrained import WEIGHTS
from resnet_demo.tasks.status import Status, create_task, status_json
from resnet_demo.ui import components, first_steps
from resnet_demo.ui.data import import_panel, tab
from resnet_demo.ui.train import form_notes

NAMES = (
    *("box", "text", "progress", "start", "cancel", "name", "form", "seen", "import_text"),
    *("import_progress", "import_cancel", "import_settings", "import_name", "import_size", "found"),
    *("found_classes", "found_samples", "import_space", "import_train"),
    *("steps", "photo", "shapes", "cifar", "own"),
)
PARTS = {name: name for name in NAMES}  # in place of components: updates are keyed by name
FOUND = Survey(
    kind="images",
    own_split=False,
    classes=(("cat", 80, 20), ("dog", 8, 2)),
    sizes=((50, 40), (640, 480), (4000, 3000)),
    unreadable=0,
    unreadable_names=(),
    duplicates=0,
    duplicate_pairs=(),
    repeated=0,
    passed_over=0,
    bytes=12_300_000,
    samples={"cat": np.zeros((2, 64, 64, 3), np.uint8)},
)


@pytest.fixture
def own(services, tmp_path):
    """Return services whose data folder a test may fill."""
    services.datasets.root = tmp_path / "data"
    services.data.root = tmp_path / "data" / ".tasks"
    return services


@pytest.fixture
def task(own):
    """Return a function that writes a task as its worker left it."""

    def make(kind, args=None, **status):
        folder = own.data.folder(kind)
        os.close(create_task(folder, {"task.json": json.dumps(args or {}).encode()}))
        (folder / "status.json").write_bytes(status_json(Status(**status)))
        return folder

    return make


@pytest.fixture
def surveyed(task):
    folder = task("survey", {"source": "/home/me/My Pets!.tar.gz"}, state="finished")
    write_survey(folder, FOUND)
    return folder


def updates(services, before=None, chosen="shapes10", shown="shapes10"):
    return tab.data_updates(services, PARTS, chosen, shown, before)


def test_nothing_is_updated_while_nothing_changes(own):
    first = updates(own)
    assert set(first) >= {"box", "form", "import_text", "found"}
    assert updates(own, before=first["seen"]) == {"seen": gr.skip()}


def test_the_step_to_cifar10_is_done_when_it_is_here(own, colours):
    assert updates(own)["cifar"] == gr.update(elem_classes=["step"], interactive=True)
    (own.datasets.root / "cifar10").mkdir(parents=True)
    (own.datasets.root / "cifar10" / "dataset.json").write_text("{}")
    assert updates(own)["cifar"] == gr.update(elem_classes=["step", "done"], interactive=False)


def test_a_dataset_that_has_just_arrived_is_shown_and_waits_for_train_on_it(own, colours):
    before = updates(own)["seen"]
    own.datasets.root.mkdir()
    (own.datasets.root / "colours").symlink_to(colours / "colours")
    assert updates(own, before)["name"]["value"] == "colours"
    form = updates(own, before)["form"]
    assert [name for _, name in form["choices"]] == ["shapes10", "colours"]
    assert "value" not in form


def test_cifar10_replaces_shapes10_in_the_form_when_it_arrives(own):
    before = updates(own)["seen"]
    own.datasets.root.mkdir()
    (own.datasets.root / "cifar-10-python.tar.gz").write_bytes(b"")
    assert updates(own, before)["form"]["value"] == "cifar10"
    chosen = updates(own, before, chosen="cifar10")["form"]
    assert "value" not in chosen
    assert "value" not in updates(own)["form"]  # it was there already


def test_a_deleted_dataset_is_no_longer_chosen(own):
    assert updates(own, chosen="gone", shown="gone")["form"]["value"] == "shapes10"


DOWNLOAD = {"done": 43_000_000, "total": 171_000_000, "unit": "bytes", "rate": 2_000_000}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (None, "CIFAR-10 is not on this machine yet"),
        (
            Status(state="running", message="downloading from Zenodo", **DOWNLOAD),
            "downloading from Zenodo: 43 MB of 171 MB, 2.0 MB/s, 1 min 04 s left",
        ),
        (Status(state="stopping", **DOWNLOAD), "stopping"),
        (Status(state="stopped", **DOWNLOAD), "cancelled; it will continue from 43 MB"),
        (Status(state="stopped"), "Download cancelled."),
        (Status(state="failed", message="no ![x](y)"), r"no \!\[x\](y)"),
        (Status(state="finished", message="x"), "CIFAR-10 is not on this machine yet"),
    ],
)
def test_the_banner_shows_the_state_of_the_download(status, text):
    assert text in components.download_text("CIFAR-10", first_steps.MISSING, status)


def test_the_buttons_follow_the_download():
    live = first_steps.download_updates(PARTS, False, Status(state="running"))
    assert live["box"]["visible"]
    assert (live["start"]["visible"], live["cancel"]["visible"]) == (False, True)
    assert live["cancel"]["interactive"]
    stopping = first_steps.download_updates(PARTS, False, Status(state="stopping"))
    assert not stopping["cancel"]["interactive"]
    over = first_steps.download_updates(PARTS, False, Status(state="failed"))
    assert (over["start"]["visible"], over["cancel"]["visible"]) == (True, False)


def weights_updates(services, model="resnet18", weights="imagenet"):
    return form_notes.weights_updates(services, PARTS, model, weights)


def test_missing_weights_are_offered_with_size_and_source(own, tmp_path):
    own.paths = own.launcher.paths = replace(own.paths, data=tmp_path / "data")
    for model, weights in (("resnet18", "random"), ("efficientnet-lite0", "imagenet")):
        assert weights_updates(own, model, weights) == {"box": gr.update(visible=False)}
    offered = weights_updates(own)
    assert offered["box"]["visible"]
    assert offered["text"] == (
        "**The ImageNet weights of resnet18 are not on this machine yet.** One-time download, "
        "47 MB, from download.pytorch.org."
    )
    assert (offered["start"]["visible"], offered["cancel"]["visible"]) == (True, False)
    own.paths.weights.mkdir(parents=True)
    (own.paths.weights / WEIGHTS["resnet18"].file).touch()
    assert weights_updates(own) == {"box": gr.update(visible=False)}


def test_a_download_of_weights_is_shown_in_their_row_only(own, task, monkeypatch):
    task("get", {"name": "resnet18-weights"}, state="finished")
    status = Status(state="running", message="downloading", **DOWNLOAD)
    monkeypatch.setattr(own.data, "status", lambda kind: status if kind == "get" else None)
    row = weights_updates(own)
    assert row["text"].startswith("**ImageNet weights of resnet18:** downloading: 43 MB of 171 MB")
    assert row["cancel"]["visible"]
    other = weights_updates(own, "resnet34")
    assert other["text"].endswith("Another download is running.")
    assert other["start"]["visible"]
    assert "CIFAR-10 is not on this machine yet" in updates(own)["text"]


def test_the_later_of_survey_and_import_is_shown():
    survey = Status(state="finished", queued_at=1)
    done = Status(state="finished", queued_at=2, message="16 training and 4 test images in pets")
    assert import_panel.status_text(None, None) == import_panel.PROMPT
    assert import_panel.status_text(survey, None) == "Choose a name, then import."
    assert import_panel.status_text(None, done).startswith(
        "**16 training and 4 test images in pets.**"
    )
    failed = Status(state="failed", queued_at=3, message="a [link] is in it")
    assert import_panel.status_text(failed, done) == r"⚠ a \[link\] is in it."
    stopped = Status(state="stopped", queued_at=4)
    assert import_panel.status_text(stopped, done) == "Cancelled; nothing was imported."


def test_a_survey_is_shown_with_a_proposed_name_and_size(own, surveyed):
    shown = updates(own)
    text = shown["found"]["value"]
    assert "**110** pictures of **2** classes, 12 MB" in text
    assert "50 × 40 to 4000 × 3000 pixels, median 640 × 480." in text
    assert "⚠ one class has fewer than 20 pictures" in text
    assert shown["found_classes"]["value"] == {
        "headers": ["class", "training", "test"],
        "data": [["cat", 80, 20], ["dog", 8, 2]],
    }
    assert [label for _, label in shown["found_samples"]["value"]] == ["cat", "cat"]
    assert (shown["import_name"], shown["import_size"]) == ("my-pets", 224)
    assert shown["import_space"] == "110 pictures of 224 × 224 pixels take 17 MB."
    assert shown["import_settings"] == gr.update(visible=True)


def test_progress_of_the_import_keeps_name_and_size(own, surveyed, task):
    before = updates(own)["seen"]
    task("import", state="failed", message="full", queued_at=9.0)
    shown = updates(own, before)
    assert "import_text" in shown
    assert {"import_name", "import_size", "found"}.isdisjoint(shown)


def test_a_damaged_survey_is_reported(own, surveyed):
    (surveyed / "survey.json").write_text("{")
    assert updates(own)["found"]["value"] == "⚠ the survey is damaged"


@pytest.mark.parametrize(
    ("source", "taken", "name"),
    [
        ("My Pets 🐾 2.tar.gz", [], "my-pets-2"),
        ("flowers", ["flowers", "flowers-2"], "flowers-3"),
        ("🐾.zip", [], "images"),
    ],
)
def test_the_proposed_name_is_one_that_no_dataset_has(source, taken, name, tmp_path):
    assert import_panel.suggested_name(tmp_path / source, taken) == name


def test_a_folder_must_be_an_absolute_path(tmp_path):
    assert import_panel.folder_path(f" {tmp_path} ") == tmp_path
    for wrong in (None, "", "pictures", "/a\0b"):
        with pytest.raises(ConfigError, match="folder must be the whole path of a folder"):
            import_panel.folder_path(wrong)


def test_a_whole_number_from_a_slider_is_an_int():
    assert import_panel.whole_number(64.0) == 64
    assert type(import_panel.whole_number(64.0)) is int
    assert import_panel.whole_number(64.5) == 64.5  # for the importer to refuse


def test_a_dataset_is_shown_with_facts_and_each_page_has_other_images(services):
    facts, classes, images, delete, _, _ = tab.show_dataset(services, "colours", 0)
    assert facts.startswith("colours: 150 training and 30 test images of 12 pixels, 3 classes")
    rows = [["blue", 50, 10], ["green", 50, 10], ["red", 50, 10]]
    assert classes["value"] == {"headers": ["class", "training", "test"], "data": rows}
    assert len(images["value"]) == tab.PAGE_SIZE
    assert delete == gr.update(visible=True)
    again, other = (tab.show_dataset(services, "colours", page)[2]["value"] for page in (0, 1))
    same, new = (
        [np.array_equal(a[0], b[0]) for a, b in zip(images["value"], page, strict=True)]
        for page in (again, other)
    )
    assert all(same)
    assert not any(new)


def test_the_class_table_has_a_column_for_each_split():
    table = import_panel.class_table(("a", "b"), {"train": [3, 4], "val": [1, 0], "test": [2, 2]})
    assert table["headers"] == ["class", "training", "validation", "test"]
    assert table["data"] == [["a", 3, 1, 2], ["b", 4, 0, 2]]


def test_the_built_in_dataset_cannot_be_deleted_from_the_page(services):
    assert tab.show_dataset(services, "shapes10", 0)[3] == gr.update(visible=False)


def test_a_missing_dataset_is_reported(services):
    facts, classes, images, *_ = tab.show_dataset(services, "none", 0)
    assert facts.startswith("⚠ dataset must be one of")
    assert classes == images == gr.update(visible=False)


def test_the_question_before_a_deletion_counts_the_runs(services):
    assert "trained on it" not in tab.deletion_question(services, "colours")[1]
    run = services.paths.runs / "some-run-1"
    run.mkdir(parents=True)
    (run / "config.json").write_text(to_json(make_config({"dataset": "colours"}), "0"))
    assert "1 run was trained on it" in tab.deletion_question(services, "colours")[1]

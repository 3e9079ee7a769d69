"""A machine without datasets and own runs: the shipped runs can be used."""

import json
import os
import shutil

import pytest
import torch
from PIL import Image

from resnet_demo.config import make_config, to_json
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError
from resnet_demo.export.pack import pack
from resnet_demo.models.description import model_description
from resnet_demo.paths import REPOSITORY, Paths
from resnet_demo.runs.groups import Membership, write_membership
from resnet_demo.runs.store import PRETRAINED
from resnet_demo.tasks.evaluations import run_evaluation
from resnet_demo.tasks.limits import Caller
from resnet_demo.tasks.status import Status, create_task, status_json
from resnet_demo.ui.app import build_app
from resnet_demo.ui.classify import tab as classify
from resnet_demo.ui.classify.details import details_updates
from resnet_demo.ui.classify.examples import example_updates
from resnet_demo.ui.classify.picture import classify_picture
from resnet_demo.ui.evaluate import tab
from resnet_demo.ui.evaluate.evaluation_status import (
    READY,
    WITHOUT_IMAGES_HINT,
    Selection,
    StatusCache,
)
from resnet_demo.ui.evaluate.result import figure_updates
from resnet_demo.ui.services import Services
from resnet_demo.ui.train.run_panel import run_parts
from resnet_demo.ui.train.tab import on_load
from tests.tiny import finished_run
from tests.ui.fake_evaluations import page_updates

PICTURES = REPOSITORY / "resnet_demo" / "ui" / "classify" / "pictures"
SHIPPED = ("cifar10-shipped · came with the app", "cifar10-shipped")
RECORDING = ("learn-plain56 · recording", "learn-plain56")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, colours):
    """Return a folder of shipped runs: two with weights, and a recording without."""
    torch.set_num_threads(1)  # on tensors this small, more threads are slower
    root = tmp_path_factory.mktemp("shipped")
    pack(finished_run(root, colours), Datasets(colours), root / "shipped" / "cifar10-shipped")
    shutil.copytree(
        root / "shipped" / "cifar10-shipped",
        root / "shipped" / "learn-plain56",
        ignore=shutil.ignore_patterns("model.*", "test-*"),
    )
    shutil.copytree(REPOSITORY / "checkpoints" / PRETRAINED, root / "shipped" / PRETRAINED)
    return root / "shipped"


@pytest.fixture
def fresh(tmp_path, shipped):
    """Return the services of such a machine."""
    return Services(Paths(tmp_path / "runs", tmp_path / "data", shipped))


@pytest.fixture
def own(fresh, shipped):
    """Return a function that makes an own run with weights, in some state, created at `at`."""

    def make(name, state="finished", at=1):
        folder = fresh.paths.runs / name
        shutil.copytree(shipped / "cifar10-shipped", folder)
        (folder / "config.json").write_text(to_json(make_config({"dataset": "colours"}), "0"))
        os.utime(folder / "config.json", (at, at))
        (folder / "status.json").write_bytes(status_json(Status(state=state)))

    return make


def test_the_train_tab_opens_with_the_shipped_run(fresh):
    opened = on_load(fresh, None)
    [run] = [part for part in opened if isinstance(part, dict) and part.get("value") == SHIPPED[1]]
    assert run["visible"]
    assert run["choices"] == [SHIPPED]
    parts = run_parts(fresh, "cifar10-shipped")
    now = {name: make() for name, (_, make) in parts.items()}
    assert (now["run"]["choices"], now["experiments"]["visible"]) == ([SHIPPED], True)
    _, make = run_parts(fresh, "cifar10-shipped", experiments=True)["run"]
    assert make()["choices"] == [SHIPPED, RECORDING]
    assert "Finished" in now["figures"]
    assert now["status"].startswith("Came with the app, trained in ")
    assert "(1 thread) in " in now["status"]
    assert not any(now[name]["interactive"] for name in ("stop", "resume", "delete"))
    assert not now["retry"]["visible"]
    assert all(line["points"] for plot in now["curves"]["plots"] for line in plot["lines"])
    assert len(now["table"]["data"]) == 2


def first_props(app, name):
    """Return the properties with which a new page opens the component of that elem_id."""
    parts = app.config["components"]
    [props] = [part["props"] for part in parts if part["props"].get("elem_id") == name]
    return props


def test_a_page_opens_with_the_run_and_the_data_as_they_are_now(fresh, own, tmp_path):
    app = build_app(fresh.paths)
    assert first_props(app, "run")["value"] == "cifar10-shipped"
    assert first_props(app, "run-status")["value"].startswith("Came with the app, trained in ")
    assert "Finished" in first_props(app, "figures")["value"]
    assert first_props(app, "dataset-note")["visible"]
    assert "parameters" in first_props(app, "facts")["value"]
    assert first_props(app, "first-steps")["visible"]
    assert first_props(app, "step-shapes")["interactive"]
    assert "done" not in first_props(app, "step-cifar")["elem_classes"]
    own("stopped-1", "stopped")  # after the app has started
    (fresh.paths.data / "cifar10").mkdir(parents=True)
    (fresh.paths.data / "cifar10" / "dataset.json").write_text("{}")
    assert first_props(app, "run")["value"] == "stopped-1"
    assert first_props(app, "resume")["interactive"]
    assert not first_props(app, "step-shapes")["interactive"]  # there is a run now
    assert "done" in first_props(app, "step-cifar")["elem_classes"]


def test_a_page_opens_although_its_run_is_damaged(fresh, own):
    app = build_app(fresh.paths)
    own("stopped-1", "stopped")
    (fresh.paths.runs / "stopped-1" / "status.json").write_text("{")
    assert first_props(app, "run-status")["value"] == "**status.json of stopped-1 is damaged.**"


def test_the_shipped_run_is_the_default_without_finished_runs(fresh, own):
    assert tab.run_choices(fresh, None)["choices"] == [SHIPPED]  # a recording has no weights
    assert tab.run_choices(fresh, None)["value"] == "cifar10-shipped"
    own("stopped-1", "stopped")
    assert tab.run_choices(fresh, None)["value"] == "cifar10-shipped"


def test_experiments_of_lessons_are_listed_on_request_only_and_are_never_the_default(fresh, own):
    own("mine-1", at=1)
    assert not fresh.has_experiments(trained=True)
    for name, state in (("duel-1-1-plain8", "finished"), ("duel-1-2-resnet8", "running")):
        own(name, state, at=2)
        member = Membership(group="duel-1", kind="duel", arm="plain8")
        write_membership(fresh.paths.runs / name, member)
    assert fresh.has_experiments(trained=True)
    assert (fresh.default_run(), fresh.default_trained_run()) == ("mine-1", "mine-1")

    def listed(**options):
        return {run for _, run in fresh.run_choices(**options)}

    usual, experiments = {"mine-1", "cifar10-shipped"}, {"duel-1-1-plain8", "duel-1-2-resnet8"}
    assert listed() == listed(trained=True) == usual
    assert listed(keep="duel-1-1-plain8") == {*usual, "duel-1-1-plain8"}
    assert listed(trained=True, experiments=True) == usual | experiments
    assert listed(experiments=True) == {*usual, *experiments, "learn-plain56"}
    for list_updates, more in ((tab.list_updates, ("test", "plain")), (classify.list_updates, ())):
        run, _, switch = list_updates(fresh, False, "duel-1-1-plain8", *more, "")
        assert run["value"] == "mine-1"
        assert switch["visible"]
        run, _, _ = list_updates(fresh, True, "duel-1-1-plain8", *more, "")
        assert {name for _, name in run["choices"]} - {PRETRAINED} == usual | experiments
        assert "value" not in run


def test_a_page_opened_with_the_address_of_an_experiment_shows_it(fresh):
    opened = on_load(fresh, "learn-plain56")
    [run] = [part for part in opened if isinstance(part, dict) and "plain56" in str(part)]
    assert run["value"] == "learn-plain56"
    assert RECORDING in run["choices"]
    assert RECORDING in run_parts(fresh, "learn-plain56", False)["run"][0]


def test_the_newest_finished_own_run_is_the_default(fresh, own):
    own("older-1", at=1)
    own("newer-1", at=2)
    own("stopped-1", "stopped", at=3)
    choice = tab.run_choices(fresh, None)
    assert choice["value"] == "newer-1"
    assert [run for _, run in choice["choices"]] == [
        *("stopped-1", "newer-1", "older-1", "cifar10-shipped"),
    ]
    assert "value" not in tab.run_choices(fresh, "cifar10-shipped")  # it stays
    assert fresh.default_run() == "stopped-1"


def test_an_own_run_is_the_default_without_shipped_runs(tmp_path, fresh, own):
    own("stopped-1", "stopped")
    alone = Services(Paths(fresh.paths.runs, tmp_path / "data", tmp_path / "none"))
    assert tab.run_choices(alone, None)["value"] == "stopped-1"


def test_the_shipped_run_classifies_a_picture_without_its_dataset(fresh, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    Image.new("RGB", (20, 20), (200, 20, 20)).save(tmp_path / "red.png")
    args = (str(tmp_path / "red.png"), "cifar10-shipped", "crop", "")
    answered, explained = classify_picture(fresh, *args)
    assert sum(answered["labels"].values()) == pytest.approx(1)
    assert answered["title"]["visible"] is False  # the choice of the run names it
    assert explained["fits"]["visible"]
    classes, hint, own, shipped, *_ = example_updates(fresh, "cifar10-shipped", None)
    assert "*red*" in classes
    assert (hint["visible"], own["visible"], shipped["visible"]) == (False, False, True)


def evaluation(fresh, split="test"):
    """Return what the Evaluate tab shows of the shipped run."""
    return page_updates(StatusCache(fresh), Selection("cifar10-shipped", split))


def test_the_shipped_run_is_evaluated_without_the_images(fresh, shipped):
    before = {path: path.stat().st_mtime_ns for path in shipped.rglob("*")}
    assert evaluation(fresh)["message"] == READY
    assert is_cheap(fresh)
    folder = StatusCache(fresh).folder(Selection("cifar10-shipped"))
    assert folder.is_relative_to(fresh.paths.runs / ".cache")
    request = {"run": "cifar10-shipped", "split": "test", "dataset": "colours", "mode": "plain"}
    weights = model_description(shipped / "cifar10-shipped")["sha256"][:12]
    task = json.dumps({**request, "weights": weights, "stored": True}).encode()
    os.close(create_task(folder, {"task.json": task}))
    run_evaluation(folder, fresh.paths)
    now = evaluation(fresh)
    top1 = json.loads((folder / "result.json").read_text())["top1"]
    assert f"<b>{100 * top1:.2f} %</b>" in now["headline"]
    words = "on the 30 test images of colours · from the predictions stored with the run"
    assert words in now["headline"]
    assert now["matrix"].count("<button") > 0
    assert now["matrix_hint"] == WITHOUT_IMAGES_HINT
    reliability, confidence, _, table = figure_updates([str(folder), False])
    assert reliability.axes
    assert confidence.axes
    assert [row[0] for row in table["data"]] == ["blue", "green", "red"]
    assert {path: path.stat().st_mtime_ns for path in shipped.rglob("*")} == before


def is_cheap(fresh, **selected):
    return tab.is_cheap(StatusCache(fresh), Selection("cifar10-shipped", **selected))


def test_only_answers_that_came_with_the_run_are_scored_without_a_click(fresh, colours):
    assert is_cheap(fresh)
    assert not is_cheap(fresh, split="val")  # needs the images
    assert not is_cheap(fresh, mode="flip")
    fresh.paths.data.mkdir()
    (fresh.paths.data / "colours").symlink_to(colours / "colours")
    assert not is_cheap(fresh)  # with the images, the network answers again


def test_errors_about_missing_images_explain_how_to_get_them(fresh):
    assert evaluation(fresh, "val")["message"].startswith(
        "⚠ Dataset must be one of shapes10, got 'colours'"
    )


def test_the_imagenet_network_is_offered_on_classify_only_and_is_the_second_one_at_first(fresh):
    update = classify.comparison_choices(fresh, False, "cifar10-shipped", None)
    label = f"{PRETRAINED} · 1,000 classes"
    assert update["choices"] == [classify.NO_COMPARISON, (label, PRETRAINED)]
    assert update["value"] == PRETRAINED
    # "no other run" was selected, or it is the first network itself
    assert "value" not in classify.comparison_choices(fresh, False, "cifar10-shipped", "")
    assert classify.comparison_choices(fresh, False, PRETRAINED, None)["value"] == ""
    run, *_ = classify.list_updates(fresh, False, None, None)
    assert [name for _, name in run["choices"]] == ["cifar10-shipped", PRETRAINED]
    assert run["value"] == "cifar10-shipped"
    for listed in (fresh.run_choices(), fresh.run_choices(trained=True, experiments=True)):
        assert PRETRAINED not in dict(listed).values()
    assert tab.run_choices(fresh, PRETRAINED)["value"] == "cifar10-shipped"


def test_a_photograph_is_named_by_the_imagenet_network_with_its_maps(fresh, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    path = str(shutil.copy(PICTURES / "cat.jpg", tmp_path))
    shown = {}
    for updates in classify_picture(fresh, path, "cifar10-shipped", "crop", PRETRAINED):
        shown |= updates
    assert next(iter(shown["other_labels"])) == "Egyptian cat"
    assert "No warning possible" in shown["other_gauge"]
    for updates in classify_picture(fresh, path, PRETRAINED, "crop", ""):
        shown |= updates
    assert [label for label, _ in shown["map_class"]["choices"]][:2] == [
        "Egyptian cat",
        "tiger cat",
    ]
    assert shown["maps"].count("<img") == 6  # the picture and five maps
    [updates] = details_updates(
        fresh, {"feature_maps": True, "neighbours": True}, path, PRETRAINED, "crop"
    )
    assert [name for _, name in updates["stages"]["value"]][-2:] == ["stage 7", "last convolution"]
    reason = "cannot be searched for similar images: it was trained elsewhere"
    assert reason in updates["message"]["value"]
    assert not updates["start"]["visible"]
    classes, hint, own, shipped, *_ = example_updates(fresh, PRETRAINED, None)
    assert classes.startswith("1,000 classes, such as: *tench* *")
    assert (hint["visible"], own["visible"], shipped["visible"]) == (False, False, True)


def test_the_imagenet_network_cannot_be_evaluated(fresh):
    owner = Caller()
    for start in (fresh.evaluations.start, fresh.evaluations.start_robustness):
        with pytest.raises(ConfigError, match="cannot be evaluated: it was trained elsewhere"):
            start(PRETRAINED, "test", owner)
    with pytest.raises(ConfigError, match="came with the app and cannot be deleted"):
        fresh.launcher.delete(PRETRAINED, owner)

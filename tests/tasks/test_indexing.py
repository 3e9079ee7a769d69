"""Looking at a run's training images as a task."""

import json
import os
import shutil
from contextlib import suppress

import pytest
import torch

from resnet_demo.data.splits import split_indices
from resnet_demo.errors import DamagedError, DemoError, NotFoundError
from resnet_demo.models.description import describe
from resnet_demo.runs.store import Run
from resnet_demo.tasks.caller import Caller, ForbiddenError
from resnet_demo.tasks.indexing import INDEX, Indexing, index, read_index
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.status import has_worker, new_task, read_status, request_stop


@pytest.fixture(scope="module")
def trained(launchers, tmp_path_factory, tiny):
    """A run that was trained in this process."""
    from resnet_demo.tasks.worker import train

    launcher = launchers(tmp_path_factory.mktemp("trained"))
    run, lock = launcher.make(tiny(), "trained")
    train(run, launcher.places)
    os.close(lock)
    return run


@pytest.fixture
def copied(launcher, trained):
    """That run, under this test's root."""
    return Run(shutil.copytree(trained.path, launcher.places.runs / "trained"))


@pytest.fixture
def done(launcher, copied):
    """Does the task in this process; its folder."""

    def do(name="index", weights="", stopped=False):
        folder = copied.path / "evaluations" / name
        task = json.dumps({"run": "trained", "weights": weights}).encode()
        os.close(new_task(folder, {"task.json": task}))
        if stopped:
            request_stop(folder)
        with suppress(DemoError):  # told in the status, which is looked at
            index(folder, launcher.places)
        return folder

    return do


def test_an_index_is_made_once_in_a_worker_and_kept_for_these_weights(
    launcher, copied, owner, ended, until
):
    indexing = Indexing(launcher)
    folder = indexing.start("trained", owner)
    assert folder == indexing.folder(copied)
    sha256 = describe(copied.path)["sha256"]
    assert folder == copied.path / "evaluations" / f"index-{sha256[:12]}"
    status = ended(folder)
    assert (status.state, status.message) == ("finished", "")
    assert (status.done, status.total, status.unit) == (135, 135, "images")
    made = read_index(folder)
    assert made.weights == sha256
    assert made.features.shape == (135, 64)
    config = copied.config()
    train, _ = split_indices(150, config.val_share, config.seed)
    assert made.places.tolist() == sorted(train)
    until(lambda: not has_worker(folder))
    assert indexing.start("trained", owner) == folder  # no worker is needed now
    assert not has_worker(folder)


def test_the_index_of_a_shipped_run_is_kept_in_the_cache(launcher, trained):
    shipped = Run(launcher.places.shipped / "learn-some", shipped=True)
    shutil.copytree(trained.path, shipped.path)
    folder = Indexing(launcher).folder(shipped)
    assert folder.parent == launcher.places.runs / ".cache" / "evaluations" / "learn-some"


def test_without_its_images_nothing_is_started_and_it_is_said_how_to_get_them(
    launcher, copied, owner, tmp_path
):
    elsewhere = Launcher(launcher.places)
    elsewhere.datasets.root = tmp_path / "empty"
    with pytest.raises(NotFoundError) as caught:
        Indexing(elsewhere).start("trained", owner)
    assert str(caught.value).startswith("the images of colours are not on this machine; ")
    assert not (copied.path / "evaluations").exists()


def test_only_the_owner_may_start_one(launcher, copied):
    with pytest.raises(ForbiddenError, match="only the owner of this app may look for"):
        Indexing(launcher).start("trained", Caller("guest", False))


def test_a_stop_ends_it_without_a_result(done):
    folder = done(stopped=True)
    assert read_status(folder).state == "stopped"
    with pytest.raises(NotFoundError, match="the training images were not looked at yet"):
        read_index(folder)


def test_weights_that_were_replaced_meanwhile_are_told_of(done):
    folder = done(weights="000000000000")
    status = read_status(folder)
    assert (status.state, status.message) == (
        "failed",
        "the run has better weights by now: start again",
    )
    assert not (folder / INDEX).exists()


def test_a_damaged_index_is_not_used(done):
    path = done() / INDEX
    whole = path.read_bytes()
    assert torch.isfinite(read_index(path.parent).features).all()
    for content in (b"", whole[: len(whole) // 2], b"x" * 100, whole[:8] + b"?" + whole[9:]):
        path.write_bytes(content)
        with pytest.raises(DamagedError, match=f"^{INDEX} of index is damaged and is not used$"):
            read_index(path.parent)

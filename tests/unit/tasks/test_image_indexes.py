"""Image indexes as tasks: built once by a worker or a command, checked, and waited for."""

import json
import os
import shutil
from contextlib import suppress

import pytest
import torch

from resnet_demo.data.splits import stratified_split
from resnet_demo.errors import DamagedError, DemoError, NotFoundError, StoppedError
from resnet_demo.models.description import model_description
from resnet_demo.runs.store import Run
from resnet_demo.tasks.image_indexes import DIGEST, INDEX, ImageIndexes, read_index, run_indexing
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.status import (
    change_state,
    create_task,
    end_task,
    read_status,
    request_stop,
    update_status,
)


@pytest.fixture(scope="module")
def trained(launchers, tmp_path_factory, tiny):
    """Return a run that was trained in this process."""
    from resnet_demo.tasks.worker import train

    launcher = launchers(tmp_path_factory.mktemp("trained"))
    run, lock = launcher.make(tiny(), "trained")
    train(run, launcher.paths)
    os.close(lock)
    return run


@pytest.fixture
def copied(launcher, trained):
    """Return a copy of that run under this test's root."""
    return Run(shutil.copytree(trained.path, launcher.paths.runs / "trained"))


@pytest.fixture
def build(launcher, copied):
    """Return a function that runs the task in this process and returns its folder."""

    def run_task(name="index", weights="", stopped=False):
        folder = copied.path / "evaluations" / name
        task = json.dumps({"run": "trained", "weights": weights}).encode()
        os.close(create_task(folder, {"task.json": task}))
        if stopped:
            request_stop(folder)
        with suppress(DemoError):  # written to the status
            run_indexing(folder, launcher.paths)
        return folder

    return run_task


def test_an_index_is_built_once_by_a_standby_worker_for_the_same_weights(
    launcher, copied, owner, ended, until, standby
):
    indexes, pid = ImageIndexes(launcher), standby(launcher)
    folder = indexes.start("trained", owner)
    assert launcher.started[-1].process.pid == pid
    assert folder == indexes.folder(copied)
    sha256 = model_description(copied.path)["sha256"]
    content = launcher.datasets.content_key("colours")
    assert folder == copied.path / "evaluations" / f"index-{sha256[:12]}-{content}"
    status = ended(folder)
    assert (status.state, status.message) == ("finished", "")
    assert (status.done, status.total, status.unit) == (135, 135, "images")
    index = read_index(folder)
    assert index.weights == sha256
    assert index.features.shape == (135, 64)
    config = copied.config()
    _, labels = launcher.datasets.load("colours", "train")
    train, _ = stratified_split(labels, config.val_share, config.seed)
    assert index.places.tolist() == sorted(train)
    assert not (folder / "worker.log").read_text()
    until(lambda: not has_worker(folder))
    assert indexes.start("trained", owner) == folder  # no worker is needed
    assert not has_worker(folder)


def test_the_index_of_a_shipped_run_is_stored_in_the_cache(launcher, trained):
    shipped = Run(launcher.paths.shipped / "learn-some", shipped=True)
    shutil.copytree(trained.path, shipped.path)
    folder = ImageIndexes(launcher).folder(shipped)
    assert folder.parent == launcher.paths.runs / ".cache" / "evaluations" / "learn-some"


def test_without_the_images_the_error_says_how_to_get_them(launcher, copied, owner, tmp_path):
    elsewhere = Launcher(launcher.paths)
    elsewhere.datasets.root = tmp_path / "empty"
    with pytest.raises(NotFoundError) as caught:
        ImageIndexes(elsewhere).start("trained", owner)
    assert str(caught.value).startswith("the images of colours are not on this machine; ")
    assert not (copied.path / "evaluations").exists()


def test_a_stop_leaves_no_result(build):
    folder = build(stopped=True)
    assert read_status(folder).state == "stopped"
    with pytest.raises(NotFoundError, match="the training images are not indexed yet"):
        read_index(folder)


def test_an_index_of_replaced_weights_is_refused(build):
    folder = build(weights="000000000000")
    status = read_status(folder)
    assert (status.state, status.message) == (
        "failed",
        "the run has better weights by now: start again",
    )
    assert not (folder / INDEX).exists()


def test_a_damaged_index_is_not_used(build):
    path = build() / INDEX
    whole = path.read_bytes()
    assert torch.isfinite(read_index(path.parent).features).all()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])  # one bit differs; readable
    for content in (
        b"",
        whole[: len(whole) // 2],
        b"x" * 100,
        whole[:8] + b"?" + whole[9:],
        flipped,
    ):
        path.write_bytes(content)
        with pytest.raises(DamagedError, match=f"^{INDEX} of index is damaged and is not used$"):
            read_index(path.parent)
    path.write_bytes(whole)
    assert read_index(path.parent)
    for content in (b"", b"\xff", b"0" * 64):
        (path.parent / DIGEST).write_bytes(content)
        with pytest.raises(DamagedError, match="is damaged and is not used"):
            read_index(path.parent)


@pytest.fixture
def spawned(launcher, monkeypatch):
    """Return the list of (verb, folder) of workers, which never start."""
    workers = []
    monkeypatch.setattr(
        launcher,
        "spawn",
        lambda verb, folder, lock: workers.append((verb, folder)) or os.close(lock),
    )
    return workers


@pytest.mark.parametrize("file", [INDEX, DIGEST, "status.json"])
def test_a_damaged_index_is_built_again_on_request(file, launcher, copied, owner, spawned):
    indexes = ImageIndexes(launcher)
    indexes.get_or_build(copied, ignored)
    folder = indexes.folder(copied)
    assert indexes.start("trained", owner) == folder
    assert spawned == []
    (folder / file).write_bytes(b"damaged")
    assert indexes.start("trained", owner) == folder
    assert spawned == [("index", folder)]
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["status.json", "task.json", "worker.lock"]


def ignored(done, total):
    """Ignore the progress."""


def test_an_index_built_in_this_process_is_found_by_the_page(
    launcher, copied, owner, spawned, monkeypatch
):
    indexes, reports = ImageIndexes(launcher), []
    index = indexes.get_or_build(copied, lambda *progress: reports.append(progress))
    assert reports[-1] == (135, 135)
    folder = indexes.start("trained", owner)
    assert spawned == []
    status = read_status(folder)
    assert (status.state, status.done, status.unit) == ("finished", 135, "images")
    assert torch.equal(read_index(folder).features, index.features)
    # A second build would fail.
    monkeypatch.setattr("resnet_demo.inference.neighbours.index_training_images", None)
    assert torch.equal(indexes.get_or_build(copied, ignored).features, index.features)


def test_the_index_of_a_run_elsewhere_is_stored_with_the_run(launcher, trained, tmp_path):
    run = Run(shutil.copytree(trained.path, tmp_path / "elsewhere" / "A Copy"))
    index = ImageIndexes(launcher).get_or_build(run, ignored)
    assert index.weights == model_description(run.path)["sha256"]
    assert ImageIndexes(launcher).folder(run).parent == run.path / "evaluations"


@pytest.fixture
def other_process(launcher, copied, build, monkeypatch):
    """Return a function that acts a process which builds the index and ends in some way.

    The function returns the list of reports, and a call that waits for the process.
    """

    def make(state, message=""):
        indexes = ImageIndexes(launcher)
        folder, ready = indexes.folder(copied), build("ready")
        lock = create_task(folder, {})
        update_status(folder, done=30, total=135)
        change_state(folder, "preparing")

        def sleep(_):
            for name in (INDEX, DIGEST):
                shutil.copy(ready / name, folder)
            change_state(folder, "stopping" if state == "stopped" else "running")
            end_task(folder, state, message)
            os.close(lock)

        monkeypatch.setattr("resnet_demo.tasks.image_indexes.time.sleep", sleep)
        reports = []

        def on_batch(*progress):
            reports.append(progress)

        return reports, lambda: indexes.get_or_build(copied, on_batch)

    return make


def test_an_index_that_another_process_builds_is_waited_for(other_process):
    reports, wait = other_process("finished")
    assert wait().features.shape == (135, 64)
    assert reports == [(30, 135)]


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ("stopped", StoppedError, "indexing the training images was stopped"),
        ("failed", DemoError, "no room"),
    ],
)
def test_the_end_of_the_other_process_is_raised(state, error, message, other_process):
    _, wait = other_process(state, "no room")
    with pytest.raises(error, match=f"^{message}$"):
        wait()

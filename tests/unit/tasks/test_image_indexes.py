"""Looking at a run's training images as a task."""

import json
import os
import shutil
from contextlib import suppress

import pytest
import torch

from resnet_demo.data.splits import split_indices
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
    """A run that was trained in this process."""
    from resnet_demo.tasks.worker import train

    launcher = launchers(tmp_path_factory.mktemp("trained"))
    run, lock = launcher.make(tiny(), "trained")
    train(run, launcher.paths)
    os.close(lock)
    return run


@pytest.fixture
def copied(launcher, trained):
    """That run, under this test's root."""
    return Run(shutil.copytree(trained.path, launcher.paths.runs / "trained"))


@pytest.fixture
def done(launcher, copied):
    """Does the task in this process; its folder."""

    def do(name="index", weights="", stopped=False):
        folder = copied.path / "evaluations" / name
        task = json.dumps({"run": "trained", "weights": weights}).encode()
        os.close(create_task(folder, {"task.json": task}))
        if stopped:
            request_stop(folder)
        with suppress(DemoError):  # told in the status, which is looked at
            run_indexing(folder, launcher.paths)
        return folder

    return do


def test_an_index_is_made_once_in_a_worker_and_kept_for_these_weights(
    launcher, copied, owner, ended, until
):
    indexing = ImageIndexes(launcher)
    folder = indexing.start("trained", owner)
    assert folder == indexing.folder(copied)
    sha256 = model_description(copied.path)["sha256"]
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
    shipped = Run(launcher.paths.shipped / "learn-some", shipped=True)
    shutil.copytree(trained.path, shipped.path)
    folder = ImageIndexes(launcher).folder(shipped)
    assert folder.parent == launcher.paths.runs / ".cache" / "evaluations" / "learn-some"


def test_without_its_images_nothing_is_started_and_it_is_said_how_to_get_them(
    launcher, copied, owner, tmp_path
):
    elsewhere = Launcher(launcher.paths)
    elsewhere.datasets.root = tmp_path / "empty"
    with pytest.raises(NotFoundError) as caught:
        ImageIndexes(elsewhere).start("trained", owner)
    assert str(caught.value).startswith("the images of colours are not on this machine; ")
    assert not (copied.path / "evaluations").exists()


def test_a_stop_ends_it_without_a_result(done):
    folder = done(stopped=True)
    assert read_status(folder).state == "stopped"
    with pytest.raises(NotFoundError, match="the training images are not indexed yet"):
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
    bent = whole[:-1] + bytes([whole[-1] ^ 1])  # as good as any to whoever only reads it
    for content in (b"", whole[: len(whole) // 2], b"x" * 100, whole[:8] + b"?" + whole[9:], bent):
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
    """Workers that are asked for and never come: (verb, folder)."""
    asked = []
    monkeypatch.setattr(
        launcher,
        "spawn",
        lambda verb, folder, lock: asked.append((verb, folder)) or os.close(lock),
    )
    return asked


@pytest.mark.parametrize("file", [INDEX, DIGEST, "status.json"])
def test_what_is_damaged_is_made_anew_when_it_is_asked_for_again(
    file, launcher, copied, owner, spawned
):
    indexing = ImageIndexes(launcher)
    indexing.get_or_build(copied, ignored)
    folder = indexing.folder(copied)
    assert indexing.start("trained", owner) == folder
    assert spawned == []
    (folder / file).write_bytes(b"damaged")
    assert indexing.start("trained", owner) == folder
    assert spawned == [("index", folder)]
    assert sorted(path.name for path in folder.iterdir()) == [
        *("status.json", "task.json", "worker.lock"),
    ]


def ignored(done, total):
    """Progress that nobody looks at."""


def test_a_command_makes_it_in_its_own_process_and_the_page_finds_it(
    launcher, copied, owner, spawned, monkeypatch
):
    indexing, told = ImageIndexes(launcher), []
    made = indexing.get_or_build(copied, lambda *progress: told.append(progress))
    assert told[-1] == (135, 135)
    folder = indexing.start("trained", owner)
    assert spawned == []
    status = read_status(folder)
    assert (status.state, status.done, status.unit) == ("finished", 135, "images")
    assert torch.equal(read_index(folder).features, made.features)
    monkeypatch.setattr(
        "resnet_demo.inference.neighbours.index_training_images", None
    )  # it is not made twice
    assert torch.equal(indexing.get_or_build(copied, ignored).features, made.features)


def test_a_run_of_another_folder_keeps_its_own(launcher, trained, tmp_path):
    run = Run(shutil.copytree(trained.path, tmp_path / "elsewhere" / "A Copy"))
    made = ImageIndexes(launcher).get_or_build(run, ignored)
    assert made.weights == model_description(run.path)["sha256"]
    assert ImageIndexes(launcher).folder(run).parent == run.path / "evaluations"


@pytest.fixture
def at_work(launcher, copied, done, monkeypatch):
    """Another process is at it, and ends it in this way at the first look; what was seen of it."""

    def ends(state, message=""):
        indexing = ImageIndexes(launcher)
        folder, ready = indexing.folder(copied), done("ready")
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
        seen = []
        return seen, lambda: indexing.get_or_build(copied, lambda *progress: seen.append(progress))

    return ends


def test_what_another_process_makes_is_waited_for(at_work):
    seen, made = at_work("finished")
    assert made().features.shape == (135, 64)
    assert seen == [(30, 135)]


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ("stopped", StoppedError, "indexing the training images was stopped"),
        ("failed", DemoError, "no room"),
    ],
)
def test_and_its_end_is_told_where_it_has_no_result(state, error, words, at_work):
    _, made = at_work(state, "no room")
    with pytest.raises(error, match=f"^{words}$"):
        made()

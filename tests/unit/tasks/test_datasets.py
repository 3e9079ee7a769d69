"""Downloads, scans, imports and deletions, most of them by real workers."""

import io
import json
import os
import time
import zipfile
from dataclasses import replace
from hashlib import sha256

import pytest
from PIL import Image

from resnet_demo.config import make_config
from resnet_demo.data.importer.survey import read_survey
from resnet_demo.errors import ConfigError, DemoError, NotFoundError
from resnet_demo.models import pretrained
from resnet_demo.tasks.datasets import DataTasks, run_download
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.limits import Caller, ForbiddenError
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.status import read_status
from tests.loopback import cifar_zip, serve, serve_slowly

NOWHERE = "http://127.0.0.1:9"  # a port where no server listens


@pytest.fixture
def tasks(tmp_path, launchers, monkeypatch):
    """Yield data tasks over an empty data folder, without a network; stop what is left."""
    monkeypatch.setenv("HTTPS_PROXY", NOWHERE)
    launcher = launchers(tmp_path)
    yield DataTasks(Launcher(replace(launcher.paths, data=tmp_path / "data")))
    for folder in (tmp_path / "data" / ".tasks").glob("*"):
        launcher.stop_task(folder)
        until_gone = time.monotonic() + 10
        while has_worker(folder) and time.monotonic() < until_gone:
            time.sleep(0.02)


@pytest.fixture
def pictures(tmp_path):
    """Return a zip of two classes with ten images each."""
    path = tmp_path / "my pets 🐾.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20):
            file = io.BytesIO()
            Image.new("RGB", (40, 30), (number, 0, 0)).save(file, "PNG")
            archive.writestr(f"{'cat' if number < 10 else 'dog'}/{number}.png", file.getvalue())
    return path


@pytest.fixture
def with_copy(tasks):
    """Return a function: the same tasks with a CIFAR-10 copy from the environment."""

    def make(copy):
        return DataTasks(Launcher(replace(tasks.launcher.paths, cifar10_copy=copy)))

    return make


def test_a_worker_downloads_cifar10(with_copy, loopback, owner, ended):
    data = cifar_zip()
    loopback.offer(data)
    tasks = with_copy(f"{loopback.url()}#sha256={sha256(data).hexdigest()}")
    folder = tasks.get("cifar10", owner)
    status = ended(folder)
    assert status.state == "finished", status
    assert tasks.datasets.get("cifar10").train == 10
    assert [path.name for path in tasks.datasets.root.iterdir() if path.name[0] != "."] == [
        "cifar10"
    ]
    with pytest.raises(ConfigError, match="cifar10 is on this machine already"):
        tasks.get("cifar10", owner)


def test_a_download_reports_bytes_and_stops_when_cancelled(with_copy, loopback, owner, until):
    data = cifar_zip(20)
    loopback.offer(data, serve_slowly(data, 0.02, 2000))
    tasks = with_copy(f"{loopback.url()}#sha256={sha256(data).hexdigest()}")
    tasks.get("cifar10", owner)
    status = until(lambda: (s := tasks.status("get")).state == "running" and s.done and s)
    assert (status.unit, status.total) == ("bytes", len(data))
    with pytest.raises(ConfigError, match="a download is running already"):
        tasks.get("cifar10", owner)
    tasks.cancel("get", owner)
    status = until(lambda: not (s := tasks.status("get")).is_live and s)
    assert status.state == "stopped"
    assert list(tasks.datasets.root.glob(".downloads/*.part"))  # the next download continues it


def test_a_download_can_be_retried_after_a_failure(with_copy, loopback, owner, ended):
    data = cifar_zip()
    loopback.offer(data, serve(data[::-1]), serve(data))
    tasks = with_copy(f"{loopback.url()}#sha256={sha256(data).hexdigest()}")
    status = ended(tasks.get("cifar10", owner))
    assert status.state == "failed"
    for part in ("other bytes", "data import cifar10", "RESNET_DEMO_CIFAR10", "shapes10"):
        assert part in status.message
    assert ended(tasks.get("cifar10", owner)).state == "finished"


def test_only_cifar10_and_weights_can_be_downloaded(tasks, owner):
    for name in ("imagenet", "resnet18", "efficientnet-lite0-weights"):
        with pytest.raises(ConfigError, match="name must be one of cifar10, resnet18-weights, "):
            tasks.get(name, owner)


def test_a_worker_downloads_weights_from_the_mirror(tasks, loopback, owner, ended):
    loopback.offer(b"something else", path="/resnet18-f37072fd.pth")
    paths = replace(tasks.launcher.paths, weights_mirror=loopback.url(""))
    status = ended(DataTasks(Launcher(paths)).get("resnet18-weights", owner))
    assert status.state == "failed"
    assert status.message.startswith(
        "the ImageNet weights of resnet18 could not be downloaded from your copy: its file has 14 "
        "bytes instead of 46,830,571. What you can do: "
    )


def test_downloaded_weights_are_found_afterwards(tasks, loopback, owner, monkeypatch):
    published = b"weights" * 100
    remote = loopback.offer(published, path="/resnet18-f37072fd.pth")
    known = replace(pretrained.WEIGHTS["resnet18"], size=remote.size, sha256=remote.sha256)
    monkeypatch.setitem(pretrained.WEIGHTS, "resnet18", known)
    paths = replace(tasks.launcher.paths, weights_mirror=loopback.url("/"))
    folder, lock = tasks.make_get("resnet18-weights")
    run_download(folder, paths)
    os.close(lock)
    status = tasks.status("get")
    assert (status.state, status.message) == ("finished", "resnet18-f37072fd.pth is here")
    assert status.total == len(published)
    assert (paths.weights / "resnet18-f37072fd.pth").read_bytes() == published
    assert tasks.datasets.names() == ["shapes10"]
    with pytest.raises(ConfigError, match="resnet18-weights is on this machine already"):
        tasks.get("resnet18-weights", owner)


def test_a_run_from_missing_weights_is_refused_with_the_command(tasks, owner):
    config = make_config(
        {"dataset": "shapes10", "model": "resnet18", "stem": "imagenet", "weights": "imagenet"}
    )
    with pytest.raises(NotFoundError, match="`python -m resnet_demo data get resnet18-weights`"):
        tasks.launcher.start(config, owner)


def test_images_are_scanned_and_then_imported(tasks, pictures, owner, ended):
    assert tasks.status("survey") is None
    folder = tasks.survey(pictures, owner, keep=True)
    pictures.unlink()  # as the server removes an upload
    assert ended(folder).state == "finished"
    assert read_survey(folder).classes == (("cat", 8, 2), ("dog", 8, 2))
    status = ended(tasks.import_surveyed("pets", 32, owner))
    assert (status.state, status.message) == (
        "finished",
        "16 training and 4 test images in pets",
    )
    assert tasks.datasets.get("pets").classes == ("cat", "dog")
    assert tasks.status("survey") is None  # removed with its upload


def test_a_folder_is_imported_in_place_and_kept(tasks, tmp_path, pictures, owner, ended):
    own = tmp_path / "own"
    with zipfile.ZipFile(pictures) as archive:
        archive.extractall(own)
    assert ended(tasks.survey(own, owner)).state == "finished"
    assert ended(tasks.import_surveyed("pets", 32, owner)).state == "finished"
    assert len(list(own.rglob("*.png"))) == 20


def test_a_file_that_is_no_dataset_fails_with_the_message_of_the_command_line(
    tasks, tmp_path, owner, ended
):
    Image.new("RGB", (8, 8)).save(tmp_path / "alone.png")
    status = ended(tasks.survey(tmp_path / "alone.png", owner))
    assert status.state == "failed"
    assert status.message == "'alone.png' is not a folder, a zip or a tar of images"


def test_an_upload_that_cannot_be_imported_is_removed(
    tasks, tmp_path, pictures, owner, ended, until
):
    (tmp_path / "upload.zip").write_bytes(b"no zip")
    assert ended(tasks.survey(tmp_path / "upload.zip", owner, keep=True)).state == "failed"
    until(lambda: not (tasks.folder("survey") / "source").exists())
    assert ended(tasks.survey(pictures, owner, keep=True)).state == "finished"
    assert (tasks.folder("survey") / "source" / pictures.name).exists()


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("Pets!", 32, "name must be at most 64 lowercase letters"),
        ("shapes10", 32, "taken by the built-in dataset"),
        ("pets", 7, "size must be a whole number from 8 to 256 pixels, got 7"),
        ("pets", 32.5, "size must be a whole number"),
        ("here", 32, "there is already a dataset named 'here'"),
    ],
)
def test_a_wrong_name_or_size_is_refused_before_a_task_exists(tasks, pictures, name, size, words):
    here = tasks.datasets.root / "here"
    here.mkdir(parents=True)
    (here / "dataset.json").write_text("{}")
    with pytest.raises(ConfigError, match=words):
        tasks.make_import(name, pictures, size)
    assert not tasks.folder("import").exists()


def test_an_import_needs_a_scan_first(tasks, owner):
    with pytest.raises(ConfigError, match="scan them first"):
        tasks.import_surveyed("pets", 32, owner)


def test_a_missing_source_is_refused(tasks, tmp_path, owner):
    with pytest.raises(NotFoundError, match="there is no file or folder"):
        tasks.survey(tmp_path / "nothing", owner)


def test_an_upload_that_cannot_be_stored_leaves_no_task(tasks, pictures, owner, monkeypatch):
    monkeypatch.setattr(os, "link", refuse := lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    monkeypatch.setattr("shutil.copyfileobj", refuse)
    with pytest.raises(DemoError, match="the upload could not be stored: full"):
        tasks.survey(pictures, owner, keep=True)
    assert tasks.status("survey") is None
    assert not tasks.folder("survey").exists()


def test_a_second_scan_replaces_the_first(tasks, pictures, tmp_path, owner, ended):
    ended(tasks.survey(pictures, owner, keep=True))
    (tmp_path / "empty").mkdir()
    assert ended(tasks.survey(tmp_path / "empty", owner)).state == "failed"
    assert tasks.request("survey") == {"source": str(tmp_path / "empty")}
    tasks.discard("survey", owner)
    assert tasks.request("survey") == {}
    assert list(tasks.root.iterdir()) == []


def test_a_dataset_of_a_live_run_is_not_deleted(launcher, device, tiny, owner, until):
    tasks = DataTasks(launcher)
    run_id = launcher.start(tiny(), owner)  # queued, since the device is busy
    assert [run.id for run in tasks.runs_using("colours")] == [run_id]
    with pytest.raises(ConfigError, match=f"colours is used by {run_id}: stop that run first"):
        tasks.delete("colours", owner)
    assert tasks.datasets.get("colours").train == 150


def test_a_dataset_is_deleted_completely(tasks, pictures, owner, ended):
    ended(tasks.survey(pictures, owner))
    ended(tasks.import_surveyed("pets", 32, owner))
    tasks.delete("pets", owner)
    assert tasks.status("import") is None  # its message names the dataset
    assert list(tasks.datasets.names()) == ["shapes10"]
    assert [path.name for path in tasks.datasets.root.iterdir()] == [".tasks"]
    with pytest.raises(NotFoundError, match="one of shapes10, got 'pets'"):
        tasks.delete("pets", owner)
    with pytest.raises(ConfigError, match="shapes10 is built in"):
        tasks.delete("shapes10", owner)


def test_a_stranger_may_not_change_datasets(tasks, pictures):
    stranger = Caller("stranger", is_owner=False)
    calls = [
        lambda: tasks.get("cifar10", stranger),
        lambda: tasks.get("resnet18-weights", stranger),
        lambda: tasks.survey(pictures, stranger),
        lambda: tasks.import_surveyed("pets", 32, stranger),
        lambda: tasks.cancel("get", stranger),
        lambda: tasks.discard("survey", stranger),
        lambda: tasks.delete("shapes10", stranger),
    ]
    for call in calls:
        with pytest.raises(ForbiddenError, match="only the owner"):
            call()
    assert not tasks.root.exists()


def test_a_worker_that_is_killed_leaves_a_failed_task_and_no_dataset(
    tasks, pictures, owner, monkeypatch
):
    folder, lock = tasks.make_import("pets", pictures, 32)
    os.close(lock)  # as if its worker was killed at once
    status = tasks.status("import")
    assert (status.state, read_status(folder).pid) == ("failed", None)
    assert list(tasks.datasets.names()) == ["shapes10"]
    assert json.loads((folder / "task.json").read_text())["name"] == "pets"


def test_a_damaged_status_counts_as_failed_and_the_task_can_be_replaced(
    tasks, pictures, owner, ended
):
    ended(tasks.survey(pictures, owner))
    (tasks.folder("survey") / "status.json").write_text("{")
    status = tasks.status("survey")
    assert (status.state, status.message) == ("failed", "status.json of survey is damaged")
    assert ended(tasks.survey(pictures, owner)).state == "finished"

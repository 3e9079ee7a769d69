"""Exports as tasks: made once by a worker, stored within bounds, refused to strangers."""

import os
import shutil
import zipfile
from contextlib import suppress

import onnxruntime
import pytest

from resnet_demo.errors import ConfigError, DamagedError, DemoError
from resnet_demo.export.formats import HUB_FILES
from resnet_demo.runs.store import Run
from resnet_demo.tasks import exports as exports_module
from resnet_demo.tasks.base import create_request
from resnet_demo.tasks.exports import RESULT, Exports, download_path, read_export, run_export
from resnet_demo.tasks.limits import Caller, ForbiddenError
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.status import read_status, request_stop


@pytest.fixture
def run(launcher, finished):
    """Return a copy of the finished run under this test's root."""
    return Run(shutil.copytree(finished.path, launcher.paths.runs / "mine"))


@pytest.fixture
def exports(launcher):
    return Exports(launcher)


@pytest.fixture
def make(launcher, exports, run, owner, monkeypatch):
    """Return a function that exports in this process as a worker would; it returns the folder."""

    def spawn(verb, folder, lock):
        os.close(lock)
        with suppress(DemoError):  # written to the status
            run_export(folder, launcher.paths)

    monkeypatch.setattr(launcher, "spawn", spawn)
    return lambda format, caller=owner: exports.start("mine", format, caller)


def test_a_standby_worker_makes_a_file_once_for_the_same_run(
    exports, run, owner, ended, until, launcher, standby
):
    pid = standby(launcher)
    folder = exports.start("mine", "onnx", owner)
    assert launcher.started[-1].process.pid == pid
    status = ended(folder)
    assert (status.state, status.message) == ("finished", "")
    exported = read_export(folder)
    assert (exported.file, exported.format) == ("mine-onnx.onnx", "onnx")
    file = download_path(folder)
    assert file.stat().st_size == exported.bytes
    onnxruntime.InferenceSession(file)
    assert exported.parity["passed"]
    assert status.done == status.total == exported.parity["pictures"] == 60
    until(lambda: not has_worker(folder))
    assert exports.start("mine", "onnx", owner) == folder  # no worker is needed
    assert not has_worker(folder)
    # Hidden from lists of runs.
    assert [each.id for each in launcher.runs.list()] == ["mine"]


def test_an_archive_has_all_files_below_one_folder_and_is_the_same_each_time(make):
    contents = []
    for _ in range(2):
        folder = make("hub")
        file = download_path(folder)
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
            assert set(archive.namelist()) == {f"mine-hub/{name}" for name in HUB_FILES}
        contents.append(file.read_bytes())
        (folder / RESULT).unlink()  # damaged: made again
    assert contents[0] == contents[1]


def test_a_run_is_packed_for_a_space(make, run):
    folder = make("space")
    exported = read_export(folder)
    assert exported.files == ["mine"]
    note = "of weights in float16; accuracy on 30 test images 30 of 30 (in float32 30 of 30)."
    assert exported.notes[0].endswith(note)
    assert Run(folder / "files" / "mine").config() == run.config()


def test_a_changed_run_is_exported_again_and_the_older_result_removed(make, exports, run):
    first = make("hub")
    run.describe(title="Better")
    assert exports.status(exports.folder(run, "hub")) is None
    second = make("hub")
    assert read_status(second).state == "finished"
    assert not first.exists()
    assert b"# Better" in (second / "files" / "README.md").read_bytes()


def test_only_the_latest_results_are_kept_and_none_of_a_deleted_run(
    make, exports, run, launcher, owner, monkeypatch
):
    other = Run(shutil.copytree(run.path, launcher.paths.runs / "other"))
    gone = exports.start("other", "hub", owner)
    first = make("hub")
    shutil.rmtree(other.path)
    second = make("space")
    assert not gone.exists()
    assert first.exists()
    monkeypatch.setattr(exports_module, "MAX_RESULTS", 2)
    monkeypatch.setattr(exports_module, "MAX_BYTES", 1)  # the one that is being made stays
    make("space")
    assert second.exists()
    assert not first.exists()


def test_a_failure_is_in_the_status_and_a_stopped_export_starts_again(make, exports, run, launcher):
    log = run.log().path
    text = log.read_text()
    log.write_text("\n".join(text.splitlines()[:-1]) + "\n")
    status = read_status(make("space"))
    assert status.state == "failed"
    assert status.message == "only a finished run can be packed, and mine is none"
    log.write_text(text)
    folder = exports.folder(run, "hub")
    os.close(create_request(folder, {"run": "mine", "format": "hub", "key": folder.name}))
    request_stop(folder)
    with suppress(DemoError):
        run_export(folder, launcher.paths)
    assert read_status(folder).state == "stopped"
    assert read_status(make("hub")).state == "finished"


def test_visitors_may_export_what_came_with_the_app_and_nothing_else(make, run, launcher, exports):
    visitor = Caller("visitor", is_owner=False)
    with pytest.raises(ForbiddenError, match="only the owner of this app may export mine"):
        make("hub", visitor)
    shutil.copytree(run.path, launcher.paths.shipped / "cifar10-shipped")
    folder = exports.start("cifar10-shipped", "hub", visitor)
    assert read_status(folder).state == "finished"
    with pytest.raises(ConfigError, match="format must be"):
        make("exe")
    (folder / RESULT).write_text("{}")
    assert exports.status(folder) is None
    with pytest.raises(DamagedError):
        download_path(folder)

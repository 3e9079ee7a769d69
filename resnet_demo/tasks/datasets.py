"""Fetching, surveying, importing and deleting datasets. What the page, the API and the command
line call alike.

Their tasks lie in a hidden folder of the data root, one of a kind: a new one takes the place of
the one before, once that has ended.
"""

import json
import os
import shutil
import time
from pathlib import Path

from resnet_demo.data.importer.import_images import check_import
from resnet_demo.errors import ConfigError, DamagedError, DemoError, NotFoundError, shortened
from resnet_demo.runs.store import Run
from resnet_demo.tasks.caller import Caller
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.snapshot import status_of
from resnet_demo.tasks.status import Status, new_task, settle, take_over

KINDS = {"get": "a download", "survey": "a look into images", "import": "an import"}


class DataTasks:
    """What may be done to the datasets of a launcher's paths."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher, self.datasets = launcher, launcher.datasets
        self.root = launcher.paths.data / ".tasks"

    def folder(self, kind: str) -> Path:
        """Where the task of a kind lies, there or not."""
        return self.root / kind

    def status(self, kind: str) -> Status | None:
        """How the latest task of a kind stands; None where there was none.

        One whose status is damaged has failed: a new one takes its place.
        """
        folder = self.folder(kind)
        try:
            return settle(folder) if folder.exists() else None
        except DamagedError as error:
            return Status(state="failed", message=str(error))

    def told(self, kind: str) -> dict:
        """What the latest task of a kind was asked; empty where there was none."""
        try:
            return json.loads((self.folder(kind) / "task.json").read_text("utf-8"))
        except FileNotFoundError:
            return {}

    def get(self, name: str, caller: Caller) -> Path:
        """Start fetching a dataset; the task's folder. Raises ConfigError."""
        caller.must_own("fetch a dataset")
        return self._spawn("get", *self.make_get(name))

    def make_get(self, name: str) -> tuple[Path, int]:
        """A queued download, and the lock of its worker to come."""
        if name != "cifar10":
            raise ConfigError.rule("name", "cifar10, the only one that is fetched", name)
        if name in self.datasets.names():
            raise ConfigError(f"{name} is on this machine already", "name")
        return self._make("get", {"name": name})

    def survey(self, source: Path, caller: Caller, *, keep: bool = False) -> Path:
        """Start looking into a folder or an archive of images; the task's folder.

        keep: the file is an upload that will not stay where it is: it is kept with the task.
        Raises ConfigError, NotFoundError.
        """
        caller.must_own("bring images")
        if not source.exists():
            raise NotFoundError(f"there is no file or folder {shortened(str(source), 300)}")
        self._must_be_over("import")  # which may read what the last survey kept
        folder = self.folder("survey")
        kept = folder / "source" / source.name if keep else source.absolute()
        _, lock = self._make("survey", {"source": str(kept)})
        if keep:
            keep_upload(source, kept, folder, lock)
        return self._spawn("survey", folder, lock)

    def import_surveyed(self, name: str, size: int, caller: Caller) -> Path:
        """Start importing what was looked into; the task's folder. Raises ConfigError."""
        caller.must_own("import a dataset")
        status = self.status("survey")
        if status is None or status.state != "finished":
            raise ConfigError("choose images and look into them first", "source")
        source = Path(self.told("survey")["source"])
        return self._spawn("import", *self.make_import(name, source, size, surveyed=True))

    def make_import(
        self, name: str, source: Path, size: int, *, surveyed: bool = False
    ) -> tuple[Path, int]:
        """A queued import, and the lock of its worker to come. Raises ConfigError."""
        check_import(name, size)
        if name in self.datasets.names():
            raise ConfigError(f"there is already a dataset named {name!r}", "name")
        told = {"name": name, "size": size, "source": str(source), "surveyed": surveyed}
        return self._make("import", told)

    def cancel(self, kind: str, caller: Caller) -> None:
        """Ask the task of a kind to end; what it has downloaded so far is kept."""
        caller.must_own("cancel")
        if self.status(kind) is not None:
            self.launcher.stop_task(self.folder(kind))

    def forget(self, kind: str, caller: Caller) -> None:
        """Remove what an ended task left, an upload say. Raises ConfigError while it is live."""
        caller.must_own("remove")
        self._remove(kind)

    def delete(self, name: str, caller: Caller) -> None:
        """Delete a dataset from disk. Raises ConfigError where a live run uses it."""
        caller.must_own("delete a dataset")
        users = [run.id for run in self.users(name) if is_live(run)]
        if users:
            raise ConfigError(f"{name} is used by {users[0]}: stop that run first", "name")
        self.datasets.delete(name)
        bring = self.status("import")
        if bring and not bring.is_live and self.told("import").get("name") == name:
            self._remove("import")  # it says that the dataset can be chosen

    def users(self, name: str) -> list[Run]:
        """The runs that were told to train on a dataset."""
        return [run for run in self.launcher.runs.list() if dataset_of(run) == name]

    def _make(self, kind: str, told: dict) -> tuple[Path, int]:
        self._remove(kind)
        try:
            lock = new_task(self.folder(kind), {"task.json": json.dumps(told, indent=2).encode()})
        except ConfigError as error:  # somebody else asked a moment ago
            raise busy(kind) from error
        return self.folder(kind), lock

    def _spawn(self, kind: str, folder: Path, lock: int) -> Path:
        self.launcher.spawn(kind, folder, lock)
        return folder

    def _must_be_over(self, kind: str) -> None:
        status = self.status(kind)
        if status is not None and status.is_live:
            raise busy(kind)

    def _remove(self, kind: str) -> None:
        folder = self.folder(kind)
        if not folder.exists():
            return
        if self.status(kind).is_live:
            raise busy(kind)
        lock = take_over(folder)  # waits for a worker on its way out
        try:
            away = folder.with_name(f".{kind}-{time.monotonic_ns()}")
            folder.rename(away)
            shutil.rmtree(away)
        finally:
            os.close(lock)


def keep_upload(source: Path, kept: Path, folder: Path, lock: int) -> None:
    """Put the file into the task's folder, or take the task back. Raises DemoError."""
    try:
        kept.parent.mkdir()
        link_or_copy(source, kept)
    except OSError as error:
        os.close(lock)
        shutil.rmtree(folder)
        raise DemoError(f"the upload could not be kept: {error.strerror or error}") from error


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name, at once where both are on one disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def busy(kind: str) -> ConfigError:
    """The error for a second task of a kind."""
    return ConfigError(f"{KINDS[kind]} is going on already: wait for it, or cancel it", "task")


def is_live(run: Run) -> bool:
    """Whether a run waits or trains; a damaged one does not."""
    try:
        return status_of(run).is_live
    except DamagedError:
        return False


def dataset_of(run: Run) -> str | None:
    """The dataset a run was told to train on; None where that is damaged."""
    try:
        return run.config().dataset
    except DamagedError:
        return None

"""Downloading, surveying, importing and deleting datasets, for the page, the API and the CLI.

Pretrained weights are downloaded in the same way.

Their tasks are in a hidden folder of the data root, one of each kind: a new one replaces the last,
once that has ended.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_demo.data.cifar10.get import cifar10_sources, get_cifar10
from resnet_demo.data.download import DownloadProgress
from resnet_demo.data.importer.import_images import check_import, import_images
from resnet_demo.data.importer.scan import scan_source
from resnet_demo.data.importer.survey import write_survey
from resnet_demo.errors import (
    ConfigError,
    DamagedError,
    DemoError,
    NotFoundError,
    one_of,
    shortened,
)
from resnet_demo.files import link_or_copy
from resnet_demo.models import pretrained
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.runs.text import split_counts
from resnet_demo.tasks.base import (
    Progress,
    create_request,
    enter_state,
    read_request,
    remove_locked,
    run_task,
)
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.limits import Caller, is_live
from resnet_demo.tasks.status import Status, acquire_worker_lock, read_status, reconcile_status

KINDS = {"get": "a download", "survey": "a scan of images", "import": "an import"}


class DataTasks:
    """The tasks that change the datasets of a launcher's data root."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher, self.datasets = launcher, launcher.datasets
        # Hidden: other folders of the data root are datasets.
        self.root = launcher.paths.data / ".tasks"

    def folder(self, kind: str) -> Path:
        """Return the folder of the task of a kind, which may be missing."""
        return self.root / kind

    def status(self, kind: str) -> Status | None:
        """Return the status of the latest task of a kind, or None; a damaged one has failed."""
        folder = self.folder(kind)
        try:
            return reconcile_status(folder) if folder.exists() else None
        except DamagedError as error:
            # The page goes on: a new task of this kind replaces the damaged one.
            return Status(state="failed", message=str(error))

    def request(self, kind: str) -> dict[str, Any]:
        """Return the request of the latest task of a kind; empty if missing or damaged."""
        try:
            return read_request(self.folder(kind))
        except DamagedError:
            return {}

    def get(self, name: str, caller: Caller) -> Path:
        """Start a download as `make_get`; return the task's folder. Raises ConfigError."""
        caller.require_owner("download")
        return self._spawn("get", *self.make_get(name))

    def make_get(self, name: str) -> tuple[Path, int]:
        """Queue a download; return its folder and the lock for its worker.

        name: cifar10, or of pretrained weights, such as resnet18-weights. Raises ConfigError.
        """
        weights = pretrained.downloads()
        if name not in ("cifar10", *weights):
            raise ConfigError.rule("name", one_of(("cifar10", *weights)), name)
        if name in weights:
            is_here = pretrained.weights_available(weights[name], self.launcher.paths.weights)
        else:
            is_here = name in self.datasets.names()
        # A second download would replace files that a run may be reading.
        if is_here:
            raise ConfigError(f"{name} is on this machine already", "name")
        return self._make("get", {"name": name})

    def survey(self, source: Path, caller: Caller, *, keep: bool = False) -> Path:
        """Start to scan a folder or an archive of images; return the task's folder.

        keep: the file is an upload that will be removed elsewhere; it is stored with the task.
        Raises: ConfigError, NotFoundError.
        """
        caller.require_owner("import images")
        if not source.exists():
            raise NotFoundError(f"there is no file or folder {shortened(str(source), 300)}")
        self._check_ended("import")  # it may read the upload of the last survey
        folder = self.folder("survey")
        stored = folder / "source" / source.name if keep else source.absolute()
        # The lock is taken before the upload is stored, so that nobody replaces the folder
        # meanwhile.
        _, lock = self._make("survey", {"source": str(stored)})
        if keep:
            store_upload(source, stored, folder, lock)
        return self._spawn("survey", folder, lock)

    def import_surveyed(
        self, name: str, size: int | None, caller: Caller, fit: str = "crop"
    ) -> Path:
        """Start to import what was surveyed; return the task's folder. Raises ConfigError.

        size, fit: as for `import_images`.
        """
        caller.require_owner("import a dataset")
        status = self.status("survey")
        # The page imports only what a person has seen the survey of.
        if status is None or status.state != "finished":
            raise ConfigError("choose images and scan them first", "source")
        source = Path(self.request("survey")["source"])
        return self._spawn("import", *self.make_import(name, source, size, fit, surveyed=True))

    def make_import(
        self,
        name: str,
        source: Path,
        size: int | None = None,
        fit: str = "crop",
        *,
        surveyed: bool = False,
    ) -> tuple[Path, int]:
        """Queue an import; return its folder and the lock for its worker. Raises ConfigError.

        surveyed: the source was scanned before; an upload stored with that scan is removed.
        """
        # A mistake is answered at once, not by a failed task.
        check_import(name, size, fit)
        if name in self.datasets.names():
            raise ConfigError(f"there is already a dataset named {name!r}", "name")
        request = {"name": name, "size": size, "fit": fit, "source": str(source)}
        return self._make("import", {**request, "surveyed": surveyed})

    def cancel(self, kind: str, caller: Caller) -> None:
        """Ask the task of a kind to stop; a download keeps what it has for the next time."""
        caller.require_owner("cancel")
        if self.status(kind) is not None:
            self.launcher.stop_task(self.folder(kind))

    def discard(self, kind: str, caller: Caller) -> None:
        """Remove an ended task and its files. Raises ConfigError if it is live."""
        caller.require_owner("remove")
        self._remove(kind)

    def delete(self, name: str, caller: Caller) -> None:
        """Delete a dataset, or downloaded weights. Raises ConfigError if a live run uses it."""
        caller.require_owner("delete a dataset")
        if model := pretrained.downloads().get(name):
            self._delete_weights(name, model)
            return
        # Ended runs keep their results, and say that their dataset is missing.
        users = [run.id for run in self.runs_using(name) if not run.shipped and is_live(run.path)]
        if users:
            raise ConfigError(f"{name} is used by {users[0]}: stop that run first", "name")
        self.datasets.delete(name)
        status = self.status("import")
        if status and not status.is_live and self.request("import").get("name") == name:
            self._remove("import")  # its message says that the dataset is ready

    def _delete_weights(self, name: str, model: str) -> None:
        """Delete the file of a network's ImageNet weights that was downloaded."""
        paths = self.launcher.paths
        path = pretrained.weights_path(model, paths.weights)
        if path is None:
            raise NotFoundError(f"{name} must be on this machine to be deleted", "name")
        # A folder that somebody else manages: the program reads it, and deletes nothing there.
        if paths.weights_copy:
            raise ConfigError(
                f"{name} is in the folder that RESNET_DEMO_WEIGHTS names: remove {path} there",
                "name",
            )
        for run in self.launcher.runs.list():
            if not run.shipped and is_live(run.path) and needs_weights(run, model):
                raise ConfigError(f"{name} is used by {run.id}: stop that run first", "name")
        path.unlink()
        status = self.status("get")
        if status and not status.is_live and self.request("get").get("name") == name:
            self._remove("get")  # its message says that the weights are ready

    def runs_using(self, name: str) -> list[Run]:
        """Return the runs whose config names the dataset."""
        return [run for run in self.launcher.runs.list() if dataset_of(run) == name]

    def _make(self, kind: str, request: dict[str, Any]) -> tuple[Path, int]:
        """Queue a task of a kind in place of the last one. Raises ConfigError if that is live."""
        self._remove(kind)
        try:
            lock = create_request(self.folder(kind), request)
        except ConfigError as error:  # another process was faster
            raise busy_error(kind) from error
        return self.folder(kind), lock

    def _spawn(self, kind: str, folder: Path, lock: int) -> Path:
        self.launcher.spawn(kind, folder, lock)
        return folder

    def _check_ended(self, kind: str) -> None:
        status = self.status(kind)
        if status is not None and status.is_live:
            raise busy_error(kind)

    def _remove(self, kind: str) -> None:
        self._check_ended(kind)
        if (folder := self.folder(kind)).exists():
            remove_locked(folder, acquire_worker_lock(folder))


def run_download(
    folder: Path, paths: Paths, on_progress: Callable[[DownloadProgress], None] | None = None
) -> None:
    """Download CIFAR-10 or pretrained weights, as requested. Raises as `run_task`."""
    model = pretrained.downloads().get(read_request(folder)["name"])

    def work(progress: Progress) -> str:
        def report(now: DownloadProgress) -> None:
            progress(now.done, now.total, unit=now.unit, rate=now.rate, message=now.message)
            if on_progress:
                on_progress(now)

        enter_state(folder, "running", "looking for a copy")
        calls = {"report": report, "should_stop": progress.should_stop}
        if model:
            path = pretrained.download_weights(model, paths.weights, paths.weights_mirror, **calls)
            return f"{path.name} is here"
        info = get_cifar10(paths.data, cifar10_sources(paths.cifar10_copy), **calls)
        return f"{info.train + info.test:,} images: {info.source}"

    run_task(folder, "looking for a copy", work)


def run_survey(folder: Path, paths: Paths) -> None:
    """Scan the requested source and write the survey into the folder. Raises as `run_task`.

    An upload that cannot be imported afterwards, because the scan failed or stopped, is removed.
    """
    source = Path(read_request(folder)["source"])

    def work(progress: Progress) -> str:
        enter_state(folder, "running", "scanning the images")
        write_survey(folder, scan_source(source, progress=without_unit(progress)))
        return ""

    try:
        run_task(folder, "opening the images", work)
    finally:
        if read_status(folder).state != "finished":
            # Gigabytes that nothing can use any more.
            shutil.rmtree(folder / "source", ignore_errors=True)


def run_import(folder: Path, paths: Paths) -> None:
    """Import the requested source and remove an upload made for it. Raises as `run_task`."""
    request = read_request(folder)

    def work(progress: Progress) -> str:
        enter_state(folder, "running", "reading the images")
        info = import_images(
            paths.data,
            request["name"],
            Path(request["source"]),
            size=request["size"],
            fit=request["fit"],
            progress=without_unit(progress),
        )
        if request["surveyed"]:  # the upload was made for this import
            shutil.rmtree(folder.with_name("survey"), ignore_errors=True)
        return f"{split_counts(info)} images in {info.name}"

    run_task(folder, "opening the images", work)


def without_unit(progress: Progress) -> Callable[[int, int | None, str], None]:
    """Return a callback for imports, whose packed bytes or files mean nothing to a person."""
    return lambda done, total, message: progress(done, total, message=message)


def store_upload(source: Path, target: Path, folder: Path, lock: int) -> None:
    """Put an upload into the task's folder, or remove the task. Raises DemoError."""
    try:
        target.parent.mkdir()
        # A link first: an upload may have gigabytes, and its other name is removed elsewhere.
        link_or_copy(source, target)
    except OSError as error:
        remove_locked(folder, lock)
        raise DemoError(f"the upload could not be stored: {error.strerror or error}") from error


def busy_error(kind: str) -> ConfigError:
    """Return the error for a second task of a kind."""
    return ConfigError(f"{KINDS[kind]} is running already: wait for it, or cancel it", "task")


def needs_weights(run: Run, model: str) -> bool:
    """Return whether a run starts from a network's ImageNet weights; False if it is damaged."""
    try:
        config = run.config()
    except DamagedError:
        return False
    return (config.weights, config.model) == ("imagenet", model)


def dataset_of(run: Run) -> str | None:
    """Return the dataset of a run; None if its config is damaged."""
    try:
        return run.config().dataset
    except DamagedError:
        return None

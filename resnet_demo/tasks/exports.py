"""Exports as tasks: a run's network as files to take away, made once for the same run and format.

The results are in a hidden folder below the runs. Only the latest are kept: each can be made again.
"""

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from resnet_demo import __version__
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError, DemoError
from resnet_demo.export.formats import FORMATS, check_format, export_run
from resnet_demo.files import write_atomically
from resnet_demo.json_files import read_object
from resnet_demo.models.description import model_description
from resnet_demo.paths import Paths
from resnet_demo.runs.store import ABOUT, CONFIG, Run, Runs
from resnet_demo.runs.text import space_run_text
from resnet_demo.tasks.base import Progress, enter_state, read_request, remove_task, run_task
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.limits import Caller, ForbiddenError
from resnet_demo.tasks.process_setup import configure_process
from resnet_demo.tasks.status import Status, reconcile_status, state_of

RESULT, FILES, DOWNLOAD = "exported.json", "files", "download"
SPACE = "space"  # beside FORMATS: the run packed for a Space, which the app then builds around it
ALL_FORMATS = (*FORMATS, SPACE)
MAX_RESULTS = 20
MAX_BYTES = 2_000_000_000  # of all results; the latest is kept in any case
STORED_SUFFIXES = (".onnx", ".safetensors", ".pt", ".wasm", ".png")  # compression would not help
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same files make the same archive
NAME = re.compile(r"(.+)-[0-9a-f]{12}")


@dataclass(frozen=True)
class Export:
    """The result of an export: what `formats.Exported` has, and the file to download.

    bytes: of that file.
    """

    format: str
    file: str
    bytes: int
    files: list[str]
    parity: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


class Exports:
    """The exports of a launcher's runs, which all pages share."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher, self.root = launcher, launcher.paths.runs / ".cache" / "exports"

    def start(self, run_id: str, format: str, caller: Caller, is_theirs: bool = False) -> Path:
        """Export a run in a worker, once for the same run and format; return the folder.

        is_theirs: the run is the caller's own, on ZeroGPU.
        Raises: ConfigError, NotFoundError, DamagedError, ForbiddenError, LimitError.
        """
        run = self.launcher.runs.get(run_id)
        check_may_export(run, caller, is_theirs)
        folder = self.folder(run, format)
        self._remove_others(folder)  # before the new one is made: the disk may be nearly full
        request = {"run": run.id, "format": format, "key": folder.name}
        return self.launcher.start_once("export", folder, request, caller, is_unusable)

    def folder(self, run: Run, format: str) -> Path:
        """Return the folder of the result for the run as it is now, which may be missing.

        Raises: ConfigError, NotFoundError, DamagedError.
        """
        return self.root / export_key(run, format, self.launcher.datasets)

    def status(self, folder: Path) -> Status | None:
        """Return the status of an export; None if it has to be started."""
        try:
            return None if is_unusable(folder) else reconcile_status(folder)
        except (DamagedError, FileNotFoundError):
            return None

    def _remove_others(self, folder: Path) -> None:
        """Remove older results for the same run and format, and the oldest beyond the bounds."""
        same = NAME.fullmatch(folder.name)[1]
        total = 0
        for number, (result, size) in enumerate(results(self.root)):
            total += size
            is_older = (found := NAME.fullmatch(result.name)) and found[1] == same
            too_many = number >= MAX_RESULTS - 1 or total > MAX_BYTES  # - 1: there will be one more
            if result != folder and (is_older or too_many or self._run_is_gone(result)):
                remove_task(result)

    def _run_is_gone(self, result: Path) -> bool:
        """Return whether the run of a result was deleted."""
        try:
            self.launcher.runs.get(read_request(result)["run"])
        except (DemoError, KeyError):
            return True
        return False


def check_may_export(run: Run, caller: Caller, is_theirs: bool = False) -> None:
    """Raise ForbiddenError for a visitor and a run that is somebody else's.

    Everybody may take away what came with the app.
    """
    if not (caller.is_owner or run.shipped or is_theirs):
        raise ForbiddenError(
            f"only the owner of this app may export {run.id}; what came with it, everybody may"
        )


def export_key(run: Run, format: str, datasets: Datasets) -> str:
    """Return the name of a result's folder, which changes with all that the files depend on.

    Raises: ConfigError, NotFoundError, DamagedError.
    """
    if format != SPACE:
        check_format(format)
    about = run.path / ABOUT
    content = [
        model_description(run.path)["sha256"],
        (run.path / CONFIG).read_text("utf-8"),
        about.read_text("utf-8") if about.exists() else "",
        datasets.content_key(run.config().dataset),
        state_of(run.path),
        __version__,
    ]
    # Six bytes: it need not resist an attack, only distinguish results of a run.
    digest = blake2b(json.dumps(content).encode(), digest_size=6).hexdigest()
    return f"{run.id}-{format}-{digest}"


def results(root: Path) -> Iterator[tuple[Path, int]]:
    """Yield each result's folder and its bytes, the newest first."""
    folders = [path for path in root.glob("*") if (path / "status.json").exists()]
    for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True):
        yield folder, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def is_unusable(folder: Path) -> bool:
    """Return whether a task is finished, or has a damaged status, without a usable result."""
    state = state_of(folder)
    if state != "finished":
        return state == "damaged"
    try:
        return not download_path(folder).is_file()
    except DamagedError:
        return True


def read_export(folder: Path) -> Export:
    """Return the result of a finished export. Raises DamagedError."""
    return read_object(folder / RESULT, Export, complete=True)


def download_path(folder: Path) -> Path:
    """Return the file to download. Raises DamagedError."""
    # .name: never outside of the folder.
    return folder / DOWNLOAD / Path(read_export(folder).file).name


def run_export(folder: Path, paths: Paths) -> None:
    """Fill an export's folder. Raises as `run_task`."""
    request = read_request(folder)
    configure_process()

    def work(progress: Progress) -> str:
        enter_state(folder, "running", "loading the network")
        run, format = Runs(paths).get(request["run"]), request["format"]
        for name in (FILES, DOWNLOAD):  # of an attempt that was killed
            shutil.rmtree(folder / name, ignore_errors=True)

        def report(what: str, done: int, total: int) -> None:
            progress(done, total, message=what)

        made = make_files(run, folder / FILES, format, paths, report)
        # A live run may have replaced its weights: the files would not be what the folder's name
        # says.
        if export_key(run, format, Datasets(paths.data)) != request["key"]:
            raise DemoError(f"the run {run.id} has changed meanwhile: export it again")
        progress.check()
        file = write_download(folder, f"{run.id}-{format}")
        result = Export(format, file.name, file.stat().st_size, *made)
        write_atomically(folder / RESULT, json.dumps(asdict(result), indent=2).encode())
        return ""

    run_task(folder, "loading torch", work)


def make_files(
    run: Run, folder: Path, format: str, paths: Paths, report: Any
) -> tuple[list[str], dict[str, Any] | None, list[str]]:
    """Write the files of a format; return their names, the parity and notes."""
    if format == SPACE:
        from resnet_demo.export.pack import pack_for_space

        packed = pack_for_space(run, Datasets(paths.data), folder)
        return [run.id], None, [f"{space_run_text(packed)}."]
    exported = export_run(run, folder, format, paths, on_progress=report)
    return exported.files, exported.parity and exported.parity.to_dict(), exported.notes


def write_download(folder: Path, name: str) -> Path:
    """Write what a browser saves: the file itself where there is one, else an archive.

    name: of the file and of the folder in the archive. What describes a single file, such as
    `parity.json`, stays behind.
    """
    (folder / DOWNLOAD).mkdir()
    files = [path for path in sorted((folder / FILES).rglob("*")) if path.is_file()]
    main = [path for path in files if path.suffix in (".onnx", ".html")]
    if len(main) == 1 and len(files) <= 2:
        target = folder / DOWNLOAD / f"{name}{main[0].suffix}"
        shutil.copyfile(main[0], target)
        return target
    target = folder / DOWNLOAD / f"{name}.zip"
    write_zip(folder / FILES, target, name)
    return target


def write_zip(folder: Path, target: Path, name: str) -> None:
    """Write a folder's files into an archive, below a folder of that name."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or "__pycache__" in path.parts:  # of a script that was compared
                continue
            inside = zipfile.ZipInfo(f"{name}/{path.relative_to(folder)}", ZIP_TIME)
            is_stored = path.suffix in STORED_SUFFIXES
            inside.compress_type = zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED
            # Without permissions, unzip makes unreadable files on Unix.
            inside.external_attr = 0o644 << 16
            with open(path, "rb") as source, archive.open(inside, "w") as copy:
                shutil.copyfileobj(source, copy, 2**20)

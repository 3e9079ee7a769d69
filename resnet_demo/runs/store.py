"""Runs as directories: find, name and read them."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from resnet_demo.config import FINGERPRINT, TrainConfig, from_dict
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError, is_displayable, shortened
from resnet_demo.files import reporting_read_only, write_atomically
from resnet_demo.fingerprint import Fingerprint
from resnet_demo.json_files import read_json, read_object
from resnet_demo.paths import Paths
from resnet_demo.runs.log import EventLog

CONFIG = "config.json"
ABOUT = "about.json"
RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# By default, own runs are in the folder of the shipped ones: only the name distinguishes them.
RECORDING = "learn-"  # how the names of recordings of lessons begin
PRETRAINED = "imagenet-efficientnet-lite0"  # classifies with weights that a package brings
SHIPPED = re.compile(rf"cifar10-shipped|{PRETRAINED}|{RECORDING}.+")
RECORDINGS = "lessons"  # subfolder of the shipped runs
RUN_ID_RULE = "1 to 64 lowercase letters, digits and dashes, with no dash first"
MAX_TITLE, MAX_NOTES = 80, 4000  # characters


@dataclass(frozen=True)
class About:
    """A person's title and notes for a run. The title is one line; both may be empty.

    Raises ConfigError for a text that is too long or has characters that cannot be shown.
    """

    title: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        if len(self.title) > MAX_TITLE or not is_displayable(self.title):
            rule = f"one line of at most {MAX_TITLE} characters"
            raise ConfigError.rule("title", rule, self.title)
        if len(self.notes) > MAX_NOTES or not is_displayable(self.notes.replace("\n", "")):
            rule = f"text of at most {MAX_NOTES:,} characters"
            raise ConfigError.rule("notes", rule, self.notes)


@dataclass(frozen=True)
class Run:
    """A training and its directory. Files are read on request."""

    path: Path
    shipped: bool = False  # comes with the program and is never written to

    @property
    def id(self) -> str:
        """Return the run id, which is the directory's name."""
        return self.path.name

    @property
    def is_recording(self) -> bool:
        """Return whether the run is a recording of a lesson that came with the program."""
        return self.shipped and self.id.startswith(RECORDING)

    @property
    def is_pretrained(self) -> bool:
        """Return whether this is the network that was trained elsewhere and only classifies."""
        return self.shipped and self.id == PRETRAINED

    def config(self) -> TrainConfig:
        """Return the run's configuration. Raises DamagedError."""
        try:
            return from_dict(read_json(self.path / CONFIG))
        except (DamagedError, ValueError, ConfigError) as error:
            raise DamagedError(f"config.json of run {self.id} is damaged") from error

    def fingerprint(self) -> Fingerprint | None:
        """Return the fingerprint of what the run was trained on; None if it has none.

        A run has one from its start, but for runs of older versions. Raises DamagedError.
        """
        try:
            values = read_json(self.path / CONFIG).get(FINGERPRINT)
            return None if values is None else Fingerprint.from_dict(values)
        except (DamagedError, ValueError, AttributeError) as error:
            raise DamagedError(f"config.json of run {self.id} is damaged") from error

    def record(self, facts: Mapping[str, Any]) -> None:
        """Write facts into config.json, beside the settings. Raises DamagedError, OSError.

        facts: name -> values ready for JSON, the names being those of `config.BESIDE`.
        """
        path = self.path / CONFIG
        values = {**read_json(path), **facts}
        times = path.stat()

        def write(file: BinaryIO) -> None:
            file.write((json.dumps(values, indent=2) + "\n").encode())
            file.flush()
            # The time of config.json is the time of the run's creation. Disks of another owner
            # (CIFS, exFAT) may refuse to set one.
            with suppress(OSError):
                os.utime(file.fileno(), ns=(times.st_atime_ns, times.st_mtime_ns))

        write_atomically(path, write)

    def about(self) -> About:
        """Return the run's title and notes, empty if there are none. Raises DamagedError."""
        if not (self.path / ABOUT).exists():
            return About()
        try:
            return read_object(self.path / ABOUT, About)
        except ConfigError as error:
            raise DamagedError(f"{ABOUT} of run {self.id} is damaged") from error

    def about_or_empty(self) -> About:
        """Return the run's title and notes; empty ones if their file is damaged."""
        # Neither is a reason to refuse a list, a page or an export.
        try:
            return self.about()
        except DamagedError:
            return About()

    def describe(self, title: str | None = None, notes: str | None = None) -> About:
        """Store a new title, new notes or both; None leaves the old one. Return what is stored.

        Raises ConfigError, OSError.
        """
        # Shipped runs lie in the repository, or in a folder that is not writable.
        check_not_shipped(self, "renamed")
        now = self.about_or_empty()  # a damaged file loses only what a person typed before
        now = About(
            now.title if title is None else title.strip(),
            # A form sends \r\n.
            now.notes if notes is None else notes.replace("\r\n", "\n").strip(),
        )
        with reporting_read_only(self.path):
            write_atomically(self.path / ABOUT, (json.dumps(asdict(now)) + "\n").encode())
        return now

    def log(self) -> EventLog:
        """Return the run's event log."""
        return EventLog(self.path / "events.jsonl")


class Runs:
    """The runs in one root folder, and the shipped ones."""

    def __init__(self, paths: Paths) -> None:
        self.root, self.shipped_root = paths.runs, paths.shipped
        self.shipped_folders = (paths.shipped, paths.shipped / RECORDINGS)

    @cached_property
    def shipped(self) -> Sequence[Run]:
        """Return the shipped runs, which do not change while the app runs."""
        runs = [run for folder in self.shipped_folders for run in self.runs_in(folder)]
        return [run for run in runs if run.shipped and not run.is_pretrained]

    @cached_property
    def pretrained(self) -> Sequence[Run]:
        """Return the shipped network that was not trained here; no list of runs has it."""
        runs = self.runs_in(self.shipped_root)
        return [run for run in runs if run.is_pretrained]

    def list(self) -> Sequence[Run]:
        """Return every run, newest first, the shipped ones last."""
        # By default the shipped ones lie in the same folder.
        own = [run for run in self.runs_in(self.root) if not run.shipped]
        own.sort(key=lambda run: created_at(run.path), reverse=True)
        return [*own, *self.shipped]

    def runs_in(self, root: Path) -> Sequence[Run]:
        """Return the runs in a folder, by name. Links are not followed."""
        if not root.is_dir():
            return []
        folders = (
            folder
            for folder in sorted(root.iterdir())
            if RUN_ID.fullmatch(folder.name)
            and not folder.is_symlink()  # could point out of the root
            and (folder / CONFIG).is_file()
        )
        return [Run(folder, self.is_shipped(folder)) for folder in folders]

    def is_shipped(self, folder: Path) -> bool:
        """Return whether the folder is that of a shipped run."""
        return folder.parent in self.shipped_folders and bool(SHIPPED.fullmatch(folder.name))

    def get(self, name: str) -> Run:
        """Return the run of that id. Raises ConfigError for a malformed id, NotFoundError."""
        check_run_id(name)
        # Own runs first: by default they are in the same folder, and a name is taken only once.
        shipped = [folder / name for folder in self.shipped_folders if SHIPPED.fullmatch(name)]
        for folder in (self.root / name, *shipped):
            if (folder / CONFIG).is_file() and not folder.is_symlink():
                return Run(folder, self.is_shipped(folder))
        raise NotFoundError(f"run must be the id of a run on this machine, got {name!r}", "run")

    def find(self, name: str) -> Run:
        """Return a run by its id, or by the path of its directory. Raises as `get`."""
        if "/" not in name:  # no id has a slash
            return self.get(name)
        path = Path(name).resolve()
        if not (path / CONFIG).is_file():
            raise NotFoundError.rule("run", "an id or the folder of a run", name)
        return Run(path, self.is_shipped(path))

    def is_taken(self, name: str) -> bool:
        """Return whether a run has that id, or it is reserved for shipped runs."""
        return (self.root / name).exists() or bool(SHIPPED.fullmatch(name))

    def new_id(self, config: TrainConfig) -> str:
        """Return a readable id that no run has yet, such as `resnet9-cifar10-3`."""
        # 57 of RUN_ID's 64 characters, so that a dash and six digits fit.
        stem = f"{config.model}-{config.dataset}"[:57]
        taken = [run.name for run in self.root.iterdir()] if self.root.is_dir() else []
        # One more than the highest: the gap that a deleted run leaves is not filled.
        numbers = [int(name[len(stem) + 1 :]) for name in taken if is_numbered(name, stem)]
        return f"{stem}-{max(numbers, default=0) + 1}"


def is_numbered(name: str, stem: str) -> bool:
    """Return whether a name is `stem`, a dash and a number."""
    return name.startswith(stem + "-") and name[len(stem) + 1 :].isdecimal()


def check_run_id(name: object) -> str:
    """Return the name if it is a valid run id. Raises ConfigError."""
    if not isinstance(name, str) or not RUN_ID.fullmatch(name):
        raise ConfigError(f"run_id must be {RUN_ID_RULE}, got {shortened(name)}", "run_id")
    return name


def check_not_shipped(run: Run, action: str) -> None:
    """Raise ConfigError for a run that came with the app."""
    if run.shipped:
        raise ConfigError(f"run {run.id} came with the app and cannot be {action}", "run")


def check_trained_here(run: Run, action: str) -> None:
    """Raise ConfigError for the pretrained network, which has no images here."""
    if run.is_pretrained:
        raise ConfigError(
            f"run {run.id} cannot be {action}: it was trained elsewhere, on ImageNet's images, "
            "and only classifies pictures here",
            "run",
        )


def created_at(folder: Path) -> float:
    """Return the Unix time of a run's creation; 0 if it was deleted meanwhile.

    config.json is the first file of a run, and keeps its time.
    """
    try:
        return (folder / CONFIG).stat().st_mtime
    except FileNotFoundError:
        return 0.0

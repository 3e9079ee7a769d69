"""Runs as directories: finding them, naming them, reading what they were told."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from resnet_demo.config import TrainConfig, from_dict
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError, shortened
from resnet_demo.json_files import read_json
from resnet_demo.paths import Paths
from resnet_demo.runs.log import EventLog

RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
SHIPPED = re.compile(r"cifar10-shipped|learn-.+")
RECORDINGS = "lessons"  # the folder of recordings, below that of the shipped runs
RUN_ID_RULE = "1 to 64 lower-case letters, digits and dashes, the first no dash"


@dataclass(frozen=True)
class Run:
    """One training and its directory. Nothing is read before it is asked for."""

    path: Path
    shipped: bool = False  # came with the repository: never written to

    @property
    def id(self) -> str:
        """The run id, which is the directory's name."""
        return self.path.name

    def config(self) -> TrainConfig:
        """What the run was told. Raises DamagedError."""
        try:
            return from_dict(read_json(self.path / "config.json"))
        except (DamagedError, ValueError, ConfigError) as error:
            raise DamagedError(f"config.json of run {self.id} is damaged") from error

    def log(self) -> EventLog:
        """The run's events."""
        return EventLog(self.path / "events.jsonl")


class Runs:
    """The runs under one root, and those that came with the repository."""

    def __init__(self, paths: Paths) -> None:
        self.root, self.shipped_root = paths.runs, paths.shipped
        self.shipped_folders = (paths.shipped, paths.shipped / RECORDINGS)

    @cached_property
    def shipped(self) -> Sequence[Run]:
        """The runs that came with the repository, which nobody changes while the app is there."""
        runs = (run for folder in self.shipped_folders for run in self.under(folder))
        return [run for run in runs if run.shipped]

    def list(self) -> Sequence[Run]:
        """Every run, newest first, the shipped ones last."""
        own = [run for run in self.under(self.root) if not run.shipped]
        own.sort(key=lambda run: created_at(run.path), reverse=True)
        return [*own, *self.shipped]

    def under(self, root: Path) -> Sequence[Run]:
        """The directories of `root` that are runs, by name; links are not followed."""
        if not root.is_dir():
            return []
        folders = (
            folder
            for folder in sorted(root.iterdir())
            if RUN_ID.fullmatch(folder.name)
            and not folder.is_symlink()
            and (folder / "config.json").is_file()
        )
        return [Run(folder, self.is_shipped(folder)) for folder in folders]

    def is_shipped(self, folder: Path) -> bool:
        """Whether a run came with the repository."""
        return folder.parent in self.shipped_folders and bool(SHIPPED.fullmatch(folder.name))

    def get(self, name: str) -> Run:
        """The run of that id. Raises ConfigError for no id, NotFoundError for no run."""
        check_run_id(name)
        shipped = [folder / name for folder in self.shipped_folders if SHIPPED.fullmatch(name)]
        for folder in (self.root / name, *shipped):
            if (folder / "config.json").is_file() and not folder.is_symlink():
                return Run(folder, self.is_shipped(folder))
        raise NotFoundError(f"run must be the id of a run on this machine, got {name!r}", "run")

    def is_taken(self, name: str) -> bool:
        """Whether a new run cannot have that name: one has it, or it is kept for a shipped one."""
        return (self.root / name).exists() or bool(SHIPPED.fullmatch(name))

    def new_id(self, config: TrainConfig) -> str:
        """A readable id that no run has yet: `resnet9-cifar10-3`."""
        stem = f"{config.model}-{config.dataset}"[:57]
        taken = [run.name for run in self.root.iterdir()] if self.root.is_dir() else []
        numbers = [int(name[len(stem) + 1 :]) for name in taken if is_numbered(name, stem)]
        return f"{stem}-{max(numbers, default=0) + 1}"


def is_numbered(name: str, stem: str) -> bool:
    """Whether a name is `stem` and a number."""
    return name.startswith(stem + "-") and name[len(stem) + 1 :].isdecimal()


def check_run_id(name: object) -> str:
    """The name, if it can be one. Raises ConfigError."""
    if not isinstance(name, str) or not RUN_ID.fullmatch(name):
        raise ConfigError(f"run_id must be {RUN_ID_RULE}, got {shortened(name)}", "run_id")
    return name


def created_at(folder: Path) -> float:
    """When a run was made: config.json is written once, first of all."""
    try:
        return (folder / "config.json").stat().st_mtime
    except FileNotFoundError:  # deleted between two looks
        return 0.0

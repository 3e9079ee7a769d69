"""What a public app allows, read from the environment in one place; a person's own has no limits.

A limit is written once: its default and what it is of stand beside the field, its variable is
RESNET_DEMO_MAX_ and its name.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from resnet_demo.config import TrainConfig
from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.models.counts import count
from resnet_demo.tasks.caller import Caller
from resnet_demo.tasks.status import LIVE, settle
from resnet_demo.tasks.throttle import Throttle

DAY_S = 24 * 3600.0
MINUTE_S = 60.0
ZERO_TRUE = ("1", "t", "true")  # as the package `spaces` reads it


class LimitError(DemoError):
    """More than this public app allows, or sooner."""


def limit(default: int, what: str) -> Any:
    """A field of Limits."""
    return field(default=default, metadata={"help": what})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of each; whole numbers of at least 1."""

    epochs: int = limit(30, "epochs of a run")
    parameters: int = limit(12_000_000, "parameters of a network that is trained")
    minutes: int = limit(60, "minutes that a run works before it is stopped, its checkpoint kept")
    queue: int = limit(5, "runs that train or wait at once")
    runs: int = limit(20, "runs that one person starts or resumes within 24 hours")
    evaluations: int = limit(20, "evaluations that one visitor starts within 24 hours")
    tasks: int = limit(2, "evaluations of visitors under way at once")
    pictures: int = limit(240, "pictures that one visitor has classified within a minute")
    uploads: int = limit(300, "megabytes that one visitor uploads within 10 minutes")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Limits | None":
        """None where the app is not public. Raises ConfigError."""
        if not is_public(environment):
            return None
        told = {one.name: environment.get(variable(one.name), "") for one in fields(cls)}
        return cls(**{name: whole(name, text) for name, text in told.items() if text.strip()})


def is_public(environment: Mapping[str, str]) -> bool:
    """Whether strangers may reach the app: on a Space, and where its owner says so."""
    told = environment.get("RESNET_DEMO_PUBLIC") == "1"
    named = any(name in environment for name in ("SPACE_ID", "RESNET_DEMO_ADMIN_TOKEN"))
    return told or named or is_zero(environment)


def is_zero(environment: Mapping[str, str]) -> bool:
    """Whether the app runs on ZeroGPU, which lends a GPU for seconds."""
    return environment.get("SPACES_ZERO_GPU", "").lower() in ZERO_TRUE


def variable(name: str) -> str:
    """The environment variable of a limit."""
    return f"RESNET_DEMO_MAX_{name.upper()}"


def whole(name: str, text: str) -> int:
    """What a variable says. Raises ConfigError."""
    if not text.strip().isascii() or not text.strip().isdigit() or int(text[:20]) < 1:
        raise ConfigError.rule(variable(name), "a whole number of at least 1", text)
    return int(text[:20])


class Allowance:
    """What has been used of the limits, counted in memory; without limits nothing is refused."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits, self.lock, self.tasks = limits, threading.Lock(), list[Path]()
        most = limits or Limits()
        self.runs = Throttle(most.runs, DAY_S)
        self.evaluations = Throttle(most.evaluations, DAY_S)
        self.pictures = Throttle(most.pictures, MINUTE_S)

    @contextmanager
    def training(
        self, caller: Caller, configs: Sequence[TrainConfig], classes: int, alive: int
    ) -> Iterator[None]:
        """Around the start of runs; counted where it succeeds. Raises LimitError.

        classes: that the networks tell apart; alive: runs that train or wait.
        """
        if self.limits is None:
            yield
            return
        with self.lock:
            for config in configs:
                check_size(config, classes, self.limits)
            most, here = self.limits.queue, alive + len(configs)
            if here > most:
                raise LimitError(
                    f"at most {most} runs may train or wait here at once, and there would be {here}"
                )
            most = self.limits.runs
            if self.runs.wait(caller.name, len(configs)) > 0 or len(configs) > most:
                raise LimitError(f"at most {most} runs may be started by one person in 24 hours")
            yield
            self.runs.note(caller.name, len(configs))

    @contextmanager
    def evaluating(self, caller: Caller, folder: Path) -> Iterator[None]:
        """Around the start of a task over a run; counted where it succeeds. Raises LimitError."""
        if self.limits is None or caller.is_owner:
            yield
            return
        with self.lock:
            self.tasks = [task for task in self.tasks if is_live(task)]
            most = self.limits.tasks
            if len(self.tasks) >= most:
                raise LimitError(
                    f"at most {most} evaluations may be under way here at once: try again when one "
                    "has ended"
                )
            most = self.limits.evaluations
            if self.evaluations.wait(caller.name) > 0:
                raise LimitError(f"at most {most} evaluations may be started in 24 hours")
            yield
            self.evaluations.note(caller.name)
            self.tasks.append(folder)

    def classify(self, caller: Caller, pictures: int = 1) -> None:
        """Count pictures that are to be classified. Raises LimitError."""
        if self.limits is None or caller.is_owner:
            return
        with self.lock:
            most, seconds = self.limits.pictures, self.pictures.wait(caller.name, pictures)
            if pictures > most or seconds > 0:
                later = "" if pictures > most else f": try again in {int(seconds) + 1} s"
                raise LimitError(f"at most {most} pictures a minute may be classified here{later}")
            self.pictures.note(caller.name, pictures)

    def environment(self) -> dict[str, str]:
        """What tells a worker that it has limits, which is not told how the owner is known."""
        return {} if self.limits is None else {"RESNET_DEMO_PUBLIC": "1"}


def check_size(config: TrainConfig, classes: int, limits: Limits) -> None:
    """Raises LimitError for more epochs, or a larger network, than is allowed."""
    if config.epochs > limits.epochs:
        raise LimitError(f"epochs must be at most {limits.epochs} here, got {config.epochs}")
    size = count(config.model, classes, config.image_size, config.stem, config.batch_norm)
    if size.parameters > limits.parameters:
        raise LimitError(
            f"model must have at most {limits.parameters:,} parameters here, and {config.model} "
            f"has {size.parameters:,}"
        )


def is_live(folder: Path) -> bool:
    """Whether a task is under way."""
    try:
        return settle(folder).state in LIVE
    except (DemoError, FileNotFoundError):  # damaged, or removed meanwhile
        return False

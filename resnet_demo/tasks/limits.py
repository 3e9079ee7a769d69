"""Callers, what they may do, and the limits of a public app.

Limits are read from the environment; a person's own app has none. Each is written once, as a field
of `Limits` with its default; its variable is RESNET_DEMO_MAX_ and the field's name.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from resnet_demo.config import TrainConfig
from resnet_demo.errors import ConfigError, DemoError, counted
from resnet_demo.lru import LRU
from resnet_demo.models.counts import model_counts
from resnet_demo.tasks.status import reconcile_status

DAY_S = 24 * 3600.0
MINUTE_S = 60.0
MAX_NAMES = 10_000  # remembered by a throttle
ZEROGPU_VALUES = ("1", "t", "true")  # as the package `spaces` reads SPACES_ZERO_GPU


class LimitError(DemoError):
    """The request exceeds a limit of this public app."""


class ForbiddenError(DemoError):
    """The caller may not do that here."""


@dataclass(frozen=True)
class Caller:
    """The sender of a request. On a person's own machine: the owner, who may do everything.

    signed_in: the name is one of Hugging Face; else it is where the visitor comes from.
    """

    name: str = "owner"
    is_owner: bool = True
    signed_in: bool = False

    def require_owner(self, action: str) -> None:
        """Raise ForbiddenError for anyone but the owner."""
        if not self.is_owner:
            raise ForbiddenError(f"only the owner of this app may {action}")


class Throttle:
    """At most `limit` times within the last `seconds` for each name. Thread-safe.

    In memory; of many names the one that was idle for longest is forgotten.
    """

    def __init__(
        self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit, self.seconds, self.clock = limit, seconds, clock
        self.times: LRU[str, deque[float]] = LRU(MAX_NAMES)
        self.lock = threading.Lock()

    def wait_s(self, name: str, times: int = 1) -> float:
        """Return the seconds until the name may do it that many times more; 0 if it may now."""
        with self.lock:
            past = self._recent(name)
            # min: for more than the limit the wait would have no end.
            excess = len(past) + min(times, self.limit) - self.limit
            return past[excess - 1] + self.seconds - self.clock() if excess > 0 else 0.0

    def record(self, name: str, times: int = 1) -> None:
        """Count what the name has done."""
        with self.lock:
            past = self._recent(name)
            past.extend([self.clock()] * times)
            self.times[name] = past

    def _recent(self, name: str) -> deque[float]:
        """Return the times of a name that still count, oldest first; the lock is held."""
        # Only the last `limit` times matter, so more are not kept.
        past = self.times.get(name) or deque(maxlen=self.limit)
        while past and past[0] <= self.clock() - self.seconds:
            past.popleft()
        return past


def limit_field(default: int, description: str) -> Any:
    """Return a field of Limits."""
    return field(default=default, metadata={"help": description})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a public app; whole numbers of at least 1."""

    epochs: int = limit_field(30, "epochs of a run")
    parameters: int = limit_field(12_000_000, "parameters of a network that is trained")
    minutes: int = limit_field(60, "minutes of training before a run is stopped and kept")
    queue: int = limit_field(5, "runs that train or wait at once")
    runs: int = limit_field(20, "runs that one person starts or resumes within 24 hours")
    evaluations: int = limit_field(20, "evaluations that one visitor starts within 24 hours")
    tasks: int = limit_field(2, "evaluations of visitors at once")
    pictures: int = limit_field(
        240,
        "pictures that one visitor classifies within a minute; every other computation on the page "
        "counts as one or more pictures",
    )
    uploads: int = limit_field(300, "megabytes that one visitor uploads within 10 minutes")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Limits | None":
        """Return the limits, or None if the app is not public. Raises ConfigError."""
        if not is_public(environment):
            return None
        texts = {f.name: environment.get(limit_variable(f.name), "") for f in fields(cls)}
        given = {name: text for name, text in texts.items() if text.strip()}
        return cls(**{name: parse_limit(name, text) for name, text in given.items()})


def is_public(environment: Mapping[str, str]) -> bool:
    """Return whether strangers may reach the app: on a Space, or if its owner declares it."""
    declared = environment.get("RESNET_DEMO_PUBLIC") == "1"
    # A token or a Space implies visitors: forgetting the variable must not open the app.
    implied = any(name in environment for name in ("SPACE_ID", "RESNET_DEMO_ADMIN_TOKEN"))
    return declared or implied or is_zerogpu(environment)


def is_zerogpu(environment: Mapping[str, str]) -> bool:
    """Return whether the app runs on ZeroGPU, which lends a GPU for seconds."""
    return environment.get("SPACES_ZERO_GPU", "").lower() in ZEROGPU_VALUES


def limit_variable(name: str) -> str:
    """Return the environment variable of a limit."""
    return f"RESNET_DEMO_MAX_{name.upper()}"


def parse_limit(name: str, text: str) -> int:
    """Return the value of a limit's variable. Raises ConfigError."""
    # The cut keeps int() from a text of thousands of digits, which it refuses with another error.
    # isascii: isdigit also accepts digits such as ², which int() refuses.
    if not text.strip().isascii() or not text.strip().isdigit() or int(text[:20]) < 1:
        raise ConfigError.rule(limit_variable(name), "a whole number of at least 1", text)
    return int(text[:20])


class Allowance:
    """Checks requests against the limits and counts them in memory; a no-op without limits."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits, self.lock = limits, threading.Lock()
        self.tasks: list[Path] = []  # evaluations of visitors
        values = limits or Limits()  # without limits the throttles exist, and nothing asks them
        self.runs = Throttle(values.runs, DAY_S)
        self.evaluations = Throttle(values.evaluations, DAY_S)
        self.pictures = Throttle(values.pictures, MINUTE_S)

    @contextmanager
    def start_training(
        self, caller: Caller, configs: Sequence[TrainConfig], classes: int, live: int
    ) -> Iterator[None]:
        """Check, and count if the body succeeds, the start of runs. Raises LimitError.

        classes: outputs of the networks. live: runs that train or wait already.
        """
        if self.limits is None:
            yield
            return
        # Held during the start as well: two requests at once must not both take the last place.
        with self.lock:
            for config in configs:
                check_size(config, classes, self.limits)
            limit, total = self.limits.queue, live + len(configs)
            if total > limit:
                raise LimitError(
                    f"at most {counted(limit, 'run')} may train or wait here at once, got {total}"
                )
            limit = self.limits.runs
            if self.runs.wait_s(caller.name, len(configs)) > 0 or len(configs) > limit:
                raise LimitError(
                    f"at most {counted(limit, 'run')} may be started by one person in 24 hours"
                )
            yield
            self.runs.record(caller.name, len(configs))

    @contextmanager
    def start_evaluation(self, caller: Caller, folder: Path) -> Iterator[None]:
        """Check, and count if the body succeeds, the start of a task that evaluates a run.

        Raises: LimitError.
        """
        if self.limits is None or caller.is_owner:
            yield
            return
        # Held during the start as well, as in `start_training`.
        with self.lock:
            # Ended tasks leave the list here: their workers cannot report to this process.
            self.tasks = [task for task in self.tasks if is_live(task)]
            limit = self.limits.tasks
            if len(self.tasks) >= limit:
                raise LimitError(
                    f"at most {counted(limit, 'evaluation')} may run here at once: try again when "
                    "one has ended"
                )
            limit = self.limits.evaluations
            if self.evaluations.wait_s(caller.name) > 0:
                raise LimitError(
                    f"at most {counted(limit, 'evaluation')} may be started in 24 hours"
                )
            yield
            self.evaluations.record(caller.name)
            self.tasks.append(folder)

    def count_pictures(self, caller: Caller, pictures: int = 1, capped: bool = False) -> None:
        """Check and count pictures before they are classified. Raises LimitError.

        Any other computation for a visitor counts as some pictures: else its button would be a way
        around the limit. capped: the visitor cannot ask for less, so it costs at most the whole
        limit, and a low limit does not refuse it for ever.
        """
        if self.limits is None or caller.is_owner:
            return
        if capped:
            pictures = min(pictures, self.limits.pictures)
        with self.lock:
            limit, seconds = self.limits.pictures, self.pictures.wait_s(caller.name, pictures)
            if pictures > limit or seconds > 0:
                retry = "" if pictures > limit else f": try again in {int(seconds) + 1} s"
                raise LimitError(
                    f"at most {counted(limit, 'picture')} a minute may be classified here{retry}"
                )
            self.pictures.record(caller.name, pictures)

    def environment(self) -> dict[str, str]:
        """Return the variables that give a worker the limits, without the owner's token."""
        return {} if self.limits is None else {"RESNET_DEMO_PUBLIC": "1"}


def check_size(config: TrainConfig, classes: int, limits: Limits) -> None:
    """Raise LimitError for too many epochs or too large a network."""
    if config.epochs > limits.epochs:
        raise LimitError(f"epochs must be at most {limits.epochs} here, got {config.epochs}")
    size = model_counts(config.model, classes, config.image_size, config.stem, config.batch_norm)
    if size.parameters > limits.parameters:
        raise LimitError(
            f"model must have at most {limits.parameters:,} parameters here, and {config.model} "
            f"has {size.parameters:,}"
        )


def is_live(folder: Path) -> bool:
    """Return whether a task is live; a damaged or removed one is not."""
    try:
        return reconcile_status(folder).is_live
    except (DemoError, FileNotFoundError):
        return False

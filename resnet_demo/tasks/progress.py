"""What all tasks but a run have in common: progress, a stop that is noticed, and how it ended."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_demo.errors import DemoError, StoppedError
from resnet_demo.tasks.status import StopSignal, change, close, report

TELL_EVERY_S = 0.3


class Telling:
    """Puts progress into status.json, and looks there whether a stop was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.should_stop, self.last = folder, StopSignal(folder), 0.0

    def __call__(self, done: int, total: int | None, **told: Any) -> None:
        """So much is done; told: other fields of Status. Raises StoppedError."""
        self.check()
        if done == total or time.monotonic() - self.last > TELL_EVERY_S:
            self.last = time.monotonic()
            report(self.folder, done=done, total=total or 0, **told)

    def check(self) -> None:
        """Raises StoppedError where somebody asked the task to stop."""
        if self.should_stop():
            raise StoppedError("stopped")


def perform(folder: Path, preparing: str, work: Callable[[Telling], str]) -> None:
    """Take a queued task to its end, and put down how it ended.

    preparing: what it does first, in words. work: is given the progress to tell, begins `running`
    itself, and returns the closing message. Whatever it raises is raised again, once it is told.
    """
    report(folder, pid=os.getpid())
    tell = Telling(folder)
    try:
        begin(folder, "preparing", preparing)
        tell.check()
        message = work(tell)
    except StoppedError as error:
        close(folder, "stopped", str(error))
        raise
    except DemoError as error:
        close(folder, "failed", str(error))
        raise
    except Exception as error:  # raised again: a page that only sees the folder must know too
        close(folder, "failed", in_short(error))
        raise
    close(folder, "finished", message)


def begin(folder: Path, state: str, message: str) -> None:
    """Move on, unless a stop was asked for meanwhile: then the next look at it ends the work."""
    change(folder, state, unless=("stopping",), message=message)


def in_short(error: Exception) -> str:
    """What an unforeseen error says, short enough for a status line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"

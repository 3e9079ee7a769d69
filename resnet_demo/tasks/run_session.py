"""One session of a run: from its start or resume to its next end.

A worker runs one session, and so does a slice of GPU time. `RunSession` surrounds the training loop
with what a reader of the run's directory relies on: each event is in the log before anyone is
notified of it, and `status.json` records how the session ended.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from resnet_demo.errors import DamagedError, DemoError, DiskFullError
from resnet_demo.events import Ended, Event, Failed, Stopped
from resnet_demo.runs.store import Run
from resnet_demo.runs.view import RunView
from resnet_demo.tasks.base import enter_state, short_error
from resnet_demo.tasks.disk_space import create_reserve, release_reserve, remove_partial_files
from resnet_demo.tasks.status import change_state, end_task, read_status, request_stop
from resnet_demo.training import torchrun

OnEvent = Callable[[Event], None]


def noop(event: Event) -> None:
    """Ignore the event."""


class RunSession:
    """The log and the status of a run while it trains, as a context manager.

        with RunSession(run) as session:
            session.prepare("loading torch and the images")
            for event in fit(...):
                session.record(event)

    On exit the status takes the state of the last event. Errors end the run as well: a full disk
    stops it, any other DemoError fails it, and neither is raised again; `failure` is then the event
    that was logged. An unforeseen exception is logged as a failure too, and raised again.

    on_event: called with each event once it is logged.
    """

    def __init__(self, run: Run, on_event: OnEvent = noop) -> None:
        self.run, self.on_event = run, on_event
        self.last: Event | None = None
        self.failure: Ended | None = None

    def __enter__(self) -> "RunSession":
        return self

    def prepare(self, message: str = "") -> None:
        """Clean up after a kill, reserve disk space and enter the state `preparing`.

        message: for the status. Without one the state stays as it is: the process of a rank finds
        it set by its worker. Raises DiskFullError.
        """
        remove_partial_files(self.run.path)
        create_reserve(self.run.path)
        self.run.log().remove_torn_line()
        if message:
            enter_state(self.run.path, "preparing", message)

    def record(self, event: Event) -> None:
        """Append an event to the log and notify the listener; the first one means `running`."""
        # Logged first: a listener may read the run's directory, which must not lag behind.
        self.run.log().append(event)
        self.last = event
        self.on_event(event)
        if event.kind in ("started", "resumed"):
            warning = getattr(event, "message", "")  # names a damaged checkpoint
            # it is running already where torchrun has replaced a lost rank
            change_state(self.run.path, "running", unless=("stopping", "running"), message=warning)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None:
            release_reserve(self.run.path)
            if read_status(self.run.path).is_live:  # with several ranks the first one has closed it
                end_task(self.run.path, self.last.kind, self.last.message)
        elif isinstance(error, DiskFullError):
            release_reserve(self.run.path)  # before the next line, which writes status.json
            request_stop(self.run.path, str(error))
            self._fail("stopped", f"{error}; make room, then Resume continues")
        elif isinstance(error, DemoError):
            self._fail("failed", str(error), getattr(error, "retry", {}))
        elif isinstance(error, Exception) and not torchrun.restarts_left():
            # raised again for worker.log; the page sees only the run's directory
            self._fail("failed", short_error(error))
        return isinstance(error, DemoError)  # True: it is recorded and not raised again

    def _fail(self, kind: str, message: str, retry: Mapping[str, Any] | None = None) -> None:
        self.last = self.failure = record_end(self.run, kind, message, retry)
        self.on_event(self.failure)


def record_end(run: Run, kind: str, message: str, retry: Mapping[str, Any] | None = None) -> Ended:
    """Log an end that the training loop did not reach by itself, and close the status.

    Returns the event. kind: `failed` or `stopped`. retry: as in Failed. The event's other fields
    come from the log.
    """
    # The disk may be full: the last line of the log and the status need this space.
    release_reserve(run.path)
    view = RunView(run.log())
    # Where a pipe or a folder is in place of the log, the status alone says how the run ended.
    with suppress(DamagedError):
        run.log().remove_torn_line()
        view.refresh()
    fields = {
        "step": view.step,
        "epoch": view.last.epoch if view.last else 0,
        "best_epoch": view.best.epoch if view.best else None,
        "best_val_top1": view.best.val_top1 if view.best else None,
        "seconds": view.total_seconds(),
        "message": message,
        "val_images": view.best.val_images if view.best else 0,
    }
    event = Failed(**fields, retry=dict(retry or {})) if kind == "failed" else Stopped(**fields)
    with suppress(DamagedError):
        run.log().append(event)
    end_task(run.path, kind, message)
    return event

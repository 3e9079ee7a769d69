"""One stretch of a run, from its start or its resume to its next end: what surrounds `fit()`.

A worker goes through one, and so does a slice of GPU time. Events reach the log, and how it ended
the status, before anybody else is told; on_event hears of each, where a printer or a log wants it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError, DiskFullError
from resnet_demo.events import Ended, Event, Failed, Stopped
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.runs.view import RunView
from resnet_demo.tasks.disk_space import give_back, keep_back, sweep
from resnet_demo.tasks.progress import in_short
from resnet_demo.tasks.status import change, close, read_status, request_stop
from resnet_demo.training import torchrun

OnEvent = Callable[[Event], None]


def noop(event: Event) -> None:
    """Where nobody listens."""


def to_the_end(
    run: Run, work: Callable[[], Iterator[Event]], on_event: OnEvent = noop
) -> Iterator[Event]:
    """Do the work, whose last event is the run's, and tell in the status how it ended.

    A failure is logged and told; what the program did not foresee is raised again.
    """
    last: Event | None = None
    try:
        sweep(run.path)
        keep_back(run.path)
        for last in work():
            yield last
    except DiskFullError as error:
        give_back(run.path)
        request_stop(run.path, str(error))
        yield record_end(run, "stopped", f"{error}; make room, then Resume goes on", on_event)
        return
    except DemoError as error:
        yield record_end(run, "failed", str(error), on_event, getattr(error, "retry", {}))
        return
    except Exception as error:  # raised again: a page that only sees the folder must know too
        if not torchrun.restarts_left():
            record_end(run, "failed", in_short(error), on_event)
        raise
    give_back(run.path)
    if read_status(run.path).is_live:  # else its first rank has told it
        close(run.path, last.kind, last.message)


def logged(
    run: Run,
    paths: Paths,
    should_stop: Callable[[], bool],
    on_event: OnEvent = noop,
    **options: Any,
) -> Iterator[Event]:
    """Train in this process, alone or as the first of several ranks: each event once it is logged.

    options: what else `fit` takes.
    """
    from resnet_demo.training.distributed import (
        join_world,  # seconds: the waiting must not pay for it
    )
    from resnet_demo.training.fit import fit

    log = run.log()
    log.mend()
    with join_world() as ranks:
        config = ranks.broadcast(run.config)
        datasets = Datasets(paths.data)
        for event in fit(config, datasets, run.path, should_stop, ranks, **options):
            log.append(event)
            on_event(event)
            if event.kind in ("started", "resumed"):  # running already, where a rank was lost
                message = getattr(event, "message", "")
                change(run.path, "running", unless=("stopping", "running"), message=message)
            yield event


def record_end(
    run: Run,
    kind: str,
    message: str,
    on_event: OnEvent = noop,
    retry: Mapping[str, Any] | None = None,
) -> Ended:
    """Log and tell an end that the loop did not reach by itself; retry: as in Failed."""
    give_back(run.path)
    view = RunView(run.log())
    run.log().mend()
    view.refresh()
    best = view.best
    told = {"retry": dict(retry)} if retry else {}
    event = (Failed if kind == "failed" else Stopped)(
        **told,
        step=view.step,
        epoch=view.last.epoch if view.last else 0,
        best_epoch=best.epoch if best else None,
        best_val_top1=best.val_top1 if best else None,
        seconds=view.worked(),
        message=message,
    )
    run.log().append(event)
    close(run.path, kind, message)
    on_event(event)
    return event

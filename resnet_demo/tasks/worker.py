"""A task's process: `python -m resnet_demo.tasks.worker VERB FOLDER`.

VERB is train or one of DEEDS. It waits for its turn without torch, does the work, and puts every
state and every failure where readers look for them. The launcher's lock came with it, open, and
lasts until the process ends. Where there are several GPUs, `train` starts a process for each (VERB
is rank) and holds the locks for all of them.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resnet_demo.errors import DemoError
from resnet_demo.events import Ended, Event
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.runs.text import event_text
from resnet_demo.tasks import data_work
from resnet_demo.tasks.evaluations import bear, evaluate
from resnet_demo.tasks.image_indexes import index
from resnet_demo.tasks.limits import Limits
from resnet_demo.tasks.multi_gpu import (
    exit_with_parent,
    join_as_rank,
    process_count,
    release_ranks,
    start_ranks,
)
from resnet_demo.tasks.process_setup import configure_process
from resnet_demo.tasks.progress import begin
from resnet_demo.tasks.queue import wait_for_turn
from resnet_demo.tasks.run_session import logged, record_end, to_the_end
from resnet_demo.tasks.speed_tests import measure
from resnet_demo.tasks.status import StopSignal, read_status, report, request_stop
from resnet_demo.training import torchrun

TASKS = {
    "get": data_work.get,
    "survey": data_work.survey,
    "import": data_work.bring,
    "measure": measure,
    "evaluate": evaluate,
    "robustness": bear,
    "index": index,
}


def train(
    run: Run,
    paths: Paths,
    on_event: Callable[[Event], None] = lambda event: None,
    on_wait: Callable[[int], None] = lambda place: None,
    all_gpus: bool = False,
    limit_s: float | None = None,
) -> Ended:
    """Take a queued run to its end, logging each event; the last of them.

    A failure is logged and told in the status; what the program did not foresee is raised again.
    all_gpus: on all GPUs of this machine, in a process each; else in this one. limit_s: seconds of
    work after which it is stopped.
    """
    report(run.path, pid=os.getpid())
    lock = wait_for_turn(run.path, StopSignal(run.path), on_wait)
    if lock is None:
        release_ranks()
        return record_end(run, "stopped", "taken out of the queue before it started", on_event)
    configure_process()

    def work() -> Iterator[Event]:
        begin(run.path, "preparing", "loading torch and the images")
        count = process_count() if all_gpus else 1
        if count > 1:
            yield log_of_ranks(run, count)
        else:
            yield from logged(run, paths, StopSignal(run.path), on_event)

    try:
        with time_limit(run.path, limit_s):
            *_, last = to_the_end(run, work, on_event)
        return last
    finally:
        os.close(lock)  # the next one's turn


def log_of_ranks(run: Run, count: int) -> Ended:
    """Train in so many processes, the first of which logs; the last event. Raises LostError."""
    try:
        start_ranks(run, count)
    except DemoError:
        if read_status(run.path).is_live:
            raise
    *_, last = run.log()
    return last


def train_rank(run: Run, paths: Paths, on_event: Callable[[Event], None]) -> None:
    """Be one of a worker's processes, until it ends or the run does."""
    exit_with_parent()
    if not read_status(run.path).is_live:  # all was told, and then another was lost on its way out
        return
    if torchrun.rank() == 0:
        for _ in to_the_end(
            run, lambda: logged(run, paths, StopSignal(run.path), on_event), on_event
        ):
            pass  # each event is logged, and told to on_event
    else:
        with suppress(DemoError):  # the same as the first one's, which tells it
            join_as_rank(paths)


def log_line(text: str) -> None:
    """A line for worker.log, with the time."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


@contextmanager
def time_limit(folder: Path, seconds: float | None) -> Iterator[None]:
    """Ask the task to stop once it has worked that long, and say why; None: never."""
    if seconds is None:
        yield
        return
    told = f"stopped after {seconds / 60:.0f} minutes of work, the most that is allowed here"
    fired = threading.Event()

    def stop() -> None:
        fired.set()
        request_stop(folder, told)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()
    if fired.is_set() and read_status(folder).state == "stopped":
        report(folder, message=f"{told}; Resume goes on")


def stop_from_signal(folder: Path) -> None:
    """From a signal handler: in a thread, since the code it interrupted may hold the lock."""
    threading.Thread(target=request_stop, args=(folder, "asked to stop by a signal")).start()


def main(verb: str, folder: Path) -> None:
    """Do one task. SIGTERM, as a shutting-down machine sends it, is a request to stop.

    To a rank it is the end: it comes from the worker, which has lost another.
    """
    paths = Paths.from_environment()

    def tell(event: Event) -> None:
        log_line(event_text(event))

    if verb == "rank":
        train_rank(Run(folder), paths, tell)
        return
    signal.signal(signal.SIGTERM, lambda *_: stop_from_signal(folder))
    if verb == "train":
        waiting = "waiting, place {} in the queue".format
        limits = Limits.from_environment(os.environ)
        limit_s = limits and limits.minutes * 60.0
        train(Run(folder), paths, tell, lambda place: log_line(waiting(place)), True, limit_s)
        return
    with suppress(DemoError):  # told in status.json already
        TASKS[verb](folder, paths)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

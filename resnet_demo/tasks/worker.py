"""A task's process: `python -m resnet_demo.tasks.worker VERB FOLDER`.

VERB is `train` or one of TASKS. The worker records every state and every failure in the task's
directory. It inherits its lock from the launcher as an open descriptor and never closes it: the
kernel releases the lock when the process ends, however it ends. On a machine with several GPUs
`train` starts one process for each (VERB `rank`) and holds the locks for all of them.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError
from resnet_demo.events import Ended, Event
from resnet_demo.file_locks import release_lock
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.runs.text import event_text
from resnet_demo.tasks.datasets import run_download, run_import, run_survey
from resnet_demo.tasks.evaluations import run_evaluation, run_robustness
from resnet_demo.tasks.exports import run_export
from resnet_demo.tasks.image_indexes import run_indexing
from resnet_demo.tasks.limits import Limits
from resnet_demo.tasks.multi_gpu import (
    exit_with_parent,
    join_as_rank,
    process_count,
    release_ranks,
    train_in_ranks,
)
from resnet_demo.tasks.process_setup import OPTIMIZERS, configure_process, import_quickly
from resnet_demo.tasks.queue import wait_for_device
from resnet_demo.tasks.run_session import RunSession, noop, record_end
from resnet_demo.tasks.speed_tests import run_speed_test
from resnet_demo.tasks.status import StopSignal, read_status, request_stop, update_status
from resnet_demo.training import torchrun

TASKS = {
    "get": run_download,
    "survey": run_survey,
    "import": run_import,
    "measure": run_speed_test,
    "evaluate": run_evaluation,
    "robustness": run_robustness,
    "index": run_indexing,
    "export": run_export,
}


def train(
    run: Run,
    paths: Paths,
    on_event: Callable[[Event], None] = noop,
    on_wait: Callable[[int], None] = lambda place: None,
    all_gpus: bool = False,
    limit_s: float | None = None,
) -> Ended:
    """Take a queued run to its end and return its last event.

    Waits for the device, trains, logs each event and passes it to `on_event`. Errors of the run
    are recorded (`RunSession`); unforeseen ones are also raised again. on_wait: called with the
    place in the queue. all_gpus: use every GPU of this machine, in one process each.
    limit_s: seconds of work after which the run is stopped.
    """
    update_status(run.path, pid=os.getpid())
    should_stop = StopSignal(run.path)
    device_lock = wait_for_device(run.path, should_stop, on_wait)
    if device_lock is None:
        release_ranks()
        last = record_end(run, "stopped", "removed from the queue before it started")
        on_event(last)
        return last
    # Before torch is imported: OpenMP reads its variables when it is loaded.
    configure_process()
    try:
        with time_limit(run.path, limit_s), RunSession(run, on_event) as session:
            session.prepare("loading torch and the images")
            import_quickly("torch")
            if all_gpus and (count := process_count()) > 1:
                session.last = train_in_ranks(run, count)
            else:
                # imported only now: a worker that waits in the queue has not loaded torch
                import_quickly("resnet_demo.training.fit", OPTIMIZERS)
                from resnet_demo.training.distributed import join_world
                from resnet_demo.training.fit import fit

                with join_world() as world:
                    config = world.broadcast(run.config)
                    for event in fit(
                        config, Datasets(paths.data), run.path, should_stop, world, paths=paths
                    ):
                        session.record(event)
        return session.last
    finally:
        # not by os.close alone: a process that was forked meanwhile has a copy of the descriptor
        release_lock(device_lock)


def train_rank(run: Run, paths: Paths, on_event: Callable[[Event], None]) -> None:
    """Train as one of a worker's processes; the first one logs. End when the worker ends."""
    exit_with_parent()
    if not read_status(run.path).is_live:
        return  # the run has ended: a rank was lost while it exited, and all were restarted
    if torchrun.rank() > 0:
        with suppress(DemoError):  # all ranks raise the same error, and the first one records it
            join_as_rank(paths)
        return
    from resnet_demo.training.distributed import join_world
    from resnet_demo.training.fit import fit

    should_stop = StopSignal(run.path)
    with RunSession(run, on_event) as session:
        session.prepare()
        with join_world() as world:
            config = world.broadcast(run.config)
            for event in fit(
                config, Datasets(paths.data), run.path, should_stop, world, paths=paths
            ):
                session.record(event)


@contextmanager
def time_limit(folder: Path, seconds: float | None) -> Iterator[None]:
    """Stop the task after that many seconds, and name the limit in its status; None: no limit."""
    if seconds is None:
        yield
        return
    message = f"stopped at the time limit of {seconds / 60:.0f} minutes"
    fired = threading.Event()

    def stop() -> None:
        fired.set()
        request_stop(folder, message)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True  # it must not keep a worker alive that has ended early
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if fired.is_set() and read_status(folder).state == "stopped":
        update_status(folder, message=f"{message}; Resume continues")


def stop_from_signal(folder: Path) -> None:
    """Stop the task, from a signal handler.

    In a thread: the code that the signal interrupted may hold the lock of `status.json`.
    """
    threading.Thread(target=request_stop, args=(folder, "stop requested by a signal")).start()


def log_line(text: str) -> None:
    """Print a line with the time, for worker.log."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def log_event(event: Event) -> None:
    """Print an event, for worker.log."""
    log_line(event_text(event))


def log_queue_place(place: int) -> None:
    """Print the place in the queue, for worker.log."""
    log_line(f"waiting, place {place} in the queue")


def main(verb: str, folder: Path) -> None:
    """Perform one task. SIGTERM, which a machine sends at shutdown, requests a stop."""
    paths = Paths.from_environment()
    if verb == "rank":
        # SIGTERM ends a rank at once: torchrun sends it when another rank is lost
        train_rank(Run(folder), paths, log_event)
        return
    signal.signal(signal.SIGTERM, lambda *_: stop_from_signal(folder))
    if verb == "train":
        limits = Limits.from_environment(os.environ)
        limit_s = limits.minutes * 60.0 if limits else None
        train(Run(folder), paths, log_event, log_queue_place, all_gpus=True, limit_s=limit_s)
        return
    with suppress(DemoError):  # recorded in status.json
        TASKS[verb](folder, paths)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

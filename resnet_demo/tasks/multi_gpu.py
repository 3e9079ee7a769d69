"""One run in several processes, one per device. torchrun starts them, for a worker or for a person.

When a process is lost, torchrun ends the others and restarts all of them, up to RESTARTS times;
they resume from the last checkpoint. Only the first process writes: log, status and checkpoints.
"""

import os
import signal
import sys
import threading
import time
from tempfile import TemporaryDirectory

from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError
from resnet_demo.events import Ended, Event
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks.status import read_status
from resnet_demo.training import torchrun

RESTARTS = 3
PARENT_CHECK_S = 0.5


class RankLostError(DemoError):
    """A process was lost once more after the last restart."""


def process_count() -> int:
    """Return how many processes a run should have here: one per visible GPU, at least one."""
    import torch

    return max(1, torch.cuda.device_count())


def train_in_ranks(run: Run, count: int) -> Ended:
    """Train in `count` processes (`worker rank`) and return the run's last event.

    The first process logs the events and closes the status. The processes end when this one does.
    Raises RankLostError.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # The ranks share the cores; as many threads as cores in each would compete.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    with TemporaryDirectory(prefix="resnet-demo-") as error_files:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            max_restarts=RESTARTS,
            run_id=run.id,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",  # a free port of this machine
            signals_to_handle="SIGQUIT",  # SIGTERM stays the worker's: a request to stop
            logs_specs=DefaultLogsSpecs(log_dir=error_files),
        )
        try:
            elastic_launch(config, sys.executable)(
                "-m", "resnet_demo.tasks.worker", "rank", str(run.path)
            )
        except ChildFailedError as error:
            if read_status(run.path).is_live:  # else it was lost while exiting, after the end
                rank, failure = error.get_first_failure()
                raise RankLostError(lost_rank_text(rank, count, failure.exitcode)) from error
    *_, last = run.log()  # rank 0 has logged the end in its own process
    return last


def lost_rank_text(rank: int, count: int, code: int) -> str:
    """Return the sentence that names the lost process and how it ended; code: its exit code."""
    how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
    return f"process {rank + 1} of {count} {how} after {RESTARTS} restarts: see worker.log"


def join_as_rank(paths: Paths, stop_on_signals: bool = False) -> Event | None:
    """Train as a rank other than the first, which writes nothing; return the run's last event.

    None if the first rank has nothing to train. stop_on_signals: once all ranks have joined, SIGINT
    and SIGTERM stop all of them after a step; before, they end this process. Raises as `fit`.
    """
    from resnet_demo.training.distributed import join_world
    from resnet_demo.training.fit import fit

    signals, last = [], None
    with join_world() as world:
        if stop_on_signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                # Only noted: an exception in the middle of an exchange would leave the other ranks
                # waiting.
                signal.signal(number, lambda number, _: signals.append(number))
        config = world.broadcast(lambda: None)  # the first rank's
        if config is not None:
            for event in fit(
                config, Datasets(paths.data), None, lambda: bool(signals), world, paths=paths
            ):
                last = event
    return last


def release_ranks() -> None:
    """Release the other ranks, if there are any: they exit, because there is nothing to train."""
    if torchrun.size() > 1:
        from resnet_demo.training.distributed import join_world

        with join_world() as world:
            world.broadcast(lambda: None)


def exit_with_parent() -> None:
    """Start a thread that ends this process as soon as its parent has ended, even by a kill."""
    parent = os.getppid()

    def watch() -> None:
        # An orphan gets another parent, also when its own was killed and could not signal it.
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)  # at any moment: checkpoints are written atomically

    threading.Thread(target=watch, daemon=True).start()

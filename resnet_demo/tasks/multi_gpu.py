"""Several processes for one run, a device each: torchrun starts them, by the worker or by hand.

If one is lost, torchrun ends the others and starts all of them again, up to RESTARTS times; they
go on from the last checkpoint. Only the first one writes, and has a word in the task's status.
"""

import os
import signal
import sys
import threading
import time
from tempfile import TemporaryDirectory

from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError
from resnet_demo.events import Event
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.training import torchrun

RESTARTS = 3
LOOK_EVERY_S = 0.5


class RankLostError(DemoError):
    """Processes of a run were lost more often than it was started again."""


def process_count() -> int:
    """How many processes a run should have on this machine: one a GPU that it may see."""
    import torch

    return max(1, torch.cuda.device_count())


def start_ranks(run: Run, count: int) -> None:
    """Start so many `worker rank` processes, and again where one is lost; back when all ended.

    They end when this process does. Raises LostError.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    with TemporaryDirectory(prefix="resnet-demo-") as folder:  # for its notes on errors
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=count, max_restarts=RESTARTS, run_id=run.id,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0",  # a free port of this machine
            signals_to_handle="SIGQUIT",  # SIGTERM stays the worker's: a request to stop
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)(
                "-m", "resnet_demo.tasks.worker", "rank", str(run.path)
            )
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            code = failure.exitcode
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise RankLostError(
                f"process {rank + 1} of {count} {how}, after {RESTARTS} restarts: see worker.log"
            ) from error


def join_as_rank(paths: Paths, stop_on_signals: bool = False) -> Event | None:
    """What every rank but the first does: train along, and not a word. The run's last event.

    None where the first one has nothing to do. stop_on_signals: SIGINT and SIGTERM ask all ranks to
    stop, from when they have met; before, they end this process. Raises as `fit`.
    """
    from resnet_demo.training.distributed import join_world
    from resnet_demo.training.fit import fit

    asked, last = [], None
    with join_world() as ranks:
        if stop_on_signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: asked.append(True))
        config = ranks.broadcast(lambda: None)
        if config is not None:
            for event in fit(config, Datasets(paths.data), None, lambda: bool(asked), ranks):
                last = event
    return last


def release_ranks() -> None:
    """Tell the other ranks, if there are, that there is nothing to do."""
    if torchrun.size() > 1:
        from resnet_demo.training.distributed import join_world

        with join_world() as ranks:
            ranks.broadcast(lambda: None)


def exit_with_parent() -> None:
    """From now on this process ends when the one that started it does, however that ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY_S)
        os._exit(1)  # whatever it is doing; a checkpoint is whole at any moment

    threading.Thread(target=watch, daemon=True).start()

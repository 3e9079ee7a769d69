"""The verb `train`: train a new run or resume one in this process, or in all ranks of torchrun."""

import argparse
import sys
from typing import Any

from resnet_demo.cli.common import (
    add_field_options,
    add_verb,
    field_names,
    print_result,
    signals_stop,
)
from resnet_demo.config import parse_field
from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.events import Event, to_dict
from resnet_demo.file_locks import release_lock
from resnet_demo.paths import Paths
from resnet_demo.runs.text import event_text
from resnet_demo.training import torchrun

EXIT_CODES = {"finished": 0, "stopped": 130, "failed": 1}


def add(verbs: Any) -> None:
    """Add the verb and its options, one for each field of TrainConfig."""
    train = add_verb(verbs, "train", run_train, "train a network in this process")
    train.add_argument("--run-id", metavar="ID", help="id of the new run (default: generated)")
    train.add_argument(
        "--resume", metavar="RUN", help="continue this run; all other options are ignored"
    )
    add_field_options(train)


def run_train(args: argparse.Namespace, paths: Paths) -> int:
    """Train a new run or resume one; repeating the command after a kill is safe."""
    from resnet_demo.tasks.launcher import Launcher
    from resnet_demo.tasks.multi_gpu import release_ranks

    if torchrun.rank() > 0:
        return train_other_rank(paths)
    run, lock = make_or_resume(Launcher(paths), args)
    if lock is None:
        # Else the other ranks would wait for a training that never starts.
        release_ranks()
        return 0
    try:
        return train_here(run, paths, args.json)
    finally:
        release_lock(lock)  # held until here: a run without its lock counts as dead


def make_or_resume(launcher: Any, args: argparse.Namespace) -> tuple[Any, int | None]:
    """Return the queued run and its lock; the lock is None if the run has finished.

    Raises ConfigError.
    """
    if args.resume is not None:
        return resume(launcher, args.resume, args.json)
    if torchrun.restarts_left() and args.run_id is None:
        rule = "given if torchrun may restart the run, which then resumes by that id"
        raise ConfigError.rule("run_id", rule, None)
    # After a lost process, torchrun repeats the command: its run exists by now.
    if torchrun.restarts() and launcher.runs.is_taken(args.run_id):
        return resume(launcher, args.run_id, args.json)
    given = {name: getattr(args, name) for name in field_names()}
    values = {name: parse_field(name, text) for name, text in given.items() if text is not None}
    from resnet_demo.data.recipe_fit import fit_recipe

    config, adapted = fit_recipe(values, launcher.datasets)
    run, lock = launcher.make(config, args.run_id)
    if adapted:
        print(f"resnet_demo train: {adapted}", file=sys.stderr)
    return run, lock


def resume(launcher: Any, name: str, as_json: bool) -> tuple[Any, int | None]:
    """Return the requeued run and its lock; the lock is None if the run has finished."""
    from resnet_demo.tasks.status import reconcile_status

    run = launcher.runs.find(name)
    if reconcile_status(run.path).state == "finished":
        values = {"run": run.id, "state": "finished"}
        print_result(values, f"run {run.id} is finished", as_json)
        return run, None
    return run, launcher.requeue(run)


def train_here(run: Any, paths: Paths, as_json: bool) -> int:
    """Train in this process; Ctrl-C stops after the current step and keeps the checkpoint."""
    from resnet_demo.tasks.worker import train

    def on_wait(place: int) -> None:
        print(f"another run is training: place {place} in the queue", file=sys.stderr)

    # To standard error, because standard output is for JSON lines alone.
    print(f"run {run.id} in {run.path}", file=sys.stderr)
    with signals_stop(run.path):
        last = train(run, paths, lambda event: print_event(event, as_json), on_wait)
    if last.kind == "failed":
        print(f"resnet_demo train: {last.message}", file=sys.stderr)
    return exit_code(last)


def train_other_rank(paths: Paths) -> int:
    """Train as a rank above 0: rank 0 writes and prints."""
    from resnet_demo.tasks.multi_gpu import join_as_rank

    try:
        last = join_as_rank(paths, stop_on_signals=True)
    except DemoError as error:
        return error.exit_code
    return exit_code(last) if last else 0


def exit_code(last: Event) -> int:
    """Return the exit code for the last event of a run."""
    # torchrun restarts a process that exits with an error, and would restart a stopped run.
    return 0 if last.kind == "stopped" and torchrun.restarts_left() else EXIT_CODES[last.kind]


def print_event(event: Event, as_json: bool) -> None:
    """Print an event, and the warning of a resumed run to standard error."""
    warning = getattr(event, "message", "") if event.kind == "resumed" else ""
    if warning:
        print(f"resnet_demo train: {warning}", file=sys.stderr)
    print_result(to_dict(event), event_text(event), as_json)

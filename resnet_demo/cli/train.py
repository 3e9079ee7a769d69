"""`train`: a run in this process, or going on with one; under torchrun, in all of its processes."""

import argparse
import os
import signal
import sys
from dataclasses import fields
from typing import Any

from resnet_demo.cli.common import find, flag, knob_names, tell, verb
from resnet_demo.config import TrainConfig, make_config, parse
from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.events import Event, to_dict
from resnet_demo.paths import Paths
from resnet_demo.runs.text import event_text
from resnet_demo.training import torchrun

EXIT_CODES = {"finished": 0, "stopped": 130, "failed": 1}


def add(verbs: Any) -> None:
    """The verb and its flags, those of the fields of TrainConfig."""
    train = verb(verbs, "train", train_verb, "train a network in this process")
    train.add_argument("--run-id", metavar="ID", help="name of the new run; made up if left out")
    train.add_argument("--resume", metavar="RUN", help="go on with this run; no other flag counts")
    for knob in fields(TrainConfig):
        train.add_argument(f"--{knob.name.replace('_', '-')}", **flag(knob))


def train_verb(asked: argparse.Namespace, paths: Paths) -> int:
    """Train, or go on with a run; the same command again, or after a kill, is right."""
    from resnet_demo.tasks.launcher import Launcher
    from resnet_demo.tasks.multi_gpu import release_ranks

    if torchrun.rank() > 0:
        return train_along(paths)
    run, lock = queued(Launcher(paths), asked)
    if lock is None:
        release_ranks()
        return 0
    try:
        return train_here(run, paths, asked.json)
    finally:
        os.close(lock)


def queued(launcher: Any, asked: argparse.Namespace) -> tuple[Any, int | None]:
    """The run that was asked for and its lock, new or resumed. Raises ConfigError."""
    if asked.resume is not None:
        return resumed(launcher, asked.resume, asked.json)
    if torchrun.restarts_left() and asked.run_id is None:
        rule = "given where torchrun may restart the run, which then goes on by that name"
        raise ConfigError.rule("run_id", rule, None)
    if torchrun.restarts() and launcher.runs.is_taken(asked.run_id):
        return resumed(launcher, asked.run_id, asked.json)
    given = {name: getattr(asked, name) for name in knob_names()}
    knobs = {name: parse(name, text) for name, text in given.items() if text is not None}
    return launcher.make(make_config(knobs), asked.run_id)


def resumed(launcher: Any, name: str, as_json: bool) -> tuple[Any, int | None]:
    """The run and its lock; no lock where there is nothing left to do."""
    from resnet_demo.tasks.status import settle

    run = find(launcher.runs, name)
    status = settle(run.path)
    if status.state == "finished":
        tell({"run": run.id, "state": "finished"}, f"run {run.id} is finished", as_json)
        return run, None
    return run, launcher.requeue(run)


def train_here(run: Any, paths: Paths, as_json: bool) -> int:
    """Train in this process; Ctrl-C stops after the step and keeps the checkpoint."""
    from resnet_demo.tasks.worker import stop_from_signal, train

    def waiting(place: int) -> None:
        print(f"another run trains: place {place} in the queue", file=sys.stderr)

    print(f"run {run.id} in {run.path}", file=sys.stderr)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda *_: stop_from_signal(run.path))
    try:
        last = train(run, paths, lambda event: show(event, as_json), waiting)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if last.kind == "failed":
        print(f"resnet_demo train: {last.message}", file=sys.stderr)
    return exit_code(last)


def train_along(paths: Paths) -> int:
    """Train as a rank that is not the first: it follows that one, which writes and prints."""
    from resnet_demo.tasks.multi_gpu import join_as_rank

    try:
        last = join_as_rank(paths, stop_on_signals=True)
    except DemoError as error:
        return error.exit_code
    return exit_code(last) if last else 0


def exit_code(last: Event) -> int:
    """For the shell; to torchrun, which would start a stopped run again, a stop is no failure."""
    return 0 if last.kind == "stopped" and torchrun.restarts_left() else EXIT_CODES[last.kind]


def show(event: Event, as_json: bool) -> None:
    """An event, on standard output; a damaged checkpoint is named on standard error too."""
    warning = getattr(event, "message", "") if event.kind == "resumed" else ""
    if warning:
        print(f"resnet_demo train: {warning}", file=sys.stderr)
    tell(to_dict(event), event_text(event), as_json)

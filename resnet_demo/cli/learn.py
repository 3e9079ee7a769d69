"""`learn`: the experiments of the Learn tab, in this process, and the recordings of them."""

import argparse
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import flag, knob_names, tell, verb, whole
from resnet_demo.cli.train import train_here
from resnet_demo.config import TrainConfig, parse
from resnet_demo.errors import ConfigError
from resnet_demo.learn.lessons import BUGS, KINDS, beside_vgg, bugs, duel, gradient, range_of
from resnet_demo.paths import Paths


def add(verbs: Any) -> None:
    """The verb, what a lesson asks for, and the knobs that all of its runs share."""
    learn = verb(verbs, "learn", learn_verb, "train the runs of a lesson, or record them")
    learn.add_argument("what", choices=(*KINDS, "resume", "record"))
    learn.add_argument("group", nargs="?", metavar="GROUP", help="for resume and record")
    learn.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="for record")
    learn.add_argument("--depths", metavar="N,N", default="20", help="for duel and gradient")
    learn.add_argument("--bugs", metavar="A,B", help="for bugs: all of them if left out")
    learn.add_argument("--seeds", metavar="N", type=whole, default=1, help="runs of each arm")
    learn.add_argument("--steps", metavar="N", type=whole, default=100, help="for range")
    for knob in fields(TrainConfig):
        if knob.name != "recipe":
            learn.add_argument(f"--{knob.name.replace('_', '-')}", **flag(knob))


def learn_verb(asked: argparse.Namespace, paths: Paths) -> int:
    """Train the runs one after the other; a stop ends all, and `learn resume` goes on."""
    from resnet_demo.runs.groups import group_of
    from resnet_demo.tasks.launcher import Launcher
    from resnet_demo.tasks.run_groups import Comparing

    launcher = Launcher(paths)
    if asked.what in ("resume", "record"):
        group = group_of(launcher.runs, asked.group)
        return (recorded if asked.what == "record" else resumed)(launcher, group, asked)
    name, made = Comparing(launcher).make(asked.what, arms_of(asked))
    tell({"group": name, "runs": [run.id for run, _ in made]}, f"group {name}", asked.json)
    return in_turn(launcher, made, asked.json)


def in_turn(launcher: Any, made: list[tuple[Any, int]], as_json: bool) -> int:
    """Train each; the first exit code that is not 0 ends it, and the rest leave the queue."""
    code = 0
    for run, lock in made:
        try:
            if code == 0:
                code = train_here(run, launcher.paths, as_json)
            else:
                launcher.stop_task(run.path)
        finally:
            os.close(lock)
    return code


def resumed(launcher: Any, group: Any, asked: argparse.Namespace) -> int:
    """Go on with all runs of the group that have not finished."""
    from resnet_demo.tasks.status import settle

    rest = [run for run in group.runs if settle(run.path).state != "finished"]
    return in_turn(launcher, [(run, launcher.requeue(run)) for run in rest], asked.json)


def recorded(launcher: Any, group: Any, asked: argparse.Namespace) -> int:
    """Copy what the runs were told and logged."""
    from resnet_demo.learn.recording import record

    if asked.folder is None:
        raise ConfigError.rule("folder", "the folder that gets the recordings", None)
    for path in record(group, asked.folder, launcher.datasets):
        tell({"recording": str(path)}, f"recorded {path}", asked.json)
    return 0


def arms_of(asked: argparse.Namespace) -> Any:
    """The configs of the lesson that was asked for. Raises ConfigError."""
    given = {name: getattr(asked, name, None) for name in knob_names()}
    knobs = {name: parse(name, text) for name, text in given.items() if text is not None}
    depths = [parse("epochs", text) for text in asked.depths.split(",")]
    if asked.what == "duel":
        return duel(depths, asked.seeds, knobs)
    if asked.what == "gradient":
        return gradient(depths[0], asked.seeds, knobs)
    if asked.what == "vgg":
        return beside_vgg(asked.seeds, knobs)
    if asked.what == "bugs":
        return bugs(asked.bugs.split(",") if asked.bugs else list(BUGS), asked.seeds, knobs)
    return range_of(asked.steps, knobs)

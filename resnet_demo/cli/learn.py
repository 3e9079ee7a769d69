"""The verb `learn`: train the runs of a lesson of the Learn tab, resume them, record them."""

import argparse
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import (
    add_field_options,
    add_verb,
    count_argument,
    field_names,
    print_result,
)
from resnet_demo.cli.train import train_here
from resnet_demo.config import make_config, parse_field
from resnet_demo.errors import ConfigError
from resnet_demo.file_locks import release_lock
from resnet_demo.learn.lessons import (
    BUGS,
    KINDS,
    PER_CLASS,
    bug_arms,
    duel_arms,
    gradient_arms,
    range_arms,
    transfer_arms,
    vgg_arms,
)
from resnet_demo.paths import Paths


def add(verbs: Any) -> None:
    """Add the verb, its options, and those of the fields that all of its runs share."""
    learn = add_verb(verbs, "learn", run_learn, "train the runs of a lesson, or record them")
    learn.add_argument(
        "lesson",
        choices=(*KINDS, "resume", "record"),
        help="a lesson to train; resume: continue a group of runs; record: copy a finished group, "
        "without weights, to show it on the Learn tab",
    )
    learn.add_argument("group", nargs="?", metavar="GROUP", help="for resume and record: the group")
    learn.add_argument(
        "folder", nargs="?", type=Path, metavar="DIR", help="for record: where to copy it"
    )
    learn.add_argument(
        "--depths",
        metavar="N,N",
        default="20",
        help="depths of the networks, for duel and gradient; one only for gradient (default 20)",
    )
    learn.add_argument(
        "--bugs", metavar="A,B", help="switches to try, for bugs (default: all of them)"
    )
    learn.add_argument(
        "--per-class",
        metavar="N,N",
        default=",".join(map(str, PER_CLASS)),
        help="training images of each class, for transfer (default 10,30,100,300)",
    )
    learn.add_argument(
        "--seeds",
        metavar="N",
        type=count_argument,
        default=1,
        help="runs of each variant (1 to 5, 1 only for range; default 1)",
    )
    learn.add_argument(
        "--steps",
        metavar="N",
        type=count_argument,
        default=100,
        help="training steps, for range (default 100)",
    )
    # Each lesson has its own recipe, from which its arms differ in one point.
    names = [name for name in field_names() if name != "recipe"]
    note = "Values replace those of the lesson, which starts from the recipe paper."
    add_field_options(learn, names, note)


def run_learn(args: argparse.Namespace, paths: Paths) -> int:
    """Train the runs one after the other; a stop ends all, and `learn resume` continues them."""
    from resnet_demo.runs.groups import get_group
    from resnet_demo.tasks.launcher import Launcher
    from resnet_demo.tasks.run_groups import RunGroups

    launcher = Launcher(paths)
    if args.lesson == "resume":
        return resume(launcher, get_group(launcher.runs, args.group), args)
    if args.lesson == "record":
        return record_group(launcher, get_group(launcher.runs, args.group), args)
    name, made = RunGroups(launcher).make(args.lesson, lesson_arms(args, launcher.datasets))
    print_result({"group": name, "runs": [run.id for run, _ in made]}, f"group {name}", args.json)
    return train_all(launcher, made, args.json)


def train_all(launcher: Any, made: list[tuple[Any, int]], as_json: bool) -> int:
    """Train each run; after the first exit code that is not 0, remove the rest from the queue."""
    code = 0
    # This process holds the worker lock of each run: without it, a run that waits counts as dead.
    for run, lock in made:
        try:
            if code == 0:
                code = train_here(run, launcher.paths, as_json)
            else:
                launcher.stop_task(run.path)  # it can be resumed, as a stopped run
        finally:
            release_lock(lock)
    return code


def resume(launcher: Any, group: Any, args: argparse.Namespace) -> int:
    """Continue the runs of the group that have not finished."""
    from resnet_demo.tasks.status import reconcile_status

    rest = [run for run in group.runs if reconcile_status(run.path).state != "finished"]
    return train_all(launcher, [(run, launcher.requeue(run)) for run in rest], args.json)


def record_group(launcher: Any, group: Any, args: argparse.Namespace) -> int:
    """Copy the configs and the logs of the runs."""
    from resnet_demo.learn.recording import write_recordings

    if args.folder is None:
        raise ConfigError.rule("folder", "the folder that gets the recordings", None)
    for path in write_recordings(group, args.folder, launcher.datasets):
        print_result({"recording": str(path)}, f"recorded {path}", args.json)
    return 0


def lesson_arms(args: argparse.Namespace, datasets: Any) -> Any:
    """Return the arms of the lesson, with their configs. Raises ConfigError, NotFoundError."""
    given = {name: getattr(args, name, None) for name in field_names()}
    values = {name: parse_field(name, text) for name, text in given.items() if text is not None}
    # Text that is no whole number stays text, which the lesson refuses with its own message.
    depths = [parse_field("epochs", text) for text in args.depths.split(",")]
    if args.lesson == "duel":
        return duel_arms(depths, args.seeds, values)
    if args.lesson == "gradient":
        if len(depths) > 1:  # the lesson compares three networks of the same depth
            raise ConfigError.rule("depths", "one depth for gradient", args.depths)
        return gradient_arms(depths[0], args.seeds, values)
    if args.lesson == "vgg":
        return vgg_arms(args.seeds, values)
    if args.lesson == "bugs":
        return bug_arms(args.bugs.split(",") if args.bugs else list(BUGS), args.seeds, values)
    if args.lesson == "transfer":
        counts = [parse_field("epochs", text) for text in args.per_class.split(",")]
        info = datasets.get(make_config(values).dataset)
        return transfer_arms(counts, args.seeds, values, info)
    if args.seeds > 1:
        raise ConfigError.rule("seeds", "1 for range, which trains one run", args.seeds)
    return range_arms(args.steps, values, datasets.get(make_config(values).dataset))

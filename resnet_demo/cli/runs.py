"""The verb `runs`: list, show, compare, name, delete and pack runs, and empty the trash."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import add_verb, print_result
from resnet_demo.errors import ConfigError, counted, shortened
from resnet_demo.fingerprint import SPLIT_NAMES
from resnet_demo.paths import Paths
from resnet_demo.runs.text import accuracy_text, bytes_text, epoch_lines, image_notes


def add(verbs: Any) -> None:
    """Add the verb and its arguments."""
    runs = add_verb(verbs, "runs", run_runs, "list, show, compare, name, delete or pack runs")
    runs.add_argument(
        "action",
        choices=("list", "show", "compare", "title", "notes", "delete", "pack", "trash"),
        help="list: the runs, newest first; show: one run epoch by epoch; compare: settings that "
        "differ, final metrics and curves of two runs or more; title, notes: name or describe a "
        "run; delete: move a run to the trash folder; pack: copy a finished run without "
        "what only resume needs; trash: show how much the trash folder holds",
    )
    runs.add_argument(
        "run", nargs="?", metavar="RUN", help="id or folder of a run; for all but list and trash"
    )
    runs.add_argument(
        "text",
        nargs="?",
        metavar="TEXT",
        help='for title and notes: the new text, "" for none; for pack: a new folder; for '
        "compare: the second run",
    )
    runs.add_argument("more", nargs="*", metavar="RUN", help="for compare: further runs")
    runs.add_argument(
        # Lessons train many short runs, which would bury a person's own in the list.
        "--all",
        action="store_true",
        help="for list: with the experiments of lessons, their recordings, and the pretrained "
        "network that only classifies",
    )
    runs.add_argument(
        "--empty", action="store_true", help="for trash: remove the deleted runs from the disk"
    )


def run_runs(args: argparse.Namespace, paths: Paths) -> None:
    """List, show, compare, name, delete or pack runs, or show the trash."""
    from resnet_demo.runs.store import Runs
    from resnet_demo.tasks.launcher import move_to_trash
    from resnet_demo.tasks.snapshot import run_summary, run_summary_text, snapshot_dict

    check_arguments(args)
    runs = Runs(paths)
    if args.action == "trash":
        show_trash(args, paths)
        return
    if args.action == "list":
        list_runs(args, runs)
        return
    if args.run is None:
        raise ConfigError.rule("run", "the id of a run", args.run)
    run = runs.find(args.run)
    if args.action == "compare":
        # The second positional argument is a text for other actions and a run for this one.
        others = [args.text, *args.more] if args.text is not None else []
        compare([run, *map(runs.find, others)], args)
    elif args.action == "pack":
        pack_run(run, args, paths)
    elif args.action in ("title", "notes"):
        # "" removes the text; no argument at all only shows it.
        about = run.describe(**{args.action: args.text}) if args.text is not None else run.about()
        print_result({"run": run.id, **asdict(about)}, getattr(about, args.action), args.json)
    elif args.action == "delete":
        move_to_trash(run)
        text = f"{run.id} is in the trash folder"
        print_result({"run": run.id, "deleted": True}, text, args.json)
    else:
        snapshot = snapshot_dict(run)
        text = "\n".join([run_summary_text(run_summary(run)), *epoch_lines(snapshot)])
        print_result(snapshot, text, args.json)


def check_arguments(args: argparse.Namespace) -> None:
    """Raise ConfigError for an argument that the action does not take."""
    # argparse accepts every positional argument for every action.
    if args.text is not None and args.action not in ("title", "notes", "pack", "compare"):
        raise ConfigError(f"runs {args.action} takes no text, got {shortened(args.text)}")
    if args.more and args.action != "compare":
        raise ConfigError(f"runs {args.action} takes one run, got {shortened(args.more[0])}", "run")
    if args.empty and args.action != "trash":
        raise ConfigError(f"runs {args.action} takes no --empty", "empty")
    if args.all and args.action != "list":
        raise ConfigError(f"runs {args.action} takes no --all", "all")


def list_runs(args: argparse.Namespace, runs: Any) -> None:
    """Print a line for each run; without --all, not for the experiments of lessons."""
    from resnet_demo.learn.lessons import is_experiment
    from resnet_demo.tasks.snapshot import run_summary, run_summary_text

    for run in [*runs.list(), *(runs.pretrained if args.all else ())]:
        if args.all or not is_experiment(run):
            row = run_summary(run)
            print_result(row, run_summary_text(row), args.json)


def compare(runs: list[Any], args: argparse.Namespace) -> None:
    """Print how two or more runs differ."""
    from resnet_demo.runs.comparison import compare_runs, comparison_table

    compared = compare_runs(runs)
    print_result(compared, comparison_table(compared), args.json)


def show_trash(args: argparse.Namespace, paths: Paths) -> None:
    """Print how much the trash folder holds, and empty it if requested."""
    from resnet_demo.tasks.trash import empty_trash, trash_size, trash_text

    if args.run is not None:
        raise ConfigError(f"runs trash takes no run, got {args.run!r}", "run")
    # Before the sizes are read, so that they are those of what is left.
    removed = empty_trash(paths.runs) if args.empty else 0
    runs, size = trash_size(paths.runs)
    print_result(
        {"runs": runs, "bytes": size, "removed": removed}, trash_text(paths.runs), args.json
    )


def pack_run(run: Any, args: argparse.Namespace, paths: Paths) -> None:
    """Pack a run into a small folder and print what rounding its weights cost."""
    if not args.text:
        raise ConfigError.rule("folder", "a folder that is new or empty", args.text)
    from resnet_demo.data.store import Datasets
    from resnet_demo.export.pack import pack

    result = pack(run, Datasets(paths.data), Path(args.text))
    n, split = result["n"], SPLIT_NAMES[result["split"]]
    text = (
        f"{result['run']}: top-1 {accuracy_text(result['top1'], n)} on "
        f"{counted(n, f'{split} image')}, {accuracy_text(result['top1_float32'], n)} before its "
        f"weights were rounded to float16; {bytes_text(result['bytes'])} in {result['folder']}, of "
        f"which {bytes_text(result['weights_bytes'])} are weights; logits in {result['logits']}"
    )
    # Packing refuses a dataset that has changed, so there is nothing to warn of.
    if notes := image_notes({**result, "dataset_changed": False}):
        text += f"; {notes}"
    print_result(result, text, args.json)

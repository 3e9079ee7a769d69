"""`runs`: what has been trained here."""

import argparse
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import find, tell, verb
from resnet_demo.errors import ConfigError
from resnet_demo.paths import Paths
from resnet_demo.runs.text import bytes_text, epoch_lines


def add(verbs: Any) -> None:
    """The verb and its arguments."""
    runs = verb(verbs, "runs", runs_verb, "list, show, delete or pack runs")
    runs.add_argument("what", choices=("list", "show", "delete", "pack"))
    runs.add_argument("run", nargs="?", metavar="RUN")
    runs.add_argument(
        "folder", nargs="?", type=Path, metavar="DIR", help="where `pack` puts a finished run"
    )


def runs_verb(asked: argparse.Namespace, paths: Paths) -> None:
    """List, show, delete, pack."""
    from resnet_demo.runs.store import Runs
    from resnet_demo.tasks.launcher import discard
    from resnet_demo.tasks.snapshot import look, summary, summary_text

    if asked.folder is not None and asked.what != "pack":
        raise ConfigError(f"runs {asked.what} takes no folder, got {str(asked.folder)!r}")
    runs = Runs(paths)
    if asked.what == "list":
        for run in runs.list():
            row = summary(run)
            tell(row, summary_text(row), asked.json)
        return
    if asked.run is None:
        raise ConfigError.rule("run", "the id of a run", asked.run)
    run = find(runs, asked.run)
    if asked.what == "pack":
        pack_run(run, asked, paths)
    elif asked.what == "delete":
        discard(run)
        tell({"run": run.id, "deleted": True}, f"{run.id} is in the trash folder", asked.json)
    else:
        seen = look(run)
        tell(seen, "\n".join([summary_text(summary(run)), *epoch_lines(seen)]), asked.json)


def pack_run(run: Any, asked: argparse.Namespace, paths: Paths) -> None:
    """Make a run small enough to travel, and tell what it cost."""
    if asked.folder is None:
        raise ConfigError.rule("folder", "a folder that is new or empty", None)
    from resnet_demo.data.store import Datasets
    from resnet_demo.export.pack import pack

    told = pack(run, Datasets(paths.data), asked.folder)
    text = (
        f"{told['run']}: top-1 {told['top1']:.2%} on {told['n']:,} test images, "
        f"{told['top1_float32']:.2%} before its weights were rounded to float16; "
        f"{bytes_text(told['bytes'])} in {told['folder']}, {bytes_text(told['weights_bytes'])} of "
        f"them weights, its logits in {told['logits']}"
    )
    tell(told, text, asked.json)

"""`runs`: what has been trained here."""

import argparse
from typing import Any

from resnet_demo.cli.common import find, tell, verb
from resnet_demo.errors import ConfigError
from resnet_demo.places import Places
from resnet_demo.runs.words import epoch_lines


def add(verbs: Any) -> None:
    """The verb and its arguments."""
    runs = verb(verbs, "runs", runs_verb, "list, show or delete runs")
    runs.add_argument("what", choices=("list", "show", "delete"))
    runs.add_argument("run", nargs="?", metavar="RUN")


def runs_verb(asked: argparse.Namespace, places: Places) -> None:
    """List, show, delete."""
    from resnet_demo.runs.store import Runs
    from resnet_demo.tasks.launcher import discard
    from resnet_demo.tasks.look import look, summary, summary_text

    runs = Runs(places)
    if asked.what == "list":
        for run in runs.list():
            row = summary(run)
            tell(row, summary_text(row), asked.json)
        return
    if asked.run is None:
        raise ConfigError.rule("run", "the id of a run", asked.run)
    run = find(runs, asked.run)
    if asked.what == "delete":
        discard(run)
        tell({"run": run.id, "deleted": True}, f"{run.id} is in the trash folder", asked.json)
    else:
        seen = look(run)
        tell(seen, "\n".join([summary_text(summary(run)), *epoch_lines(seen)]), asked.json)

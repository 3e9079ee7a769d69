"""What of a finished run travels, packed or recorded: what it was told, and what it logged.

No torch here: the page reads recordings.
"""

import json
from pathlib import Path

from resnet_demo.errors import ConfigError
from resnet_demo.events import Finished
from resnet_demo.files import write_atomically
from resnet_demo.runs.store import Run
from resnet_demo.runs.view import RunView

COPIED = ("config.json", "events.jsonl")


def read_finished(run: Run, what: str, field: str) -> RunView:
    """All that the run logged. Raises ConfigError for one that has not finished.

    what: is to be done with it, in the sentence; field: what named the run.
    """
    view = RunView(run.log())
    view.refresh()
    if not isinstance(view.ended, Finished):
        raise ConfigError(f"only a finished run can be {what}, and {run.id} is none", field)
    return view


def copy_finished(run: Run, view: RunView, folder: Path) -> None:
    """Put what it was told and logged, and its state, into a folder that is being made."""
    for file in COPIED:
        write_atomically(folder / file, (run.path / file).read_bytes())
    write_atomically(folder / "status.json", finished_status(view))


def finished_status(view: RunView) -> bytes:
    """The status.json of a run at rest, without the ids and the waiting of its machine."""
    end = view.ended
    values = {"state": "finished", "pid": None, "message": end.message, "changed_at": end.time}
    return (json.dumps(values, indent=2) + "\n").encode()

"""Copies of finished runs, for packing and for recordings. No torch here: the page reads both."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_demo.errors import ConfigError
from resnet_demo.events import Finished
from resnet_demo.files import sync_folder, write_atomically
from resnet_demo.runs.store import Run
from resnet_demo.runs.view import RunView

# Without worker.log, which may name folders and people of this machine.
COPIED_FILES = ("config.json", "events.jsonl")


def read_finished(run: Run, action: str, field: str) -> RunView:
    """Read the log of a finished run.

    action: what shall be done with the run, for the error. field: the option that names the run.

    Raises:
        ConfigError: the run has not finished.
    """
    view = RunView(run.log())
    view.refresh()
    if not isinstance(view.ended, Finished):
        raise ConfigError(f"only a finished run can be {action}, and {run.id} is none", field)
    return view


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` at the end, or is deleted on an error.

    `folder` must be missing or empty.
    """
    # Beside the folder, hence on the same disk: only then is the rename atomic.
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.rename(temporary, folder)  # fails if the folder has content
    except BaseException:
        shutil.rmtree(temporary)
        raise
    sync_folder(folder.parent)


def copy_finished(run: Run, view: RunView, folder: Path) -> None:
    """Write the run's config, log and status into a new folder."""
    for file in COPIED_FILES:
        write_atomically(folder / file, (run.path / file).read_bytes())
    write_atomically(folder / "status.json", finished_status(view))


def finished_status(view: RunView) -> bytes:
    """Return the status.json of a finished run, without process ids and queue of its machine."""
    end = view.ended
    values = {"state": "finished", "pid": None, "message": end.message, "changed_at": end.time}
    return (json.dumps(values, indent=2) + "\n").encode()

"""Which visitor a run belongs to: a digest of the name beside the run. No torch here."""

import hashlib
import json
from dataclasses import dataclass

from resnet_demo.errors import DamagedError
from resnet_demo.files import write_atomically
from resnet_demo.json_files import read_json
from resnet_demo.runs.store import Run

OWNER = "visitor.json"


@dataclass(frozen=True)
class RunOwner:
    """The visitor that a run belongs to, as a digest; empty for no visitor.

    should_continue: whether the run goes on when its next slice of GPU time is due.
    """

    visitor: str = ""
    should_continue: bool = False


def visitor_digest(visitor: str) -> str:
    """Return what is stored of a visitor's name: its reader cannot pass for the visitor."""
    return hashlib.sha256(visitor.encode("utf-8", "replace")).hexdigest()


def write_owner(run: Run, owner: RunOwner) -> None:
    """Store the run's owner."""
    content = {"visitor": owner.visitor, "wanted": owner.should_continue}
    write_atomically(run.path / OWNER, (json.dumps(content) + "\n").encode())


def read_owner(run: Run) -> RunOwner:
    """Return the run's owner; no visitor if the file is missing or damaged."""
    try:
        content = read_json(run.path / OWNER)
        return RunOwner(str(content["visitor"]), content["wanted"] is True)
    except (DamagedError, TypeError, KeyError):
        return RunOwner()

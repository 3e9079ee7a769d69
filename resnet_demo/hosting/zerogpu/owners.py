"""Whose run it is, where visitors train: a digest beside the run, never a name. No torch here."""

import hashlib
import json
from dataclasses import dataclass

from resnet_demo.errors import DamagedError
from resnet_demo.files import write_atomically
from resnet_demo.json_files import read_object
from resnet_demo.runs.store import Run

OWNER = "visitor.json"


@dataclass(frozen=True)
class Owner:
    """visitor: digest of a name, "" for nobody's. wanted: whether the run is to go on."""

    visitor: str = ""
    wanted: bool = False


def digest(visitor: str) -> str:
    """What is kept of a visitor's name: whoever reads it cannot pass for the visitor."""
    return hashlib.sha256(visitor.encode("utf-8", "replace")).hexdigest()


def own(run: Run, owner: Owner) -> None:
    """Put down whose run it is, and whether it is to go on."""
    write_atomically(run.path / OWNER, (json.dumps(vars(owner)) + "\n").encode())


def owner_of(run: Run) -> Owner:
    """What `own` put down; nobody's where nothing sound is there."""
    try:
        return read_object(run.path / OWNER, Owner)
    except DamagedError:
        return Owner()

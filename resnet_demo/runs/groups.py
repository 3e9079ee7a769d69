"""Runs that belong together: the arms of a comparison, each with one run a seed.

A run's directory says so itself, in `group.json`, written once when the run is made. What is left
of a group after a run was deleted is the rest of it.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from resnet_demo.errors import DamagedError, NotFoundError
from resnet_demo.json_files import read_object
from resnet_demo.runs.store import Run, Runs

MEMBERSHIP_FILE = "group.json"


@dataclass(frozen=True, kw_only=True)
class Membership:
    """What a run is to its group.

    kind: what the comparison is about, of `KINDS`. arm: what sets the run apart from the others.
    guess: what a person expected before, as the page wrote it; empty where nobody did.
    """

    group: str
    kind: str
    arm: str
    guess: str = ""

    def encode(self) -> bytes:
        """The text of group.json."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


@dataclass
class Group:
    """Its runs by arm, in the order in which they were made."""

    id: str
    kind: str
    guess: str = ""
    shipped: bool = False
    arms: dict[str, list[Run]] = field(default_factory=dict)

    @property
    def runs(self) -> list[Run]:
        """All of them."""
        return [run for runs in self.arms.values() for run in runs]


def read_membership(run: Run) -> Membership | None:
    """None for a run on its own; also where group.json is damaged, since the run is not."""
    try:
        return read_object(run.path / MEMBERSHIP_FILE, Membership, exact=True)
    except DamagedError:
        return None


def list_groups(runs: Iterable[Run], kind: str | None = None) -> list[Group]:
    """The groups of a kind, or all, in the order of their newest run."""
    found: dict[str, Group] = {}
    for run in runs:
        told = read_membership(run)
        if told and kind in (None, told.kind):
            group = found.setdefault(told.group, Group(told.group, told.kind, told.guess))
            group.shipped |= run.shipped
            group.arms.setdefault(told.arm, []).append(run)
    for group in found.values():
        if not group.shipped:  # own runs come newest first, shipped ones by name
            arms = reversed(group.arms.items())
            group.arms = {arm: runs[::-1] for arm, runs in arms}
    return list(found.values())


def get_group(runs: Runs, name: object) -> Group:
    """The group of that id. Raises NotFoundError."""
    for group in list_groups(runs.list()):
        if group.id == name:
            return group
    raise NotFoundError.rule("group", "one of the groups on this machine", name)


def new_group_id(runs: Runs, kind: str) -> str:
    """An id that no group has yet: `duel-3`."""
    taken = {group.id for group in list_groups(runs.list(), kind)}
    return next(name for n in range(1, len(taken) + 2) if (name := f"{kind}-{n}") not in taken)


def write_membership(folder: Path, told: Membership) -> None:
    """Into a run's directory that is being made: nobody reads it yet."""
    (folder / MEMBERSHIP_FILE).write_bytes(told.encode())

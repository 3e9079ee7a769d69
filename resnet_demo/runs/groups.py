"""Groups of runs: the arms of a comparison, with one run per seed in each.

Membership is in each run's directory, in `group.json`, written once when the run is made. A group
therefore stays valid when one of its runs is deleted.
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
    """The place of a run in its group.

    kind: the experiment, such as `duel`. arm: what distinguishes the run from the others. guess:
    the result that the user expected, as the page wrote it; empty without one.
    """

    group: str
    kind: str
    arm: str
    guess: str = ""

    def encode(self) -> bytes:
        """Return the content of group.json."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


@dataclass
class Group:
    """A group's runs by arm, in the order of their creation."""

    id: str
    kind: str
    guess: str = ""
    shipped: bool = False
    arms: dict[str, list[Run]] = field(default_factory=dict)

    @property
    def runs(self) -> list[Run]:
        """Return the runs of all arms."""
        return [run for runs in self.arms.values() for run in runs]


def read_membership(run: Run) -> Membership | None:
    """Return a run's membership; None without a group, or if group.json is damaged."""
    try:
        return read_object(run.path / MEMBERSHIP_FILE, Membership, exact=True)
    except DamagedError:
        return None


def list_groups(runs: Iterable[Run], kind: str | None = None) -> list[Group]:
    """Return the groups of a kind, or all, in the order of their newest run."""
    found: dict[str, Group] = {}
    for run in runs:
        member = read_membership(run)
        if member and kind in (None, member.kind):
            group = found.setdefault(member.group, Group(member.group, member.kind, member.guess))
            group.shipped |= run.shipped  # one recording makes the group a recording
            group.arms.setdefault(member.arm, []).append(run)
    for group in found.values():
        if not group.shipped:  # `runs` has own runs newest first, shipped ones by name
            # Back into the order in which they were made, which is that of the lesson.
            arms = reversed(group.arms.items())
            group.arms = {arm: runs[::-1] for arm, runs in arms}
    return list(found.values())


def get_group(runs: Runs, name: object) -> Group:
    """Return the group of that id. Raises NotFoundError."""
    for group in list_groups(runs.list()):
        if group.id == name:
            return group
    raise NotFoundError.rule("group", "one of the groups on this machine", name)


def new_group_id(runs: Runs, kind: str) -> str:
    """Return an id that no group has yet, such as `duel-3`."""
    taken = {group.id for group in list_groups(runs.list(), kind)}
    # Of one name more than are taken, at least one is free.
    return next(name for n in range(1, len(taken) + 2) if (name := f"{kind}-{n}") not in taken)


def write_membership(folder: Path, member: Membership) -> None:
    """Write group.json into the directory of a run that is being made and has no readers yet."""
    (folder / MEMBERSHIP_FILE).write_bytes(member.encode())

"""Groups of runs."""

import json
import os

import pytest

from resnet_demo import __version__
from resnet_demo.config import make_config, to_json
from resnet_demo.errors import NotFoundError
from resnet_demo.paths import Paths
from resnet_demo.runs.groups import (
    MEMBERSHIP_FILE,
    Membership,
    get_group,
    list_groups,
    new_group_id,
    read_membership,
    write_membership,
)
from resnet_demo.runs.store import Runs


@pytest.fixture
def runs(tmp_path):
    return Runs(Paths(tmp_path / "runs", tmp_path / "data", tmp_path / "shipped"))


@pytest.fixture
def put(runs, tmp_path):
    """Return a function that creates a run, newer than the last. membership: its fields."""
    made = []

    def make(name, root=None, **membership):
        folder = (root or runs.root) / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(to_json(make_config({}), __version__))
        made.append(folder)
        os.utime(folder / "config.json", (len(made), len(made)))
        if membership:
            write_membership(folder, Membership(**membership))
        return folder

    return make


def test_groups_are_read_from_their_runs(runs, put):
    put("alone")
    for seed in (1, 2):
        for arm in ("plain", "residual"):
            put(f"{arm}-{seed}", group="duel-1", kind="duel", arm=arm, guess="plain")
    put("other", group="bugs-1", kind="bugs", arm="as it should be")
    (duel,) = list_groups(runs.list(), "duel")
    assert (duel.id, duel.kind, duel.guess, duel.shipped) == ("duel-1", "duel", "plain", False)
    assert {arm: [run.id for run in arms] for arm, arms in duel.arms.items()} == {
        "plain": ["plain-1", "plain-2"],
        "residual": ["residual-1", "residual-2"],
    }
    assert list(duel.arms) == ["plain", "residual"]  # in the order of creation
    assert len(list_groups(runs.list())) == 2
    assert get_group(runs, "duel-1").runs == duel.runs


def test_shipped_recordings_are_a_group(runs, put, tmp_path):
    put("learn-plain20", tmp_path / "shipped", group="learn", kind="duel", arm="plain20")
    assert get_group(runs, "learn").shipped


def test_an_unknown_group_is_refused(runs):
    with pytest.raises(NotFoundError, match=r"group must be one of the groups.*got 'duel-9'"):
        get_group(runs, "duel-9")
    with pytest.raises(NotFoundError):
        get_group(runs, None)


def test_new_groups_take_the_first_free_number(runs, put):
    assert new_group_id(runs, "duel") == "duel-1"
    for n in (1, 3):
        put(f"run-{n}", group=f"duel-{n}", kind="duel", arm="plain")
    assert new_group_id(runs, "duel") == "duel-2"
    assert new_group_id(runs, "bugs") == "bugs-1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"group": "a"}',
        "[" * 100_000,
        json.dumps({"group": 1, "kind": "duel", "arm": "a"}),
        json.dumps({"group": "a", "kind": "duel", "arm": None}),
        json.dumps({"group": "a", "kind": "duel", "arm": "b", "more": 1}),
    ],
)
def test_a_run_with_a_damaged_group_file_has_no_group(runs, put, text):
    folder = put("mine")
    (folder / MEMBERSHIP_FILE).write_text(text)
    (run,) = runs.list()
    assert read_membership(run) is None
    assert list_groups(runs.list()) == []

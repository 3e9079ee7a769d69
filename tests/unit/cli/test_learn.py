"""`learn`: the arms of a lesson trained one after the other, stopped, resumed, recorded."""

import json

import pytest
import torch

from resnet_demo.paths import Paths
from resnet_demo.runs.groups import get_group
from resnet_demo.runs.store import Runs
from tests.unit.cli.conftest import CommandLine

TINY = [
    "--dataset",
    "colours",
    "--image-size",
    "12",
    "--batch-size",
    "16",
    "--crop",
    "2",
    "--epochs",
    "1",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory, colours):
    """Return a command line with a trained duel of 8 layers, and the output of its training."""
    torch.set_num_threads(1)
    demo = CommandLine(tmp_path_factory.mktemp("learn") / "runs", colours)
    return demo, demo("learn", "duel", "--depths", "8", *TINY, "--json")


def test_a_duel_trains_its_arms_and_is_a_group(demo):
    demo, answer = demo
    assert answer.code == 0, answer.err
    first, *events = answer.objects
    assert first == {"group": "duel-1", "runs": ["duel-1-1-plain8", "duel-1-2-resnet8"]}
    assert [event["event"] for event in events].count("finished") == 2
    runs = Runs(Paths(demo.runs, demo.data))
    assert list(get_group(runs, "duel-1").arms) == ["plain8", "resnet8"]


def test_a_finished_group_has_nothing_left_to_resume(demo):
    demo, _ = demo
    assert demo("learn", "resume", "duel-1").code == 0


def test_a_finished_group_is_recorded(demo, tmp_path):
    demo, _ = demo
    answer = demo("learn", "record", "duel-1", tmp_path / "shipped", "--json")
    assert answer.code == 0, answer.err
    names = [line["recording"].rsplit("/", 1)[1] for line in answer.objects]
    assert names == ["learn-plain8", "learn-resnet8"]
    membership = json.loads((tmp_path / "shipped" / "learn-plain8" / "group.json").read_text())
    assert membership == {"group": "learn-duel", "kind": "duel", "arm": "plain8", "guess": ""}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["duel", "--depths", "9"], "depths must be one of 8, 14"),
        (["duel", "--depths", "deep"], "depths must be one of"),
        (["bugs", "--bugs", "typo"], "bugs must be one of training mode"),
        (["duel", "--seeds", "9"], "seeds must be a whole number from 1 to 5, got 9"),
        (["gradient", "--depths", "20,56"], "depths must be one depth for gradient, got '20,56'"),
        (["gradient", "--depths", "9"], "depth must be one of 8, 14"),
        (["range", "--seeds", "3"], "seeds must be 1 for range, which trains one run, got 3"),
        (["range", "--epochs", "0"], "epochs must be"),
        (["resume", "duel-9"], "group must be one of the groups"),
        (["record", "duel-1"], "folder must be the folder that gets the recordings"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(demo, args, message):
    demo, _ = demo
    answer = demo("learn", *args)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert answer.err.count("\n") == 1

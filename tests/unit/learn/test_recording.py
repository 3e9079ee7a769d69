"""Recordings of a group of runs."""

import json
import os
import shutil

import pytest

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError
from resnet_demo.inference.classifier import Classifier
from resnet_demo.learn.recording import CHART, read_surgery_chart, write_recordings
from resnet_demo.learn.surgery import SurgeryEvaluator
from resnet_demo.paths import Paths
from resnet_demo.runs.groups import Membership, get_group, list_groups, write_membership
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks.snapshot import Snapshots


@pytest.fixture
def runs(tmp_path, finished, colours):
    """Return the runs of a duel with two arms."""
    root = tmp_path / "runs"
    for age, arm in enumerate(("plain8", "resnet8")):
        shutil.copytree(finished.path, root / f"duel-1-{arm}")
        os.utime(root / f"duel-1-{arm}" / "config.json", (age, age))
        membership = Membership(group="duel-1", kind="duel", arm=arm, guess="the plain one")
        write_membership(root / f"duel-1-{arm}", membership)
    return Runs(Paths(root, colours, tmp_path / "shipped"))


def test_a_recording_has_config_and_events_and_is_listed_as_shipped(
    runs, tmp_path, finished, colours
):
    paths = write_recordings(get_group(runs, "duel-1"), tmp_path / "shipped", Datasets(colours))
    assert [path.name for path in paths] == ["learn-plain8", "learn-resnet8"]
    for path in paths:
        assert sorted(file.name for file in path.iterdir()) == [
            "config.json",
            "events.jsonl",
            "group.json",
            "status.json",
            "surgery.json",
        ]
        assert (path / "events.jsonl").read_bytes() == (finished.path / "events.jsonl").read_bytes()
        assert json.loads((path / "status.json").read_text())["pid"] is None
    later = Runs(Paths(runs.root, colours, tmp_path / "shipped"))  # another start of the app
    shipped = next(group for group in list_groups(later.list()) if group.shipped)
    assert (shipped.id, shipped.guess) == ("learn-duel", "")
    assert list(shipped.arms) == ["plain8", "resnet8"]
    snapshot = Snapshots().get(shipped.runs[0])
    assert (snapshot.status.state, len(snapshot.view.epochs)) == ("finished", 2)


def test_an_existing_recording_is_refused_and_nothing_is_copied(runs, tmp_path, colours):
    (tmp_path / "shipped" / "learn-resnet8").mkdir(parents=True)
    with pytest.raises(ConfigError, match="folder must be a folder without learn-resnet8"):
        write_recordings(get_group(runs, "duel-1"), tmp_path / "shipped", Datasets(colours))
    assert [path.name for path in (tmp_path / "shipped").iterdir()] == ["learn-resnet8"]


def test_a_run_that_has_not_finished_is_refused(runs, tmp_path, colours):
    run = runs.get("duel-1-plain8")
    lines = (run.path / "events.jsonl").read_bytes().splitlines(True)
    (run.path / "events.jsonl").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(ConfigError, match="only a finished run can be recorded, and duel-1-plain8"):
        write_recordings(get_group(runs, "duel-1"), tmp_path / "shipped", Datasets(colours))
    assert not (tmp_path / "shipped").exists()


def test_a_recorded_duel_has_the_surgery_chart(runs, tmp_path, colours, finished):
    paths = write_recordings(get_group(runs, "duel-1"), tmp_path / "shipped", Datasets(colours))
    chart = read_surgery_chart(Run(paths[0]))
    evaluator = SurgeryEvaluator.of(Classifier.load(finished), Datasets(colours))
    assert chart == evaluator.chart()
    assert dict(chart["strengths"])[1.0] == evaluator.score().top1
    assert len(chart["blocks"]) == 9


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"n": 1, "strengths": [[0, 2]], "blocks": []}'])
def test_a_damaged_chart_is_ignored(finished, tmp_path, text):
    (tmp_path / CHART).write_text(text)
    assert read_surgery_chart(Run(tmp_path)) is None
    assert read_surgery_chart(finished) is None

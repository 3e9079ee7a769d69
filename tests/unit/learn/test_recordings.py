"""The recordings that come with the app, and what the chapters say of them: the same numbers."""

import re
from dataclasses import replace
from statistics import median

import pytest

from resnet_demo.evaluation.intervals import paired_effect
from resnet_demo.events import Finished
from resnet_demo.learn.lessons import BASELINE_ARM, BUGS
from resnet_demo.learn.probe_history import ProbeHistory
from resnet_demo.learn.recording import read_surgery_chart
from resnet_demo.models.counts import count
from resnet_demo.paths import REPOSITORY, Paths
from resnet_demo.runs.groups import groups
from resnet_demo.runs.store import Runs
from resnet_demo.runs.view import RunView
from resnet_demo.tasks.snapshot import Snapshots
from resnet_demo.ui.learn import bugs, vgg
from resnet_demo.ui.learn.bugs import differences, slowdowns
from resnet_demo.ui.learn.chapter_form import TEXTS
from resnet_demo.ui.learn.group_panel import GroupSnapshot, group_label

SHIPPED = Runs(Paths(REPOSITORY / "none", REPOSITORY / "none")).list()
RECORDINGS = [run for run in SHIPPED if run.id.startswith("learn-")]


def view_of(run):
    view = RunView(run.log())
    view.refresh()
    return view


def group_of(kind):
    [group] = [group for group in groups(RECORDINGS) if group.kind == kind]
    return group


def arms_of(kind):
    return {arm: runs[0] for arm, runs in group_of(kind).arms.items()}


def seen_of(kind):
    """As the chapter sees it."""
    group, watcher = group_of(kind), Snapshots()
    return GroupSnapshot(
        group, {arm: [*map(watcher.get, runs)] for arm, runs in group.arms.items()}
    )


def words_of(name):
    """What a chapter says of its recording."""
    text = (TEXTS / f"{name}.md").read_text("utf-8")
    return text[text.index("**The recording**") :]


@pytest.mark.parametrize("run", RECORDINGS, ids=lambda run: run.id)
def test_a_recording_is_a_whole_run_without_its_weights(run):
    view = view_of(run)
    assert isinstance(view.ended, Finished)
    assert len(view.epochs) == run.config().epochs
    assert run.config().dataset == "cifar10"
    names = {file.name for file in run.path.iterdir()} - {"surgery.json"}
    assert names == {"config.json", "events.jsonl", "group.json", "status.json"}


def test_what_is_said_of_the_gradients_is_what_was_logged():
    said, spreads = words_of("3-gradient"), {}
    for arm, run in arms_of("gradient").items():
        probed = ProbeHistory(run.log())
        probed.refresh()
        first, last = (probe.gradients[:-1] for probe in (probed.probes[0], probed.probes[-1]))
        spreads[arm] = max(last) / min(last)
        assert f"{view_of(run).best.val_top1:.1%}".replace("%", " %") in said
        assert len(first) == 55
        if arm == "plain":
            assert f"{round(first[0] / first[-1], -2):,.0f} times" in said
    assert f"{round(spreads['plain without BatchNorm'], -2):,.0f} times" in said
    assert 54 < spreads["plain"] < 55
    assert "further apart than 55 times" in said
    assert 4 < spreads["residual"] < 5
    assert "at most 5 times" in said


def test_what_is_said_of_the_duel_is_what_was_logged():
    said, arms = words_of("2-duel"), arms_of("duel")
    assert [*arms] == ["plain20", "plain56", "resnet20", "resnet56"]
    ends = {arm: view_of(run).epochs[-1] for arm, run in arms.items()}
    configs = [replace(run.config(), model="resnet20") for run in arms.values()]
    assert all(config == configs[0] for config in configs)  # only the network differs
    assert all(end.step == 1408 and "1,408" in said for end in ends.values())
    for kind in ("plain", "resnet"):
        shallow, deep = (f"{ends[f'{kind}{depth}'].train_loss:.2f}" for depth in (20, 56))
        assert f"from {shallow} to {deep}" in said
    assert ends["plain56"].train_loss > ends["plain20"].train_loss + 0.5


def test_a_recording_of_many_arms_is_named_by_their_number():
    assert group_label(group_of("bugs")) == "8 arms · came with the app"
    assert group_label(group_of("vgg")) == "resnet18, vgg16 · came with the app"


def test_what_is_said_of_vgg_is_what_was_logged():
    said, seen = words_of("4-vgg"), seen_of("vgg")
    for arm, top1, minutes, *_ in vgg.table_rows(seen):
        assert f"{float(top1.rstrip('%')):.1f} % in {minutes.removesuffix(' min')}" in said, arm
        assert f"{count(arm).macs / 1e6:.0f}" in said
    configs = [replace(run.config(), model="vgg16") for run in arms_of("vgg").values()]
    assert configs[0] == configs[1]
    assert (configs[0].train_images, configs[0].peak_lr) == (5000, 0.02)
    assert all(look.view.epochs[-1].step == 160 for look in seen.all)


def test_what_is_said_of_the_bugs_is_what_was_logged():
    said, seen = words_of("5-bugs"), seen_of("bugs")
    assert bugs.conclusion(seen) == (
        "Without a switch: validation top-1 42.60%, the mean of 3 runs. "
        "Clear of chance: showing 32 pixels as 64."
    )
    assert "42.6 % are right" in said
    pairs = {arm: seen.pairs(arm, BASELINE_ARM) for arm in BUGS}
    assert all(len(three) == 3 for three in pairs.values())
    points = {
        arm: paired_effect([100 * d for d in differences(pairs[arm], "val_top1")]) for arm in BUGS
    }
    longer = {arm: paired_effect(slowdowns(pairs[arm])).mean for arm in BUGS}
    assert f"costs {-points['upsampling'].mean:.1f} points" in said
    assert f"{1 + longer['upsampling']:.1f} times as long" in said
    for arm in ("garbage", "last batch"):
        assert (
            differences(pairs[arm], "val_top1") == differences(pairs[arm], "val_loss") == [0, 0, 0]
        )
    assert f"{longer['garbage']:.0%} more".replace("%", " %") in said
    off = differences(pairs["last batch"], "train_loss")
    assert f"by {min(off):.2f} to {max(off):.2f} nats" in said
    others = set(BUGS) - {"upsampling", "garbage", "last batch"}
    widths = [points[arm].high - points[arm].low for arm in others]
    assert f"{min(widths):.0f} to {max(widths):.0f} points wide" in said


def test_what_is_said_of_the_operations_is_what_was_measured():
    said = words_of("6-surgery")
    for arm, run in arms_of("duel").items():
        chart = read_surgery_chart(run)
        whole, blocks = dict(chart["strengths"])[1.0], [top1 for _, top1 in chart["blocks"]]
        assert f"n {chart['n']} " in said  # on so many images
        worst, middle, best = (f"{100 * f(blocks):.1f}" for f in (min, median, max))
        told = {
            "plain20": f"{best} % at best",
            "resnet20": f"between {worst} and {best} %",
        }.get(arm, f"{middle} %")
        assert re.search(f"`{arm}` (falls )?from {100 * whole:.1f} % to {told}", said), arm
    assert len(blocks) == 27  # of resnet56, the last

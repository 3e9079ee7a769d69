"""The recordings that come with the app, and the chapters' texts: both have the same numbers."""

import re
from dataclasses import replace
from statistics import mean, median

import pytest

from resnet_demo.data.store import Datasets
from resnet_demo.evaluation.intervals import paired_effect
from resnet_demo.events import Finished
from resnet_demo.learn.lessons import BASELINE_ARM, BUGS
from resnet_demo.learn.probe_history import ProbeHistory
from resnet_demo.learn.recording import read_surgery_chart
from resnet_demo.models.counts import model_counts
from resnet_demo.paths import REPOSITORY, Paths
from resnet_demo.runs.groups import list_groups
from resnet_demo.runs.store import Runs
from resnet_demo.runs.view import RunView
from resnet_demo.tasks.snapshot import Snapshots
from resnet_demo.ui.learn import bugs, duel, gradient, learning_rate, transfer, vgg
from resnet_demo.ui.learn.bugs import differences, slowdowns
from resnet_demo.ui.learn.chapter_form import TEXTS
from resnet_demo.ui.learn.group_panel import GroupSnapshot, group_label, recording_text
from resnet_demo.ui.learn.guess import QUESTIONS

SHIPPED = Runs(Paths(REPOSITORY / "none", REPOSITORY / "none")).list()
RECORDINGS = [run for run in SHIPPED if run.id.startswith("learn-")]


def view_of(run):
    view = RunView(run.log())
    view.refresh()
    return view


def group_of(kind):
    [group] = [group for group in list_groups(RECORDINGS) if group.kind == kind]
    return group


def arms_of(kind):
    return {arm: runs[0] for arm, runs in group_of(kind).arms.items()}


def snapshot_of(kind):
    """Return the recorded group as its chapter reads it."""
    group, snapshots = group_of(kind), Snapshots()
    arms = {arm: [snapshots.get(run) for run in runs] for arm, runs in group.arms.items()}
    return GroupSnapshot(group, arms)


def recording_part(name):
    """Return the part of a chapter's text that is about its recording."""
    text = (TEXTS / f"{name}-answer.md").read_text("utf-8")
    return text[text.index("**The recording**") :]


@pytest.mark.parametrize("run", RECORDINGS, ids=lambda run: run.id)
def test_a_recording_is_a_complete_run_without_its_weights(run):
    view = view_of(run)
    assert isinstance(view.ended, Finished)
    assert len(view.epochs) == run.config().epochs
    assert run.config().dataset == "cifar10"
    names = {file.name for file in run.path.iterdir()} - {"surgery.json"}
    assert names == {"config.json", "events.jsonl", "group.json", "status.json"}


def found_answer(kind):
    """Return the option that is right according to the recording, as the chapter finds it."""
    snapshot = snapshot_of(kind)
    if kind == "gradient":
        return gradient.answer(snapshot, gradient.ProbeLogs().read_arms(snapshot))
    if kind == "range":
        datasets = Datasets(REPOSITORY / "none")
        return learning_rate.answer(snapshot, learning_rate.range_result(snapshot, datasets))
    chapters = {"duel": duel, "vgg": vgg, "bugs": bugs, "transfer": transfer}
    return chapters[kind].answer(snapshot)


@pytest.mark.parametrize("kind", sorted(set(QUESTIONS) - {"surgery"}))
def test_the_answer_to_a_question_is_that_of_its_recording(kind):
    assert found_answer(kind) == QUESTIONS[kind].answer


def test_the_answer_on_surgery_is_that_of_its_recording():
    chart = read_surgery_chart(arms_of("duel")["resnet20"])
    assert dict(chart["strengths"])[1.0] == pytest.approx(0.75, abs=0.01)
    assert len(chart["blocks"]) == 9
    assert all(0.39 < top1 < 0.7 for _, top1 in chart["blocks"])
    assert QUESTIONS["surgery"].answer == "part"


def test_the_text_on_the_range_test_has_the_rate_of_the_log():
    datasets = Datasets(REPOSITORY / "none")
    result = learning_rate.range_result(snapshot_of("range"), datasets)
    assert f"lowest at a rate of {result.lowest[0]:.2g}" in recording_part("7-range")


def test_the_text_on_gradients_has_the_numbers_of_the_log():
    text, spreads = recording_part("3-gradient"), {}
    for arm, run in arms_of("gradient").items():
        probed = ProbeHistory(run.log())
        probed.refresh()
        first, last = (probe.gradients[:-1] for probe in (probed.probes[0], probed.probes[-1]))
        spreads[arm] = max(last) / min(last)
        assert f"{view_of(run).best.val_top1:.1%}".replace("%", " %") in text
        assert len(first) == 55
        if arm == "plain":
            assert f"{round(first[0] / first[-1], -2):,.0f} times *larger*" in text
    assert f"{round(spreads['plain without BatchNorm'], -2):,.0f} times the smallest" in text
    assert 54 < spreads["plain"] < 55
    assert "at most 55 times" in text
    assert 4 < spreads["residual"] < 5
    assert "at most 5 times" in text


def test_the_text_on_the_duel_has_the_numbers_of_the_log():
    text, arms = recording_part("2-duel"), arms_of("duel")
    assert [*arms] == ["plain20", "plain56", "resnet20", "resnet56"]
    ends = {arm: view_of(run).epochs[-1] for arm, run in arms.items()}
    configs = [replace(run.config(), model="resnet20") for run in arms.values()]
    assert all(config == configs[0] for config in configs)  # only the network differs
    assert all(end.step == 1408 and "1,408" in text for end in ends.values())
    for kind in ("plain", "resnet"):
        shallow, deep = (f"{ends[f'{kind}{depth}'].train_loss:.2f}" for depth in (20, 56))
        assert f"from {shallow} to {deep}" in text
    assert ends["plain56"].train_loss > ends["plain20"].train_loss + 0.5


def test_the_texts_on_transfer_have_the_numbers_of_the_logs():
    results = transfer.accuracies(snapshot_of("transfer"))
    assert all(len(values) == 3 for by in results.values() for values in by.values())
    means = {
        (learner, count): mean(values)
        for learner, by in results.items()
        for count, values in by.items()
    }
    text = recording_part("8-transfer")
    assert f"30 images a class ({means['transfer', 30]:.1f} %)" in text
    assert f"from scratch with 300 ({means['scratch', 300]:.1f} %)" in text
    few, many = (means["transfer", n] - means["scratch", n] for n in (10, 300))
    assert f"from {few:.0f} points at 10 images to {many:.1f} at 300" in text
    assert f"give about {means['scratch', 10]:.0f} % accuracy" in QUESTIONS["transfer"].text
    table = (REPOSITORY / "docs" / "learn.md").read_text()
    for count in (10, 30, 100, 300):
        cells = (
            f"{mean(values):.1f} % ({min(values):.1f} to {max(values):.1f})"
            for values in (results["scratch"][count], results["transfer"][count])
        )
        assert f"| {count} | {' | '.join(cells)} |" in table


def test_a_recording_of_many_arms_is_labelled_by_their_number():
    assert group_label(group_of("bugs")) == "Recording: 8 variants"
    assert group_label(group_of("vgg")) == "Recording: resnet18, vgg16"


@pytest.mark.parametrize("kind", ["duel", "gradient", "vgg", "bugs", "range"])
def test_a_recording_is_marked_as_one_with_its_device(kind):
    text = recording_text(snapshot_of(kind).runs)
    assert text.startswith("**Recording**, made on another machine: ")
    assert text.endswith("of training on cpu (1 thread).")


def test_the_text_on_vgg_has_the_numbers_of_the_log():
    text, snapshot = recording_part("4-vgg"), snapshot_of("vgg")
    for arm, top1, minutes, *_ in vgg.table_rows(snapshot):
        assert f"{float(top1.rstrip('%')):.1f} % in {minutes.removesuffix(' min')}" in text, arm
        assert f"{model_counts(arm).macs / 1e6:.0f}" in text
    configs = [replace(run.config(), model="vgg16") for run in arms_of("vgg").values()]
    assert configs[0] == configs[1]
    assert (configs[0].train_images, configs[0].peak_lr) == (5000, 0.02)
    assert all(run.view.epochs[-1].step == 160 for run in snapshot.runs)


def test_the_text_on_bugs_has_the_numbers_of_the_log():
    text, snapshot = recording_part("5-bugs"), snapshot_of("bugs")
    assert bugs.conclusion(snapshot) == (
        "Without a switch: validation accuracy 42.60 %, the mean of 3 runs. "
        f"Clear effect: {BUGS['upsampling'][0]}."
    )
    assert "the accuracy is 42.6 %" in text
    pairs = {arm: snapshot.pairs(arm, BASELINE_ARM) for arm in BUGS}
    assert all(len(seeds) == 3 for seeds in pairs.values())
    points = {
        arm: paired_effect([100 * d for d in differences(pairs[arm], "val_top1")]) for arm in BUGS
    }
    longer = {arm: paired_effect(slowdowns(pairs[arm])).mean for arm in BUGS}
    assert f"costs {-points['upsampling'].mean:.1f} points" in text
    assert f"{1 + longer['upsampling']:.1f} times as long" in text
    for arm in ("garbage", "last batch"):
        assert differences(pairs[arm], "val_top1") == [0, 0, 0]
        assert differences(pairs[arm], "val_loss") == [0, 0, 0]
    assert f"{longer['garbage']:.0%} more".replace("%", " %") in text
    errors = differences(pairs["last batch"], "train_loss")
    assert f"by {min(errors):.2f} to {max(errors):.2f}" in text
    others = set(BUGS) - {"upsampling", "garbage", "last batch"}
    widths = [points[arm].high - points[arm].low for arm in others]
    assert f"{min(widths):.0f} to {max(widths):.0f} points wide" in text


def test_the_text_on_surgery_has_the_numbers_that_were_measured():
    text = recording_part("6-surgery")
    for arm, run in arms_of("duel").items():
        chart = read_surgery_chart(run)
        whole, blocks = dict(chart["strengths"])[1.0], [top1 for _, top1 in chart["blocks"]]
        assert re.search(rf"\b[Oo]n {chart['n']} (test )?images", text)
        worst, middle, best = (f"{100 * f(blocks):.1f}" for f in (min, median, max))
        result = {
            "plain20": f"{best} % at best",
            "resnet20": f"between {worst} and {best} %",
        }.get(arm, f"{middle} %")
        assert re.search(f"`{arm}` (falls )?from {100 * whole:.1f} % to {result}", text), arm
    assert len(blocks) == 27  # of resnet56, the last

"""The chapters of the Learn tab over groups of runs whose logs a test writes."""

import asyncio
import json
import os
import re
import threading
import time
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
from scipy import stats

from resnet_demo import __version__
from resnet_demo.config import to_json
from resnet_demo.errors import ConfigError
from resnet_demo.events import Epoch, Finished, Probe, Probing, Started, Step
from resnet_demo.learn import lessons
from resnet_demo.learn.probe_history import depth_figure
from resnet_demo.runs.groups import Membership, write_membership
from resnet_demo.runs.store import Run
from resnet_demo.runs.view import RunView
from resnet_demo.tasks.status import Status, status_json
from resnet_demo.ui.evaluate.tab import keep_choice
from resnet_demo.ui.learn import (
    arm_plots,
    block,
    bugs,
    duel,
    gradient,
    guess,
    learning_rate,
    surgery,
    transfer,
    vgg,
)
from resnet_demo.ui.learn import tab as learn
from resnet_demo.ui.learn.chapter_form import FORMULAS, TEXTS, as_int, cost_text
from resnet_demo.ui.learn.group_panel import (
    GUESS_FIRST,
    NO_RESULTS,
    GroupReader,
    panel_update,
    seconds_left,
    status_text,
)
from resnet_demo.ui.services import Services
from tests.ui.conftest import END, EPOCH, OPENING, STEP
from tests.ui.fake_evaluations import untrained_runs

NO_BREAK = "\N{NO-BREAK SPACE}"  # before the sign in a table
CONFIG = {"dataset": "colours", "image_size": 12, "batch_size": 16, "crop": 2, "epochs": 2}


@pytest.fixture
def reader(services):
    return GroupReader(services)


@pytest.fixture
def make_group(reader):
    """Return a function that writes a group of runs and returns its snapshot.

    last: the values of the last epoch, or a function of arm and config that returns them.
    """
    runs = reader.services.paths.runs

    def make(kind, arms, last, guess="", state="finished", events=(), seconds=50.0):
        created = time.time()
        for number, (arm, config) in enumerate(arms):
            folder = runs / f"{kind}-1-{number}"
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(to_json(config, __version__))
            os.utime(folder / "config.json", (created + number, created + number))
            (folder / "status.json").write_bytes(status_json(Status(state=state)))
            write_membership(folder, Membership(group=f"{kind}-1", kind=kind, arm=arm, guess=guess))
            values = EPOCH | (last(arm, config) if callable(last) else last)
            log = Run(folder).log()
            for event in [
                Started(step=0, epoch=1, **(OPENING | {"epochs": 2})),
                *events,
                *(Step(step=n, epoch=1, **STEP) for n in range(1, 5)),
                Epoch(step=4, epoch=1, **EPOCH),
                Epoch(step=8, epoch=2, **values),
                Finished(step=8, epoch=2, **(END | {"seconds": values.get("seconds", seconds)})),
            ]:
                log.append(event)
        return reader.snapshot_of(f"{kind}-1")

    return make


# --- the duel

LOSSES = {"plain8": 0.8, "resnet8": 0.7, "plain20": 1.0, "resnet20": 0.5}


def make_duel(make_group, seeds=1, guess="", losses=LOSSES, **options):
    return make_group(
        "duel",
        lessons.duel_arms([8, 20], seeds, CONFIG),
        lambda arm, config: {"train_loss": losses[arm] + 0.01 * (config.seed - 42)},
        guess,
        **options,
    )


def test_a_duel_reports_the_difference_at_each_depth_and_the_effect_of_depth(make_group):
    text = duel.conclusion(make_duel(make_group))
    assert "8 layers: the plain network's training loss is **0.100 higher** (one seed: " in text
    assert "20 layers: the plain network's training loss is **0.500 higher**" in text
    assert "20 layers instead of 8: the **plain** network gets **worse on its training" in text
    assert "20 layers instead of 8: the **residual** network gets **better on its tra" in text


def test_several_seeds_give_an_interval_over_pairs_of_one_seed(make_group):
    snapshot = make_duel(make_group, seeds=3)
    difference = duel.loss_difference(snapshot, "plain20", "resnet20")
    assert (difference.n, difference.mean) == (3, pytest.approx(0.5))
    assert "(3 seeds, 95 % interval +0.500 to +0.500)" in duel.conclusion(snapshot)


def test_the_answer_of_a_duel_is_that_of_the_deepest_pair(make_group):
    assert duel.answer(make_duel(make_group)) == "residual"


@pytest.mark.parametrize(("plain", "answer"), [(0.51, "tie"), (0.4, "plain")])
def test_the_answer_of_a_duel_is_a_tie_below_two_hundredths(make_group, plain, answer):
    assert duel.answer(make_duel(make_group, losses=LOSSES | {"plain20": plain})) == answer


def drawn_lines(chart):
    """Return line name -> points, of all plots of a chart that have points."""
    lines = [line for plot in chart["plots"] for line in plot["lines"]]
    return {line["name"]: line["points"] for line in lines if line["points"]}


def test_charts_and_table_have_an_entry_for_each_arm(make_group):
    chart, table = duel.draw(make_duel(make_group))
    loss, accuracy = chart["plots"]
    assert chart["x"]["max"] == 2  # epochs, however far the lines go
    for plot in (loss, accuracy):
        colours = {line["name"]: line["colour"] for line in plot["lines"]}
        assert colours == {arm: arm_plots.COLOURS[arm] for arm in LOSSES}
    rows = [row.split(" | ")[:2] for row in table.split("\n")[4:]]
    assert rows == [[f"| {arm}", f"{loss:.4f}"] for arm, loss in LOSSES.items()]


def test_a_chart_of_several_seeds_has_the_range_of_the_seeds(make_group):
    chart, _ = duel.draw(make_duel(make_group, seeds=3))
    [_, last] = drawn_lines({"plots": chart["plots"][:1]})["plain8"]
    assert last == [2.0, *(pytest.approx(loss) for loss in (0.81, 0.80, 0.82))]


def test_an_arm_of_a_foreign_name_has_a_line_and_its_name_is_escaped_in_a_table():
    [line] = arm_plots.arm_lines({"<script>|": [(0.0, 1.0)]})
    assert (line["name"], line["colour"]) == ("<script>|", arm_plots.OTHER)
    assert "\\<script\\>\\|" in arm_plots.table_text(["arm"], [["<script>|"]])


def test_every_colour_can_be_seen_on_the_light_and_on_the_dark_page():
    for colour in arm_plots.COLOURS.values():
        assert min(contrast(colour, page) for page in ("#ffffff", "#0b0f19")) >= 3


def contrast(*colours):
    """Return the contrast of two colours (WCAG 2.2, relative luminance)."""
    low, high = sorted(map(luminance, colours))
    return (high + 0.05) / (low + 0.05)


def luminance(colour):
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * s for weight, s in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_runs_that_have_not_finished_have_no_conclusion_and_no_answer(make_group):
    snapshot = make_group("duel", lessons.duel_arms([8], 1, CONFIG), {}, state="stopped")
    assert duel.conclusion(snapshot) == ""
    assert duel.answer(snapshot) is None
    assert status_text(snapshot) == "0 of 2 runs finished, 2 stopped."


# --- guesses


def test_a_verdict_names_the_guess_and_the_result():
    assert guess.verdict("duel", "residual", "residual") == "You guessed **residual**. Correct."
    said = guess.verdict("duel", "plain", "tie")
    assert said == "You guessed **plain**. The result: **too close to call**."
    assert guess.verdict("duel", "plain", None) == ""  # no result yet
    assert guess.verdict("duel", guess.SHOWN, "plain") == ""
    assert guess.verdict("duel", "<script>", "plain") == ""


def test_the_score_counts_guesses_that_were_made():
    assert guess.score_text({}) == guess.score_text({"duel": guess.SHOWN}) == ""
    made = {"duel": "residual", "gradient": "all", "bugs": guess.SHOWN}
    assert guess.score_text(made) == (
        "**Your guesses: 1 of 2 right** (1 shown without a guess, "
        f"{len(guess.QUESTIONS) - 3} to go)"
    )
    right = {kind: question.answer for kind, question in guess.QUESTIONS.items()}
    total = len(guess.QUESTIONS)
    assert guess.score_text(right) == f"**Your guesses: {total} of {total} right**"


@pytest.mark.parametrize(
    "stored", [None, "text", ["duel"], {"duel": "x"}, {"duel": ["plain"]}, {"duel": 1, "x": "y"}]
)
def test_whatever_else_a_browser_sends_is_no_guess(stored):
    assert guess.known_guesses(stored) == {}


def test_the_contents_have_a_link_to_each_chapter_and_the_state_of_each_guess():
    html = learn.contents_html({"duel": "residual", "gradient": "all", "vgg": guess.SHOWN})
    for number in range(1, len(learn.CHAPTERS)):
        assert f'<a href="#learn-{number}">{number} {learn.CHAPTERS[number][0]}</a>' in html
    marks = html.split("<small>")[1:]
    assert [mark.partition("<")[0] for mark in marks[:4]] == ["", "✓ right", "✗ wrong", "shown"]
    assert {question.chapter for question in guess.QUESTIONS.values()} <= {
        *range(1, len(marks) + 1)
    }


def test_every_chapter_has_links_to_the_one_before_and_the_next():
    assert learn.links_html(1).count("href") == 2  # the contents are the one before
    assert [learn.links_html(3).find(f'"#learn-{n}"') > 0 for n in (2, 0, 4)] == [True] * 3
    assert f'"#learn-{len(learn.CHAPTERS)}"' not in learn.links_html(len(learn.CHAPTERS) - 1)


# --- the panel


def in_state(run, state, view=None):
    """Return a snapshot of the run in another state, with another view of its log if given."""
    return replace(run, status=Status(state=state), view=view or run.view)


def test_the_status_of_a_live_group_is_that_of_the_run_that_trains(make_group):
    snapshot = make_group("duel", lessons.duel_arms([8], 1, CONFIG), {})
    (plain,), (residual,) = snapshot.arms.values()
    queued = in_state(residual, "queued")

    def text(first, second):
        return status_text(replace(snapshot, arms={"plain8": [first], "resnet8": [second]}))

    running = text(in_state(plain, "running"), queued)
    assert running.startswith("Run 1 of 2: **plain8**, epoch 2 of 2")
    empty = RunView(plain.run.log())
    assert text(in_state(plain, "running", empty), queued) == "Run 1 of 2: **plain8** is starting."
    assert text(plain, queued) == "1 of 2 runs finished. The next one is starting."
    failed = replace(plain, status=Status(state="failed", message="no *space* left"))
    assert text(failed, in_state(residual, "running")).startswith("Run 2 of 2: **resnet8**, epoch")
    assert text(failed, residual).startswith("1 of 2 runs finished. **duel-1-0** failed: no ")


def test_the_time_left_is_that_of_all_runs_of_the_group(make_group):
    arms = lessons.bug_arms(["upsampling", "decay"], 1, CONFIG | {"image_size": 32})
    snapshot = make_group("bugs", arms, {})
    running, *waiting = (run for (run,) in snapshot.arms.values())
    first = running.view.epochs[0]
    log = replace(running.view, ended=None, epochs=[first], last=first, last_timed=first)
    active = in_state(running, "running", log)
    left = active.progress()["seconds_left"]
    assert left > 0
    queued = [in_state(run, "queued") for run in waiting]
    runs = zip(snapshot.arms, [[active], *([run] for run in queued)], strict=True)
    whole = log.seconds_so_far() + left
    # 64 pixels are four times the work of 32.
    expected = left + whole * (1 + 4)
    assert seconds_left(replace(snapshot, arms=dict(runs))) == pytest.approx(expected, rel=0.05)


GUESSED = {"duel": "residual"}


def duel_update(reader, chosen, before, stored):
    """Return the updates of the duel's panel by name, and those of its outputs."""

    def results(snapshot):
        return duel.conclusion(snapshot), duel.draw(snapshot)

    names = ("choice", "stop", "text", "results", "guess", "show", "answer", "timer", "before")
    parts = panel_update(reader, "duel", chosen, stored, before, results, 2)
    return dict(zip(names, parts, strict=False)), parts[len(names) :]


def test_a_panel_receives_only_changes(reader, make_group):
    panel, _ = duel_update(reader, None, None, GUESSED)
    assert panel["text"]["value"] == NO_RESULTS
    assert not panel["choice"]["visible"]
    make_duel(make_group)
    panel, (chart, table) = duel_update(reader, None, None, GUESSED)
    assert (panel["choice"]["value"], panel["results"]["visible"]) == ("duel-1", True)
    assert panel["choice"]["choices"] == [("duel-1: plain8, resnet8, plain20, resnet20", "duel-1")]
    assert panel["text"]["value"].startswith("4 of 4 runs finished.")
    assert not panel["stop"]["visible"]
    assert not panel["timer"].active
    assert drawn_lines(chart)
    assert "resnet20" in table
    again, outputs = duel_update(reader, "duel-1", panel["before"], GUESSED)
    assert all("__type__" in part for part in [*again.values(), *outputs])  # nothing but skips


def test_before_the_guess_a_panel_shows_no_result(reader, make_group):
    make_duel(make_group)
    panel, outputs = duel_update(reader, None, None, {"gradient": "all"})
    assert panel["text"]["value"] == GUESS_FIRST
    for name in ("choice", "results", "answer"):
        assert not panel[name]["visible"]
    assert panel["guess"]["interactive"]
    assert panel["show"]["visible"]
    assert all("__type__" in part for part in outputs)
    shown, (chart, _) = duel_update(reader, None, panel["before"], {"duel": guess.SHOWN})
    for name in ("choice", "results", "answer"):
        assert shown[name]["visible"]
    assert not shown["guess"]["interactive"]
    assert not shown["show"]["visible"]
    assert drawn_lines(chart)


def test_before_the_guess_the_progress_of_a_live_group_is_shown(reader, make_group, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("resnet_demo.tasks.status.has_worker", lambda folder: True)
        make_duel(make_group, state="queued")
        panel, _ = duel_update(reader, None, None, {})
        assert "The next one is starting" in panel["text"]["value"]
        assert panel["stop"]["visible"]
        assert panel["timer"].active
        running = learn.running_text(reader)
    assert running.startswith("**Running now**\n\n- [2 The duel](#learn-2), duel-1: 0 of 4 runs")
    assert learn.running_text(reader) == ""


def handlers(build):
    """Return the async event handlers of a page that `build` makes."""
    with gr.Blocks() as page:
        build(gr.Tab())
    functions = dict.fromkeys(event.fn for event in page.fns.values())
    return [function for function in functions if asyncio.iscoroutinefunction(function)]


def test_heat_maps_are_drawn_off_the_event_loop(reader, make_group, monkeypatch):
    make_group("gradient", lessons.gradient_arms(8, 1, CONFIG), {}, events=PROBES)
    threads = []

    def draw(*args):
        threads.append(threading.current_thread())
        return depth_figure(*args)

    monkeypatch.setattr(gradient, "depth_figure", draw)
    on_tick, on_change = handlers(
        lambda tab: gradient.gradient_chapter(reader, tab, guess.kept_guesses(), gr.Checkbox())
    )
    stored = {"gradient": "none"}
    *_, maps, _ = asyncio.run(on_tick("gradient-1", stored, None, "gradients", 100, False))
    again, _ = asyncio.run(on_change("gradient-1", "gradients", 100, True))
    assert len(threads) == 2
    assert threading.main_thread() not in threads
    for plot in (maps, again):  # finished images: Gradio would draw a figure on the loop
        assert plot.plot.startswith("data:image/webp;base64,")


def test_groups_are_read_and_drawn_off_the_event_loop(reader, make_group, monkeypatch):
    make_duel(make_group)
    threads = []
    for name in ("groups", "snapshot"):
        method = getattr(reader, name)

        def spy(*args, method=method):
            threads.append(threading.current_thread())
            return method(*args)

        monkeypatch.setattr(reader, name, spy)
    (on_tick,) = handlers(lambda tab: duel.duel_chapter(reader, tab, guess.kept_guesses()))
    asyncio.run(on_tick(None, GUESSED, None))
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_a_start_without_a_guess_shows_the_results_without_one(reader, monkeypatch):
    started = []

    def start(kind, arms, caller, guess):
        started.append((kind, len(arms), guess))
        return "duel-1"

    monkeypatch.setattr(reader.services.run_groups, "start", start)
    with gr.Blocks() as page:
        duel.duel_chapter(reader, gr.Tab(), guess.kept_guesses())
    on_start = next(fn.fn for fn in page.fns.values() if fn.name == "on_start")
    values = (["8"], "colours", 0, 1, 1)
    assert on_start({}, *values)[1] == {"duel": guess.SHOWN}
    assert on_start({"duel": "tie"}, *values)[1] == {"duel": "tie"}
    assert started == [("duel", 2, guess.SHOWN), ("duel", 2, "tie")]


# --- the bugs


def test_the_effects_of_bugs_are_those_of_a_paired_t_test(make_group):
    top1 = {"none": (0.60, 0.62, 0.61), "decay": (0.55, 0.60, 0.57)}

    def last(arm, config):
        return {"val_top1": top1[arm][config.seed - 42], "seconds": 60.0}

    snapshot = make_group("bugs", lessons.bug_arms(["decay"], 3, CONFIG), last)
    [row] = bugs.table_rows(snapshot)
    interval = stats.ttest_rel(top1["decay"], top1["none"]).confidence_interval(0.95)
    low, high = (f"{100 * end:+.2f}".replace("-", "−") for end in interval)
    assert row[0] == f"{lessons.BUGS['decay'][0]} (3 pairs)"
    assert row[1] == f"−3.67 points ({low} to {high})"
    assert "validation accuracy 61.00 %, the mean of 3 runs." in bugs.conclusion(snapshot)
    assert bugs.answer(snapshot) == guess.NOTHING_CLEAR  # the interval contains zero


def test_the_answer_is_the_bug_that_clearly_costs_most(make_group):
    costs = {"none": 0.0, "decay": 0.1, "garbage": 0.2}

    def last(arm, config):
        return {"val_top1": 0.6 - costs[arm]}

    arms = lessons.bug_arms(["decay", "garbage"], 2, CONFIG)
    snapshot = make_group("bugs", arms, last)
    names = [lessons.BUGS[arm][0] for arm in ("decay", "garbage")]
    assert f"Clear effect: {'; '.join(names)}" in bugs.conclusion(snapshot)
    assert bugs.answer(snapshot) == "garbage"


def test_one_pair_of_bugs_gives_no_answer(make_group):
    snapshot = make_group("bugs", lessons.bug_arms(["decay"], 1, CONFIG), {})
    assert bugs.answer(snapshot) is None


# --- the gradient

PROBES = [
    Probing(step=0, epoch=1, layers=["stem", "conv", "head"]),
    Probe(step=1, epoch=1, gradients=[0.1, 1.0, 2.0], activations=[1.0, 1.0, 1.0]),
    Probe(step=2, epoch=1, gradients=[None, 1.0, 2.0], activations=[1e-3, 1.0, 1.0]),
]


def test_gradients_are_shown_layer_by_layer_at_the_chosen_moment(make_group):
    snapshot = make_group("gradient", lessons.gradient_arms(8, 1, CONFIG)[2:], {}, events=PROBES)
    probed = gradient.ProbeLogs().read_arms(snapshot)
    first = gradient.profile_chart(probed, "gradients", 0)
    assert drawn_lines(first) == {"residual": [[1, 0.1], [2, 1.0], [3, 2.0]]}
    assert first["plots"][0]["title"] == "Length of the gradient by layer, at step 1"
    last = gradient.profile_chart(probed, "activations", 100)
    assert drawn_lines(last)["residual"][0] == [1, 1e-3]
    grid = gradient.probe_grid(probed["residual"].probes, "gradients")
    assert grid.shape == (3, 2)
    assert np.isnan(grid[0, 1])
    text = gradient.conclusion(snapshot, probed)
    assert "**residual**: 10 times smaller at step 1 and zero or not a number at step 2." in text
    assert gradient.draw_maps(probed, "gradients", dark=True) is not None
    assert gradient.draw_maps({}, "gradients", dark=False) is None


@pytest.mark.parametrize(
    ("smallest", "answer"),
    [
        ((1.0, 1.0, 1.0), "none"),
        ((1e-3, 1.0, 1.0), "bare"),
        ((1e-3, 1e-3, 1.0), "plain"),
        ((1e-3, 1e-3, 1e-3), "all"),
        ((1.0, 1e-3, 1.0), None),  # no option says that
    ],
)
def test_the_answer_is_the_networks_whose_gradient_vanished(make_group, smallest, answer):
    snapshot = make_group("gradient", lessons.gradient_arms(8, 1, CONFIG), {}, events=PROBES)
    probed = gradient.ProbeLogs().read_arms(snapshot)
    assert [*probed] == ["plain without BatchNorm", "plain", "residual"]
    for log, low in zip(probed.values(), smallest, strict=True):
        log.probes[-1] = replace(log.probes[-1], gradients=[low, 1.0, 1e-9])  # the last is the head
    assert gradient.answer(snapshot, probed) == answer


@pytest.mark.parametrize(
    ("gradients", "text"),
    [
        ([1.0, 50.0, 9.0], "50 times smaller"),
        ([1300.0, 1.0, 9.0], "1,300 times larger"),
        ([3.3, 1.0, 9.0], "3.3 times larger"),
        ([1.0, 1.01, 9.0], "equal"),
        ([0.0, 1.0, 9.0], "zero or not a number"),
    ],
)
def test_a_ratio_of_gradients_is_a_number_above_one(gradients, text):
    probe = Probe(step=1, epoch=1, gradients=gradients, activations=[1.0] * 3)
    assert gradient.ratio_text(probe) == text


def test_probe_logs_keep_those_of_the_latest_runs_only(make_group, monkeypatch):
    monkeypatch.setattr(gradient, "MAX_LOGS", 2)
    snapshot = make_group("gradient", lessons.gradient_arms(8, 1, CONFIG), {}, events=PROBES)
    logs = gradient.ProbeLogs()
    first = logs.read_arms(snapshot)
    assert len(first) == 3
    latest = snapshot.arms["residual"][0]
    assert logs.read(latest) is first["residual"]  # the same one, read further
    oldest = snapshot.arms["plain without BatchNorm"][0]
    assert logs.read(oldest) is not first["plain without BatchNorm"]


# --- transfer


def make_transfer(make_group, accuracies, seeds=1, **options):
    arms = lessons.transfer_arms([10, 30], seeds, {"dataset": "colours"})

    def last(arm, config):
        return {"val_top1": accuracies[arm] + 0.01 * (config.seed - 42)}

    return make_group("transfer", arms, last, **options)


TOP1 = {"scratch 10": 0.25, "transfer 10": 0.7, "scratch 30": 0.4, "transfer 30": 0.8}


def test_transfer_is_compared_by_images_a_class_on_a_logarithmic_axis(make_group):
    snapshot = make_transfer(make_group, TOP1, seeds=3)
    chart, table = transfer.draw(snapshot)
    assert chart["x"]["log"]
    assert drawn_lines(chart) == {
        "from scratch": [[10, 26.0, 25.0, 27.0], [30, 41.0, 40.0, 42.0]],
        "transfer": [[10, 71.0, 70.0, 72.0], [30, 81.0, 80.0, 82.0]],
    }
    last = table.split("\n")[-1]
    assert last == "| 30 | 41.0~% (40.0 to 42.0) | 81.0~% (80.0 to 82.0) | 3 |".replace(
        "~", NO_BREAK
    )
    assert transfer.conclusion(snapshot) == (
        "With 10 images a class: **26.0 %** from scratch, **71.0 %** by transfer. From scratch, 30 "
        "images a class reach 41.0 %: still fewer."
    )
    assert transfer.answer(snapshot) == "75"


def test_transfer_shows_the_finished_runs_only(make_group):
    snapshot = make_transfer(make_group, TOP1)
    [run] = snapshot.arms["scratch 30"]
    arms = snapshot.arms | {"scratch 30": [in_state(run, "running")], "<b> 5": [run]}
    chart, table = transfer.draw(replace(snapshot, arms=arms))
    assert drawn_lines(chart)["from scratch"] == [[10, 25.0]]
    assert table.split("\n")[-1] == f"| 30 | – | 80.0{NO_BREAK}% | 1 |"
    empty = replace(snapshot, arms={})
    assert (transfer.conclusion(empty), transfer.answer(empty)) == ("", None)
    assert drawn_lines(transfer.draw(empty)[0]) == {}


# --- VGG and the learning rate


def range_steps(loss, count=100):
    """Return the log of a range test; loss: a function of the step."""
    return [
        Step(step=n, epoch=1, **(STEP | {"lr": 1e-4 * 1.1**n, "loss": loss(n)}))
        for n in range(1, count)
    ]


RANGE = CONFIG | {"model": "resnet8", "label_smoothing": 0.1, "momentum": 0.6}


def test_a_range_test_offers_its_rate_and_its_settings_to_the_train_form(make_group, services):
    events = range_steps(lambda n: abs(n - 60) / 30 + 0.5)
    snapshot = make_group("range", lessons.range_arms(20, RANGE), {}, events=events)
    result = learning_rate.range_result(snapshot, services.datasets)
    plot, use, values = learning_rate.draw(snapshot, result)
    assert use["visible"]
    assert f"{result.suggested:g}" in use["value"]
    assert values["peak_lr"] == result.suggested
    given = ("model", "optimizer", "batch_size", "dataset", "label_smoothing", "momentum")
    assert [values[name] for name in given] == ["resnet8", "sgd", 16, "colours", 0.1, 0.6]
    assert learning_rate.OF_THE_TEST.isdisjoint(given)
    assert drawn_lines(plot).keys() == {"smoothed loss", "lowest"}
    assert plot["x"]["log"]
    assert drawn_lines(plot)["smoothed loss"][0][0] == pytest.approx(1.1e-4)
    assert learning_rate.answer(snapshot, result) == "0.1"
    assert f"**{result.suggested:g}**" in learning_rate.conclusion(snapshot, result)


def test_a_range_test_that_learned_nothing_recommends_nothing(make_group, services):
    events = range_steps(lambda n: 1.2 - n / 1000)  # three classes: guessing has 1.099
    snapshot = make_group("range", lessons.range_arms(20, RANGE), {}, events=events)
    result = learning_rate.range_result(snapshot, services.datasets)
    plot, use, values = learning_rate.draw(snapshot, result)
    assert (use["visible"], values) == (False, None)
    assert drawn_lines(plot).keys() == {"smoothed loss"}
    assert learning_rate.answer(snapshot, result) is None
    text = learning_rate.conclusion(snapshot, result)
    assert text.startswith("**Nothing was learned.** The lowest smoothed loss is 1.1")
    assert "guessing has 1.099" in text
    assert "good start" not in text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("running", "The advice comes after the last step"),
        ("stopped", "ended early, at a learning"),
    ],
)
def test_a_range_test_gives_no_advice_before_its_last_step(make_group, services, state, words):
    events = range_steps(lambda n: 1.5 - n / 30, count=34)
    snapshot = make_group("range", lessons.range_arms(20, RANGE), {}, events=events)
    (run,) = snapshot.arms["range test"]
    snapshot = replace(snapshot, arms={"range test": [in_state(run, state)]})
    result = learning_rate.range_result(snapshot, services.datasets)
    assert result.suggested  # so far
    assert words in learning_rate.conclusion(snapshot, result)
    _, use, values = learning_rate.draw(snapshot, result)
    assert (use["visible"], values) == (False, None)


def test_vgg_and_resnet_are_compared_by_minutes(make_group):
    arms = lessons.vgg_arms(1, CONFIG | {"image_size": 32})
    seconds = {"vgg16": 20.0, "resnet18": 80.0}  # of the second epoch; the first takes 40
    top1 = {"vgg16": 0.6, "resnet18": 0.9}

    def last(arm, config):
        return {"val_top1": top1[arm], "seconds": seconds[arm]}

    snapshot = make_group("vgg", arms, last)
    assert [row[:4] for row in vgg.table_rows(snapshot)] == [
        ["vgg16", "60.00 %", "1 min 00 s", "60.0"],
        ["resnet18", "90.00 %", "2 min 00 s", "45.0"],
    ]
    lines = drawn_lines(arm_plots.minutes_chart(snapshot))
    assert [[x for x, _ in lines[arm]] for arm in lines] == [
        [pytest.approx(40 / 60), 1.0],
        [pytest.approx(40 / 60), 2.0],
    ]
    # At the end of VGG's minute, the other one has finished its first epoch.
    assert vgg.accuracy_when_faster_ends(snapshot) == {"vgg16": 0.6, "resnet18": 0.5}
    assert vgg.answer(snapshot) == "vgg16"
    assert vgg.cost_rows()[0] == ["vgg16", "14.7 million", "313 million", "177 + 1.11"]


# --- the block


def test_a_block_is_drawn_with_the_shapes_of_the_real_module():
    drawing, text, code = block.on_block("basic", 16, 32, 2, "projection", 32)
    assert drawing.count("32 × 16 × 16") == 8  # four of the branch, two around it, sum and label
    assert "1×1 convolution, stride 2" in drawing
    assert "costs 576 parameters" in text
    assert "class BasicBlock(Block):" in code
    plain, text, _ = block.on_block("basic", 16, 16, 1, "none", 32)
    assert 'class="no-sum"' in plain
    assert "nothing is added" in text


def test_an_impossible_block_is_explained_and_the_code_stays():
    drawing, text, code = block.on_block("basic", 16, 32, 2, "identity", 32)
    assert (drawing, text[0]) == ("", "⚠")
    assert "16 channels into 32 at stride 2" in text
    assert code


def test_a_network_is_shown_part_by_part():
    _, table = block.on_network("resnet20", 32.0)
    rows = [row.strip("| ").split(" | ") for row in table.split("\n")[2:]]
    assert [row[0] for row in rows] == ["stem", "stage 1", "stage 2", "stage 3", "head"]
    assert rows[1][1:3] == ["3", "16 × 32 × 32"]
    with pytest.raises(gr.Error, match="image_size must be a whole number from 32 to 256 for vgg"):
        block.on_network("vgg16", 16)


# --- surgery


@pytest.fixture
def evaluator_of(services):
    """Return a function that loads a run; the run `mine` has an untrained network."""
    untrained_runs(services.paths.runs, "mine")
    return lambda run_id: surgery.load_evaluator(services, run_id)


def test_surgery_opens_with_the_blocks_and_the_unchanged_accuracy(evaluator_of):
    blocks, text, tried = surgery.open_run(evaluator_of, "mine")
    assert blocks["choices"][0] == ("stage 1, block 1", "stages.0.0")
    assert len(blocks["choices"]) == 9
    assert text.startswith("Unchanged, resnet20 classifies **")
    assert re.search(r"\*\*\d+\*\* of 30 test images correctly", text)  # few: counted
    by_strength, by_block = surgery.surgery_charts({}, tried)
    assert drawn_lines(by_strength).keys() == {surgery.CHANCE, surgery.OWN}
    assert drawn_lines(by_block).keys() == {surgery.CHANCE}


def test_surgery_keeps_what_was_tried(evaluator_of):
    before = surgery.Tried([(1.0, 30.0)], chance=33.3)
    text, tried = surgery.apply_edit(evaluator_of, "mine", 0.5, [], before)
    assert text.startswith("With all branches at 0.5, resnet20 classifies **")
    assert [strength for strength, _ in tried.strengths] == [1.0, 0.5]
    text, same = surgery.apply_edit(evaluator_of, "mine", 1, ["stages.0.0"], tried)
    assert text.startswith("With 1 of 9 blocks removed")
    assert same == tried
    *_, last = surgery.drop_each(evaluator_of, "mine", tried)
    assert [number for number, _ in last.blocks] == [*range(1, 10)]
    by_strength, by_block = surgery.surgery_charts({}, last)
    assert [x for x, _ in drawn_lines(by_strength)[surgery.OWN]] == [0.5, 1.0]
    assert len(drawn_lines(by_block)[surgery.OWN]) == 9


def test_surgery_without_a_run_says_what_to_do(evaluator_of):
    assert surgery.open_run(evaluator_of, None)[1] == surgery.NO_RUN
    assert "no-such-run" in surgery.open_run(evaluator_of, "no-such-run")[1]


def test_the_charts_of_surgery_open_with_the_recorded_networks(services):
    assert surgery.recorded_charts(services) == {}
    chart = {"n": 30, "strengths": [[0.0, 0.1], [1.0, 0.8]], "blocks": [["stages.0.0", 0.7]]}
    for arm in ("plain20", "resnet20"):
        folder = services.paths.shipped / f"learn-{arm}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(to_json(lessons.duel_arms([20], 1, CONFIG)[0][1], "0"))
        write_membership(folder, Membership(group="learn-duel", kind="duel", arm=arm))
        (folder / "surgery.json").write_text(json.dumps(chart))
    recorded = surgery.recorded_charts(Services(services.paths))
    # Without a network, as where the images are missing.
    by_strength, by_block = surgery.surgery_charts(recorded, surgery.Tried())
    assert drawn_lines(by_strength)["plain20"] == [[0.0, 10.0], [1.0, 80.0]]
    assert drawn_lines(by_block) == {"plain20": [[1, 70.0]], "resnet20": [[1, 70.0]]}
    assert by_strength["plots"][0]["note"] == "Recorded: plain20, resnet20."


# --- the forms


def test_the_cost_or_the_mistake_is_shown_before_the_start(services):
    def cost(depths, seeds, **values):
        return cost_text(services, lambda: lessons.duel_arms(depths, seeds, CONFIG | values))

    assert cost([8], 2).startswith("4 runs, one after the other. How long is not known")
    assert cost([], 1).startswith("⚠ ")
    assert "at most the 135 images" in cost([8], 1, batch_size=999)


@pytest.mark.parametrize(
    ("value", "result"), [(5.0, 5), (5, 5), (2.5, 2.5), (None, None), ("a", "a")]
)
def test_whole_numbers_become_int_and_other_values_are_left_to_the_validation(value, result):
    assert as_int(value) == result
    assert type(as_int(value)) is type(result)


def test_a_selection_stays_while_it_is_among_the_choices():
    labels = [("a", "a"), ("b", "b")]
    assert "value" not in keep_choice(labels, "b", "a")
    assert keep_choice(labels, "gone", "a")["value"] == "a"


def test_the_forms_start_runs_with_their_values(services):
    arms = duel.arms(["8"], "colours", 100.0, 2.0, 1)
    assert {config.train_images for _, config in arms} == {100}
    with pytest.raises(ConfigError, match="train_images must be a whole number"):
        duel.arms(["8"], "colours", None, 2, 1)
    [(_, muon)] = learning_rate.arms(services.datasets, "resnet8", "muon", 32, "colours", 20.0)
    assert (muon.momentum, muon.epochs) == (0.6, 5)
    assert len(bugs.arms(["decay"], "colours", 1, 2)) == 4
    assert len(gradient.arms(8, "colours", 1)) == 3
    assert len(vgg.arms("colours", 0, 1)) == 2


def test_every_chapter_has_its_texts_and_closed_formulas():
    names = {text.stem for text in TEXTS.glob("*.md")}
    numbers = {name for name in names if not name.endswith("-answer")}
    assert sorted(name[0] for name in numbers) == ["0", *map(str, range(len(learn.CHAPTERS)))]
    # A chapter with a question keeps its answer apart.
    asked = {name[0] for name in names - numbers}
    assert asked == {str(question.chapter) for question in guess.QUESTIONS.values()}
    for name in names:
        content = (TEXTS / f"{name}.md").read_text("utf-8")
        assert content.count("$") % 2 == 0, name
        assert len(content.split()) < 200, name
    assert FORMULAS[0]["display"]

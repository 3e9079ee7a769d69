"""The chapters of the Learn tab over groups of runs whose logs a test writes."""

import asyncio
import json
import os
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
    learning_rate,
    surgery,
    vgg,
)
from resnet_demo.ui.learn.chapter_form import FORMULAS, TEXTS, as_int, cost_text
from resnet_demo.ui.learn.group_panel import NO_RESULTS, GroupReader, panel_update, status_text
from resnet_demo.ui.services import Services
from tests.ui.conftest import END, EPOCH, OPENING, STEP
from tests.ui.fake_evaluations import untrained_runs

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


def make_duel(make_group, seeds=1, guess="", losses=LOSSES):
    return make_group(
        "duel",
        lessons.duel_arms([8, 20], seeds, CONFIG),
        lambda arm, config: {"train_loss": losses[arm] + 0.01 * (config.seed - 42)},
        guess,
    )


def test_a_duel_reports_the_difference_at_each_depth_and_the_effect_of_depth(make_group):
    text = duel.conclusion(make_duel(make_group))
    assert "8 layers: the plain network's training loss is **0.100 higher** than the" in text
    assert "(one seed: another may differ)" in text
    assert "20 layers: the plain network's training loss is **0.500 higher**" in text
    assert "20 layers instead of 8: the **plain** network gets **worse on its training" in text
    assert "20 layers instead of 8: the **residual** network gets **better on its tra" in text


def test_several_seeds_give_an_interval_over_pairs_of_one_seed(make_group):
    snapshot = make_duel(make_group, seeds=3)
    difference = duel.loss_difference(snapshot, "plain20", "resnet20")
    assert (difference.n, difference.mean) == (3, pytest.approx(0.5))
    assert "(3 seeds, 95% interval +0.500 to +0.500)" in duel.conclusion(snapshot)


@pytest.mark.parametrize(
    ("guess", "losses", "sentence"),
    [
        (duel.RESIDUAL, LOSSES, "You guessed residual at 20 layers. Correct."),
        (duel.PLAIN, LOSSES, "You guessed plain at 20 layers. It was residual."),
        (duel.NEITHER, LOSSES, "You guessed a tie at 20 layers. It was residual."),
        (duel.PLAIN, LOSSES | {"plain20": 0.51}, "Too close to call: less than 0.02 apart."),
        (duel.NEITHER, LOSSES | {"plain20": 0.51}, "You guessed a tie at 20 layers. Correct."),
        ("<script>", LOSSES, None),
        ("", LOSSES, None),
    ],
)
def test_a_guess_is_scored_by_the_deepest_pair(make_group, guess, losses, sentence):
    text = duel.conclusion(make_duel(make_group, guess=guess, losses=losses))
    assert (sentence in text) if sentence else "guess" not in text


def test_curves_and_table_have_an_entry_for_each_arm(make_group):
    legend, loss, accuracy, rows = duel.draw(make_duel(make_group))
    assert drawn_lines(loss) == set(LOSSES) == drawn_lines(accuracy)
    assert [row[0] for row in rows] == ["plain8", "resnet8", "plain20", "resnet20"]
    assert rows[0][2] == "0.8000"
    assert all(arm_plots.COLOURS[arm] in legend for arm in LOSSES)
    assert len(loss["data"]) <= arm_plots.MAX_POINTS


def drawn_lines(table):
    return {name for _, y, name in table["data"] if y is not None}


def test_every_line_is_in_every_table(make_group):
    # gr.LinePlot fixes its colours on the first table that it gets.
    _, loss, accuracy, _ = duel.draw(make_duel(make_group))
    for table in (loss, accuracy, arm_plots.line_table([], ["layer", "size", "arm"])):
        assert {row[2] for row in table["data"]} == set(arm_plots.COLOURS)


def test_a_legend_shows_no_name_that_is_not_the_programs_own():
    assert arm_plots.legend(["<script>", "plain8"]).count("<span>") == 1


def test_runs_that_have_not_finished_have_no_conclusion(make_group):
    snapshot = make_group("duel", lessons.duel_arms([8], 1, CONFIG), {}, state="stopped")
    assert duel.conclusion(snapshot) == ""
    assert status_text(snapshot) == "0 of 2 runs finished, 2 stopped."


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
    assert running.startswith("Run 1 of 2, **plain8**: epoch 2 of 2")
    empty = RunView(plain.run.log())
    assert text(in_state(plain, "running", empty), queued) == "Run 1 of 2, **plain8**: starting."
    assert text(plain, queued) == "1 of 2 runs finished. The next run is starting."
    failed = replace(plain, status=Status(state="failed", message="no *space* left"))
    assert text(failed, in_state(residual, "running")).startswith("Run 2 of 2, **resnet8**: epoch")
    assert text(failed, residual).startswith("1 of 2 runs finished. **duel-1-0** failed: no ")


def test_a_panel_receives_only_changes(reader, make_group):
    def update(chosen, before):
        return panel_update(reader, "duel", chosen, before, duel.draw, duel.conclusion, 4)

    choice, _, text, results, *_ = update(None, None)
    assert (text, choice["visible"], results["visible"]) == (NO_RESULTS, False, False)
    make_duel(make_group)
    choice, stop, text, results, timer, before, *outputs = update(None, None)
    assert (choice["value"], results["visible"], stop["visible"]) == ("duel-1", True, False)
    assert choice["choices"] == [("duel-1 · plain8, resnet8, plain20, resnet20", "duel-1")]
    assert text.startswith("4 of 4 runs finished.")
    assert not timer.active
    assert outputs[1]["data"]
    assert all("__type__" in part for part in update("duel-1", before))  # nothing but skips


def handlers(build):
    """Return the async event handlers of a page that `build` makes."""
    with gr.Blocks() as page:
        build(gr.Tab())
    functions = [event.fn for event in page.fns.values()]
    return [function for function in functions if asyncio.iscoroutinefunction(function)]


def test_heat_maps_are_drawn_off_the_event_loop(reader, make_group, monkeypatch):
    make_group("gradient", lessons.gradient_arms(8, 1, CONFIG), {}, events=PROBES)
    threads = []

    def draw(*args):
        threads.append(threading.current_thread())
        return depth_figure(*args)

    monkeypatch.setattr(gradient, "depth_figure", draw)
    on_tick, on_change = handlers(lambda tab: gradient.gradient_chapter(reader, tab, gr.Checkbox()))
    *_, maps, _ = asyncio.run(on_tick("gradient-1", None, "gradients", 100, False))
    _, again, _ = asyncio.run(on_change("gradient-1", "gradients", 100, True))
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
    (on_tick,) = handlers(lambda tab: duel.duel_chapter(reader, tab))
    asyncio.run(on_tick(None, None))
    assert len(threads) == 2
    assert threading.main_thread() not in threads


# --- the bugs


def test_the_effects_of_bugs_are_those_of_a_paired_t_test(make_group):
    top1 = {"none": (0.60, 0.62, 0.61), "decay": (0.55, 0.60, 0.57)}

    def last(arm, config):
        return {"val_top1": top1[arm][config.seed - 42], "seconds": 60.0}

    snapshot = make_group("bugs", lessons.bug_arms(["decay"], 3, CONFIG), last, guess="decay")
    [row] = bugs.table_rows(snapshot)
    interval = stats.ttest_rel(top1["decay"], top1["none"]).confidence_interval(0.95)
    low, high = (f"{100 * end:+.2f}" for end in interval)
    assert row[1] == f"-3.67 points ({low} to {high})"
    assert row[4:] == ["3", "matters: right"]
    assert "validation accuracy 61.00%, the mean of 3 runs." in bugs.conclusion(snapshot)


def test_a_bug_with_a_clear_effect_is_named(make_group):
    def last(arm, config):
        return {"val_top1": 0.6 if arm == "none" else 0.5}

    snapshot = make_group("bugs", lessons.bug_arms(["decay"], 2, CONFIG), last)
    assert f"Clear effect: {lessons.BUGS['decay'][0]}" in bugs.conclusion(snapshot)
    assert bugs.table_rows(snapshot)[0][5] == "–"  # without a guess


# --- the gradient

PROBES = [
    Probing(step=0, epoch=1, layers=["stem", "conv", "head"]),
    Probe(step=1, epoch=1, gradients=[0.1, 1.0, 2.0], activations=[1.0, 1.0, 1.0]),
    Probe(step=2, epoch=1, gradients=[None, 1.0, 2.0], activations=[1e-3, 1.0, 1.0]),
]


def test_gradients_are_shown_layer_by_layer_at_the_chosen_moment(make_group):
    snapshot = make_group("gradient", lessons.gradient_arms(8, 1, CONFIG)[2:], {}, events=PROBES)
    probed = gradient.ProbeLogs().read_arms(snapshot)
    first = gradient.profile_lines(probed, "gradients", 0)["data"][:3]
    assert first == [[1, -1.0, "residual"], [2, 0.0, "residual"], [3, 0.301, "residual"]]
    last = gradient.profile_lines(probed, "activations", 100)["data"]
    assert last[0] == [1, -3.0, "residual"]
    grid = gradient.probe_grid(probed["residual"].probes, "gradients")
    assert grid.shape == (3, 2)
    assert np.isnan(grid[0, 1])
    text = gradient.conclusion(snapshot, probed)
    assert "**residual**: 10 times smaller at step 1 and zero or not a number at step 2." in text
    assert gradient.draw_maps(probed, "gradients", dark=True) is not None
    assert gradient.draw_maps({}, "gradients", dark=False) is None


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
    assert drawn_lines(plot) == {"range test", "lowest"}
    assert f"**{result.suggested:g}**" in learning_rate.conclusion(snapshot, result)


def test_a_range_test_that_learned_nothing_recommends_nothing(make_group, services):
    events = range_steps(lambda n: 1.2 - n / 1000)  # three classes: guessing has 1.099
    snapshot = make_group("range", lessons.range_arms(20, RANGE), {}, events=events)
    result = learning_rate.range_result(snapshot, services.datasets)
    plot, use, values = learning_rate.draw(snapshot, result)
    assert (use["visible"], values, drawn_lines(plot)) == (False, None, {"range test"})
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
    snapshot = make_group("vgg", arms, {"val_top1": 0.5, "seconds": 20.0})
    assert [row[:4] for row in vgg.table_rows(snapshot)] == [
        ["vgg16", "50.00%", "1 min 00 s", "50.0"],
        ["resnet18", "50.00%", "1 min 00 s", "50.0"],
    ]
    minutes = {row[0] for row in arm_plots.accuracy_by_minutes(snapshot)["data"] if row[1]}
    assert minutes == {round(40 / 60, 4), 1.0}
    assert vgg.cost_rows()[0] == ["vgg16", "14.7 million", "313 million", "177 MB", "+ 1.11 MB"]


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
    _, rows = block.on_network("resnet20", 32.0)
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
    blocks, text, plot, *_ = surgery.open_run(evaluator_of, "mine")
    assert blocks["choices"][0] == ("stage 1, block 1", "stages.0.0")
    assert len(blocks["choices"]) == 9
    assert text.startswith("Unchanged, resnet20 classifies **")
    assert "of 30 test images correctly" in text
    assert {row[2] for row in plot["data"]} == {"strength tried", "chance"}


def test_surgery_keeps_the_strengths_that_were_tried(evaluator_of):
    text, _, tried = surgery.apply_edit(evaluator_of, "mine", 0.5, [], {1.0: 30.0})
    assert text.startswith("With all branches at 0.5, resnet20 classifies **")
    assert set(tried) == {0.5, 1.0}
    text, plot, same = surgery.apply_edit(evaluator_of, "mine", 1, ["stages.0.0"], tried)
    assert text.startswith("With 1 of 9 blocks removed")
    assert same == tried
    assert len(plot["data"]) == 4
    *_, last = surgery.drop_each(evaluator_of, "mine")
    bars = last["value"]["data"]
    assert [row[0] for row in bars][:2] == ["stage 1, block 1", "stage 1, block 2"]


def test_surgery_without_a_run_says_what_to_do(evaluator_of):
    assert surgery.open_run(evaluator_of, None)[1] == surgery.NO_RUN
    assert "no-such-run" in surgery.open_run(evaluator_of, "no-such-run")[1]


def test_recorded_operations_are_shown_if_they_come_with_the_app(services):
    box, *_ = surgery.show_recordings(services)
    assert not box["visible"]
    chart = {"n": 30, "strengths": [[0.0, 0.1], [1.0, 0.8]], "blocks": [["stages.0.0", 0.7]]}
    for arm in ("plain20", "resnet20"):
        folder = services.paths.shipped / f"learn-{arm}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(to_json(lessons.duel_arms([20], 1, CONFIG)[0][1], "0"))
        write_membership(folder, Membership(group="learn-duel", kind="duel", arm=arm))
        (folder / "surgery.json").write_text(json.dumps(chart))
    restarted = Services(services.paths)
    box, text, legend, strengths, blocks = surgery.show_recordings(restarted)
    assert box["visible"]
    assert "on at least 30 test images" in text
    assert "resnet20" in legend
    assert strengths["data"][:2] == [[0.0, 10.0, "plain20"], [1.0, 80.0, "plain20"]]
    assert blocks["data"][:2] == [[1, 70.0, "plain20"], [1, 70.0, "resnet20"]]


# --- the forms


def test_the_cost_or_the_mistake_is_shown_before_the_start(services):
    def cost(depths, seeds, **values):
        return cost_text(services, lambda: lessons.duel_arms(depths, seeds, CONFIG | values))

    assert cost([8], 2).startswith("4 runs, one after the other; duration not known yet")
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


def test_every_chapter_has_its_text_and_closed_formulas():
    texts = sorted(TEXTS.glob("*.md"))
    assert [text.name[0] for text in texts] == list("00123456789"[:9])
    for text in texts:
        content = text.read_text("utf-8")
        assert content.count("$") % 2 == 0, text.name
        assert len(content.split()) < 300, text.name
    assert FORMULAS[0]["display"]

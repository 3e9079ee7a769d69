"""The Learn tab's chapters over groups whose logs a test writes down."""

import json
import os
import time

import pytest
from scipy import stats

from resnet_demo import __version__
from resnet_demo.config import to_json
from resnet_demo.errors import ConfigError
from resnet_demo.events import Epoch, Finished, Probe, Probing, Started, Step
from resnet_demo.learn import lessons
from resnet_demo.runs.groups import Membership, group_of, write
from resnet_demo.runs.store import Run
from resnet_demo.tasks.status import Status, status_json
from resnet_demo.ui.learn import arm_plots, block, bugs, gradient, surgery
from resnet_demo.ui.learn import (
    duel as learn_duel,
)
from resnet_demo.ui.learn import learning_rate as learn_range
from resnet_demo.ui.learn import (
    vgg as learn_vgg,
)
from resnet_demo.ui.learn.chapter_form import FORMULAS, TEXTS, as_int, cost_text, update_choices
from resnet_demo.ui.learn.group_panel import NO_RESULTS, panel_update, read_group, status_text
from resnet_demo.ui.services import Services
from tests.ui.conftest import END, EPOCH, OPENING, STEP
from tests.ui.fake_evaluations import untrained_runs

KNOBS = {"dataset": "colours", "image_size": 12, "batch_size": 16, "crop": 2, "epochs": 2}


@pytest.fixture
def put(services):
    """Makes a group of finished runs: for each arm and seed, what its last epoch told."""

    def make(kind, arms, last, guess="", state="finished", events=(), seconds=50.0):
        made = time.time()
        for number, (arm, config) in enumerate(arms):
            folder = services.paths.runs / f"{kind}-1-{number}"
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(to_json(config, __version__))
            os.utime(folder / "config.json", (made + number, made + number))
            (folder / "status.json").write_bytes(status_json(Status(state=state)))
            write(folder, Membership(group=f"{kind}-1", kind=kind, arm=arm, guess=guess))
            told = {**EPOCH, **(last(arm, config) if callable(last) else last)}
            log = Run(folder).log()
            for event in [
                Started(step=0, epoch=1, **{**OPENING, "epochs": 2}),
                *events,
                *(Step(step=n, epoch=1, **STEP) for n in range(1, 5)),
                Epoch(step=4, epoch=1, **EPOCH),
                Epoch(step=8, epoch=2, **told),
                Finished(step=8, epoch=2, **{**END, "seconds": told.get("seconds", seconds)}),
            ]:
                log.append(event)
        return read_group(services, group_of(services.runs, f"{kind}-1"))

    return make


LOSSES = {"plain8": 0.8, "resnet8": 0.7, "plain20": 1.0, "resnet20": 0.5}


def duel(put, seeds=1, guess=""):
    return put(
        "duel",
        lessons.duel_arms([8, 20], seeds, KNOBS),
        lambda arm, config: {"train_loss": LOSSES[arm] + 0.01 * (config.seed - 42)},
        guess,
    )


def test_a_duel_tells_the_gap_at_each_depth_and_what_depth_did(put):
    told = learn_duel.conclusion(duel(put))
    assert "8 layers: without shortcuts the training loss ends **0.100 nats more** (one se" in told
    assert "20 layers: without shortcuts the training loss ends **0.500 nats more**" in told
    assert "20 layers instead of 8 make the **plain** network **worse on the images" in told
    assert "20 layers instead of 8 make the **residual** network **better on the images" in told


def test_several_seeds_give_an_interval_over_pairs_of_one_seed(put):
    seen = duel(put, seeds=3)
    told = learn_duel.loss_difference(seen, "plain20", "resnet20")
    assert (told.n, told.mean) == (3, pytest.approx(0.5))
    assert "(3 seeds, 95% interval +0.500 to +0.500)" in learn_duel.conclusion(seen)


@pytest.mark.parametrize(
    ("guess", "told"),
    [
        (learn_duel.GUESSES[1], "Your guess for 20 layers was the residual one: and so it is."),
        (learn_duel.GUESSES[0], "was the plain one: it was the residual one."),
        ("<script>", None),
        ("", None),
    ],
)
def test_a_guess_is_scored_by_the_deepest_pair(put, guess, told):
    said = learn_duel.conclusion(duel(put, guess=guess))
    assert (told in said) if told else "guess" not in said


def test_curves_and_table_have_an_arm_each(put):
    seen = duel(put)
    legend, loss, accuracy, rows = learn_duel.draw(seen)
    assert {row[2] for row in loss["data"]} == set(LOSSES) == {row[2] for row in accuracy["data"]}
    assert [row[0] for row in rows] == ["plain8", "resnet8", "plain20", "resnet20"]
    assert rows[0][2] == "0.8000"
    assert all(arm_plots.COLOURS[arm] in legend for arm in LOSSES)
    assert len(loss["data"]) <= arm_plots.MAX_POINTS


def test_runs_that_are_not_done_conclude_nothing(put):
    seen = put("duel", lessons.duel_arms([8], 1, KNOBS), {}, state="stopped")
    assert learn_duel.conclusion(seen) == ""
    assert status_text(seen) == "0 of 2 runs finished, 2 stopped."


def test_a_panel_is_told_only_what_changed(services, put):
    def told(chosen, before):
        return panel_update(
            services, "duel", chosen, before, learn_duel.draw, learn_duel.conclusion, 4
        )

    choice, _, words, results, *_ = told(None, None)
    assert (words, choice["visible"], results["visible"]) == (NO_RESULTS, False, False)
    duel(put)
    choice, stop, words, results, timer, before, *outputs = told(None, None)
    assert (choice["value"], results["visible"], stop["visible"]) == ("duel-1", True, False)
    assert choice["choices"] == [("duel-1 · plain8, resnet8, plain20, resnet20", "duel-1")]
    assert words.startswith("4 of 4 runs finished.")
    assert not timer.active
    assert outputs[1]["data"]
    assert all("__type__" in part for part in told("duel-1", before))  # nothing but skips


def test_the_effects_of_bugs_are_those_of_a_paired_t_test(put):
    top1 = {"none": (0.60, 0.62, 0.61), "decay": (0.55, 0.60, 0.57)}
    told = lambda arm, config: {"val_top1": top1[arm][config.seed - 42], "seconds": 60.0}  # noqa: E731
    seen = put("bugs", lessons.bug_arms(["decay"], 3, KNOBS), told, guess="decay")
    [row] = bugs.table_rows(seen)
    interval = stats.ttest_rel(top1["decay"], top1["none"]).confidence_interval(0.95)
    low, high = (f"{100 * end:+.2f}" for end in interval)
    assert row[1] == f"-3.67 points ({low} to {high})"
    assert row[4:] == ["3", "matters: right"]
    assert "validation top-1 61.00%, the mean of 3 runs." in bugs.conclusion(seen)


def test_a_bug_that_stands_out_of_chance_is_named(put):
    told = lambda arm, config: {"val_top1": 0.6 if arm == "none" else 0.5}  # noqa: E731
    seen = put("bugs", lessons.bug_arms(["decay"], 2, KNOBS), told)
    assert "Clear of chance: weight decay on BatchNorm" in bugs.conclusion(seen)
    assert bugs.table_rows(seen)[0][5] == "–"  # nobody guessed


def test_gradients_are_told_layer_by_layer_at_the_chosen_moment(put):
    probes = [
        Probing(step=0, epoch=1, layers=["stem", "conv", "head"]),
        Probe(step=1, epoch=1, gradients=[0.1, 1.0, 2.0], activations=[1.0, 1.0, 1.0]),
        Probe(step=2, epoch=1, gradients=[None, 1.0, 2.0], activations=[1e-3, 1.0, 1.0]),
    ]
    seen = put("gradient", lessons.gradient_arms(8, 1, KNOBS)[2:], {}, events=probes)
    known = {}
    [look] = seen.all
    probed = {"residual": gradient.read_probes(known, look)}
    first = gradient.lines(probed, "gradients", 0)["data"]
    assert first == [[1, -1.0, "residual"], [2, 0.0, "residual"], [3, 0.301, "residual"]]
    last = gradient.lines(probed, "activations", 100)["data"]
    assert last[0] == [1, -3.0, "residual"]
    assert gradient.grid(probed["residual"].probes, "gradients").shape == (3, 2)
    told = gradient.conclude(known)(seen)
    assert "first layer's gradient is 0.1 times the last convolution's at step 1, no number" in told
    assert gradient.draw_maps(probed, "gradients", dark=True) is not None
    assert gradient.draw_maps({}, "gradients", dark=False) is None


def test_a_range_test_offers_its_rate_to_the_train_form(put):
    rising = [
        Step(step=n, epoch=1, **{**STEP, "lr": 1e-4 * 1.1**n, "loss": abs(n - 60) / 30 + 0.5})
        for n in range(1, 100)
    ]
    arms = lessons.range_arms(4, {**KNOBS, "model": "resnet8"})
    seen = put("range", arms, {}, events=rising)
    plot, use, knobs = learn_range.draw(seen)
    told = learn_range.range_result(seen)
    assert use["visible"]
    assert use["value"] == f"Use {told.suggested:g} on the Train tab"
    assert knobs["peak_lr"] == told.suggested
    assert [knobs[name] for name in learn_range.FILLED[1:]] == ["resnet8", "sgd", 16, "colours"]
    assert {row[2] for row in plot["data"]} == {"range test", "lowest"}
    assert f"**{told.suggested:g}**" in learn_range.conclusion(seen)


def test_vgg_beside_resnet_is_told_by_the_minute(put):
    told = lambda arm, config: {"val_top1": 0.5, "seconds": 20.0}  # noqa: E731
    seen = put("vgg", lessons.vgg_arms(1, {**KNOBS, "image_size": 32}), told)
    assert [row[:4] for row in learn_vgg.table_rows(seen)] == [
        ["vgg16", "50.00%", "1 min 00 s", "50.0"],
        ["resnet18", "50.00%", "1 min 00 s", "50.0"],
    ]
    minutes = {row[0] for row in arm_plots.accuracy_by_minutes(seen)["data"]}
    assert minutes == {round(40 / 60, 4), 1.0}
    [vgg, *_] = learn_vgg.cost_rows()
    assert vgg == ["vgg16", "14.7 million", "313 million", "177 MB", "+ 1.11 MB"]


def test_a_block_is_drawn_with_the_shapes_of_the_real_module():
    drawing, words, code = block.on_block("basic", 16, 32, 2, "projection", 32)
    assert drawing.count("32 × 16 × 16") == 8  # four of the branch, two around it, sum and label
    assert "1×1 convolution, stride 2" in drawing
    assert "costs 576 parameters" in words
    assert "class BasicBlock(Block):" in code
    plain, words, _ = block.on_block("basic", 16, 16, 1, "none", 32)
    assert 'class="no-sum"' in plain
    assert "Nothing is added" in words


def test_a_block_that_cannot_be_is_said_and_the_code_stays():
    drawing, words, code = block.on_block("basic", 16, 32, 2, "identity", 32)
    assert (drawing, words[0]) == ("", "⚠")
    assert "turns 16 channels into 32 at stride 2" in words
    assert code


def test_a_network_is_told_part_by_part():
    _, rows = block.on_network("resnet20", 32.0)
    assert [row[0] for row in rows] == ["stem", "stage 1", "stage 2", "stage 3", "head"]
    assert rows[1][1:3] == ["3", "16 × 32 × 32"]
    import gradio as gr

    with pytest.raises(gr.Error, match="image_size must be a whole number from 32 to 256 for vgg"):
        block.on_network("vgg16", 16)


@pytest.fixture
def patient_of(services, monkeypatch):
    """A run of an untrained network, admitted."""
    untrained_runs(services.paths.runs, "mine")
    return lambda run_id: surgery.load_patient(services, run_id)


def test_surgery_opens_with_the_blocks_and_the_untouched_accuracy(patient_of):
    blocks, words, plot, *_ = surgery.open_run(patient_of, "mine")
    assert blocks["choices"][0] == ("stage 1, block 1", "stages.0.0")
    assert len(blocks["choices"]) == 9
    assert words.startswith("Untouched, resnet20 gets **")
    assert "of 30 test images right" in words
    assert {row[2] for row in plot["data"]} == {"strength tried", "guessing"}


def test_surgery_remembers_what_was_tried(patient_of):
    words, _, tried = surgery.apply_edit(patient_of, "mine", 0.5, [], {1.0: 30.0})
    assert words.startswith("With every branch at 0.5, resnet20 gets **")
    assert set(tried) == {0.5, 1.0}
    words, plot, same = surgery.apply_edit(patient_of, "mine", 1, ["stages.0.0"], tried)
    assert words.startswith("With 1 of 9 blocks left out")
    assert same == tried
    assert len(plot["data"]) == 4
    bars = surgery.drop_each(patient_of, "mine")["value"]["data"]
    assert [row[0] for row in bars][:2] == ["stage 1, block 1", "stage 1, block 2"]


def test_surgery_without_a_run_says_what_to_do(patient_of):
    assert surgery.open_run(patient_of, None)[1] == surgery.NO_RUN
    assert "nobody" in surgery.open_run(patient_of, "nobody")[1]


def test_a_recorded_operation_is_shown_where_one_came_with_the_app(services, put):
    box, *_ = surgery.show_recordings(services)
    assert not box["visible"]
    chart = {"n": 30, "strengths": [[0.0, 0.1], [1.0, 0.8]], "blocks": [["stages.0.0", 0.7]]}
    for arm in ("plain20", "resnet20"):
        folder = services.paths.shipped / f"learn-{arm}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(to_json(lessons.duel_arms([20], 1, KNOBS)[0][1], "0"))
        write(folder, Membership(group="learn-duel", kind="duel", arm=arm))
        (folder / "surgery.json").write_text(json.dumps(chart))
    later = Services(services.paths)  # another start of the app
    box, words, legend, strengths, blocks = surgery.show_recordings(later)
    assert box["visible"]
    assert "on 30 or more test images" in words
    assert "resnet20" in legend
    assert strengths["data"][:2] == [[0.0, 10.0, "plain20"], [1.0, 80.0, "plain20"]]
    assert blocks["data"] == [[1, 70.0, "plain20"], [1, 70.0, "resnet20"]]


def test_the_cost_is_told_before_and_so_is_a_mistake(services):
    arms = lambda: lessons.duel_arms([8], 2, KNOBS)  # noqa: E731
    assert cost_text(services, arms).startswith("4 runs, one after the other; how long")
    wrong = cost_text(services, lambda: lessons.duel_arms([], 1, KNOBS))
    assert wrong.startswith("⚠ choose a depth at least")
    too_large = cost_text(services, lambda: lessons.duel_arms([8], 1, {**KNOBS, "batch_size": 999}))
    assert "at most the 135 images" in too_large


@pytest.mark.parametrize(
    ("value", "told"), [(5.0, 5), (5, 5), (2.5, 2.5), (None, None), ("a", "a")]
)
def test_whole_numbers_are_whole_and_the_rest_is_left_to_the_check(value, told):
    assert as_int(value) == told
    assert type(as_int(value)) is type(told)


def test_a_choice_stays_while_it_is_there():
    labels = [("a", "a"), ("b", "b")]
    assert "value" not in update_choices(labels, "b")
    assert update_choices(labels, "gone")["value"] == "a"


def test_the_forms_ask_for_what_they_show():
    told = learn_duel.arms(["8"], "colours", 100.0, 2.0, 1)
    assert {config.train_images for _, config in told} == {100}
    with pytest.raises(ConfigError, match="train_images must be a whole number"):
        learn_duel.arms(["8"], "colours", None, 2, 1)
    assert learn_range.arms("resnet8", "muon", 32, "colours")[0][1].momentum == 0.6
    assert len(bugs.arms(["decay"], "colours", 1, 2)) == 4
    assert len(gradient.arms(8, "colours", 1)) == 3
    assert len(learn_vgg.arms("colours", 0, 1)) == 2


def test_every_chapter_has_its_text_and_closed_formulas():
    texts = sorted(TEXTS.glob("*.md"))
    assert [text.name[0] for text in texts] == list("00123456789"[:9])
    for text in texts:
        words = text.read_text("utf-8")
        assert words.count("$") % 2 == 0, text.name
        assert len(words.split()) < 300, text.name
    assert FORMULAS[0]["display"]

"""The Evaluate tab over runs with made-up answers: what is asked, told and shown."""

import csv
import io
import json
import os
import shutil
import zipfile
from dataclasses import astuple, replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch

from resnet_demo.evaluation.evaluate_run import RunEvaluation
from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS, write_result
from resnet_demo.models.description import Description, describe, encode
from resnet_demo.paths import Paths
from resnet_demo.tasks.status import LOCK, Status, as_json, take
from resnet_demo.ui.evaluate import images, tab
from resnet_demo.ui.evaluate.evaluation_status import Asked, Standings
from resnet_demo.ui.evaluate.files import classes_csv, handed, report_zip
from resnet_demo.ui.evaluate.images import PAGE, View, caption, look, places_of
from resnet_demo.ui.evaluate.result import class_rows, compared, curves, drawings, viewed
from resnet_demo.ui.evaluate.text import headline, signed, verdict
from resnet_demo.ui.evaluate.tick import DONE, NOTHING, READY, robustness, tick
from resnet_demo.ui.services import Services
from tests.ui.answered import CLASSES, N, answered, told_at_once, untrained_runs

ASKED = Asked("mine")
PAIR = Asked("mine", other="yours")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of two runs of the same network, `mine` and `yours`."""
    torch.set_num_threads(1)  # on tensors this small, threads only wait for each other
    return untrained_runs(tmp_path_factory.mktemp("untrained"), "mine", "yours")


@pytest.fixture
def standings(tmp_path, runs, colours):
    """What the tab knows, over a copy of both runs."""
    shutil.copytree(runs, tmp_path / "runs")
    return Standings(Services(Paths(tmp_path / "runs", colours, tmp_path / "shipped")))


def made(standings, asked=ASKED, **told):
    """A finished evaluation with made-up answers."""
    return answered(standings, asked, **told)


@pytest.fixture
def at():
    """Puts a task as far as that, with a worker until the test is over."""
    locks = []

    def put(folder, **status):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "status.json").write_bytes(as_json(Status(**status)))
        locks.append(take(folder / LOCK))  # None where the test holds it already

    yield put
    for lock in filter(None, locks):
        os.close(lock)


def changed(standings, asked=ASKED, before=None, percent=True, dark=False):
    """The states that a tick tells."""
    return tick(standings, asked, percent, dark, before)


def told(standings, asked=ASKED, before=None):
    """What a page that shows this is told at once."""
    return told_at_once(standings, asked, before)


def test_without_a_run_the_page_says_what_to_do(standings):
    now = told(standings, Asked(None))
    assert now["words"] == NOTHING
    assert now["start"]["interactive"]  # so that a click is answered by a sentence
    assert not now["results"]["visible"]


def test_before_an_evaluation_the_page_says_what_to_press(standings):
    now = told(standings)
    assert now["words"] == READY
    assert now["start"]["interactive"]
    assert not now["cancel"]["interactive"]
    assert not now["results"]["visible"]


def test_progress_is_told_and_can_be_cancelled_once(standings, at):
    at(standings.folder(ASKED), state="running")
    assert told(standings)["words"] == "Running: loading the network and the images"
    at(standings.folder(ASKED), state="running", done=10, total=40, unit="images", rate=2.0)
    now = told(standings)
    assert now["words"] == "Running: 10 of 40 images, about 15 s left"
    assert 'aria-valuenow="25"' in now["progress"]["value"]
    assert not now["start"]["interactive"]
    assert now["cancel"]["interactive"]
    at(standings.folder(ASKED), state="stopping", message="asked to stop")
    assert not told(standings)["cancel"]["interactive"]


def test_a_failure_is_told_to_the_letter_and_can_be_tried_again(standings, at):
    at(standings.folder(ASKED), state="failed", message="<b>no</b> room")
    now = told(standings)
    assert now["words"] == r"Failed: \<b\>no\</b\> room"
    assert now["start"]["interactive"]


def test_a_result_is_shown_with_its_interval(standings):
    result = made(standings).result
    now = told(standings)
    low, high = result["interval"]
    assert now["words"] == DONE
    assert not now["start"]["interactive"]
    assert now["results"]["visible"]
    for number in (f"<b>{result['top1']:.2%}</b>", f"{100 * low:.2f} – {high:.2%}",
                   f"{result['macro_f1']:.2%}", f"{result['calibration']['error']:.2%}",
                   f"{result['loss']:.4f}", "the 30 test images of colours"):  # fmt: skip
        assert number in now["headline"]
    counted = sum(bool(count) for row in result["confusion"] for count in row)
    assert now["matrix"].count("<button") == counted


def test_a_page_that_knows_it_is_told_nothing_and_no_file_is_read(standings, monkeypatch):
    made(standings)
    made(standings, PAIR, other=True)
    before = changed(standings, PAIR)["seen"]

    def fail(*_):
        raise AssertionError("read")

    for name in ("status", "folder", "robustness_folder"):
        monkeypatch.setattr(standings.services.evaluating, name, fail)
    assert changed(standings, PAIR, before) == {}
    assert changed(standings, PAIR, before, percent=False).keys() == {"seen", "result"}
    assert changed(standings, PAIR, before, dark=True).keys() == {"seen", "drawn", "curve"}


def test_only_what_changed_is_told(standings, at):
    made(standings)
    before = changed(standings)["seen"]
    at(standings.robustness_folder(ASKED), state="running", done=1, total=2, unit="images")
    now = told(standings, before=before)
    assert now.keys() == {"bent_words", "bent_progress", "bent_start", "bent_cancel"}
    assert now["bent_words"] == "Running: 1 of 2 images"


def test_better_weights_have_no_result_yet(standings):
    made(standings)
    before = changed(standings)["seen"]
    run = standings.services.runs.get("mine").path
    better = Description(**{**describe(run), "sha256": "f" * 64})
    (run / "model.json").write_bytes(encode(better))
    after = told(standings, before=before)
    assert after["words"] == READY
    assert not after["results"]["visible"]


def test_what_is_wrong_with_a_run_is_told(standings):
    (standings.services.runs.get("mine").path / "model.json").unlink()
    assert told(standings)["words"].startswith("⚠ model.json of mine is missing")


def test_a_result_that_was_damaged_is_asked_for_again(standings):
    made(standings)
    folder = standings.folder(ASKED)
    (folder / "result.json").write_text("{}")
    now = told(standings)
    assert (now["words"], now["start"]["interactive"]) == (READY, True)


def test_another_mode_tells_what_it_changed(standings):
    result = made(standings).result
    beside = {"mode": "plain", "top1": result["top1"] - 0.025, "loss": 0.5}
    flipped = made(standings, replace(ASKED, mode="flip"), mode="flip", beside=beside).result
    shown = headline(flipped)
    assert "<strong>+2.50 points</strong>" in shown
    assert f"top-1 {beside['top1']:.2%}, loss 0.5000" in shown


def test_a_network_that_went_astray_is_told_too(standings):
    result = made(standings).result
    result["loss"] = result["calibration"]["error"] = None
    assert headline(result).count("not a number") == 2


@pytest.mark.parametrize(
    ("only", "p", "words"),
    [
        ((3, 1), 0.625, "mine is 6.67 points better: could well be luck.</strong> Only mine gets "
         "3 images right, only yours 1 image."),
        ((1, 9), 0.0215, "yours is 26.67 points better: hardly luck."),
        ((4, 4), 1.0, "Both score the same: could well be luck."),
    ],
)  # fmt: skip
def test_whether_a_difference_could_be_luck_is_said_in_plain_words(only, p, words):
    first, second = only
    compared = {
        **{"first": "mine", "second": "yours", "p": p, "difference": (first - second) / N},
        **{"only_first": [*range(first)], "only_second": [*range(second)]},
    }
    assert words in verdict(compared)


def test_a_difference_of_nothing_has_no_sign():
    assert [signed(value) for value in (0.001, -0.001, 1.5, -1.5)] == [
        *("0.00", "0.00", "+1.50", "−1.50"),
    ]


def test_two_runs_are_compared_when_both_are_there(standings):
    made(standings)
    now = told(standings, PAIR)
    assert now["words"].endswith("yours: not evaluated in this way yet, press **Evaluate**")
    assert now["start"]["interactive"]
    assert not now["pair_box"]["visible"]
    made(standings, PAIR, other=True, seed=1)
    assert told(standings, PAIR)["pair_box"]["visible"]
    shown = compared(changed(standings, PAIR)["pair"])
    assert ">mine</th>" in shown
    assert ">yours</th>" in shown
    assert "McNemar" in shown


def test_other_images_are_not_compared(standings):
    made(standings, replace(ASKED, split="val"))
    folder = standings.folder(replace(PAIR, split="val"), other=True)
    evaluated = made(standings, replace(PAIR, split="val"), other=True)
    RunEvaluation(evaluated.result, evaluated.logits, evaluated.labels.flip(0)).save(folder)
    shown = compared(changed(standings, replace(PAIR, split="val"))["pair"])
    assert shown.startswith("<p>⚠ against must be a run with the same images")


def test_a_run_is_not_compared_with_itself():
    assert Asked.of("mine", "test", "plain", "mine").other is None
    assert Asked.of("mine", "test", "plain", "").other is None


def test_both_runs_are_asked_about_the_images_of_the_first(standings, monkeypatch):
    asked = []

    def start(run, split, caller, dataset=None, mode="plain"):
        asked.append((run, split, dataset, mode))

    monkeypatch.setattr(standings.services.evaluating, "start", start)
    tab.start(standings.services, Asked("mine", "val", "flip", "yours"))
    assert asked == [("mine", "val", None, "flip"), ("yours", "val", "colours", "flip")]


def test_one_can_compare_with_any_run_but_the_same(standings):
    offered = tab.others(standings.services, "mine", "yours")
    assert [run for _, run in offered["choices"]] == ["", "yours"]
    assert "value" not in offered  # what is chosen stays
    assert tab.others(standings.services, "yours", "yours")["value"] == ""


def surest(logits):
    return np.exp(logits).max(1) / np.exp(logits).sum(1)


def test_images_are_those_of_the_cell_and_of_the_worst_and_least_certain(standings):
    evaluated = made(standings)
    logits, labels = evaluated.logits.double().numpy(), evaluated.labels.numpy()
    said, sure = logits.argmax(1), surest(logits)
    order = np.argsort(-sure)

    def places(kind, **cell):
        return places_of(View("", None, kind, **cell), evaluated, None)

    for i, j in np.ndindex(3, 3):
        cell = [place for place in order if (labels[place], said[place]) == (i, j)]
        assert places("cell", truth=i, said=j) == cell
    assert places("worst") == [place for place in order if said[place] != labels[place]]
    two = np.sort(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[:, -2:]
    assert places("unsure") == np.argsort(two[:, 1] - two[:, 0]).tolist()


def test_what_only_one_gets_right_is_seen_through_the_other_ones_eyes(standings):
    mine, yours = made(standings), made(standings, PAIR, other=True, seed=1)
    folders = [str(standings.folder(PAIR, other)) for other in (False, True)]
    logits = [one.logits.double().numpy() for one in (mine, yours)]
    labels = mine.labels.numpy()
    right = [each.argmax(1) == labels for each in logits]
    for kind, (good, bad) in {"first": (0, 1), "second": (1, 0)}.items():
        view = View(*folders, kind)
        only = np.flatnonzero(right[good] & ~right[bad])
        order = only[np.argsort(-surest(logits[bad])[only])]
        assert places_of(view, mine, yours) == order.tolist()
        words, shown, _ = images.page_of(standings.services, view)
        assert words.startswith(f"**{len(only)} images that only {('mine', 'yours')[good]} gets")
        assert [CLASSES.index(one.predicted) for one in shown] == [
            *logits[bad].argmax(1)[order][:PAGE],
        ]


def test_images_come_a_page_at_a_time_with_truth_answer_and_map(standings):
    evaluated = made(standings)
    view = View(str(standings.folder(ASKED)), None, "unsure")
    order = places_of(view, evaluated, None)
    seen = []
    for page in range(3):
        now = look(standings.services, replace(view, page=page))
        start = PAGE * page
        shown = order[start : start + PAGE]
        assert f"{start + 1} to {start + len(shown)} of 30" in now["shown_words"]
        assert (now["back"]["interactive"], now["on"]["interactive"]) == (page > 0, page < 2)
        pictures = now["pictures"]["value"]
        assert len(pictures) == len(shown)
        for (picture, under), place in zip(pictures, shown, strict=True):
            truth, said = (CLASSES[k] for k in (evaluated.labels[place],
                                                evaluated.logits[place].argmax()))  # fmt: skip
            assert under.startswith(f"{truth} ✓ · " if truth == said else f"{truth} → {said} · ")
            height, width, channels = picture.shape
            assert (channels, picture.dtype) == (4, np.uint8)
            assert width > 2 * height
        seen += shown
    assert sorted(seen) == [*range(N)]
    assert view.turned(-1).page == 0


def test_an_answer_is_told_with_its_confidence(standings):
    made(standings)
    [one, *_] = images.page_of(
        standings.services, View(str(standings.folder(ASKED)), None, "worst")
    )[1]
    assert caption(one) == f"{one.truth} → {one.predicted} · {one.confidence:.1%}"


def test_without_the_images_the_sentence_says_how_to_get_them(standings, tmp_path):
    made(standings)
    view = View(str(standings.folder(ASKED)), None, "worst")
    elsewhere = Services(Paths(standings.services.paths.runs, tmp_path / "none"))
    now = look(elsewhere, view)
    assert now["shown_words"].startswith("⚠ the images of colours are not on this machine")
    assert not now["pictures"]["visible"]


def test_images_stay_until_they_belong_to_something_else(standings):
    of, other = (str(standings.folder(PAIR, other)) for other in (False, True))
    alone = {"of": of, "other": None, "runs": ["mine", None], "stored": False}
    pair = {"of": of, "other": other, "runs": ["mine", "yours"], "stored": False}
    kinds = [name for name, _ in viewed(pair, None)["which"]["choices"]]
    assert kinds[2:] == ["only mine right", "only yours right"]
    assert viewed(pair, View(of, None, "worst")).keys() == {"which"}
    assert viewed(alone, View(of, other, "first"))["view"] is None
    gone = viewed({**alone, "of": None}, View(of, None, "worst"))
    assert gone["shown_words"] == images.HINT
    assert gone["which"]["value"] is None
    assert viewed({**alone, "stored": True}, None)["shown_words"] == images.NO_IMAGES


def test_the_table_is_sorted_by_numbers_and_shows_percent(standings):
    result = made(standings).result
    table = class_rows(result["per_class"])
    [row] = [row for row in result["per_class"] if row["label"] == "red"]
    assert table["data"][2] == ["red", *(100 * row[k] for k in ("precision", "recall", "f1")), 10]
    written = ["red", *(f"{100 * row[k]:.1f}" for k in ("precision", "recall", "f1")), "10"]
    assert table["metadata"]["display_value"][2] == written


def test_the_diagrams_are_drawn_and_a_figure_of_the_matrix_only_for_many_classes(standings):
    made(standings)
    reliability, confidence, matrix, _ = drawings([str(standings.folder(ASKED)), False])
    assert reliability.axes
    assert confidence.axes
    assert not matrix["visible"]


def test_robustness_is_told_in_words(standings):
    folder = standings.robustness_folder(ASKED)
    folder.mkdir(parents=True)
    values = dict.fromkeys(ROBUSTNESS_KEYS, "") | {
        **{"n": 30, "top1": 0.9, "interval_half_width": 0.1, "strengths": [1, 2, 3, 4, 5]},
        "kinds": {"noise": [0.9, 0.7, 0.5, 0.3, 0.1], "jpeg": [0.9, 0.9, 0.8, 0.8, 0.7]},
    }
    write_result(folder, values)
    figure, words = curves([str(folder), False])
    assert figure["visible"]
    assert "**jpeg** best, 82.0% right" in words["value"]
    assert "**noise** worst, 50.0%" in words["value"]


def test_robustness_that_cannot_be_measured_says_why(standings, tmp_path):
    elsewhere = Services(Paths(standings.services.paths.runs, tmp_path / "none"))
    bent = Standings(elsewhere).robustness(ASKED)
    now = robustness(list(astuple(bent)))
    assert now["bent_words"].startswith("⚠ the images of colours are not on this machine")
    assert not now["bent_start"]["interactive"]


def test_the_files_hold_the_numbers(standings, tmp_path, monkeypatch):
    result = made(standings).result
    folder = standings.folder(ASKED)
    written = classes_csv(folder, None, tmp_path).read_text()
    rows = [*csv.reader(io.StringIO(written))]
    assert rows[1:] == [
        [row["label"], *(str(row[key]) for key in ("precision", "recall", "f1", "support"))]
        for row in result["per_class"]
    ]
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    with gr.Blocks(analytics_enabled=False):
        download = gr.DownloadButton()
    file = Path(handed(download, report_zip, folder, None))
    assert file.name == "mine-test-colours.zip"
    assert file.is_relative_to(tmp_path / "gradio")
    with zipfile.ZipFile(file) as archive:
        names = {name.removeprefix("mine-test-colours/") for name in archive.namelist()}
        assert {"result.json", "per-class.csv", "confusion.csv", "confusion.png"} <= names
        assert json.loads(archive.read("mine-test-colours/result.json"))["top1"] == result["top1"]

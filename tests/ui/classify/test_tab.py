"""The Classify tab over networks that learned nothing: what is asked, told and shown."""

import asyncio
import base64
import csv
import io
import json
import math
import os
import re
import shutil
import tomllib
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from resnet_demo.data.splits import split_indices
from resnet_demo.errors import ConfigError
from resnet_demo.inference.class_maps import ClassMap
from resnet_demo.inference.classification import OodVerdict
from resnet_demo.inference.heatmaps import overlay
from resnet_demo.models.description import Description, encode_description, model_description
from resnet_demo.paths import Paths
from resnet_demo.tasks.image_indexes import INDEX, run_indexing
from resnet_demo.tasks.locks import WORKER_LOCK, try_lock
from resnet_demo.tasks.status import Status, create_task, status_json
from resnet_demo.ui.classify import several as many
from resnet_demo.ui.classify.answer import class_list, gauge, needle, ways_words
from resnet_demo.ui.classify.class_map import SMALL, stack
from resnet_demo.ui.classify.details import CLOSED, FIRST_TIME, more, start_index
from resnet_demo.ui.classify.examples import PICTURES, SHIPPED, chosen, example_updates, thumbnails
from resnet_demo.ui.classify.picture import GONE, NOTHING, READY, classify_picture
from resnet_demo.ui.classify.several import Answer, Pictures, as_csv, several
from resnet_demo.ui.classify.tab import ALONE, by_component, gathered, others
from resnet_demo.ui.services import Services
from tests.conftest import REPOSITORY
from tests.ui.fake_evaluations import CLASSES, untrained_runs

HOSTILE = "<img src=x onerror=alert(1)> *x* ${1}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of the same network: `mine`, `yours`, and `other`, which knows other classes."""
    torch.set_num_threads(1)  # on tensors this small, threads only wait for each other
    root = untrained_runs(tmp_path_factory.mktemp("untrained"), "mine", "yours", "other")
    rewritten(root / "other", classes=["blue", "one", "two"])
    return root


@pytest.fixture
def services(tmp_path, runs, colours, monkeypatch):
    """What the tab is given, over copies of the runs; uploads lie in tmp_path / uploads."""
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "uploads").mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return Services(Paths(tmp_path / "runs", colours, tmp_path / "shipped"))


@pytest.fixture
def upload(tmp_path, services):
    """Puts a picture, or bytes that are none, where uploads lie; its path as text."""

    def put(name="red.png", content=None, size=(40, 20)):
        path = tmp_path / "uploads" / name
        if content is None:
            pixels = np.random.default_rng(len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            path.write_bytes(content)
        return str(path)

    return put


def rewritten(folder, **told):
    """Describe a run's weights in another way."""
    (folder / "model.json").write_bytes(
        encode_description(Description(**{**model_description(folder), **told}))
    )


def last(updates):
    """What the page shows in the end."""
    shown = {}
    for update in updates:
        shown |= update
    return shown


def visible(update):
    return update.get("visible") if isinstance(update, dict) else True


def at(energy, threshold=-3.0):
    return OodVerdict(energy, threshold, 0.05, 5000)


# The answer


def test_a_picture_gets_the_labels_of_the_classifier_itself(services, upload):
    path = upload()
    told = last(classify_picture(services, path, "mine", "squash", ""))
    said = services.classifier("mine").classify_file(Path(path), fit="squash")
    assert told["labels"] == {row["label"]: row["confidence"] for row in said.labels}
    top = said.labels[0]
    assert told["sure"] == f"**mine** is {top['confidence']:.1%} sure of **{top['label']}**."
    assert told["words"]["visible"] is False
    assert told["answer"]["elem_classes"] == []
    assert told["second"]["elem_classes"] == GONE
    assert told["wanted"]["choices"][0] == (f"{top['label']} {top['confidence']:.1%}", 0)
    captions = [caption for _, caption in told["ways"]["value"]]
    assert [caption.startswith("✓") for caption in captions] == [False, True, False]


def test_another_run_answers_beside_it_and_the_same_one_does_not(services, upload):
    path = upload()
    told = last(classify_picture(services, path, "mine", "crop", "yours"))
    assert told["second"]["elem_classes"] == []
    assert told["other_sure"].startswith("**yours** is ")
    assert told["maps"].count("<figure>") == 2
    assert (
        last(classify_picture(services, path, "mine", "crop", "mine"))["second"]["elem_classes"]
        == GONE
    )


def test_a_class_that_the_other_run_does_not_know_has_no_map_there(services, upload):
    told = last(classify_picture(services, upload(), "mine", "crop", "other"))
    own, other = told["maps"].split("</figure>")[:2]
    assert (own.count('<img class="map'), other.count('<img class="map')) == (3, 1)
    assert other.count("not one of its classes") == 2


@pytest.mark.parametrize(("path", "run", "words"), [(None, "mine", READY), ("x", None, NOTHING)])
def test_without_a_picture_or_a_run_it_says_what_to_do(services, path, run, words):
    assert last(classify_picture(services, path, run, "crop", ""))["words"]["value"] == words


def test_what_is_no_picture_and_no_upload_is_told_in_the_place_of_the_answer(services, upload):
    for path, words in (
        (upload("text.png", b"no picture"), "'text.png' is not a PNG, JPEG"),
        ("/etc/passwd", "a file must come through an upload"),
    ):
        with pytest.warns(UserWarning, match=re.escape(words)):
            told = last(classify_picture(services, path, "mine", "crop", ""))
        assert words.replace("_", r"\_") in told["words"]["value"]
        assert told["answer"]["elem_classes"] == GONE


def test_a_fit_that_is_none_is_refused(services, upload):
    with pytest.warns(UserWarning, match="fit must be one of crop, squash, pad"):
        list(classify_picture(services, upload(), "mine", "../x", ""))


# The gauge


def test_the_needle_passes_the_limit_exactly_when_the_picture_is_outside():
    energies = [-30, -6, -3.001, -3, -2.999, -2.5, 4]
    shares = [needle(at(energy), 10) for energy in energies]
    assert shares == sorted(shares)
    assert [share > 200 / 3 for share in shares] == [at(energy).is_ood for energy in energies]
    assert (shares[0], shares[-1]) == (1, 99)
    nothing_to_say = needle(at(-math.log(10)), 10)  # all logits 0
    assert nothing_to_say == pytest.approx(99)


def test_the_gauge_says_what_it_means_and_how_often_it_is_wrong():
    outside, inside = gauge(at(-2.5), 10), gauge(at(-5), 10)
    assert "This may be none of the classes." in outside
    assert "−2.50: over the limit of −3.00" in outside
    assert "none of the classes" not in inside
    assert "−5.00: not over the limit" in inside
    for told in (outside, inside):
        assert "5% of the 5,000 validation images" in told
        assert "flagged wrongly" in told
    assert "trained before there was a gauge" in gauge(None, 10)


def test_a_run_with_a_threshold_has_a_gauge_and_one_without_says_why_not(services, upload):
    path = upload()
    assert (
        "before there was a gauge"
        in last(classify_picture(services, path, "mine", "crop", ""))["gauge"]
    )
    threshold = {"threshold": -1e6, "false_alarms": 0.05, "n": 15}
    rewritten(services.paths.runs / "yours", metrics={"outside": threshold})
    told = last(classify_picture(services, path, "yours", "crop", ""))["gauge"]
    assert "This may be none of the classes." in told
    assert "5% of the 15 validation images" in told


# Where it looked, what it saw


def pictures_in(html):
    urls = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', html)
    return [(kind, np.array(Image.open(io.BytesIO(base64.b64decode(text))))) for kind, text in urls]


@pytest.mark.parametrize(("side", "kind", "most"), [(32, "png", 0), (SMALL + 72, "jpeg", 24)])
def test_a_map_at_some_opacity_over_the_picture_is_the_overlay(side, kind, most):
    shape = (side, side * 3 // 4)
    slope = np.linspace(0, 255, shape[0] * shape[1]).reshape(shape)
    picture = np.stack([slope, slope[::-1], slope[:, ::-1]], 2).astype(np.uint8)
    heat = torch.from_numpy(slope / 255).float()
    html = stack("mine", [ClassMap(picture, heat, [])])
    (kinds, (photo, colours)) = zip(*pictures_in(html), strict=True)
    assert kinds == (kind, kind)
    assert photo.shape == picture.shape
    assert np.abs(photo.astype(int) - picture).max() <= most
    blended = np.rint(0.4 * colours + 0.6 * photo.astype(float))  # as a browser does
    assert np.abs(blended - overlay(picture, heat, 0.4)).max() <= max(most, 1)
    assert f"aspect-ratio:{shape[1]}/{shape[0]}" in html


def test_no_word_of_anybody_else_is_in_the_html(services, upload):
    rewritten(services.paths.runs / "mine", classes=[HOSTILE, "${2}", "<b>"])
    told = last(classify_picture(services, upload(), "mine", "crop", ""))
    for part in ("maps", "gauge"):
        assert not re.search(r"onerror|\$\{|<b>&|alert", told[part])
    assert "<img" not in re.sub(r"\\<", "", told["sure"])


def test_classes_are_shown_to_the_letter():
    words = class_list("mine", (HOSTILE, "a\nb", "_c_"))
    assert r"*\<img src=x onerror=alert(1)\> \*x\* \${1}*" in words
    assert r"*a b* *\_c\_*" in words


def test_the_words_on_the_ways_are_right_for_the_picture():
    wide = ways_words(300, 450, 30)
    assert "450 × 300 pixels, and the network gets 30 × 30" in wide
    assert "stands for 10 × 10" in wide
    assert "leaves out 33% of it, the sides" in wide
    assert "pressed together 1.5 times" in wide
    assert "leaves out 50% of it, the top and bottom" in ways_words(60, 30, 30)
    assert "stands for" not in ways_words(60, 30, 30)
    assert "the three ways give the same" in ways_words(32, 32, 32)


# Behind the folds


def test_nothing_is_computed_while_the_folds_are_closed(services):
    assert more(services, CLOSED, "no such file", "no-run", "crop") == {}
    part = gr.State()
    assert by_component({"open": part}, {}) == {part: gr.skip()}


def test_the_last_step_tells_all_that_was_told_before():
    async def steps():
        yield {"words": "wait", "sure": "?"}
        yield {"sure": "cat"}
        yield {"maps": "m"}

    async def told():
        return [updates async for updates in gathered(steps())]

    assert asyncio.run(told()) == [
        {"words": "wait", "sure": "?"},
        {"words": "wait", "sure": "cat"},
        {"words": "wait", "sure": "cat", "maps": "m"},
    ]


def test_each_stage_has_its_maps(services, upload):
    told = more(services, {**CLOSED, "inside": True}, upload(), "mine", "crop")
    names = [name for _, name in told["stages"]["value"]]
    assert names == ["stem", "stage 1", "stage 2", "stage 3"]
    assert told["inside_words"]["visible"] is False


def test_what_fails_behind_a_fold_says_so_there(services):
    told = more(services, {"inside": True, "similar": True}, "/etc/passwd", "no-run", "crop")
    assert told["inside_words"]["value"].startswith("⚠")
    assert told["similar_words"]["value"].startswith("⚠")
    assert not told["nearest"]["visible"]


def test_the_first_time_a_button_is_offered_and_then_the_most_similar_images(services, colours):
    similar = {**CLOSED, "similar": True}
    images, labels = services.datasets.load("colours", "train")
    folder = services.image_indexes.folder(services.runs.get("mine"))
    asked = json.dumps({"run": "mine", "weights": folder.name.rpartition("-")[2]}).encode()
    config = services.runs.get("mine").config()
    place = int(split_indices(len(labels), config.val_share, config.seed)[0][7])
    path = Path(os.environ["GRADIO_TEMP_DIR"]) / "one.png"
    Image.fromarray(np.array(images[place])).save(path)

    told = more(services, similar, str(path), "mine", "crop")
    assert told["similar_words"]["value"] == FIRST_TIME
    assert (told["start"]["visible"], visible(told["nearest"])) == (True, False)
    assert told["timer"].active is False

    os.close(create_task(folder, {"task.json": asked}))
    run_indexing(folder, services.paths)
    told = more(services, similar, str(path), "mine", "crop")
    pairs = told["nearest"]["value"]
    assert len(pairs) == 5
    name = services.datasets.get("colours").classes[labels[place]]
    assert pairs[0][1] == f"{name} 1.000"  # itself
    assert (pairs[0][0][:: pairs[0][0].shape[0] // 12][:12, :: pairs[0][0].shape[0] // 12]
            == images[place]).all()  # fmt: skip
    assert "of the 135 training images" in told["similar_words"]["value"]
    assert told["start"]["visible"] is False
    assert told["timer"].active is False


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (INDEX, r"⚠ index.safetensors of index-\w{12} is damaged and is not used. "),
        ("status.json", r"⚠ status.json of index-\w{12} is damaged. "),
    ],
)
def test_a_damaged_index_is_named_and_the_button_makes_it_anew(services, upload, name, words):
    run, similar = services.runs.get("mine"), {**CLOSED, "similar": True}
    services.image_indexes.get_or_build(run, lambda done, total: None)
    file = services.image_indexes.folder(run) / name
    file.write_bytes(file.read_bytes()[:-9])
    services.launcher.spawn = lambda verb, folder, lock: (run_indexing(folder, services.paths),
                                                          os.close(lock))  # fmt: skip
    told = more(services, similar, upload(), "mine", "crop")
    assert re.fullmatch(words + FIRST_TIME, told["similar_words"]["value"])
    assert (told["start"]["visible"], visible(told["nearest"])) == (True, False)
    start_index(services, "mine")
    told = more(services, similar, upload(), "mine", "crop")
    assert len(told["nearest"]["value"]) == 5
    assert told["start"]["visible"] is False


def test_a_damaged_picture_does_not_offer_to_look_at_the_training_images_again(services, upload):
    services.image_indexes.get_or_build(services.runs.get("mine"), lambda done, total: None)
    told = more(services, {**CLOSED, "similar": True}, upload("a.png", b"no"), "mine", "crop")
    assert told["similar_words"]["value"].startswith("⚠ 'a.png' is not a PNG")
    assert told["start"]["visible"] is False


def test_while_the_training_images_are_looked_at_the_page_asks_again(services, upload):
    folder = services.image_indexes.folder(services.runs.get("mine"))
    folder.mkdir(parents=True)
    status = Status(state="running", done=30, total=120, unit="images")
    (folder / "status.json").write_bytes(status_json(status))
    lock = try_lock(folder / WORKER_LOCK)
    told = more(services, {**CLOSED, "similar": True}, upload(), "mine", "crop")
    os.close(lock)
    assert told["similar_words"]["value"] == "Looking at the training images: 30 of 120."
    assert 'aria-valuenow="25"' in told["progress"]["value"]
    assert told["cancel"]["interactive"]
    assert told["timer"].active
    told = more(services, {**CLOSED, "similar": True}, upload(), "mine", "crop")  # lock is gone
    assert told["similar_words"]["value"].startswith("Failed: its worker ended without a word")
    assert told["start"]["visible"]
    assert not told["timer"].active


# Several pictures


def rows_of(told):
    """The CSV that the page hands out."""
    path = Path(told["csv"]["value"])
    assert path.name == "labels-mine.csv"
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_each_of_several_pictures_gets_the_label_that_it_gets_alone(services, upload):
    names = ("a.png", "bb.png", "ccc.png")
    files = [(upload(name), name) for name in names]
    told = last(several(services, files, "mine", "pad", None))
    rows = rows_of(told)
    assert [row["file"] for row in rows] == [*names]
    for row, (path, _), (picture, caption) in zip(
        rows, files, told["several"]["value"], strict=True
    ):
        said = services.classifier("mine").classify_file(Path(path), 1, "pad").labels[0]
        assert (row["label"], row["confidence"]) == (said["label"], f"{said['confidence']:.4f}")
        assert caption == f"{said['label']} {said['confidence']:.1%}"
        assert picture.shape == (128, 128, 3)
    assert told["several_words"].startswith("**mine** says of 3 pictures (pad): ")


def test_a_damaged_file_is_named_in_a_sentence_and_the_others_are_not_lost(services, upload):
    files = [
        (upload("good.png"), "good.png"),
        (upload("bad.png", b"no picture"), "bad.png"),
        ("/etc/passwd", "passwd"),
        (upload("empty.jpg", b""), "=1+1.jpg"),
    ]
    told = last(several(services, files, "mine", "crop", None))
    assert len(told["several"]["value"]) == 1
    lines = told["several_words"].split("\n\n")
    assert lines[0].startswith("**mine** says of 1 picture (centre crop): 1 ")
    assert lines[1:] == [
        "⚠ 'bad.png' is not a PNG, JPEG, WebP, BMP, GIF or TIFF image.",
        "⚠ 'passwd': a file must come through an upload, got a path of this machine.",
        "⚠ '=1+1.jpg' is empty.",
    ]
    rows = rows_of(told)
    assert [bool(row["problem"]) for row in rows] == [False, True, True, True]
    assert [row["label"] in CLASSES for row in rows] == [True, False, False, False]
    assert rows[3]["file"] == "'=1+1.jpg"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_csv_is_a_formula(first):
    text = as_csv([Answer(f"{first}1.png", label=f"{first}x", problem=f"{first}p")])
    [row] = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert [cell[:2] for cell in (row[0], row[1], row[4])] == [f"'{first}"] * 3


def test_more_files_than_it_takes_are_refused_and_many_damaged_ones_are_counted(
    services, upload, monkeypatch
):
    files = [(upload(f"{n}.png", b"x"), f"{n}.png") for n in range(8)]
    told = last(several(services, files, "mine", "crop", None))
    assert told["several_words"].count("is not a PNG") == many.MOST_SAID
    assert told["several_words"].endswith("⚠ 3 more could not be read: see the CSV.")
    monkeypatch.setattr(many, "MOST_FILES", 7)
    told = last(several(services, files, "mine", "crop", None))
    assert told["several_words"] == "⚠ pictures must be at most 7 files at once, got 8."


def test_what_is_done_is_not_done_again_unless_something_changed(services, upload):
    files = [(upload(), "red.png")]
    done = last(several(services, files, "mine", "crop", None))["done"]
    assert list(several(services, files, "mine", "crop", done)) == []
    assert list(several(services, files, "mine", "pad", done)) != []
    assert list(several(services, files, "yours", "crop", done)) != []
    assert last(several(services, [], "mine", "crop", done))["several_words"] == many.READY


def test_a_run_that_is_damaged_is_said_once(services, upload):
    (services.paths.runs / "mine" / "model.safetensors").write_bytes(b"x")
    told = last(several(services, [(upload(), "red.png")] * 3, "mine", "crop", None))
    assert told["several_words"].startswith("⚠ ")
    assert told["several_words"].count("damaged") == 1


def test_files_keep_the_names_that_their_owner_gave_them():
    part = Pictures(file_count="multiple")
    files = [{"path": "/up/1.png", "orig_name": "=ä b.png"}, {"path": "/up/2.png"}]
    payload = part.data_model(root=files)
    assert part.preprocess(payload) == [("/up/1.png", "=ä b.png"), ("/up/2.png", "2.png")]
    assert part.preprocess(None) == []


# Runs and examples


def test_the_runs_to_compare_with_are_nothing_and_all_that_have_weights(services):
    told = others(services, "gone")
    assert told["choices"][0] == ALONE
    assert {run_id for _, run_id in told["choices"]} == {"", "mine", "yours", "other"}
    assert told["value"] == ""
    assert others(services, "yours")["value"] == "yours"


def test_examples_are_sent_once_for_a_run_and_again_when_its_images_have_come(services, tmp_path):
    classes, words, own, shipped, seen = example_updates(services, "mine", None)
    assert "*blue* *green* *red*" in classes
    assert "test image of colours" in words["value"]
    assert [label for _, label in own["value"]] == sorted(CLASSES)
    assert [label for _, label in shipped["value"]] == [*SHIPPED]
    assert example_updates(services, "mine", seen) == (gr.skip(),) * 5
    away = Services(Paths(services.paths.runs, tmp_path / "no-data", tmp_path / "none"))
    _, words, own, _, before = example_updates(away, "mine", seen)
    assert (words["visible"], own["visible"]) == (False, False)
    assert example_updates(services, "mine", before)[2]["visible"]


@pytest.mark.parametrize("index", [-1, 3, None, "0", True, [0, 1], 0.0])
def test_an_example_that_nobody_was_offered_is_refused(index):
    with pytest.raises(ConfigError):
        chosen(("a", "b", "c"), index)


def test_the_pictures_that_ship_are_small_photographs_with_a_licence_each():
    files = sorted(PICTURES.glob("*.jpg"))
    assert {file.stem for file in files} == {*SHIPPED}
    rows = re.findall(r"^\| `(\w+)\.jpg` \|(.+)\|$", (PICTURES / "README.md").read_text(), re.M)
    assert {name for name, _ in rows} == {*SHIPPED}
    assert all(re.search("CC0|public domain", text.split("|")[-1]) for _, text in rows)
    for file in files:
        with Image.open(file) as image:
            assert image.format == "JPEG"
            assert 256 < max(image.size) <= 512  # no image of CIFAR-10, which are 32
        assert file.stat().st_size <= 60_000
    assert all(picture.shape == (128, 128, 3) for picture, _ in thumbnails())


def test_the_pictures_are_part_of_the_package():
    told = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    patterns = told["tool"]["setuptools"]["package-data"]["resnet_demo"]
    package = REPOSITORY / "resnet_demo"
    carried = {file for pattern in patterns for file in package.glob(pattern)}
    assert carried >= {*PICTURES.iterdir()}

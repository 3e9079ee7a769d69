import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_demo.config import FINGERPRINT
from resnet_demo.data.pictures import decode_picture
from resnet_demo.data.splits import stratified_split
from resnet_demo.file_locks import try_lock
from resnet_demo.tasks.image_indexes import INDEX, run_indexing
from resnet_demo.tasks.locks import WORKER_LOCK
from resnet_demo.tasks.status import Status, create_task, status_json
from resnet_demo.ui.classify.details import CLOSED, NOT_INDEXED, details_updates, start_index

NEIGHBOURS = {**CLOSED, "neighbours": True}


def is_visible(update):
    return update.get("visible") if isinstance(update, dict) else True


def test_nothing_is_computed_while_the_accordions_are_closed(services, last):
    assert last(details_updates(services, CLOSED, "no such file", "no-run", "crop")) == {}


def test_each_stage_has_its_feature_maps(services, upload, last):
    state = {**CLOSED, "feature_maps": True}
    shown = last(details_updates(services, state, upload(), "mine", "crop"))
    names = [name for _, name in shown["stages"]["value"]]
    assert names == ["stem", "stage 1", "stage 2", "stage 3"]
    assert shown["maps_message"]["visible"] is False


def test_errors_are_shown_in_their_accordion(services, last):
    state = dict.fromkeys(CLOSED, True)
    shown = last(details_updates(services, state, "/etc/passwd", "no-run", "crop"))
    assert shown["maps_message"]["value"].startswith("⚠")
    assert shown["message"]["value"].startswith("⚠")
    assert not shown["nearest"]["visible"]


def test_a_button_is_offered_first_and_then_the_nearest_images(services, last):
    images, labels = services.datasets.load("colours", "train")
    folder = services.image_indexes.folder(services.runs.get("mine"))
    task = json.dumps({"run": "mine", "weights": folder.name.split("-")[1]}).encode()
    config = services.runs.get("mine").config()
    position = int(stratified_split(labels, config.val_share, config.seed)[0][7])
    path = Path(os.environ["GRADIO_TEMP_DIR"]) / "one.png"
    Image.fromarray(np.array(images[position])).save(path)

    shown = last(details_updates(services, NEIGHBOURS, str(path), "mine", "crop"))
    assert shown["message"]["value"] == NOT_INDEXED
    assert (shown["start"]["visible"], is_visible(shown["nearest"])) == (True, False)
    assert shown["timer"].active is False

    os.close(create_task(folder, {"task.json": task}))
    run_indexing(folder, services.paths)
    shown = last(details_updates(services, NEIGHBOURS, str(path), "mine", "crop"))
    nearest = shown["nearest"]["value"]
    assert len(nearest) == 5
    name = services.datasets.get("colours").classes[labels[position]]
    picture, caption = nearest[0]
    assert caption == f"{name} 1.000"  # the picture itself
    step = picture.shape[0] // 12  # every pixel was enlarged to a square
    assert (picture[::step, ::step][:12, :12] == images[position]).all()
    assert "of the 135 training images" in shown["message"]["value"]
    assert shown["start"]["visible"] is False
    assert shown["timer"].active is False


def test_the_nearest_images_are_summed_up_and_a_changed_dataset_is_noted(services, upload, last):
    run, path = services.runs.get("mine"), upload()
    services.image_indexes.get_or_build(run, lambda done, total: None)
    predicted = services.classifier("mine").classify(decode_picture(path), 1).labels[0]["label"]

    def message():
        shown = last(details_updates(services, NEIGHBOURS, path, "mine", "crop"))
        labels = [caption.split()[0] for _, caption in shown["nearest"]["value"]]
        assert (
            f"The 5 nearest of the 135 training images. {labels.count(predicted)} of them have the "
            f"predicted class, **{predicted}**. The number is the cosine similarity of the "
            "features: 1 is identical, 0 unrelated."
        ) in shown["message"]["value"]
        return shown["message"]["value"]

    assert "⚠" not in message()
    now = services.datasets.fingerprint("colours")
    run.record({FINGERPRINT: now.to_dict()})
    assert "⚠" not in message()
    run.record({FINGERPRINT: replace(now, digest="0" * len(now.digest)).to_dict()})
    note = " ⚠ The dataset has changed since training: these are its images now."
    assert message().endswith(note)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (INDEX, r"⚠ index.safetensors of index-\w{12}-\w{12} is damaged and is not used. "),
        ("status.json", r"⚠ status.json of index-\w{12}-\w{12} is damaged. "),
    ],
)
def test_a_damaged_index_is_reported_and_can_be_built_again(services, upload, name, message, last):
    run = services.runs.get("mine")
    services.image_indexes.get_or_build(run, lambda done, total: None)
    file = services.image_indexes.folder(run) / name
    file.write_bytes(file.read_bytes()[:-9])

    def spawn(verb, folder, lock):
        run_indexing(folder, services.paths)
        os.close(lock)

    services.launcher.spawn = spawn
    shown = last(details_updates(services, NEIGHBOURS, upload(), "mine", "crop"))
    assert re.fullmatch(message + NOT_INDEXED, shown["message"]["value"])
    assert (shown["start"]["visible"], is_visible(shown["nearest"])) == (True, False)
    start_index(services, "mine")
    shown = last(details_updates(services, NEIGHBOURS, upload(), "mine", "crop"))
    assert len(shown["nearest"]["value"]) == 5
    assert shown["start"]["visible"] is False


def test_a_damaged_picture_does_not_offer_to_index_again(services, upload, last):
    services.image_indexes.get_or_build(services.runs.get("mine"), lambda done, total: None)
    path = upload("a.png", b"no")
    shown = last(details_updates(services, NEIGHBOURS, path, "mine", "crop"))
    assert shown["message"]["value"].startswith("⚠ 'a.png' is not a PNG")
    assert shown["start"]["visible"] is False


def test_while_the_index_is_built_the_page_polls(services, upload, last):
    folder = services.image_indexes.folder(services.runs.get("mine"))
    folder.mkdir(parents=True)
    status = Status(state="running", done=30, total=120, unit="images")
    (folder / "status.json").write_bytes(status_json(status))
    lock = try_lock(folder / WORKER_LOCK)
    shown = last(details_updates(services, NEIGHBOURS, upload(), "mine", "crop"))
    os.close(lock)
    assert shown["message"]["value"] == "Training images: 30 of 120."
    assert 'aria-valuenow="25"' in shown["progress"]["value"]
    assert shown["cancel"]["interactive"]
    assert shown["timer"].active
    # Without the lock the worker is gone.
    shown = last(details_updates(services, NEIGHBOURS, upload(), "mine", "crop"))
    assert shown["message"]["value"].startswith("Failed: the worker exited unexpectedly")
    assert shown["start"]["visible"]
    assert not shown["timer"].active


def test_a_stopping_index_says_so_in_one_sentence(services, upload, last):
    folder = services.image_indexes.folder(services.runs.get("mine"))
    folder.mkdir(parents=True)
    status = Status(state="stopping", message="asked to stop", done=30, total=120, unit="images")
    (folder / "status.json").write_bytes(status_json(status))
    lock = try_lock(folder / WORKER_LOCK)
    shown = last(details_updates(services, NEIGHBOURS, upload(), "mine", "crop"))
    os.close(lock)
    assert shown["message"]["value"] == "Stopping after this batch."
    assert not shown["cancel"]["interactive"]

import asyncio
import base64
import contextvars
import io
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_demo.data import decode_process
from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import DamagedError
from resnet_demo.hosting.access import Access
from resnet_demo.inference.class_maps import ClassMap
from resnet_demo.inference.classification import Missed
from resnet_demo.inference.heatmaps import overlay
from resnet_demo.inference.ood import MISS_TEST, energy, other_images
from resnet_demo.inference.predict import predict
from resnet_demo.tasks.limits import Allowance, Caller, Limits
from resnet_demo.ui import services as ui_services
from resnet_demo.ui.classify.details import CLOSED, details_updates
from resnet_demo.ui.classify.picture import (
    GONE,
    NO_RUN,
    READY,
    SMALL,
    classify_picture,
    map_figure,
)
from resnet_demo.ui.fair_queue import FairQueue
from resnet_demo.ui.services import Services

HOSTILE = "<img src=x onerror=alert(1)> *x* ${1}"


def test_a_picture_gets_the_labels_of_the_classifier(services, upload, last):
    path = upload()
    shown = last(classify_picture(services, path, "mine", "squash", ""))
    answer = services.classifier("mine").classify(decode_picture(path), fit="squash")
    assert shown["labels"] == {row["label"]: row["confidence"] for row in answer.labels}
    assert shown["title"]["visible"] is False
    assert "figcaption" not in shown["maps"]
    assert shown["message"]["visible"] is False
    assert shown["answer"]["elem_classes"] == []
    assert shown["other_answer"]["elem_classes"] == GONE
    labels = [row["label"] for row in answer.labels]
    assert shown["map_class"]["choices"] == [(label, i) for i, label in enumerate(labels)]
    captions = [caption for _, caption in shown["fits"]["value"]]
    assert [caption.startswith("✓") for caption in captions] == [False, True, False]


@pytest.mark.parametrize("other", ["", "yours"])
def test_each_run_needs_one_pass_for_the_answer_and_one_for_all_maps(services, upload, last, other):
    passes = []
    runs = ["mine", other] if other else ["mine"]
    for run in runs:
        stem = services.classifier(run).saved.model.stem
        stem.register_forward_hook(lambda *_: passes.append(1))
    last(classify_picture(services, upload(), "mine", "crop", other))
    other_fits = 2  # of the first run only; the answer for `crop` is known
    assert len(passes) == 2 * len(runs) + other_fits


def test_another_run_answers_beside_the_first_but_not_the_same_run_twice(services, upload, last):
    path = upload()
    shown = last(classify_picture(services, path, "mine", "crop", "yours"))
    assert shown["other_answer"]["elem_classes"] == []
    titles = [shown[name] for name in ("title", "other_title")]
    assert [title["value"] for title in titles] == ["**mine**", "**yours**"]
    assert all(title["visible"] for title in titles)
    assert shown["maps"].count("<figure>") == 2
    same = last(classify_picture(services, path, "mine", "crop", "mine"))
    assert same["other_answer"]["elem_classes"] == GONE


def test_a_class_that_the_other_run_does_not_know_has_no_map_there(services, upload, last):
    shown = last(classify_picture(services, upload(), "mine", "crop", "other"))
    own, other = shown["maps"].split("</figure>")[:2]
    assert (own.count('<img class="map'), other.count('<img class="map')) == (3, 1)
    assert other.count("not one of its classes") == 2


def test_a_run_that_shares_no_class_has_no_figure(services, upload, last, describe_again):
    describe_again(services.paths.runs / "other", classes=["one", "two", "three"])
    shown = last(classify_picture(services, upload(), "mine", "crop", "other"))
    assert shown["maps"].count("<figure>") == 1


@pytest.mark.parametrize(("path", "run", "message"), [(None, "mine", READY), ("x", None, NO_RUN)])
def test_without_a_picture_or_a_run_a_message_says_what_to_do(services, last, path, run, message):
    shown = last(classify_picture(services, path, run, "crop", ""))
    assert shown["message"]["value"] == message


def test_an_unreadable_picture_is_reported_in_place_of_the_answer(services, upload, last):
    for path, message in (
        (upload("text.png", b"no picture"), "'text.png' is not a PNG, JPEG"),
        ("/etc/passwd", "a file must come through an upload"),
    ):
        shown = last(classify_picture(services, path, "mine", "crop", ""))
        assert message.replace("_", r"\_") in shown["message"]["value"]
        assert shown["answer"]["elem_classes"] == GONE


def test_an_unknown_fit_is_refused(services, upload, last):
    shown = last(classify_picture(services, upload(), "mine", "../x", ""))
    assert "fit must be one of crop, squash, pad" in shown["message"]["value"]


def test_the_gauge_needs_a_threshold_in_the_run(services, upload, last, describe_again):
    path = upload()
    without = last(classify_picture(services, path, "mine", "crop", ""))["gauge"]
    assert "No warning possible" in without
    threshold = {"threshold": -1e6, "false_alarms": 0.05, "n": 15}
    describe_again(services.paths.runs / "yours", metrics={"outside": threshold})
    html = last(classify_picture(services, path, "yours", "crop", ""))["gauge"]
    assert "This may be none of the classes" in html
    assert "5 % of the 15 validation images" in html


def test_the_gauge_shows_what_it_missed_in_a_test(services, upload, last, describe_again):
    path = upload()
    energies = energy(predict_others(services.classifier("other")))
    # So that about half of the images of other things are above the limit.
    threshold, limits = energies.median().item(), {"false_alarms": 0.05, "n": 15}
    for run, limit in (("yours", threshold), ("mine", 1e6)):
        stored = {"outside": {**limits, "threshold": limit}}
        describe_again(services.paths.runs / run, metrics=stored)
    missed = int((energies <= threshold).sum())
    assert services.classifier("yours").count_missed() == Missed(missed, MISS_TEST)
    first, explained = classify_picture(services, path, "mine", "crop", "")
    assert "Not flagged" in first["gauge"]
    text = f"{MISS_TEST} of {MISS_TEST} pictures of other things"
    assert text not in first["gauge"]
    assert text in explained["gauge"]
    again, *_ = classify_picture(services, path, "mine", "crop", "")
    assert text in again["gauge"]  # counted once
    assert again["labels"] == first["labels"]


def predict_others(classifier):
    """Return the logits of the images of other things."""
    preprocessing = classifier.preprocessing
    images = other_images(preprocessing.source_size)
    return predict(classifier.saved.model, preprocessing.prepare, images)


def images_in(html):
    urls = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', html)
    return [(kind, np.array(Image.open(io.BytesIO(base64.b64decode(text))))) for kind, text in urls]


@pytest.mark.parametrize(("side", "kind", "tolerance"), [(32, "png", 0), (SMALL + 72, "jpeg", 24)])
def test_a_map_at_some_opacity_over_the_picture_is_the_overlay(side, kind, tolerance):
    shape = (side, side * 3 // 4)
    slope = np.linspace(0, 255, shape[0] * shape[1]).reshape(shape)
    picture = np.stack([slope, slope[::-1], slope[:, ::-1]], 2).astype(np.uint8)
    heat = torch.from_numpy(slope / 255).float()
    html = map_figure("mine", [ClassMap(picture, heat, [])])
    (kinds, (photo, colours)) = zip(*images_in(html), strict=True)
    assert kinds == (kind, kind)
    assert photo.shape == picture.shape
    assert np.abs(photo.astype(int) - picture).max() <= tolerance
    blended = np.rint(0.4 * colours + 0.6 * photo.astype(float))  # as a browser does
    assert np.abs(blended - overlay(picture, heat, 0.4)).max() <= max(tolerance, 1)
    assert f"aspect-ratio:{shape[1]}/{shape[0]}" in html


def test_no_class_name_is_in_the_html(services, upload, last, describe_again):
    describe_again(services.paths.runs / "mine", classes=[HOSTILE, "${2}", "<b>"])
    shown = last(classify_picture(services, upload(), "mine", "crop", ""))
    for part in ("maps", "gauge"):
        assert not re.search(r"onerror|\$\{|<b>&|alert", shown[part])


# --- large pictures and limits


def streamed(services, steps):
    """Return all that the steps yield to the page."""

    async def collect():
        return [updates async for updates in services.stream_in_turn(steps)]

    return asyncio.run(collect())


def test_a_large_picture_is_decoded_while_its_visitors_slot_is_free(services, upload, monkeypatch):
    small = merged(streamed(services, classify_picture(services, upload(), "mine", "crop", "")))
    monkeypatch.setattr(decode_process, "CHEAP_BYTES", 0)
    free = []
    decode = ui_services.decode_in_process

    def watch(*args):
        free.append(services.fair_queue.free)
        return decode(*args)

    monkeypatch.setattr(ui_services, "decode_in_process", watch)
    large = merged(streamed(services, classify_picture(services, upload(), "mine", "crop", "")))
    assert free == [FairQueue().free]
    assert large["labels"] == small["labels"]


def test_slow_pictures_of_one_visitor_leave_a_slot_for_another(services, monkeypatch):
    at_work, most, release = [], [], threading.Event()
    visitor = contextvars.ContextVar("visitor")

    def decode(path, name):
        at_work.append(path.name)
        most.append(at_work.count("flood"))
        if path.name == "flood":
            release.wait(30)
        at_work.remove(path.name)

    async def send(name):
        visitor.set(name)
        await services._decode_large(ui_services.LargePicture(Path(name)))

    async def all_at_once():
        floods = [asyncio.create_task(send("flood")) for _ in range(5)]
        await asyncio.sleep(0.05)
        try:
            await asyncio.wait_for(send("other"), 20)
            assert at_work == ["flood"]
        finally:
            release.set()
        await asyncio.gather(*floods)

    monkeypatch.setattr(ui_services, "decode_in_process", decode)
    monkeypatch.setattr(Services, "caller", lambda self: Caller(visitor.get()))
    asyncio.run(all_at_once())
    assert max(most) == 1
    assert not services.decoding


def test_the_error_of_a_large_picture_is_shown_like_any_other(services, upload, monkeypatch):
    monkeypatch.setattr(decode_process, "CHEAP_BYTES", 0)

    def give_up(path, name):
        raise DamagedError("'a.png' takes longer than 20 s to decode")

    monkeypatch.setattr(ui_services, "decode_in_process", give_up)
    steps = classify_picture(services, upload(), "mine", "crop", "")
    shown = merged(streamed(services, steps))
    assert "takes longer than 20 s to decode" in shown["message"]["value"]


def merged(steps):
    """Return the updates of all steps together, as the page does."""
    return {name: update for updates in steps for name, update in updates.items()}


@pytest.fixture
def stranger(services):
    """Return the services of a public app that allows three pictures a minute."""
    services.allowance = Allowance(Limits(pictures=3))
    services.access = Access("closed")
    return services


def test_another_run_and_the_accordions_count_as_pictures_too(stranger, upload):
    path = upload()
    merged(classify_picture(stranger, path, "mine", "crop", "yours"))  # two
    maps = {**CLOSED, "feature_maps": True}
    assert merged(details_updates(stranger, maps, path, "mine", "crop"))["stages"]["visible"]
    refused = merged(details_updates(stranger, maps, path, "mine", "crop"))
    assert "at most 3 pictures a minute" in refused["maps_message"]["value"]
    assert not refused["stages"]["visible"]

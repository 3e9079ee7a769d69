"""Latency of a classification, on a fake clock and on a tiny run."""

import json

import numpy as np
import pytest

from resnet_demo.bench import latency
from resnet_demo.bench.latency import (
    classify_picture,
    make_jpeg,
    measure_latency,
    time_calls,
    untrained_run,
)
from resnet_demo.bench.text import latency_lines
from resnet_demo.errors import DemoError
from resnet_demo.inference.classifier import Classifier
from resnet_demo.models.description import model_description
from tests.unit.bench.conftest import FakeTime


def test_warm_up_calls_are_not_measured():
    clock, costs = FakeTime(), iter([90.0, 80.0, 70.0, 3.0, 1.0, 8.0])

    def work():
        clock.now += next(costs)

    assert time_calls(work, 3, clock) == {"median": 3.0, "min": 1.0, "max": 8.0}


def test_a_picture_is_timed_from_its_bytes_to_the_overlay(run, monkeypatch):
    classifier = Classifier.load(run)
    image = classify_picture(classifier, make_jpeg())
    assert (image.shape, image.dtype) == ((480, 640, 3), np.uint8)
    monkeypatch.setattr(latency, "run_process", lambda *_: None)
    result = measure_latency(run, rounds=2, fresh=2, images=5)
    for name in ("picture", "batch", "fresh"):
        assert 0 < result[name]["min"] <= result[name]["median"] <= result[name]["max"]
    assert (result["run"], result["model"], result["image_size"]) == ("mine", "resnet20", 12)
    text = "\n".join(latency_lines(result))
    assert "JPEG of 640 x 480, label and map" in text
    assert text.count(" ms (") == 3
    json.dumps(result, allow_nan=False)


def test_a_new_process_classifies_with_an_untrained_network(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with untrained_run() as run:
        assert model_description(run.path)["network"]["name"] == "resnet20"
        latency.run_process(run, make_jpeg())
        with pytest.raises(
            DemoError, match=r"failed to classify the picture: .* is cut short or damaged"
        ):
            latency.run_process(run, make_jpeg()[:500])
    assert not run.path.exists()


@pytest.mark.parametrize("args", ["classify mine", "classify"])
def test_the_command_prints_one_object(args, bench_json, monkeypatch):
    monkeypatch.setattr(latency, "run_process", lambda *_: None)
    assert "picture" in bench_json(f"{args} --rounds 1 --fresh 1")

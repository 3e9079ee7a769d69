"""Events and their lines in the log."""

import json
import math
import time
from dataclasses import fields, replace

import pytest

from resnet_demo.config import KEEP
from resnet_demo.events import (
    KINDS,
    Compiled,
    Embedding,
    Epoch,
    Failed,
    Finished,
    Head,
    Probe,
    Probing,
    Resumed,
    Started,
    Step,
    Stopped,
    from_line,
    to_dict,
    to_line,
)

AT = {"step": 40, "epoch": 2, "time": 1.5}
OPENING = {
    "device": "cpu",
    "precision": "float32",
    "threads": 2,
    "parameters": 272_474,
    "macs": 40_551_936,
    "steps_per_epoch": 20,
    "epochs": 3,
    "version": "0.1.0",
}
ENDING = {"best_epoch": 1, "best_val_top1": 0.5, "seconds": 9.25, "message": "“é”\nand a line"}
EXAMPLES = [
    Started(**AT, **OPENING),
    Resumed(**AT, **OPENING, message="last.pt was damaged"),
    Step(**AT, loss=2.3, top1=0.1, lr=0.05, images_per_s=880.5),
    Epoch(
        **AT,
        train_loss=2.0,
        train_top1=0.2,
        val_loss=1.9,
        val_top1=0.25,
        lr=0.1,
        seconds=3.5,
        images_per_s=900.0,
    ),
    Compiled(**AT, seconds=41.5),
    Probing(**AT, layers=["stem.conv", "head"]),
    Probe(**AT, gradients=[0.5, None], activations=[1.25, 2.0]),
    Embedding(**AT, done=32, total=244, images_per_s=90.5),
    Head(
        **AT,
        weight_decay=0.01,
        folds=5,
        val_loss=0.2,
        val_top1=0.95,
        curve=[[61, 220, 244], [244, 232, 244]],
        seconds=0.5,
    ),
    Finished(**AT, **ENDING),
    Stopped(**AT, **(ENDING | {"best_epoch": None, "best_val_top1": None})),
    Failed(**AT, **ENDING),
]


def test_there_is_an_example_of_every_kind():
    assert {type(event) for event in EXAMPLES} == set(KINDS.values())
    assert {event.kind for event in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.kind)
def test_an_event_comes_back_from_its_line(event):
    line = to_line(event)
    assert line.endswith("\n")
    assert line.count("\n") == 1  # a message of two lines is one line of the log
    assert from_line(line) == event
    assert type(from_line(line)) is type(event)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.kind)
def test_a_line_holds_the_kind_and_every_field(event):
    values = json.loads(to_line(event))
    assert values == to_dict(event)
    assert values.pop("event") == event.kind
    assert values.keys() == {field.name for field in fields(event)}


def test_events_have_the_fields_of_the_contract():
    opening = "time step epoch device precision threads parameters macs steps_per_epoch version"
    promised = {
        "started": opening,
        "resumed": opening,
        "compiled": "time step epoch seconds",
        "probing": "time step epoch layers",
        "probe": "time step epoch gradients activations",
        "step": "time step epoch loss lr images_per_s",
        "epoch": "time step epoch train_loss train_top1 val_loss val_top1 lr seconds images_per_s",
        "embedding": "time step epoch done total images_per_s",
        "head": "time step epoch weight_decay folds val_loss val_top1 curve seconds",
        "finished": "time best_epoch best_val_top1 seconds message",
        "stopped": "time best_epoch best_val_top1 seconds message",
        "failed": "time best_epoch best_val_top1 seconds message",
    }
    assert promised.keys() == KINDS.keys()
    for event in EXAMPLES:
        assert set(promised[event.kind].split()) <= to_dict(event).keys()


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.kind)
def test_a_torn_line_is_no_event(event):
    line = to_line(event)
    for end in range(len(line) - 2):  # without its last brace at least
        assert from_line(line[:end]) is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        "null",
        "3",
        "[]",
        '"step"',
        "{}",
        "\0\0\0\0",
        "{'event': 'step'}",
        '{"step": 3, "epoch": 1}',
        '{"event": null}',
        '{"event": ["step"], "step": 1, "epoch": 1}',
        '{"event": "snapshot", "step": 3, "epoch": 1, "picture": "a.png"}',
        '{"event": "step", "step": 3, "epoch": 1}',
        "[" * 100_000,
    ],
)
def test_a_foreign_line_or_an_unknown_kind_is_skipped(line):
    assert from_line(line) is None


def test_an_unknown_field_is_ignored():
    values = {**to_dict(EXAMPLES[2]), "grad_norm": 1.5}
    assert from_line(json.dumps(values)) == EXAMPLES[2]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_not_written(loss):
    with pytest.raises(ValueError, match="JSON compliant"):
        to_line(replace(EXAMPLES[2], loss=loss))


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e999", "1" + 400 * "0", "true"]
)
def test_a_line_without_a_finite_number_is_skipped(value):
    line = to_line(replace(EXAMPLES[2], loss=12345.5))
    assert from_line(line) is not None
    assert from_line(line.replace("12345.5", value)) is None


def test_an_old_line_without_a_clock_has_clock_zero():
    values = to_dict(EXAMPLES[2])
    del values["clock"]
    assert from_line(json.dumps(values)).clock == 0.0


def test_an_event_has_the_time_of_its_creation():
    before = time.time()
    event = Step(step=1, epoch=1, loss=1.0, top1=0.0, lr=0.1, images_per_s=1.0)
    assert before <= event.time <= time.time()


@pytest.mark.parametrize("sides", [["<img src=x>"], [0], [-32], [32.0], [True], [10**400], [None]])
def test_a_line_with_invalid_image_sizes_is_damaged(sides):
    opening = json.loads(to_line(EXAMPLES[0]))
    assert from_line(json.dumps({**opening, "sides": [20, 32]})).sides == [20, 32]
    assert from_line(json.dumps({**opening, "sides": sides})) is None


@pytest.mark.parametrize("keep", ["<img src=x>", "first", "", None, ["last"], 1])
def test_a_line_with_an_invalid_keep_is_damaged(keep):
    opening = json.loads(to_line(EXAMPLES[0]))
    for known in KEEP:
        assert from_line(json.dumps({**opening, "keep": known})).keep == known
    assert from_line(json.dumps({**opening, "keep": keep})) is None
    del opening["keep"]  # of an earlier version
    assert from_line(json.dumps(opening)).keep == "best"

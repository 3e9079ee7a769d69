"""Files of a run altered at every region: found, named, and never used."""

import json
import random

import pytest
import torch

from resnet_demo.errors import DamagedError, DemoError
from resnet_demo.models.description import model_description
from resnet_demo.models.saved import load_model, save_model
from resnet_demo.models.zoo import build_model
from resnet_demo.runs.store import Run
from resnet_demo.tasks.snapshot import Snapshots, summary
from resnet_demo.tasks.status import Status, read_status, status_json
from resnet_demo.training.checkpoint import load_last, save_last

REGIONS = 12


def spoilt(content):
    """The content with a bit flipped, with a block of zeros, cut off: each at each region."""
    for region in range(REGIONS):
        at = region * (len(content) - 1) // (REGIONS - 1)
        yield content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
        yield content[:at]
        if any(content[at : at + 64]):
            yield content[:at] + bytes(64) + content[at + 64 :]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A folder with the weights of a small network."""
    folder = tmp_path_factory.mktemp("run")
    save_model(
        folder, build_model("resnet20", 3),
        network={"name": "resnet20", "num_classes": 3, "stem": "small", "batch_norm": True},
        classes=["a", "b", "c"],
        preprocessing={"source_size": 8, "image_size": 8, "mean": [0.5] * 3, "std": [0.2] * 3},
        metrics={},
    )  # fmt: skip
    return folder


def test_damaged_weights_are_refused_wherever_the_damage_is(network):
    path = network / "model.safetensors"
    whole = path.read_bytes()
    try:
        for bad in spoilt(whole):
            path.write_bytes(bad)
            with pytest.raises(DamagedError, match=r"model\.safetensors"):
                load_model(network)
    finally:
        path.write_bytes(whole)
    assert load_model(network).classes == ("a", "b", "c")


def test_a_damaged_checkpoint_gives_way_to_the_one_before_wherever_the_damage_is(tmp_path):
    for step in (1, 2):
        save_last(tmp_path, {"step": step, "weight": torch.full((2000,), float(step))})
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").unlink()  # the same file as the one before, perhaps
    for bad in spoilt(whole):
        (tmp_path / "last.pt").write_bytes(bad)
        state, warning = load_last(tmp_path)
        assert state["step"] == 1
        assert warning.startswith("last.pt of ")


def test_files_of_two_runs_that_were_exchanged_are_refused(network, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    torch.manual_seed(1)
    described = model_description(network)
    save_model(other, build_model("resnet20", 3), **{k: described[k] for k in
        ("network", "classes", "preprocessing", "metrics")})  # fmt: skip
    (other / "model.json").write_bytes((network / "model.json").read_bytes())
    with pytest.raises(DamagedError, match=r"model\.safetensors .* damaged"):
        load_model(other)


def altered(text, rng):
    """JSON of the same shape or none at all: values exchanged, cut, doubled or made absurd."""
    absurd = [None, -1, 1e308, "\x00", [], {}, "x" * 10_000, True, "../..", [[[[]]]]]
    kind = rng.randrange(4)
    if kind == 0:
        at = rng.randrange(len(text))
        return text[:at] + rng.choice('{}[]",:0\x00é') + text[at + 1 :]
    if kind == 1:
        return text[: rng.randrange(len(text))]
    values = json.loads(text)
    name = rng.choice(list(values))
    if kind == 2:
        del values[name]
    else:
        values[name] = rng.choice(absurd)
    return json.dumps(values)


def refusal(read):
    """The sentence on what cannot be read; empty where it can. Any other error goes through."""
    try:
        read()
    except DemoError as error:
        return str(error)
    return ""


def test_json_that_makes_no_sense_is_a_sentence_and_nothing_else(network, tmp_path):
    from resnet_demo.config import make_config, to_json

    run = Run(tmp_path / "some-run")
    run.path.mkdir()
    texts = {
        "config.json": to_json(make_config({}), "0"),
        "status.json": status_json(Status(state="stopped")).decode(),
        "model.json": (network / "model.json").read_text(),
    }
    (run.path / "model.safetensors").write_bytes((network / "model.safetensors").read_bytes())
    readers = {
        "config.json": run.config,
        "status.json": lambda: read_status(run.path),
        "model.json": lambda: model_description(run.path),
    }
    rng, refused = random.Random(0), 0
    for name, text in texts.items():
        for good in texts:
            (run.path / good).write_text(texts[good])
        for _ in range(150):
            (run.path / name).write_text(altered(text, rng), "utf-8")
            sentence = refusal(readers[name])
            refused += bool(sentence)
            assert str(tmp_path) not in sentence  # no path of the machine
            assert summary(run)["run"] == "some-run"  # the list of runs has it all the same
    assert refused > 200


def test_lines_of_a_log_that_make_no_sense_are_passed_over(tmp_path):
    rng = random.Random(0)
    run = Run(tmp_path / "some-run")
    run.path.mkdir()
    line = json.dumps({"event": "step", "step": 1, "epoch": 1, "time": 1.0, "loss": 2.0,
                       "top1": 0.1, "lr": 0.1, "images_per_s": 5.0})  # fmt: skip
    lines = [altered(line, rng).replace("\n", " ") for _ in range(300)]
    (run.path / "events.jsonl").write_text("\n".join([*lines, line, ""]), "utf-8")
    (run.path / "status.json").write_bytes(status_json(Status(state="stopped")))
    events = list(run.log())
    assert events[-1].loss == 2.0
    assert 1 < len(events) < 200
    assert {type(event.loss) for event in events} <= {float, int}
    look = Snapshots().get(run)
    assert look.view.steps
    assert look.to_dict()["progress"]["loss"] == 2.0

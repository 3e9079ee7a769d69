"""Damaged files of a run are detected, named and not used, wherever the damage is."""

import json
import os
import random
import shutil
import threading
from pathlib import Path

import pytest
import torch

from resnet_demo.config import make_config, to_json
from resnet_demo.errors import DamagedError, DemoError
from resnet_demo.events import Embedding
from resnet_demo.models.description import model_description
from resnet_demo.models.saved import load_model, save_model
from resnet_demo.models.zoo import build_model
from resnet_demo.runs.store import Run
from resnet_demo.tasks.snapshot import Snapshots, run_summary
from resnet_demo.tasks.status import Status, read_status, status_json
from resnet_demo.training.checkpoint import load_last, save_last

REGIONS = 12


def damaged_copies(content):
    """Yield the content with a flipped bit, cut off, and with a block of zeros, at each region."""
    for region in range(REGIONS):
        at = region * (len(content) - 1) // (REGIONS - 1)
        yield content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
        yield content[:at]
        if any(content[at : at + 64]):
            yield content[:at] + bytes(64) + content[at + 64 :]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Return a folder with a small saved network."""
    folder = tmp_path_factory.mktemp("run")
    save_model(
        folder,
        build_model("resnet20", 3),
        network={"name": "resnet20", "num_classes": 3, "stem": "small", "batch_norm": True},
        classes=["a", "b", "c"],
        preprocessing={"source_size": 8, "image_size": 8, "mean": [0.5] * 3, "std": [0.2] * 3},
        metrics={},
    )
    return folder


def test_damaged_weights_are_refused(network):
    path = network / "model.safetensors"
    whole = path.read_bytes()
    try:
        for bad in damaged_copies(whole):
            path.write_bytes(bad)
            with pytest.raises(DamagedError, match=r"model\.safetensors"):
                load_model(network)
    finally:
        path.write_bytes(whole)
    assert load_model(network).classes == ("a", "b", "c")


def test_a_damaged_checkpoint_is_replaced_by_the_previous_one(tmp_path):
    for step in (1, 2):
        save_last(tmp_path, {"step": step, "weight": torch.full((2000,), float(step))})
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").unlink()  # may be a hard link to the previous one
    for bad in damaged_copies(whole):
        (tmp_path / "last.pt").write_bytes(bad)
        state, warning = load_last(tmp_path)
        assert state["step"] == 1
        assert warning.startswith("last.pt of ")


def test_files_exchanged_between_two_runs_are_refused(network, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    torch.manual_seed(1)
    described = model_description(network)
    save_model(
        other,
        build_model("resnet20", 3),
        **{k: described[k] for k in ("network", "classes", "preprocessing", "metrics")},
    )
    (other / "model.json").write_bytes((network / "model.json").read_bytes())
    with pytest.raises(DamagedError, match=r"model\.safetensors .* damaged"):
        load_model(other)


def altered(text, rng):
    """Return the JSON text with a wrong character, cut off, without a value or with another."""
    nonsense = [None, -1, 1e308, "\x00", [], {}, "x" * 10_000, True, "../..", [[[[]]]]]
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
        values[name] = rng.choice(nonsense)
    return json.dumps(values)


def refusal_message(read):
    """Return the message of a DemoError, or "" without one; let other errors pass."""
    try:
        read()
    except DemoError as error:
        return str(error)
    return ""


def test_nonsense_in_json_files_gives_one_sentence(network, tmp_path):
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
            message = refusal_message(readers[name])
            refused += bool(message)
            assert str(tmp_path) not in message  # no path of the machine
            assert run_summary(run)["run"] == "some-run"  # the list of runs has it all the same
    assert refused > 200


def test_nonsense_lines_of_a_log_are_skipped(tmp_path):
    rng = random.Random(0)
    run = Run(tmp_path / "some-run")
    run.path.mkdir()
    line = json.dumps(
        {
            "event": "step",
            "step": 1,
            "epoch": 1,
            "time": 1.0,
            "loss": 2.0,
            "top1": 0.1,
            "lr": 0.1,
            "images_per_s": 5.0,
        }
    )
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


FILES = {
    "config.json": lambda run: run.config(),
    "status.json": lambda run: read_status(run.path),
    "events.jsonl": lambda run: [*run.log()],
    "model.json": lambda run: load_model(run.path),
    "model.safetensors": lambda run: load_model(run.path),
    "last.pt": lambda run: save_last(run.path, {"step": 3}),
    "last.pt.sha256": lambda run: load_last(run.path),
}


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_place_of_a_file_of_a_run_makes_nobody_wait(name, network, tmp_path):
    run = Run(Path(shutil.copytree(network, tmp_path / "some-run")))
    save_last(run.path, {"step": 1})
    (run.path / "config.json").write_text(to_json(make_config({}), "0"))
    (run.path / "status.json").write_bytes(status_json(Status(state="stopped")))
    (run.path / name).unlink(missing_ok=True)
    os.mkfifo(run.path / name)
    answers = []

    def read():
        answers.append(refusal_message(lambda: FILES[name](run)))
        answers.append(refusal_message(lambda: run.log().append(probe)))
        answers.append(run_summary(run)["run"])

    probe = Embedding(step=0, epoch=0, done=1, total=2, images_per_s=1.0)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(30)
    assert answers[-1:] == ["some-run"]
    damaged = f"{name} of some-run is damaged"
    assert (answers[1] == damaged) == (name == "events.jsonl")
    assert not answers[0] or name.removesuffix(".sha256") in answers[0]

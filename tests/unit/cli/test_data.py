"""`data`: status, show, get, import, delete."""

import os
import shutil
import signal
from dataclasses import replace
from hashlib import sha256

import pytest

from resnet_demo.models import pretrained
from tests.loopback import cifar_zip
from tests.unit.cli.conftest import CommandLine


@pytest.fixture
def empty_data(demo, tmp_path, monkeypatch):
    """Return a command line over an empty data folder, without a network."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("RESNET_DEMO_CIFAR10", str(tmp_path / "copy.zip"))
    return CommandLine(demo.runs, tmp_path / "data")


def test_pictures_are_imported_and_then_listed(demo, picture, tmp_path):
    source = tmp_path / "pictures"
    for label, colour in (("day", "white"), ("night", "black")):
        (source / label).mkdir(parents=True)
        for number in range(5):
            shutil.copy(picture("a.png", colour), source / label / f"{number}.png")
    demo = CommandLine(demo.runs, tmp_path / "data")
    args = ("data", "import", "sky", source, "--size", 8, "--fit", "pad", "--json")
    (info,) = demo(*args).objects
    assert (info["name"], info["classes"], info["size"]) == ("sky", ["day", "night"], 8)
    assert info["fit"] == "pad"
    assert (info["train"], info["test"]) == (8, 2)
    listed = {row["name"]: row for row in demo("data", "status", "--json").objects}
    assert listed.keys() == {"shapes10", "sky"}
    notes = info.pop("notes")
    assert notes[0] == "2 classes have fewer than 20 pictures: 'day' (5), 'night' (5)"
    assert listed["sky"] == info
    assert listed["shapes10"]["synthetic"] is True
    text = demo("data", "status").out
    assert "shapes10: 10,000 training and 2,000 test images of 32 pixels" in text
    assert "synthetic" in text
    assert "sky: 8 training and 2 test images of 8 pixels, made square by pad, 2 classes" in text
    assert demo("data", "import", "sky", source).code == 2
    text = demo("data", "import", "again", source).out  # the shorter sides are 12 pixels
    assert "\n  10 pictures of 12 × 12 pixels take 4 kB\n  note: 2 classes have fewer" in text


def test_a_failed_import_leaves_nothing(demo, picture, tmp_path):
    source = tmp_path / "pictures" / "only"
    source.mkdir(parents=True)
    shutil.copy(picture("a.png", "red"), source)
    demo = CommandLine(demo.runs, tmp_path / "data")
    answer = demo("data", "import", "sky", source.parent, "--json")
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert list((tmp_path / "data").iterdir()) == []


def test_cifar10_comes_from_the_configured_copy(empty_data, tmp_path):
    (tmp_path / "copy.zip").write_bytes(cifar_zip(2))
    (info,) = empty_data("data", "get", "cifar10", "--json").objects
    assert (info["name"], info["train"], info["test"]) == ("cifar10", 20, 20)
    again = empty_data("data", "get", "cifar10")
    assert (again.code, again.err) == (
        2,
        "resnet_demo data: cifar10 is on this machine already\n",
    )


def test_a_failed_download_names_all_sources_and_shapes10(empty_data):
    answer = empty_data("data", "get", "cifar10", "--json")
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    for name in ("copy.zip", "Hugging Face", "Zenodo", "home server", "shapes10"):
        assert name in answer.err


def test_weights_are_downloaded_and_listed_by_their_file(
    empty_data, monkeypatch, loopback, tmp_path
):
    remote = loopback.offer(b"weights", path="/resnet34-b627a593.pth")
    known = replace(pretrained.WEIGHTS["resnet34"], size=remote.size, sha256=remote.sha256)
    monkeypatch.setitem(pretrained.WEIGHTS, "resnet34", known)
    monkeypatch.setenv("RESNET_DEMO_WEIGHTS", loopback.url("/"))
    (got,) = empty_data("data", "get", "resnet34-weights", "--json").objects
    path = tmp_path / "data" / ".weights" / "resnet34-b627a593.pth"
    assert got == {"name": "resnet34-weights", "file": str(path), "bytes": 7}
    assert path.read_bytes() == b"weights"
    assert empty_data("data", "status", "--json").objects[-1] == got
    assert empty_data("data", "delete", "resnet34-weights").code == 0
    assert not path.exists()
    answer = empty_data("data", "delete", "resnet34-weights")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    monkeypatch.setenv("RESNET_DEMO_WEIGHTS", str(tmp_path))
    (tmp_path / "resnet34-b627a593.pth").write_bytes(b"mine")
    answer = empty_data("data", "delete", "resnet34-weights")
    assert "is in the folder that RESNET_DEMO_WEIGHTS names: remove" in answer.err
    assert (tmp_path / "resnet34-b627a593.pth").exists()


def test_an_interrupted_download_is_stopped(empty_data, monkeypatch, loopback):
    data = cifar_zip()

    def interrupted(request):
        os.kill(os.getpid(), signal.SIGINT)
        request.wait()

    loopback.offer(data, interrupted)
    address = f"{loopback.url()}#sha256={sha256(data).hexdigest()}"
    monkeypatch.setenv("RESNET_DEMO_CIFAR10", address)
    answer = empty_data("data", "get", "cifar10")
    message = "stopped; the downloaded part is kept, and the next download continues it"
    assert (answer.code, answer.out) == (130, "")
    assert answer.err == f"resnet_demo data: {message}\n"


def test_a_dataset_is_shown_by_class_and_deleted(empty_data, tmp_path):
    (tmp_path / "copy.zip").write_bytes(cifar_zip(2))
    empty_data("data", "import", "ten", tmp_path / "copy.zip")
    shown = empty_data("data", "show", "ten")
    assert "  frog                   2 training       2 test" in shown.out
    (values,) = empty_data("data", "show", "ten", "--json").objects
    assert values["counts"]["test"]["frog"] == 2
    assert empty_data("data", "delete", "ten").out == "ten is deleted\n"
    assert [row["name"] for row in empty_data("data", "status", "--json").objects] == ["shapes10"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("get", "name must be the name of a dataset, got nothing"),
        (
            "get imagenet",
            "name must be one of cifar10, resnet18-weights, resnet34-weights, resnet50-weights, "
            "got 'imagenet'",
        ),
        ("show ten", "dataset must be one of shapes10, got 'ten'"),
        ("delete ten", "dataset must be one of shapes10, got 'ten'"),
        ("delete shapes10", "shapes10 is built in and cannot be deleted"),
    ],
)
def test_a_mistake_about_a_dataset_is_one_line(args, message, empty_data):
    answer = empty_data("data", *args.split())
    assert (answer.code, answer.out, answer.err) == (2, "", f"resnet_demo data: {message}\n")


def test_two_pictures_of_two_classes_are_trained_on_and_what_is_missing_is_named(
    demo, picture, tmp_path
):
    for label, colours in (("day", ("white", "yellow")), ("night", ("black", "blue"))):
        (tmp_path / "sky" / label).mkdir(parents=True)
        for colour in colours:
            shutil.copy(picture("a.png", colour), tmp_path / "sky" / label / f"{colour}.png")
    demo = CommandLine(demo.runs, tmp_path / "data")
    (info,) = demo("data", "import", "sky", tmp_path / "sky", "--json").objects
    assert (info["train"], info["test"]) == (4, 0)
    assert "no pictures are held out for testing" in "".join(info["notes"])
    assert "sky: 4 training and no test images of 12 pixels" in demo("data", "status").out
    (shown,) = demo("data", "show", "sky", "--json").objects
    assert shown["counts"] == {"train": {"day": 2, "night": 2}}

    run = ("--dataset", "sky", "--model", "resnet20", "--image-size", 12, "--run-id", "mine")
    assert demo("train", *run, "--seed", 7).code == 0
    for args in (("evaluate", "mine"), ("evaluate", "mine", "--robustness")):
        answer = demo(*args)
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert "the dataset sky has no test images, as it was made of too few" in answer.err
    (result,) = demo("evaluate", "mine", "--split", "val", "--json").objects
    assert 1 <= result["n"] <= 4
    (packed,) = demo("runs", "pack", "mine", tmp_path / "packed", "--json").objects
    assert (packed["split"], packed["n"]) == ("val", result["n"])
    card = " ".join((tmp_path / "packed" / "README.md").read_text().split())
    assert "its predictions on the validation images" in card
    assert "and no test images of 12 × 12 pixels" in card
    assert "images," in demo("runs", "pack", "mine", tmp_path / "again").out

"""Initial weights: by name, of another run, checked and recorded."""

import os

import numpy as np
import pytest
import torch

from resnet_demo.config import make_config
from resnet_demo.data.folder import describe, new_dataset, write_info, write_split
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError
from resnet_demo.inference.classification import classify
from resnet_demo.models.description import model_description
from resnet_demo.models.pretrained import WEIGHTS
from resnet_demo.models.saved import load_model
from resnet_demo.paths import Paths
from resnet_demo.runs.dataset import read_trained_on
from resnet_demo.runs.store import Run
from resnet_demo.runs.weights import (
    check_is_id,
    find_weights,
    recorded_weights,
    with_resolved_weights,
)
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.worker import train
from resnet_demo.training.fit import fit
from resnet_demo.training.state import Training
from tests.tiny import TINY, finished_run


@pytest.fixture(scope="module")
def source(tmp_path_factory, colours):
    """Return a run on `colours`, whose weights others start from."""
    return finished_run(tmp_path_factory.mktemp("source"), colours, epochs=1)


@pytest.fixture
def paths(source, colours, tmp_path):
    """Return the folders of that run, with a data root that has `shades` too: other classes."""
    (tmp_path / "colours").symlink_to(colours / "colours")
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1], 20)
    with new_dataset(tmp_path, "shades") as folder:
        pixels = random.integers(0, 200, (40, 12, 12, 3), dtype=np.uint8) + 50 * labels.reshape(
            -1, 1, 1, 1
        ).astype(np.uint8)
        statistics = {
            split: write_split(folder, split, [pixels], labels, 12) for split in ("train", "test")
        }
        write_info(folder, describe("shades", ("dark", "light"), 12, statistics, "a test"))
    return Paths(source.path.parent, tmp_path, tmp_path / "shipped")


def config_of(source, **settings):
    return make_config({**TINY, "weights": source.id, "epochs": 1, **settings})


def test_training_starts_from_the_weights_of_a_run(source, paths):
    datasets = Datasets(paths.data)
    saved = load_model(source.path).model.state_dict()
    same, other = (
        Training.begin(config_of(source, dataset=name), datasets, None, paths=paths)
        for name in ("colours", "shades")
    )
    for name, tensor in same.model.state_dict().items():
        assert torch.equal(tensor, saved[name]), name
    state = other.model.state_dict()  # the head is renewed: its classes are others
    assert state["head.weight"].shape == (2, 64)
    assert all(torch.equal(state[n], saved[n]) for n in saved if not n.startswith("head."))
    preprocessing = model_description(source.path)["preprocessing"]
    assert [*other.batches.preprocessing.mean] == preprocessing["mean"]
    assert [*other.batches.preprocessing.std] == preprocessing["std"]


def test_equal_numbers_of_classes_with_other_names_get_a_new_head(source, paths, monkeypatch):
    datasets = Datasets(paths.data)
    saved = load_model(source.path).model.head.weight
    training = Training.begin(config_of(source), datasets, None, paths=paths)
    assert torch.equal(training.model.head.weight, saved)
    info = datasets.get("colours")
    renamed = type(info)(**{**vars(info), "classes": ("a", "b", "c")})
    monkeypatch.setattr(Datasets, "get", lambda self, name: renamed)
    training = Training.begin(config_of(source), datasets, None, paths=paths)
    assert not torch.equal(training.model.head.weight, saved)


def test_a_run_records_what_it_started_from(source, paths):
    launcher = Launcher(paths)
    run, lock = launcher.make(config_of(source, dataset="shades", weights=str(source.path)), "next")
    train(run, paths)
    os.close(lock)
    assert run.config().weights == source.id  # not the path
    recorded = recorded_weights(run)
    assert (recorded.source, recorded.sha256) == (
        source.id,
        model_description(source.path)["sha256"],
    )
    description = model_description(run.path)
    assert description["metrics"]["initial_weights"] == recorded.to_dict()
    assert description["preprocessing"]["mean"] == list(recorded.mean)
    # what the source was trained on was seen as well
    both = {row.tobytes() for row in read_trained_on(run)}
    assert len(both) == 36 + 135
    assert {row.tobytes() for row in read_trained_on(source)} <= both
    # Pictures are compared with those it was trained on, by the embeddings of the kept weights.
    saved = load_model(run.path)
    assert (len(saved.known), saved.metrics["neighbour"]["n"]) == (36, 4)
    assert saved.metrics["neighbour"]["left_out"]["n"] == 36
    images, _, positions = Datasets(paths.data).load_split(run.config(), "train")
    verdict = classify(saved, images[positions[7]]).ood
    assert (verdict.measure, verdict.is_ood) == ("distance", False)
    assert verdict.score == pytest.approx(0, abs=1e-3)
    # A run that has begun needs its initial weights no more.
    elsewhere = Paths(paths.data / "no-runs", paths.data, paths.shipped)
    events = list(fit(run.config(), Datasets(paths.data), run.path, paths=elsewhere))
    assert [event.kind for event in events] == ["resumed", "finished"]


def test_imagenet_weights_bring_their_normalization(paths):
    config = make_config({**TINY, "model": "efficientnet-lite0", "weights": "imagenet"} | SMALL)
    found = find_weights(config, paths)
    expected = WEIGHTS["efficientnet-lite0"]
    assert (found.mean, found.std) == (expected.mean, expected.std)
    training = Training.begin(config, Datasets(paths.data), None, paths=paths)
    assert training.batches.preprocessing.mean == found.mean
    missing = make_config({**TINY, "model": "resnet18", "stem": "imagenet"} | SMALL | IMAGENET)
    with pytest.raises(NotFoundError, match="the ImageNet weights of resnet18 are not on this"):
        find_weights(missing, paths)


SMALL, IMAGENET = {"image_size": 32}, {"weights": "imagenet"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model": "resnet8"},
            r"^model must be resnet20, as in the weights of mine, got 'resnet8'",
        ),
        ({"batch_norm": False}, "^batch_norm must be true, as in the weights of mine, got False"),
        ({"weights": "nothing"}, "^weights must be random, imagenet, or the id .*, got 'nothing'"),
        ({"weights": "/etc"}, "^weights must be random, imagenet, or the id .*, got '/etc'"),
        ({"weights": "No Id"}, "^weights must be random, imagenet, or the id .*, got 'No Id'"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_sentence(source, paths, settings, message):
    with pytest.raises(ConfigError, match=message):
        find_weights(config_of(source, **settings), paths)
    with pytest.raises(ConfigError, match=message):
        Launcher(paths).make(config_of(source, **settings), "never")


def test_a_run_without_weights_is_named(source, paths, tmp_path):
    empty = tmp_path / "runs" / "empty"
    empty.mkdir(parents=True)
    (empty / "config.json").write_text((source.path / "config.json").read_text())
    with pytest.raises(NotFoundError, match="empty has no weights yet"):
        find_weights(config_of(source, weights=str(empty)), paths)


def test_only_a_run_elsewhere_keeps_its_path(source, paths, tmp_path):
    assert with_resolved_weights(config_of(source), paths).weights == source.id
    path = str(source.path)
    assert with_resolved_weights(config_of(source, weights=path), paths).weights == source.id
    others = Paths(tmp_path / "elsewhere", paths.data, paths.shipped)
    assert with_resolved_weights(config_of(source, weights=path), others).weights == path
    check_is_id(config_of(source))
    with pytest.raises(ConfigError, match=r"^weights must be random, imagenet, or the id of"):
        check_is_id(config_of(source, weights=path))


def test_a_run_of_random_weights_records_none(source):
    assert recorded_weights(Run(source.path)) is None
    assert "initial_weights" not in model_description(source.path)["metrics"]

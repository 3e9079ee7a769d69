"""The state of a run: which weights are kept, and which checkpoints are accepted."""

from dataclasses import replace

import pytest
import torch

from resnet_demo.errors import DamagedError
from resnet_demo.events import Epoch, Resumed
from resnet_demo.models.saved import load_model
from resnet_demo.training.checkpoint import save_last
from resnet_demo.training.fit import fit
from resnet_demo.training.initial import initial_model
from resnet_demo.training.state import Training


def test_the_kept_weights_are_those_of_the_best_validation(datasets, tiny, tmp_path):
    epochs = [e for e in fit(tiny(), datasets, tmp_path) if isinstance(e, Epoch)]
    best = max(epochs, key=lambda e: e.val_top1)
    saved = load_model(tmp_path)
    assert saved.metrics["epoch"] == best.epoch
    assert saved.metrics["val_top1"] == best.val_top1
    assert saved.classes == ("blue", "green", "red")


def test_keep_last_keeps_the_weights_of_the_last_epoch(datasets, tiny, tmp_path):
    config = tiny(keep="last")
    started, *events = fit(config, datasets, tmp_path)
    epochs, finished = [e for e in events if isinstance(e, Epoch)], events[-1]
    assert started.keep == "last"
    assert (finished.best_epoch, finished.best_val_top1) == (3, epochs[-1].val_top1)
    training = Training.begin(config, datasets, tmp_path)
    for worse in (replace(epochs[0], val_top1=0.9), replace(epochs[1], val_top1=0.4)):
        training.keep_weights(worse)
        assert load_model(tmp_path).metrics["epoch"] == worse.epoch


def test_a_resumed_run_uses_the_number_of_threads_it_started_with(datasets, tiny, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(fit(tiny(epochs=1), datasets, tmp_path, lambda: True))
        torch.set_num_threads(1)
        resumed, *_ = fit(tiny(epochs=1), datasets, tmp_path)
        assert (type(resumed), resumed.threads, torch.get_num_threads()) == (Resumed, 2, 2)
    finally:
        torch.set_num_threads(before)


def test_a_checkpoint_of_another_config_is_refused(datasets, tiny, tmp_path):
    list(fit(tiny(), datasets, tmp_path, lambda: True))
    before = (tmp_path / "last.pt").read_bytes()
    rule = "does not belong to its checkpoint: peak_lr is 0.3, and 0.02 in the checkpoint"
    with pytest.raises(DamagedError, match=rule):
        list(fit(tiny(peak_lr=0.3), datasets, tmp_path))
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_checkpoint_with_other_trained_weights_is_refused(datasets, tiny, tmp_path, monkeypatch):
    list(fit(tiny(), datasets, tmp_path, lambda: True))
    before = (tmp_path / "last.pt").read_bytes()

    def with_a_head_that_stays(config, num_classes):
        model = initial_model(config, num_classes)
        model.head.bias.requires_grad_(False)
        return model

    monkeypatch.setattr("resnet_demo.training.state.initial_model", with_a_head_that_stays)
    rule = f"another version of this program, which trained other weights of {tiny().model}"
    with pytest.raises(DamagedError, match=rule):
        list(fit(tiny(), datasets, tmp_path))
    assert (tmp_path / "last.pt").read_bytes() == before


ODD_CONTENTS = {
    "a list": lambda state: [1, 2],
    "a tensor": lambda state: torch.zeros(3),
    "nothing": lambda state: {},
    "no config": lambda state: {**state, "config": None},
    "a tensor in the config": lambda state: {
        **state,
        "config": {**state["config"], "epochs": torch.zeros(3)},
    },
    "text as step": lambda state: {**state, "step": "many"},
    "a negative step": lambda state: {**state, "step": -1},
    "true as step": lambda state: {**state, "step": True},
    "no threads": lambda state: {**state, "threads": 0},
    "seconds that are no number": lambda state: {**state, "seconds": float("nan")},
    "an empty tally": lambda state: {**state, "tally": {}},
    "a vector as a sum": lambda state: {
        **state,
        "tally": {**state["tally"], "loss": torch.ones(2)},
    },
    "a list as best": lambda state: {**state, "best": [1]},
    "no weights": lambda state: {**state, "model": {}},
    "other weights": lambda state: {
        **state,
        "model": {name: torch.zeros(1) for name in state["model"]},
    },
    "text as weights": lambda state: {**state, "model": dict.fromkeys(state["model"], "x")},
    "an empty optimizer": lambda state: {**state, "optimizer": {}},
    "numbers as the optimizer's settings": lambda state: {
        **state,
        "optimizer": {"state": {}, "param_groups": [1, 2]},
    },
    "an optimizer without settings": lambda state: {
        **state,
        "optimizer": {
            **state["optimizer"],
            "param_groups": [{"params": g["params"]} for g in state["optimizer"]["param_groups"]],
        },
    },
    "momentum of other weights": lambda state: {
        **state,
        "optimizer": {
            **state["optimizer"],
            "state": {
                number: dict.fromkeys(values, torch.ones(7))
                for number, values in state["optimizer"]["state"].items()
            },
        },
    },
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return a function that makes a folder with a checkpoint after two steps."""
    content = {}

    def make(datasets, config, folder):
        if not content:
            steps = iter([False, False])
            list(fit(config, datasets, folder, lambda: next(steps, True)))
            content["state"] = torch.load(folder / "last.pt", weights_only=True)
        return content["state"]

    return make


@pytest.mark.parametrize("odd", ODD_CONTENTS.values(), ids=ODD_CONTENTS)
def test_a_checkpoint_of_odd_content_with_the_right_digest_is_refused_in_a_sentence(
    odd, stopped, datasets, tiny, tmp_path
):
    config = tiny(optimizer="sgd")
    save_last(tmp_path, odd(stopped(datasets, config, tmp_path)))
    with pytest.raises(DamagedError, match=r"last\.pt of .* is damaged: .*; start a new run"):
        list(fit(config, datasets, tmp_path))

"""The state of a run: which weights are kept, and which checkpoints are accepted."""

from dataclasses import replace

import pytest
import torch

from resnet_demo.errors import DamagedError
from resnet_demo.events import Epoch, Resumed
from resnet_demo.models.saved import load_model
from resnet_demo.training.fit import fit
from resnet_demo.training.state import Training, initial_model


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

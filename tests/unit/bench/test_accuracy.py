"""Time to accuracy over several seeds."""

from types import SimpleNamespace

import pytest
from torch import nn

from resnet_demo.bench import accuracy
from resnet_demo.bench import text as bench_text
from resnet_demo.evaluation.evaluate_run import SplitPredictor, evaluate_run
from tests.unit.bench.conftest import tiny


@pytest.fixture
def small_reference(monkeypatch):
    monkeypatch.setattr(accuracy, "REFERENCE_BATCH", 4)


def test_accuracy_has_a_row_per_seed_and_a_summary(datasets, small_reference):
    config = tiny(epochs=2, peak_lr=0.02)
    *rows, last = accuracy.measure_accuracy(config, datasets, seeds=2, seconds=0.01)
    assert [row["seed"] for row in rows] == [0, 1]
    for row in rows:
        assert 0 <= row["test_top1"] <= 1
        assert 0 < row["train_seconds"] < row["seconds"]
    times = [row["seconds"] for row in rows]
    assert last["seconds"] == {"median": sum(times) / 2, "min": min(times), "max": max(times)}
    assert last["scale"] == pytest.approx(last["reference_images_per_s"] / 1160)
    assert last["allowance"] == pytest.approx(1 / last["scale"])
    assert last["scaled_seconds"]["max"] == pytest.approx(max(times) * last["scale"])
    assert (last["model"], last["batch_size"], last["image_size"]) == ("resnet20", 30, 8)
    text = "\n".join(line for row in (*rows, last) for line in bench_text.accuracy_lines(row))
    assert text.startswith("seed 0: test top-1 ")
    for name in ("six", "ten"):
        views = last[f"test_top1_of_{name}"]["median"]
        assert f"test top-1, {name} views      {100 * views:.2f} % (" in text
    assert "recipe quick, 2 epochs, resnet20 on colours" in text


def test_a_seed_is_trained_by_fit(datasets, tmp_path):
    from resnet_demo.training.fit import fit

    config = tiny(epochs=2, peak_lr=0.02, seed=3)
    row = accuracy.measure_seed(config, datasets)
    *_, finished = fit(config, datasets)
    assert (row["seed"], row["best_epoch"]) == (3, finished.best_epoch)
    assert row["val_top1"] == finished.best_val_top1


def test_training_seconds_come_from_images_per_second(datasets, monkeypatch):
    epoch = accuracy.Epoch(
        step=5,
        epoch=1,
        train_loss=1.0,
        train_top1=0.5,
        val_loss=1.0,
        val_top1=0.5,
        lr=0.1,
        seconds=9.0,
        images_per_s=27.0,
    )
    end = SimpleNamespace(best_epoch=1, best_val_top1=0.5, seconds=18.0)
    monkeypatch.setattr(accuracy, "fit", lambda *_: iter([epoch, epoch, end]))
    monkeypatch.setattr(accuracy, "score_views", lambda *_: {"test_top1": 0.25})
    row = accuracy.measure_seed(tiny(), datasets)
    assert row["train_seconds"] == 2 * 135 / 27
    assert (row["seconds"], row["test_top1"]) == (18.0, 0.25)


def test_each_view_is_computed_once_and_the_scores_are_those_of_an_evaluation(
    finished, datasets, monkeypatch
):
    expected = {
        name: evaluate_run(finished, datasets, "test", mode=mode).result["top1"]
        for name, mode in accuracy.SCORES.items()
    }
    passes, predict_view = [], SplitPredictor.predict_view
    monkeypatch.setattr(
        SplitPredictor,
        "predict_view",
        lambda self, number, steps: passes.append(steps) or predict_view(self, number, steps),
    )
    assert accuracy.score_views(finished, datasets) == expected
    assert len(passes) == len(set(passes)) == 14  # of 1 + 6 + 10


def test_the_reference_network_has_fixed_widths(datasets, small_reference):
    training = accuracy.reference_training(tiny(), datasets)
    convolutions = [m for m in training.model.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [32, 64, 64, 64, 128, 256, 256, 256]
    trained = [p for group in training.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in training.model.parameters()}
    assert training.precision == "float32"

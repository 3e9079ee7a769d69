"""Several runs side by side."""

from dataclasses import replace

import pytest

from resnet_demo.errors import ConfigError
from resnet_demo.fingerprint import Fingerprint
from resnet_demo.paths import Paths
from resnet_demo.runs.comparison import compare_runs, comparison_table, shown_epochs
from resnet_demo.runs.store import Run, Runs


@pytest.fixture
def shipped(tmp_path):
    runs = Runs(Paths(runs=tmp_path, data=tmp_path))
    return lambda *names: [runs.get(name) for name in names]


def test_compared_runs_differ_in_what_their_configs_say(shipped):
    runs = shipped("learn-plain20", "learn-resnet20", "learn-bugs-decay-43")
    compared = compare_runs(runs)
    configs = [run.config().to_dict() for run in runs]
    assert compared["runs"] == [run.id for run in runs]
    assert compared["differs"]["model"] == ["plain20", "resnet20", "resnet8"]
    for name in configs[0]:
        values = [config[name] for config in configs]
        assert compared["differs"].get(name) == (values if len(set(values)) > 1 else None)


def test_compared_metrics_are_those_of_the_kept_epoch(shipped):
    compared = compare_runs(shipped("learn-plain20", "learn-resnet20"))
    for number, curve in enumerate(compared["curves"]["val_top1"]):
        assert len(curve) == compared["metrics"]["epochs"][number] == 4
        assert compared["metrics"]["val_top1"][number] == max(curve)
        epoch = compared["metrics"]["epoch"][number]
        loss = compared["curves"]["val_loss"][number][epoch - 1]
        assert compared["metrics"]["val_loss"][number] == loss


def test_a_single_run_cannot_be_compared(shipped):
    with pytest.raises(ConfigError, match="runs must be at least two to compare, got 1"):
        compare_runs(shipped("learn-plain20"))


def test_the_table_has_a_column_for_each_run_and_shows_a_run_without_epochs(shipped):
    runs = shipped("learn-plain20", "learn-range-range-test")
    compared = compare_runs(runs)
    compared["metrics"]["val_top1"][1] = compared["metrics"]["epoch"][1] = None
    lines = comparison_table(compared).split("\n")
    assert lines[0].split() == ["learn-plain20", "learn-range-range-test"]
    (shown,) = [line for line in lines if line.startswith("validation top-1 ") and "%" in line]
    assert shown.endswith("–")
    compared["metrics"]["epoch"][0] = 0  # the head that was fitted before
    (kept,) = [line for line in comparison_table(compared).split("\n") if "kept epoch" in line]
    assert kept.split() == ["kept", "epoch", "the", "head", "–"]
    assert "same settings" in comparison_table(compare_runs([runs[0], runs[0]]))


def test_few_validation_images_are_counted_and_other_content_of_one_dataset_is_named(
    shipped, monkeypatch
):
    runs = shipped("learn-plain20", "learn-resnet20")
    before = Fingerprint(("oak", "elm"), {"train": 9}, "aa")
    contents = [before, replace(before, images={"train": 12})]
    monkeypatch.setattr(Run, "fingerprint", lambda run: contents[run.id == "learn-resnet20"])
    compared = compare_runs(runs)
    compared["metrics"] |= {"val_images": [12, 0], "val_top1": [0.25, 0.25]}
    table = comparison_table(compared)
    assert [line.split("  ")[-2:] for line in table.split("\n") if "3 of 12" in line]
    assert table.endswith(
        "note: learn-resnet20 was trained on other content of the dataset cifar10 than "
        "learn-plain20: it had 9 training images and has 12 training"
    )
    assert compare_runs([runs[0], runs[0]])["notes"] == []
    monkeypatch.setattr(Run, "fingerprint", lambda run: None)  # of an older version
    assert compare_runs(runs)["notes"] == []


def test_a_long_run_shows_its_first_and_last_epoch():
    assert shown_epochs(3) == [1, 2, 3]
    rows = shown_epochs(200)
    assert (len(rows), rows[0], rows[-1]) == (12, 1, 200)

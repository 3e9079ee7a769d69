"""Waits of a person: the parts that need no app of their own, and one round on a real app."""

import json

import pytest

from resnet_demo.bench import waits
from resnet_demo.bench.text import waits_lines
from resnet_demo.cli import main
from resnet_demo.errors import DemoError
from resnet_demo.paths import Paths

APP = {"page": 3.0, "page_cpu": 2.0, "memory": 200.0, "train_cold": 4.0, "train_warm": 1.0}


def test_without_images_evaluation_is_left_out_and_the_result_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(waits, "measure_app", lambda paths: APP)
    monkeypatch.setenv("RESNET_DEMO_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RESNET_DEMO_DATA", str(tmp_path / "data"))
    result = waits.measure_waits(Paths(tmp_path, tmp_path), rounds=2)
    assert result["evaluate"] is result["import"] is None
    text = "\n".join(waits_lines(result))
    assert "left out: evaluate: cifar10 is not in the data folder" in text
    assert "first page                        3.00 s (3.00 to 3.00)" in text


def test_rounds_are_reported_as_median_and_range(tmp_path, monkeypatch, capsys):
    seconds = iter([3.0, 9.0, 4.0])
    monkeypatch.setattr(waits, "measure_app", lambda paths: APP | {"page": next(seconds)})
    monkeypatch.setattr(waits, "measure_evaluation", lambda paths: (10.0, 15.0))
    monkeypatch.setenv("RESNET_DEMO_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RESNET_DEMO_DATA", str(tmp_path))
    (tmp_path / "cifar10").mkdir()
    assert main(["bench", "waits", "--rounds", "3", "--json"]) in (0, None)
    (line,) = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert result["page"] == {"median": 4.0, "min": 3.0, "max": 9.0}
    assert result["evaluate_cpu"]["median"] == 15.0


def test_an_import_is_measured_on_png_files_in_a_folder_of_their_own():
    assert len(waits.measure_imports(pictures=20, rounds=1)) == 1


def test_an_app_that_does_not_start_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNET_DEMO_PUBLIC", "maybe")
    with pytest.raises(DemoError, match=r"^the app did not start: .*RESNET_DEMO_PUBLIC"):
        waits.measure_app(Paths(tmp_path, tmp_path))


@pytest.mark.soak
def test_a_round_on_a_real_app_measures_everything(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNET_DEMO_STANDBY", "1")
    monkeypatch.setattr(waits, "OPEN_S", 0.0)
    monkeypatch.setattr(waits, "SETTLED_S", 3.0)  # the worker before has ended
    row = waits.measure_app(Paths(tmp_path / "runs", tmp_path / "data"))
    assert min(row.values()) > 0
    assert {"train_cold", "train_warm", "classify_ratio", "warm_ratio_cpu"} <= row.keys()
    assert not (tmp_path / "runs").exists()

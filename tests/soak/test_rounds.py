"""A short soak: it runs, and its figures are as expected."""

import pytest

from tests.soak.rounds import run_soak

CONFIG = {
    "dataset": "colours",
    "model": "resnet20",
    "batch_size": 16,
    "image_size": 12,
    "crop": 0,
    "epochs": 1000,
}


@pytest.mark.soak
def test_a_run_survives_two_kills_in_two_minutes_without_a_trace(tmp_path, colours):
    results = run_soak(tmp_path, CONFIG, colours, minutes=2, viewers=5, kills=2)
    summary, kills = results["summary"], results["kills"]
    messages = [kill["message"] for kill in kills]
    assert messages == ["the worker was killed by signal 9, probably out of memory"] * 2
    assert summary["failed_looks"] == 0
    assert summary["looks"] > 5 * 100
    assert summary["points_twice"] > 0
    assert summary["points_that_differ"] == 0
    before, after = summary["app_mb"]
    assert after < 1.05 * before

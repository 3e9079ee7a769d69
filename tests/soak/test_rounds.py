"""The long soak in little: it runs, and what it tells is so."""

import pytest

from tests.soak.rounds import soaked

KNOBS = {
    **{"dataset": "colours", "model": "resnet20", "batch_size": 16, "image_size": 12},
    **{"crop": 0, "epochs": 1000},
}


@pytest.mark.soak
def test_two_minutes_two_kills_and_nobody_notices(tmp_path, colours):
    told = soaked(tmp_path, KNOBS, colours, minutes=2, viewers=5, kills=2)
    summary, kills = told["summary"], told["kills"]
    told_of = [kill["message"] for kill in kills]
    assert told_of == ["the worker was killed by signal 9, probably out of memory"] * 2
    assert summary["failed_looks"] == 0
    assert summary["looks"] > 5 * 100
    assert summary["points_twice"] > 0
    assert summary["points_that_differ"] == 0
    before, after = summary["app_mb"]
    assert after < 1.05 * before

import os

import pytest

from resnet_demo.threads import SPINS, wait_briefly


@pytest.fixture
def environment(monkeypatch):
    """Sets the variables to these and no others, and tells what they are afterwards."""

    def after(**told):
        monkeypatch.setattr(os, "environ", dict(told))
        wait_briefly()
        return os.environ

    return after


def test_threads_look_out_for_their_siblings_for_a_moment_and_then_sleep(environment):
    assert environment() == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}


def test_what_a_person_says_of_threads_stands(environment):
    for told in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "PASSIVE"}):
        assert environment(**told) == told
    assert environment(GOMP_SPINCOUNT="7")["GOMP_SPINCOUNT"] == "7"

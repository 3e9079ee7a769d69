"""Floods of one stranger, shortly: what they cost another visitor, and the memory of the app.

On an idle machine; `python -m tests.soak.floods` prints a table of longer ones.
"""

import pytest

from tests.soak.floods import FLOODS, measure_floods

MAX_WAIT_S = 2.0
MAX_MORE_MB = 400


@pytest.mark.soak
def test_no_flood_keeps_a_visitor_waiting_or_takes_the_memory(tmp_path):
    results = measure_floods(tmp_path, [*FLOODS], 6.0)
    waits = {each.name: max(each.waits.values()) for each in results}
    assert not [failure for each in results for failure in each.failures]
    assert {name: seconds for name, seconds in waits.items() if seconds > MAX_WAIT_S} == {}
    assert {each.name: each.more_mb for each in results if each.more_mb > MAX_MORE_MB} == {}

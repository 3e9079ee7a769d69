"""Share the fixtures that start real workers."""

from tests.unit.tasks.conftest import (
    at_step,
    device,
    ended,
    launcher,
    launchers,
    one_thread,
    owner,
    tiny,
)

__all__ = ["at_step", "device", "ended", "launcher", "launchers", "one_thread", "owner", "tiny"]

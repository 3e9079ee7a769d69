"""The curves of a run with its table and the tail of its log, made once for all who watch it."""

from typing import Any

from resnet_demo.tasks.look import Look
from resnet_demo.ui import live, plots

MOST = 32  # runs and scales, the latest drawn


class Curves:
    """Both plots, the table an epoch and the tail of the log. For the one thread of the ticks."""

    def __init__(self) -> None:
        self.drawn: dict[tuple[str, bool], tuple[Any, tuple[Any, ...]]] = {}

    def __call__(self, look: Look, log_loss: bool) -> tuple[Any, ...]:
        """As the log of the run is by now; what it has not changed since is not made again."""
        key, now = (str(look.run.path), log_loss), (look.view.started, look.view.offset)
        known = self.drawn.pop(key, None)
        if known is None or known[0] != now:
            known = now, draw(look, log_loss)
        self.drawn[key] = known
        if len(self.drawn) > MOST:
            self.drawn.pop(next(iter(self.drawn)))
        return known[1]


def draw(look: Look, log_loss: bool) -> tuple[Any, ...]:
    """For one look."""
    return (
        plots.loss_table(look.view, log_loss),
        plots.accuracy_table(look.view),
        live.epoch_rows(look),
        live.log_tail(look),
    )

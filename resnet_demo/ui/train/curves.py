"""The curves of a run and its table an epoch, made once for all who watch it."""

from typing import Any

from resnet_demo.runs.view import RunView
from resnet_demo.tasks.snapshot import Look
from resnet_demo.ui import plots
from resnet_demo.ui.train import live

MOST = 32  # runs and scales, the latest drawn
Moment = list[float]


def moment(view: RunView) -> Moment:
    """What changes when the curves are to be drawn anew: a step that a line of so many can show.

    A line has `plots.MOST_POINTS` points: of a long run a single step more moves none of them.
    """
    started = view.started.time if view.started else 0.0
    stride = 1 << max(0, (view.step // plots.MOST_POINTS).bit_length() - 1)
    return [started, stride, view.step // stride, len(view.epochs), view.ended is not None]


class Curves:
    """Both plots and the table an epoch. For the one thread of the ticks."""

    def __init__(self) -> None:
        self.drawn: dict[tuple[str, bool], tuple[Moment, tuple[Any, ...]]] = {}

    def __call__(self, look: Look, log_loss: bool) -> tuple[Any, ...]:
        """As they are at this moment of the run; what is the same is not made again."""
        key, now = (str(look.run.path), log_loss), moment(look.view)
        known = self.drawn.pop(key, None)
        if known is None or known[0] != now:
            known = now, draw(look, log_loss)
        self.drawn[key] = known
        if len(self.drawn) > MOST:
            self.drawn.pop(next(iter(self.drawn)))
        return known[1]


def draw(look: Look, log_loss: bool) -> tuple[Any, ...]:
    """For one look, as the browser takes them."""
    return (
        plots.loss_table(look.view, log_loss),
        plots.accuracy_table(look.view),
        {"headers": live.EPOCH_COLUMNS, "data": live.epoch_rows(look), "metadata": None},
    )

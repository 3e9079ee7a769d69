"""The run that is watched, as the Train tab shows it part by part: what the pulse tells a page."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from resnet_demo.errors import DemoError
from resnet_demo.tasks.snapshot import Look
from resnet_demo.ui.services import Services
from resnet_demo.ui.train import live
from resnet_demo.ui.train.curves import moment

Part = tuple[Any, Callable[[], Any]]  # a mark that is another when it is, and what makes it
NO_RUN = "Nothing trained yet. Choose a recipe and press **Train**: the curves grow here."
BUTTONS = ("stop", "resume", "retry", "delete")
OFF, ON = gr.update(interactive=False), gr.update(interactive=True)
HIDDEN = gr.update(visible=False)
NOTHING = {
    **{"figures": "", "words": NO_RUN, "stop": OFF, "resume": OFF, "retry": HIDDEN, "delete": OFF},
    **{"loss": None, "accuracy": None, "log": ""},
    "table": {"headers": live.EPOCH_COLUMNS, "data": [], "metadata": None},
}
DAMAGED = {"stop": OFF, "resume": OFF, "retry": HIDDEN, "delete": ON}


def watched(services: Services, run_id: str | None, log_loss: bool) -> dict[str, Part]:
    """Each part of the page that shows a run, by the names of `train_tab.watch_panel`."""
    labels = services.run_labels()

    def choice(**more: Any) -> dict[str, Any]:
        return gr.update(choices=labels, visible=bool(labels), **more)

    if run_id is None:
        return {"run": (labels, choice)}
    if run_id not in [name for _, name in labels]:  # deleted meanwhile, from a terminal say
        other = [labels, run_id], lambda: choice(value=services.latest())
        return {"run": other, **same("nothing", NOTHING)}
    try:
        seen = services.watcher.glance(services.runs.get(run_id))
    except DemoError as error:  # a damaged run is said, not hidden
        told = {"words": f"**{error}.**", **DAMAGED}
        return {"run": (labels, choice), **same([run_id, str(error)], told)}
    return {"run": (labels, choice), **below(services, seen, log_loss)}


def same(mark: Any, told: dict[str, Any]) -> dict[str, Part]:
    """Parts that are ready and change together."""
    return {name: (mark, lambda value=value: value) for name, value in told.items()}


def below(services: Services, seen: Look, log_loss: bool) -> dict[str, Part]:
    """The parts below the choice of a run."""
    run_id, figures, words = seen.run.id, live.tiles(seen), live.sentence(seen)
    goes_on = services.slices is not None and services.slices.goes_on(run_id)
    state = [run_id, seen.status.state, seen.ignores_stop, goes_on]
    curves = [run_id, *moment(seen.view), log_loss]

    def drawn(which: int) -> Part:
        return curves, lambda: services.curves(seen, log_loss)[which]

    return {
        "figures": (figures, lambda: figures),
        "words": (words, lambda: words),
        **same(state, buttons(seen, goes_on)),
        **{"loss": drawn(0), "accuracy": drawn(1), "table": drawn(2)},
        "log": ([run_id, seen.view.offset], lambda: live.log_tail(seen)),
    }


def buttons(seen: Look, goes_on: bool = False) -> dict[str, Any]:
    """Stop, Resume, Retry and Delete, each alive where it can do something.

    goes_on: the run is stopped only until its next slice of GPU time.
    """
    state, own, deaf = seen.status.state, not seen.run.shipped, seen.ignores_stop
    can_stop = deaf or goes_on or state in ("queued", "preparing", "running")
    can_resume = state in ("stopped", "failed") and not goes_on
    retry = ", ".join(f"{name} {value}" for name, value in retry_of(seen).items())
    return {
        "stop": gr.update(value="Kill" if deaf else "Stop", interactive=own and can_stop),
        "resume": gr.update(interactive=own and can_resume),
        "retry": gr.update(value=f"Train with {retry}", visible=bool(own and retry)),
        "delete": gr.update(interactive=own and not (seen.status.is_live or goes_on)),
    }


def retry_of(look: Look) -> dict[str, Any]:
    """The knobs with which a run that failed might do; empty where nobody knows."""
    return getattr(look.view.ended, "retry", {}) if look.status.state == "failed" else {}

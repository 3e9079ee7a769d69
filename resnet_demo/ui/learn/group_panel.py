"""A group of runs on a page: chosen, watched while it trains, stopped. All chapters share it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from resnet_demo.errors import DamagedError
from resnet_demo.runs.groups import Group, groups
from resnet_demo.runs.text import duration_text, escape_markdown
from resnet_demo.tasks.snapshot import RunSnapshot
from resnet_demo.ui.services import QUIET_EVENT, TICK_EVENT, Services, show_errors

TICK_S = 2.0
NO_RESULTS = "Nothing has run here yet: what comes out will stand here."
Parts = dict[str, Any]  # components by name
MAX_NAMED_ARMS = 4  # arms, in a choice of groups


@dataclass(frozen=True)
class GroupSnapshot:
    """A group at one moment: its runs by arm, in the order of their seeds."""

    group: Group
    looks: dict[str, list[RunSnapshot]]

    @property
    def all(self) -> list[RunSnapshot]:
        """Every run."""
        return [look for looks in self.looks.values() for look in looks]

    @property
    def is_live(self) -> bool:
        """Whether anything may still change."""
        return any(look.status.is_live for look in self.all)

    def done(self, arm: str) -> list[RunSnapshot]:
        """The arm's runs that are finished."""
        return [look for look in self.looks.get(arm, []) if look.status.state == "finished"]

    def pairs(self, arm: str, other: str) -> list[tuple[RunSnapshot, RunSnapshot]]:
        """The finished runs of two arms that had the same seed."""
        by_seed = {look.run.config().seed: look for look in self.done(other)}
        both = [(look, by_seed.get(look.run.config().seed)) for look in self.done(arm)]
        return [(one, two) for one, two in both if two is not None]


def read_group(services: Services, group: Group) -> GroupSnapshot:
    """The group as it is now. Raises DamagedError."""
    return GroupSnapshot(
        group,
        {
            arm: [services.snapshots.get_nowait(run) for run in runs if not is_damaged(run)]
            for arm, runs in group.arms.items()
        },
    )


def is_damaged(run: Any) -> bool:
    """Whether a run cannot be told of: the others still can."""
    try:
        run.config()
    except DamagedError:
        return True
    return False


def group_panel(kind: str) -> Parts:
    """Which group is shown, how it stands, the button that stops it, and a place for the rest."""
    with gr.Row(elem_classes="learn-controls"):
        choice = gr.Dropdown(
            [], label="Shown", interactive=True, visible=False, elem_id=f"{kind}-group",
            min_width=220,
        )  # fmt: skip
        stop = gr.Button(
            "Stop", visible=False, variant="stop", size="sm", elem_id=f"{kind}-stop", scale=0,
            min_width=90,
        )  # fmt: skip
    words = gr.Markdown(NO_RESULTS, elem_id=f"{kind}-words")
    results = gr.Column(visible=False)
    return {"choice": choice, "stop": stop, "words": words, "results": results}


def watch_group(
    services: Services,
    kind: str,
    tab: gr.Tab,
    panel: Parts,
    outputs: Sequence[Any],
    draw: Callable[..., Sequence[Any]],
    conclude: Callable[[GroupSnapshot], str] = lambda seen: "",
    told: Sequence[Any] = (),
) -> None:
    """Keep the panel and these outputs up to date while the chapter is looked at.

    draw: the outputs' values for a group, and for what the components of `told` hold; asked only
    when something has changed. conclude: what is to be learned from it by now, in a sentence or
    more (Markdown).
    """
    timer, before = gr.Timer(TICK_S, active=False), gr.State(None)

    async def on_tick(chosen: str | None, seen_before: Any, *values: Any) -> Any:
        def drawn(seen: GroupSnapshot) -> Sequence[Any]:
            return draw(seen, *values)

        return panel_update(services, kind, chosen, seen_before, drawn, conclude, len(outputs))

    gr.on(
        [tab.select, panel["choice"].change, timer.tick],
        on_tick,
        [panel["choice"], before, *told],
        [*panel.values(), timer, before, *outputs],
        **TICK_EVENT,
    )
    panel["stop"].click(
        show_errors()(lambda group: stop(services, group)), panel["choice"], None, **QUIET_EVENT
    )


def panel_update(
    services: Services,
    kind: str,
    chosen: str | None,
    before: Any,
    draw: Callable[[GroupSnapshot], Sequence[Any]],
    conclude: Callable[[GroupSnapshot], str],
    count: int,
) -> tuple[Any, ...]:
    """What changed: the panel's parts, the timer, what was seen, the outputs."""
    skip = gr.skip()
    found = groups(services.runs.list(), kind)
    labels = [(group_label(group), group.id) for group in found]
    if not found:
        hidden = gr.update(visible=False)
        return (hidden, hidden, NO_RESULTS, hidden, skip, None, *[skip] * count)
    group = next((group for group in found if group.id == chosen), found[0])
    seen = read_group(services, group)
    now = [group.id, labels, [[look.status.state, look.view.offset] for look in seen.all]]
    if now == before:
        return (*[skip] * 6, *[skip] * count)
    own = not group.shipped and seen.is_live
    return (
        gr.update(choices=labels, value=group.id, visible=True),
        gr.update(visible=own, interactive=own),
        "\n\n".join(filter(None, (status_text(seen), conclude(seen)))),
        gr.update(visible=True),
        gr.Timer(active=seen.is_live),
        now,
        *draw(seen),
    )


def group_label(group: Group) -> str:
    """A group in the choice of groups."""
    many = len(group.arms) > MAX_NAMED_ARMS
    arms = f"{len(group.arms)} arms" if many else ", ".join(group.arms)
    return f"{arms} · came with the app" if group.shipped else f"{group.id} · {arms}"


def status_text(seen: GroupSnapshot) -> str:
    """How far it is, in words (Markdown)."""
    looks, total = seen.all, len(seen.all)
    done = [look for look in looks if look.status.state == "finished"]
    wrong = [look for look in looks if look.status.state == "failed"]
    told = "".join(
        f" **{look.run.id}** failed: {escape_markdown(look.status.message)}." for look in wrong
    )
    if seen.group.shipped:
        worked = duration_text(sum(look.view.worked() for look in looks))
        device = next((look.view.started.device for look in looks if look.view.started), "")
        return f"A recording, trained for {worked} in all, on {escape_markdown(device)}."
    if not seen.is_live:
        stopped = sum(look.status.state == "stopped" for look in looks)
        rest = f", {stopped} stopped" if stopped else ""
        return f"{len(done)} of {total} runs finished{rest}.{told}"
    at = next((look for look in looks if look.status.state in ("running", "stopping")), None)
    if at is None:
        return f"{len(done)} of {total} runs done. The next one starts: some seconds.{told}"
    progress = at.progress()
    left = progress["seconds_left"]
    time_left = f", about {duration_text(left)} of it left" if left is not None else ""
    return (
        f"Run {len(done) + len(wrong) + 1} of {total}: **{escape_markdown(arm_of(seen, at))}**, "
        f"epoch {progress['epoch']} of {progress['epochs']}{time_left}. The runs go one after the "
        f"other.{told}"
    )


def arm_of(seen: GroupSnapshot, look: RunSnapshot) -> str:
    """The arm that a run belongs to."""
    return next(arm for arm, looks in seen.looks.items() if look in looks)


def stop(services: Services, group: str) -> None:
    """End all that is alive of it."""
    count = services.run_groups.stop(group, services.caller())
    gr.Info(f"{count} runs stop; each can be resumed on the Train tab")

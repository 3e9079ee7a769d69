"""Chapter 6: weaken or remove blocks of a trained network and measure its accuracy."""

from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_demo.errors import DemoError
from resnet_demo.learn.recording import read_surgery_chart
from resnet_demo.models.description import model_description
from resnet_demo.runs.groups import list_groups
from resnet_demo.runs.text import FEW_IMAGES, escape_markdown, share_range, share_text
from resnet_demo.ui.components import LOADING_NETWORK, run_choices
from resnet_demo.ui.learn.arm_plots import arm_lines, no_chart
from resnet_demo.ui.learn.block import part_label
from resnet_demo.ui.learn.chapter_form import LAYOUT, LEFT, RIGHT, text_and_guess
from resnet_demo.ui.learn.group_panel import EMPTY, GUESS_FIRST, guess_first
from resnet_demo.ui.learn.guess import (
    QUESTIONS,
    connect_guess,
    guess_updates,
    known_guesses,
    verdict,
)
from resnet_demo.ui.plots import chart, line, line_chart, plot
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

if TYPE_CHECKING:  # needs torch, which the app does not load at start
    from resnet_demo.learn.surgery import SurgeryEvaluator, SurgeryScore

KIND = "surgery"
OWN, OWN_COLOUR = "this network", "#0c8f6c"
CHANCE, CHANCE_COLOUR = "chance", "#808080"
CACHED = 2  # networks in memory, each with its images
NO_RUN = "No trained network yet. Train `resnet20` and `plain20` on the Train tab."
WORKING = QUIET_EVENT | {"show_progress": "minimal", "trigger_mode": "always_last"}
WORKING |= {"concurrency_limit": None}  # the fair queue of Services limits it

# Names of components, in the order in which the handlers return their updates.
MEASURED = ("tried", "by_strength", "by_block")
OPENED = ("dropped", "text", "strength", *MEASURED)
VERDICT = ("guess", "show", "answer", "box", "said", "before", "by_strength", "by_block")

Points = list[tuple[float, float]]


@dataclass
class Tried:
    """The measurements of a network on one page: (strength or number of a block, top-1 in %).

    chance: top-1 of guessing, in percent; None without a network.
    """

    strengths: Points = field(default_factory=list)
    blocks: Points = field(default_factory=list)
    chance: float | None = None


def surgery_chapter(services: Services, tab: gr.Tab, guesses: gr.BrowserState) -> None:
    """Build the chapter: text and guess on the left, controls and charts on the right."""
    parts, handlers = surgery_layout(), SurgeryHandlers(services)
    run, edits = parts["run"], [parts["strength"], parts["dropped"]]
    verdict_parts, opened, measured = (
        [parts[name] for name in names] for names in (VERDICT, OPENED, MEASURED)
    )

    def show(event: Any) -> None:
        event.then(handlers.on_guess, [guesses, parts["before"]], verdict_parts, **QUIET_EVENT)
        event.then(handlers.on_run, [run, guesses], opened, **WORKING)

    tab.select(handlers.on_select, run, run, **QUIET_EVENT)
    tab.select(handlers.on_guess, [guesses, parts["before"]], verdict_parts, **QUIET_EVENT)
    gr.on([tab.select, run.change], handlers.on_run, [run, guesses], opened, **WORKING)
    connect_guess(KIND, parts, guesses, show)
    # No `change`: `on_run` sets these values too, which must not start an evaluation.
    gr.on(
        [parts["strength"].release, parts["strength"].input, parts["dropped"].input],
        handlers.on_change,
        [run, *edits, parts["tried"]],
        [parts["text"], *measured],
        **WORKING,
    )
    parts["each"].click(handlers.on_each, [run, parts["tried"]], measured, **WORKING)


def surgery_layout() -> dict[str, Any]:
    """Build the components of the chapter and return them by name."""
    with gr.Row(**LAYOUT):
        with gr.Column(**LEFT):
            parts = text_and_guess(KIND, "6-surgery")
        with gr.Column(**RIGHT):
            parts["said"] = gr.Markdown(GUESS_FIRST, elem_id="surgery-said", elem_classes=EMPTY)
            with gr.Column(visible=False) as parts["box"]:
                parts |= surgery_form()
                parts["text"] = gr.Markdown(LOADING_NETWORK, elem_id="surgery-text")
                with gr.Row():
                    with gr.Column(min_width=290):
                        parts["by_strength"] = line_chart("surgery-strengths", no_chart())
                    with gr.Column(min_width=290):
                        parts["by_block"] = line_chart("surgery-blocks", no_chart())
                parts["each"] = gr.Button(
                    "Remove each block in turn", elem_id="surgery-each", size="sm"
                )
    # Of each page: what it has measured, and the guess that it shows.
    return {**parts, "tried": gr.State(None), "before": gr.State(None)}


class SurgeryHandlers:
    """The handlers of the chapter's events, and the networks that they share."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.evaluators = lru_cache(CACHED)(lambda run_id, sha256: load_evaluator(services, run_id))

    def evaluator(self, run_id: str) -> "SurgeryEvaluator":
        """Return the run's network with its test images; a use counts as a picture."""
        # Each use scores a network once, in about a second.
        self.services.allowance.count_pictures(self.services.caller())
        # The checksum is part of the key, because a run that trains changes its weights.
        weights = model_description(self.services.runs.get(run_id).path)["sha256"]
        return self.evaluators(run_id, weights)

    def charts(self, tried: Tried | None) -> list[dict[str, Any]]:
        """Return the values of both charts."""
        return surgery_charts(recorded_charts(self.services), tried or Tried())

    def on_select(self, chosen: str | None) -> dict[str, Any]:
        """Return the update of the choice of a run, when the chapter is opened."""
        # With experiments: the networks of a duel of one's own are what to compare.
        return run_choices(self.services, chosen, experiments=True)

    def on_guess(self, stored: Any, before: str | None) -> list[Any]:
        """Return the updates of VERDICT: after the guess, the result of the recording."""
        known = known_guesses(stored)
        guess = known.get(KIND)
        text = guess_first()
        if guess is not None:
            said = verdict(KIND, guess, QUESTIONS[KIND].answer)
            text = gr.update(value=said, elem_classes=[])
        box = gr.update(visible=guess is not None)
        # Before the network is loaded, or without its images, the recorded ones are shown.
        recorded = [gr.skip()] * 2 if guess is None else self.charts(None)
        return [*guess_updates(KIND, known, before), box, text, guess, *recorded]

    async def on_run(self, run_id: str | None, stored: Any) -> list[Any]:
        """Return the updates of OPENED for another run; none before the guess."""
        # Without a guess nothing of it is visible, so no network is loaded.
        if KIND not in known_guesses(stored):
            return [gr.skip()] * len(OPENED)
        with show_errors():
            blocks, text, tried = await self.services.run_in_turn(open_run, self.evaluator, run_id)
        # At strength 1 and with all blocks: changes of another network do not carry over.
        return [blocks, text, 1.0, tried, *self.charts(tried)]

    async def on_change(self, *values: Any) -> list[Any]:
        """Return the text and MEASURED after a change of strength or blocks."""
        with show_errors():
            text, tried = await self.services.run_in_turn(apply_edit, self.evaluator, *values)
        return [text, tried, *self.charts(tried)]

    async def on_each(self, run_id: str | None, tried: Tried | None) -> AsyncIterator[list[Any]]:
        """Yield MEASURED after each single block that is removed."""
        async for now in self.services.stream_in_turn(drop_each(self.evaluator, run_id, tried)):
            yield [now, *self.charts(now)]


def surgery_form() -> dict[str, Any]:
    """Build the choices of run, strength and removed blocks; return them by name."""
    run = gr.Dropdown([], label="Network", interactive=True, elem_id="surgery-run")
    strength = gr.Slider(
        0,
        2,
        value=1,
        step=0.05,
        label="Strength of every residual branch",
        info="1 = as trained, 0 = shortcuts only",
        interactive=True,
        elem_id="surgery-strength",
    )
    dropped = gr.CheckboxGroup(
        [], label="Remove whole blocks", interactive=True, elem_id="surgery-dropped"
    )
    return {"run": run, "strength": strength, "dropped": dropped}


def recorded_charts(services: Services) -> dict[str, dict[str, Any]]:
    """Return the stored measurements of the recorded duel's networks by arm."""
    return {
        arm: chart
        for group in list_groups(services.runs.list(), "duel")
        if group.shipped
        for arm, runs in group.arms.items()
        if (chart := read_surgery_chart(runs[0]))
    }


def surgery_charts(recorded: dict[str, dict[str, Any]], tried: Tried) -> list[dict[str, Any]]:
    """Return both charts, by strength and by removed block: recorded networks, and this one."""
    # Those of the duel, so that each chart has plain and residual networks to compare with.
    strengths = {
        arm: [(strength, 100 * top1) for strength, top1 in chart["strengths"]]
        for arm, chart in recorded.items()
    }
    blocks = {
        arm: [(number, 100 * top1) for number, (_, top1) in enumerate(chart["blocks"], start=1)]
        for arm, chart in recorded.items()
    }
    note = f"Recorded: {', '.join(recorded)}." if recorded else ""
    return [
        own_chart("strength", "Accuracy by strength", strengths, tried.strengths, tried, 2.0, note),
        own_chart("block", "Accuracy without one block", blocks, tried.blocks, tried, None, note),
    ]


def own_chart(
    x_title: str,
    title: str,
    recorded: dict[str, Points],
    own: Points,
    tried: Tried,
    x_max: float | None,
    note: str,
) -> dict[str, Any]:
    """Return a chart of recorded lines, the line of chance, and the points of this network."""
    lines = arm_lines(recorded)
    if tried.chance is not None:
        # Without a fixed end, the line of chance is as long as the longest of the others.
        end = x_max or max(
            [x for points in [own, *recorded.values()] for x, _ in points], default=1
        )
        lines.append(line(CHANCE, [(0.0, tried.chance), (end, tried.chance)], CHANCE_COLOUR))
    lines.append(line(OWN, sorted(own), OWN_COLOUR, marks=True))
    shown = plot(f"learn-{x_title}", title, lines, y=(0, 100), unit=" %", note=note)
    return chart(x_title, [shown], x_max=x_max)


def load_evaluator(services: Services, run_id: str) -> "SurgeryEvaluator":
    """Load the run's network and its test images. Raises DemoError."""
    from resnet_demo.learn.surgery import SurgeryEvaluator

    return SurgeryEvaluator.of(services.classifier(run_id), services.datasets)


def open_run(evaluator_of: Any, run_id: str | None) -> tuple[dict[str, Any], str, Tried]:
    """Return the blocks of a run, and its accuracy as text and point; a failure becomes a text."""
    no_blocks = gr.update(choices=[], value=[])
    if not run_id:
        return no_blocks, NO_RUN, Tried()
    try:
        evaluator = evaluator_of(run_id)
        outcome = evaluator.score()
    except DemoError as error:
        # As a text: without the test images, the recorded networks are still shown.
        return no_blocks, f"⚠ {escape_markdown(str(error))}", Tried()
    blocks = [(block_label(name), name) for name in evaluator.blocks]
    tried = Tried([(1.0, 100 * outcome.top1)], chance=100 / len(evaluator.classifier.saved.classes))
    text = outcome_text(evaluator, outcome, 1.0, [])
    return gr.update(choices=blocks, value=[]), text, tried


def apply_edit(
    evaluator_of: Any, run_id: str | None, strength: float, dropped: list[str], before: Tried | None
) -> tuple[str, Tried]:
    """Return the accuracy after a change as text, and all measurements. Raises DemoError."""
    tried = before or Tried()
    if not run_id:
        return NO_RUN, tried
    evaluator = evaluator_of(run_id)
    outcome = evaluator.score(strength, dropped)
    if not dropped:  # the chart is of the strength alone
        others = [point for point in tried.strengths if point[0] != strength]
        tried = replace(tried, strengths=[*others, (float(strength), 100 * outcome.top1)])
    return outcome_text(evaluator, outcome, strength, dropped), tried


def drop_each(
    evaluator_of: Any, run_id: str | None, before: Tried | None
) -> Generator[Tried, None, None]:
    """Yield all measurements, with the accuracy without one more single block each time.

    Raises DemoError.
    """
    if not run_id:
        return
    tried, points = before or Tried(), []
    for number, name in enumerate(evaluator_of(run_id).blocks, start=1):
        outcome = evaluator_of(run_id).score(dropped=[name])
        points.append((float(number), 100 * outcome.top1))
        # A copy: `points` grows, and what was yielded must not.
        yield replace(tried, blocks=[*points])


def outcome_text(
    evaluator: "SurgeryEvaluator", outcome: "SurgeryScore", strength: float, dropped: list[str]
) -> str:
    """Return the accuracy after a change (Markdown)."""
    n = outcome.n
    right = share_text(outcome.top1) if n >= FEW_IMAGES else round(outcome.top1 * n)
    changes = [f"all branches at {strength:g}"] if strength != 1 else []
    if dropped:
        changes.append(f"{len(dropped)} of {len(evaluator.blocks)} blocks removed")
    change = f"With {' and '.join(changes)}" if changes else "Unchanged"
    # From model.json, which another program may have written.
    name = escape_markdown(evaluator.classifier.saved.network["name"])
    chance = 1 / len(evaluator.classifier.saved.classes)
    return (
        f"{change}, {name} classifies **{right}** of {n} test images correctly (95 % interval "
        f"{share_range(*outcome.interval, n)}). Chance: {share_text(chance, 0)}."
    )


def block_label(name: str) -> str:
    """Return the label of a block: `stages.1.0` and `stage2.1` are stage 2, block 1."""
    stage, _, block = name.rpartition(".")
    # `stages.1.0` counts from 0, `stage2.1` from 1: the two kinds of networks name them so.
    number = int(block) + (1 if stage.startswith("stages.") else 0)
    return f"{part_label(stage)}, block {number}"

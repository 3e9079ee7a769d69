"""Where the Evaluate tab stands: what a tick finds changed, and what follows from it on the page.

A tick tells states only, which the browser draws nothing for; each that changed then has its part
of the page told by a function here. A page that has nothing new to show stays at rest.
"""

from dataclasses import astuple
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.evaluation.stored_results import read_result
from resnet_demo.tasks.status import LIVE
from resnet_demo.ui.components import progress_bar
from resnet_demo.ui.evaluate.evaluation_status import Asked, Standing, Standings
from resnet_demo.ui.evaluate.matrix import MOST_CLASSES, matrix_html
from resnet_demo.ui.evaluate.text import headline
from resnet_demo.ui.services import show_errors

DONE = "Evaluated. The result is kept: looking again is instant."
NOTHING = "Nothing to evaluate yet: train a network first, what it keeps is then measured here."
READY = "Press **Evaluate**: the weights that were kept answer every picture of the split."
COMPARING = "<p>Comparing …</p>"
MATRIX_HINT = (
    "A row is what the images are, a column what they were taken for; right answers lie on the "
    "diagonal. **Click a number to see its images.**"
)
MANY_HINT = "The commonest mistakes. **Click one to see its images.** All of them, as a figure:"
STATES = ("control", "result", "drawn", "pair", "bent", "curve")


def both(standings: Standings, asked: Asked) -> list[Standing]:
    """Where the run's evaluation stands, and the other's if there is one to compare with."""
    if asked.run is None:
        return []
    first = standings.evaluation(asked)
    return [first, standings.evaluation(asked, other=True)] if asked.other else [first]


def standing(standings: Standings, asked: Asked) -> list[Any]:
    """All that may move without a word of this page: where it is another, a tick is due."""
    evaluations = both(standings, asked)
    return [list(astuple(one)) for one in [*evaluations, bent_of(standings, asked, evaluations)]]


def bent_of(standings: Standings, asked: Asked, evaluations: list[Standing]) -> Standing:
    """Where the robustness stands, which is only asked for beside an evaluation."""
    done = bool(evaluations) and evaluations[0].done
    return standings.robustness(asked) if done else Standing("none")


def tick(
    standings: Standings, asked: Asked, percent: bool, dark: bool, before: dict | None
) -> dict[str, Any]:
    """State -> value, of those that changed since the page was last told; mostly none.

    `seen`: all of them, for the next `before`. Draws nothing and loads no torch.
    """
    evaluations, runs = both(standings, asked), [asked.run, asked.other]
    main, other = (*(one.done for one in evaluations), None, None)[:2]
    bent = bent_of(standings, asked, evaluations)
    now = {
        "control": [runs, [list(astuple(one)) for one in evaluations]],
        "result": [main, percent],
        "drawn": [main, dark],
        "pair": {"of": main, "other": main and other, "runs": runs, "stored": is_stored(main)},
        "bent": list(astuple(bent)),
        "curve": [bent.done, dark],
    }
    fresh = {name: now[name] for name in now if before is None or before.get(name) != now[name]}
    return {**fresh, "seen": now} if fresh else {}


def is_stored(folder: str | None) -> bool:
    """Whether the answers are those that came with the run, and the images are not here."""
    return folder is not None and folder.endswith("-stored")


def control(state: list[Any]) -> dict[str, Any]:
    """Name of a component -> update: progress, words and buttons."""
    runs, standing = state[0], [Standing(*values) for values in state[1]]
    live = [one for one in standing if one.is_live]
    share = sum(one.share for one in standing) / max(len(standing), 1)
    is_done = bool(standing) and all(one.done for one in standing)
    stopping = all(one.state == "stopping" for one in live)
    return {
        "progress": gr.update(value=progress_bar(share) if live else "", visible=bool(live)),
        "words": sentence(runs, standing),
        "start": gr.update(interactive=not live and not is_done),
        "cancel": gr.update(interactive=bool(live) and not stopping),
    }


def sentence(runs: list[str | None], standing: list[Standing]) -> str:
    """Where it stands, in words (Markdown); a run is named where there are two."""
    if not standing:
        return NOTHING
    if standing[0].state == "none":
        return READY
    if all(one.done for one in standing):
        return DONE
    told = []
    for name, one in zip(runs, standing, strict=False):
        words = one.words
        if one.state == "none":
            words = "not evaluated in this way yet, press **Evaluate**"
        if words:
            told.append(f"{name}: {words}" if len(standing) > 1 else words)
    return "  \n".join(told)


def result_of(state: list[Any]) -> dict[str, Any]:
    """Name -> update: numbers and matrix of a finished evaluation; hidden where there is none."""
    folder, percent = state
    if folder is None:
        return {"results": gr.update(visible=False)}
    with show_errors():
        result = read_result(Path(folder))
    labels = [row["label"] for row in result["per_class"]]
    of, many = f"{result['run']} {Path(folder).name}", len(labels) > MOST_CLASSES
    return {
        "unit": gr.update(visible=not many),
        "matrix_hint": MANY_HINT if many else MATRIX_HINT,
        "results": gr.update(visible=True),
        "headline": headline(result),
        "matrix": matrix_html(result["confusion"], labels, percent, of),
    }


def pair_of(state: dict[str, Any]) -> dict[str, Any]:
    """Name -> update: room for a comparison, which takes a moment, or none."""
    is_pair = bool(state["other"])
    return {"pair_box": gr.update(visible=is_pair), "compared": COMPARING if is_pair else ""}


def robustness(state: list[Any]) -> dict[str, Any]:
    """Name -> update: how far the measurement of the robustness is."""
    bent = Standing(*state)
    can_start = bent.state not in (*LIVE, "wrong")
    return {
        "bent_progress": gr.update(
            value=progress_bar(bent.share) if bent.is_live else "", visible=bent.is_live
        ),
        "bent_words": bent.words,
        "bent_start": gr.update(interactive=can_start, visible=not bent.done),
        "bent_cancel": gr.update(
            interactive=bent.is_live and bent.state != "stopping", visible=bent.is_live
        ),
    }


# state -> what tells its part of the page at once, and the names of the components told
FOLLOWS = {
    "control": (control, ("progress", "words", "start", "cancel")),
    "result": (result_of, ("results", "headline", "matrix", "unit", "matrix_hint")),
    "pair": (pair_of, ("pair_box", "compared")),
    "bent": (robustness, ("bent_words", "bent_progress", "bent_start", "bent_cancel")),
}

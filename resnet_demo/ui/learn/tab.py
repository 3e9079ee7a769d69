"""The Learn tab: contents, and chapters, each with a text, a guess, an experiment and its results.

Links such as `#learn-2` open a chapter (chapters.js).
"""

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.learn.block import block_chapter
from resnet_demo.ui.learn.bugs import bugs_chapter
from resnet_demo.ui.learn.chapter_form import chapter_text
from resnet_demo.ui.learn.duel import duel_chapter
from resnet_demo.ui.learn.gradient import gradient_chapter
from resnet_demo.ui.learn.group_panel import TICK_S, GroupReader, status_text
from resnet_demo.ui.learn.guess import (
    QUESTIONS,
    guess_mark,
    kept_guesses,
    known_guesses,
    score_text,
)
from resnet_demo.ui.learn.learning_rate import range_chapter
from resnet_demo.ui.learn.surgery import surgery_chapter
from resnet_demo.ui.learn.transfer import transfer_chapter
from resnet_demo.ui.learn.vgg import vgg_chapter
from resnet_demo.ui.services import QUIET_EVENT, TICK_EVENT, Services

SCRIPT = Path(__file__).with_name("chapters.js")  # in the head of the page
# (name, question), by number
CHAPTERS = (
    ("Contents", ""),
    ("The block", "What is a residual block?"),
    ("The duel", "Do plain networks get worse with depth?"),
    ("The gradient", "Is it because gradients vanish?"),
    ("VGG and ResNet", "What does the older network cost?"),
    ("Find the bug", "Which of the tutorial's faults matter?"),
    ("Surgery", "What if you remove a block?"),
    ("Learning rate", "How large should a step be?"),
    ("Borrowed features", "Why do twenty pictures suffice?"),
)
KINDS = {question.chapter: kind for kind, question in QUESTIONS.items()}


def learn_tab(services: Services, form: dict[str, Any], tabs: gr.Tabs, dark: gr.Checkbox) -> None:
    """Build the tab.

    form: the components of the Train form by field. tabs: of the page. dark: on if the page is
    dark.
    """
    reader, guesses = GroupReader(services), kept_guesses()
    # In the order of CHAPTERS. One reader for all: groups share the cache of snapshots.
    chapters: Sequence[Callable[[gr.Tab], Any]] = (
        partial(contents, reader, guesses),
        block_chapter,
        partial(duel_chapter, reader, guesses=guesses),
        partial(gradient_chapter, reader, guesses=guesses, dark=dark),
        partial(vgg_chapter, reader, guesses=guesses),
        partial(bugs_chapter, reader, guesses=guesses),
        partial(surgery_chapter, services, guesses=guesses),
        partial(range_chapter, reader, guesses=guesses, form=form, tabs=tabs),
        partial(transfer_chapter, reader, guesses=guesses),
    )
    with gr.Tabs(elem_id="chapters"):
        for number, build in enumerate(chapters):
            with gr.Tab(chapter_title(number), id=f"learn-{number}") as tab:
                build(tab)
                if number == len(chapters) - 1:
                    score(tab, guesses)
                if number:
                    gr.HTML(links_html(number), padding=False)


def chapter_title(number: int) -> str:
    """Return the title of a chapter: its number and its name."""
    name, _ = CHAPTERS[number]
    return f"{number} {name}" if number else name


def contents(reader: GroupReader, guesses: gr.BrowserState, tab: gr.Tab) -> None:
    """Build the first page: links to the chapters, running experiments, score of the guesses."""
    chapter_text("0-start")
    running = gr.Markdown(visible=False, elem_id="learn-running")
    listing = gr.HTML(contents_html({}), elem_id="learn-contents", padding=False)
    with gr.Row(elem_classes="learn-controls"):
        text = gr.Markdown(elem_id="learn-score")
        again = gr.Button("Forget my guesses", size="sm", visible=False, elem_id="learn-again")
    chapter_text("0-notes")
    timer = gr.Timer(TICK_S, active=False)

    def on_guesses(stored: Any) -> list[Any]:
        known = known_guesses(stored)
        return [contents_html(known), score_text(known), gr.update(visible=bool(known))]

    async def on_tick() -> list[Any]:
        text = await reader.run(running_text, reader)
        # Without a running experiment nothing changes by itself, so nothing has to be asked.
        return [gr.update(value=text, visible=bool(text)), gr.Timer(active=bool(text))]

    # The tab is also selected when the page is loaded with it.
    gr.on([tab.select, guesses.change], on_guesses, guesses, [listing, text, again], **QUIET_EVENT)
    gr.on([tab.select, timer.tick], on_tick, None, [running, timer], **TICK_EVENT)
    # An empty dict; its change event empties the marks and the score, too.
    again.click(dict, None, guesses, **QUIET_EVENT)


def score(tab: gr.Tab, guesses: gr.BrowserState) -> None:
    """Build the score of the guesses at the end of the last chapter."""
    text = gr.Markdown(elem_classes="learn-final")

    def on_guesses(stored: Any) -> str:
        return score_text(known_guesses(stored))

    gr.on([tab.select, guesses.change], on_guesses, guesses, text, **QUIET_EVENT)


def contents_html(guesses: dict[str, str]) -> str:
    """Return the list of chapters, with links and the state of each guess."""
    rows = []
    for number, (_, question) in enumerate(CHAPTERS):
        if number:
            mark = guess_mark(KINDS[number], guesses) if number in KINDS else ""
            rows.append(
                f'<li><a href="#learn-{number}">{escape(chapter_title(number))}</a>'
                f"<span>{escape(question)}</span><small>{mark}</small></li>"
            )
    return f'<ul class="learn-contents">{"".join(rows)}</ul>'


def links_html(number: int) -> str:
    """Return the links to the previous chapter, the contents and the next chapter."""
    before, after = number - 1, number + 1
    links = [(before, f"← {chapter_title(before)}")]
    if before:
        links.append((0, CHAPTERS[0][0]))
    if after < len(CHAPTERS):
        links.append((after, f"{chapter_title(after)} →"))
    anchors = "".join(f'<a href="#learn-{to}">{escape(text)}</a>' for to, text in links)
    return f'<nav class="learn-links" aria-label="Chapters">{anchors}</nav>'


def running_text(reader: GroupReader) -> str:
    """Return a line for each experiment that waits or trains (Markdown)."""
    lines = []
    for kind, question in QUESTIONS.items():
        for group in reader.groups(kind):
            # Recordings are over: their logs are not read for this.
            if not group.shipped and (snapshot := reader.snapshot(group)).is_live:
                link = f"[{chapter_title(question.chapter)}](#learn-{question.chapter})"
                lines.append(f"- {link}, {escape_markdown(group.id)}: {status_text(snapshot)}")
    return "\n".join(["**Running now**", "", *lines]) if lines else ""

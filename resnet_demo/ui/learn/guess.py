"""The guess of each chapter: asked before the result is shown, kept by the browser, and scored.

What the browser keeps is a dict of kind of chapter -> value of an option, or SHOWN.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from resnet_demo.learn.lessons import BUGS
from resnet_demo.ui.services import QUIET_EVENT

SHOWN = ""  # in place of a guess: the result was shown without one
NOTHING_CLEAR = "none"  # of the bugs
SHARES = ("35", "55", "75", "95")  # percent, of transfer
RATES = ("0.001", "0.01", "0.1", "1")  # of the range test


@dataclass(frozen=True, kw_only=True)
class Question:
    """The question of a chapter.

    options: value -> label. answer: the value that is right for the recording.
    """

    chapter: int
    text: str
    options: dict[str, str]
    answer: str


# tests/unit/learn/test_recordings.py compares each answer with the recording.
QUESTIONS = {
    "duel": Question(
        chapter=2,
        text="Which network ends with the lower training loss?",
        options={
            "plain": "plain",
            "residual": "residual",
            "tie": "too close to call: less than 0.02 apart",
        },
        answer="residual",
    ),
    "gradient": Question(
        chapter=3,
        text="Where does the gradient vanish: 100 times smaller in some layers than in others?",
        options={
            "bare": "only in the plain network without BatchNorm",
            "plain": "in both plain networks",
            "all": "in all three",
            "none": "in none of them",
        },
        answer="bare",
    ),
    "vgg": Question(
        chapter=4,
        text="When the faster network has finished, which one is more accurate?",
        options={
            "vgg16": "VGG-16",
            "resnet18": "ResNet-18",
            "tie": "too close to call: less than a point apart",
        },
        answer="vgg16",
    ),
    "bugs": Question(
        chapter=5,
        text="Which of these costs the most accuracy?",
        options={**{name: BUGS[name][0] for name in BUGS}, NOTHING_CLEAR: "none of them clearly"},
        answer="upsampling",
    ),
    "surgery": Question(
        chapter=6,
        text="A resnet20 has 75 % accuracy and nine blocks. How much is left without one block?",
        options={
            "chance": "10 %: chance",
            "part": "40 to 70 %",
            "most": "more than 70 %: hardly a change",
        },
        answer="part",
    ),
    "range": Question(
        chapter=7,
        text="At which learning rate is the loss lowest?",
        options={rate: f"about {rate}" for rate in RATES},
        answer="0.1",
    ),
    "transfer": Question(
        chapter=8,
        text=(
            "From scratch, 10 images a class give about 37 % accuracy. And with features that were "
            "learned on ImageNet?"
        ),
        options={share: f"about {share} %" for share in SHARES},
        answer="75",
    ),
}


def known_guesses(stored: Any) -> dict[str, str]:
    """Return the guesses among what the browser sent, which may be anything."""
    given = stored if isinstance(stored, dict) else {}
    # An option may be gone in a later version: then the question is open again.
    return {
        kind: given[kind]
        for kind, question in QUESTIONS.items()
        if given.get(kind) in [SHOWN, *question.options]
    }


def verdict(kind: str, guess: str, found: str | None) -> str:
    """Return a guess and the result (Markdown); "" without a guess or a result.

    found: the value of the option that turned out right.
    """
    options = QUESTIONS[kind].options
    if guess not in options or found not in options:
        return ""
    # The name of an option stands before its explanation: `too close to call: less than …`.
    said, right = (options[value].partition(":")[0] for value in (guess, found))
    outcome = "Correct." if guess == found else f"The result: **{right}**."
    return f"You guessed **{said}**. {outcome}"


def score_text(guesses: dict[str, str]) -> str:
    """Return how many of the guesses agree with the recordings (Markdown)."""
    made = {kind: guess for kind, guess in guesses.items() if guess != SHOWN}
    if not made:
        return ""
    # By the recordings, which are the same for everybody; a run of one's own may end differently.
    right = sum(guess == QUESTIONS[kind].answer for kind, guess in made.items())
    shown = len(guesses) - len(made)
    notes = [
        f"{shown} shown without a guess" if shown else "",
        f"{len(QUESTIONS) - len(guesses)} to go" if len(guesses) < len(QUESTIONS) else "",
    ]
    rest = ", ".join(filter(None, notes))
    return f"**Your guesses: {right} of {len(made)} right**{f' ({rest})' if rest else ''}"


def guess_mark(kind: str, guesses: dict[str, str]) -> str:
    """Return the state of a chapter's guess, for the contents."""
    if kind not in guesses:
        return "guess open"
    if guesses[kind] == SHOWN:
        return "shown"
    return "✓ right" if guesses[kind] == QUESTIONS[kind].answer else "✗ wrong"


def kept_guesses() -> gr.BrowserState:
    """Build the guesses, which the browser keeps. Not secret: the key only has to stay the same."""
    return gr.BrowserState({}, storage_key="resnet-demo-guesses", secret="guesses")


def guess_panel(kind: str) -> dict[str, Any]:
    """Build question, button, and the rest of the text, which has the answer; by name."""
    question = QUESTIONS[kind]
    with gr.Group(elem_classes="learn-guess"):
        guess = gr.Radio(
            [(label, value) for value, label in question.options.items()],
            label=f"Guess first. {question.text}",
            interactive=True,
            elem_id=f"{kind}-guess",
        )
        show = gr.Button("Show me", size="sm", elem_id=f"{kind}-show")
    return {"guess": guess, "show": show}


def guess_updates(kind: str, guesses: dict[str, str], before: str | None) -> list[dict[str, Any]]:
    """Return the updates of a `guess_panel` and of the text with the answer, in that order.

    before: the guess that the page has shown so far.
    """
    guess = guesses.get(kind)
    radio: dict[str, Any] = {"interactive": guess is None}
    if guess != before:  # else this could undo a click that is on its way
        radio["value"] = guess or None
    return [
        gr.update(**radio),
        gr.update(visible=guess is None),
        gr.update(visible=guess is not None),
    ]


def connect_guess(kind: str, panel: dict[str, Any], guesses: gr.BrowserState, show: Any) -> None:
    """Keep the guess once it is made, or that it was skipped, and then show the result.

    show: a function that lets the chapter be drawn again after an event.
    """

    def on_guess(stored: Any, guess: str | None) -> dict[str, str]:
        return {kind: guess or SHOWN, **known_guesses(stored)}

    def on_show(stored: Any) -> dict[str, str]:
        return on_guess(stored, None)

    # `input`, not `change`: `guess_updates` sets the choice too, which is no guess.
    show(panel["guess"].input(on_guess, [guesses, panel["guess"]], guesses, **QUIET_EVENT))
    show(panel["show"].click(on_show, guesses, guesses, **QUIET_EVENT))

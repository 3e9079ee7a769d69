"""What a run says of one picture, in words and figures for the page."""

import math
from typing import TYPE_CHECKING

from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.components import enlarge

if TYPE_CHECKING:  # torch, which the page must not wait for
    import numpy as np

    from resnet_demo.inference.classification import Classification, OodVerdict

FIT_WORDS = {"crop": "centre crop", "squash": "squash", "pad": "pad"}
BEFORE_GAUGE = (
    '<div class="gauge"><b>No warning is possible.</b><p>This run has no limit to tell a picture '
    "of something else by: it was trained before there was a gauge, or validated in training mode."
    "</p></div>"
)
LIMIT_AT = 200 / 3  # percent of the gauge that is below the limit


def sure_of(run_id: str, said: "Classification") -> str:
    """Who says what, and how sure it is (Markdown)."""
    top = said.labels[0]
    return f"**{run_id}** is {top['confidence']:.1%} sure of **{escape_markdown(top['label'])}**."


def confidences(said: "Classification") -> dict[str, float]:
    """Label -> confidence, as gr.Label takes them."""
    return {row["label"]: row["confidence"] for row in said.labels}


def class_list(run_id: str, classes: tuple[str, ...]) -> str:
    """All that a run can answer, a chip each (Markdown: these are other people's words)."""
    names = " ".join(f"*{escape_markdown(' '.join(name.split()))}*" for name in classes)
    return f"{run_id} knows {len(classes)} classes and answers with one of them: {names}"


def gauge(outside: "OodVerdict | None", classes: int) -> str:
    """How far a picture lies from all that the run knows: HTML, made of numbers of ours only."""
    if outside is None:
        return BEFORE_GAUGE
    verdict = "This may be none of the classes." if outside.is_ood else "No alarm, but no promise."
    share = needle(outside, classes)
    meter = (
        '<div class="scale" role="meter" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{share:.0f}" aria-label="How unlike the training pictures">'
        f'<i class="limit" style="left:{LIMIT_AT:.1f}%"></i>'
        f'<i class="needle" style="left:{share:.1f}%"></i></div>'
    )
    return (
        f'<div class="gauge{" is-outside" if outside.is_ood else ""}">'
        f"<b>{verdict}</b>{meter}"
        '<div class="ends"><span>like the pictures it learned from</span>'
        "<span>unlike all of them</span></div>"
        f"<p>{gauge_words(outside)}</p></div>"
    )


def gauge_words(outside: "OodVerdict") -> str:
    """What the gauge measures, and how often it is wrong."""
    over = "over" if outside.is_ood else "not over"
    told = (
        "Its energy, a number that is high where none of its outputs has much to say, is "
        f"{outside.energy:.2f}: {over} the limit of {outside.threshold:.2f}. The limit is set so "
        f"that {outside.false_alarms:.0%} of the {outside.n:,} validation images, all of its own "
        "classes, are flagged wrongly. Some pictures of something else stay below it too."
    )
    return told.replace("-", "−")


def needle(outside: "OodVerdict", classes: int) -> float:
    """Where the energy stands, in percent of the gauge's length.

    The right end is what a network says that has nothing to say: -log of the number of classes,
    the energy of logits that are all 0.
    """
    beyond = max(-math.log(classes) - outside.threshold, 0.5)  # from the limit to the right end
    share = LIMIT_AT + (outside.energy - outside.threshold) / beyond * (100 - LIMIT_AT)
    return min(max(share, 1.0), 99.0)


def ways(answers: "dict[str, Classification]", fit: str) -> "list[tuple[np.ndarray, str]]":
    """What the network saw in each way to make a square, and what it said: for a gallery."""
    return [
        (
            enlarge(said.seen),
            f"{'✓ ' * (way == fit)}{FIT_WORDS[way]}: {said.labels[0]['label']} "
            f"{said.labels[0]['confidence']:.1%}",
        )
        for way, said in answers.items()
    ]


def ways_words(height: int, width: int, side: int) -> str:
    """What each way costs this picture, in plain words."""
    short, long = sorted((height, width))
    told = f"This picture has {width} × {height} pixels, and the network gets {side} × {side}"
    per_pixel = short / side
    if per_pixel >= 2:
        told += (
            f": each of those stands for {per_pixel:.0f} × {per_pixel:.0f} of the picture's, and "
            "what is smaller is gone"
        )
    if short == long:
        return f"{told}. It is square already, so the three ways give the same."
    axis = "sides" if width > height else "top and bottom"
    return (
        f"{told}. **Centre crop** leaves out {1 - short / long:.0%} of it, the {axis}. **Squash** "
        f"shows all of it, pressed together {long / short:.1f} times. **Pad** shows all of it, "
        f"smaller, and fills the rest with its mean colour. Click one to choose it."
    )

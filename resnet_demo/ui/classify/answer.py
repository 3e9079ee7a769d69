"""A run's answer for a picture as text and figures: confidences, warning gauge, ways to crop."""

import math
from typing import TYPE_CHECKING

from resnet_demo.runs.text import escape_markdown, share_text
from resnet_demo.ui.components import enlarge

if TYPE_CHECKING:  # torch: the page starts without it
    import numpy as np

    from resnet_demo.inference.classification import Classification, Missed, OodVerdict

FIT_NAMES = {"crop": "centre crop", "squash": "squash", "pad": "pad"}
NO_GAUGE = (
    '<div class="gauge"><b>No warning possible</b><p>Which pictures are unlike its training images '
    "was not measured for this network.</p></div>"
)
MAX_CLASSES = 100  # whose names are shown
THRESHOLD_AT = 200 / 3  # percent of the gauge's length


def confidences(answer: "Classification") -> dict[str, float]:
    """Return label -> confidence, for gr.Label."""
    return {row["label"]: row["confidence"] for row in answer.labels}


def class_list(classes: tuple[str, ...]) -> str:
    """Return the run's classes as Markdown, with their names escaped."""
    # Of many, some from all over the list.
    few = classes[:: max(1, -(-len(classes) // MAX_CLASSES))]
    names = " ".join(f"*{escape_markdown(' '.join(name.split()))}*" for name in few)
    such_as = "" if few == classes else ", such as"
    return f"{len(classes):,} classes{such_as}: {names}"


def gauge(ood: "OodVerdict | None", num_classes: int, missed: "Missed | None" = None) -> str:
    """Return the out-of-distribution verdict as HTML, made of numbers only.

    missed: as `Classifier.count_missed` returns; None if not counted yet.
    """
    if ood is None:
        return NO_GAUGE
    verdict = "This may be none of the classes" if ood.is_ood else "Not flagged"
    position = needle_position(ood, num_classes)
    # Numbers of this program only: Gradio would execute other people's text.
    meter = (
        '<div class="scale" role="meter" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{position:.0f}" aria-label="Difference from the training images">'
        f'<i class="limit" style="left:{THRESHOLD_AT:.1f}%"></i>'
        f'<i class="needle" style="left:{position:.1f}%"></i></div>'
    )
    return (
        f'<div class="gauge{" is-outside" if ood.is_ood else ""}">'
        f'<b>{verdict}</b><p class="error-rate">{error_rate(ood, missed)}</p>{meter}'
        '<div class="ends"><span>like the training images</span>'
        "<span>unlike them</span></div>"
        f"<details><summary>How this works</summary><p>{gauge_text(ood)}</p></details></div>"
    )


def error_rate(ood: "OodVerdict", missed: "Missed | None") -> str:
    """Return how often the verdict is wrong: the false alarms, or the measured misses."""
    if ood.is_ood:
        images = "validation images" if ood.measure == "energy" else "images of the classes"
        return f"{share_text(ood.false_alarms, 0)} of the {images} are flagged, too."
    if missed is None:
        return "&nbsp;"  # the line is kept free, so that nothing moves when the number comes
    number = f"{missed.count:,} of {missed.total:,} pictures"
    if missed.is_left_out:
        return (
            f"In a test that left out each class in turn, <strong>{number} of the class left out"
            "</strong> were not flagged either."
        )
    return (
        f"In a test, <strong>{number} of other things</strong> (plain colours, text) were not "
        "flagged either."
    )


def gauge_text(ood: "OodVerdict") -> str:
    """Return the explanation of the gauge: the score, its limit, and the false alarms."""
    side = "above" if ood.is_ood else "not above"
    if ood.measure == "energy":
        score = "The energy of the network's outputs is high where no output is high."
        images = "validation images"
    else:
        score = (
            "The distance to the nearest training image is 1 minus the cosine similarity of what "
            "the last layer gets."
        )
        images = "images that it was set on, each compared with others only,"
    text = (
        f"{score} Here it is {ood.score:.2f}, {side} the limit of {ood.threshold:.2f}. The limit "
        f"is set so that {share_text(ood.false_alarms, 0)} of the {ood.n:,} {images} exceed it."
    )
    return text.replace("-", "−")  # the only hyphens here are signs of numbers


def needle_position(ood: "OodVerdict", num_classes: int) -> float:
    """Return the needle's position, in percent of the gauge's length.

    The right end is the energy of logits that are all 0: -log of the number of classes. A
    distance is from 0 to 1, the value of embeddings that have nothing in common.
    """
    if ood.measure == "distance":
        limit = min(max(ood.threshold, 0.01), 0.99)
        share = (ood.score - limit) / (1 - limit) if ood.is_ood else ood.score / limit - 1
        position = THRESHOLD_AT + share * (100 - THRESHOLD_AT if ood.is_ood else THRESHOLD_AT)
        return min(max(position, 1.0), 99.0)
    span = max(-math.log(num_classes) - ood.threshold, 0.5)  # from the threshold to the right end
    position = THRESHOLD_AT + (ood.score - ood.threshold) / span * (100 - THRESHOLD_AT)
    return min(max(position, 1.0), 99.0)  # an energy has no bounds, and the needle stays visible


def fit_images(answers: "dict[str, Classification]", fit: str) -> "list[tuple[np.ndarray, str]]":
    """Return for each fit what the network got and its answer, for a gallery. fit: in use."""
    images = []
    for name, answer in answers.items():
        top = answer.labels[0]
        mark = "✓ " if name == fit else ""
        caption = f"{mark}{FIT_NAMES[name]}: {top['label']} {share_text(top['confidence'])}"
        images.append((enlarge(answer.seen), caption))
    return images


def fit_text(height: int, width: int, side: int) -> str:
    """Return the effect of each fit on a picture of this size (Markdown).

    side: of the network's input, in pixels.
    """
    short, long = sorted((height, width))
    text = f"{width} × {height} pixels, reduced to {side} × {side}"
    # By the shorter side: a crop keeps it whole.
    factor = short / side
    if factor >= 2:
        text += f": each covers {factor:.0f} × {factor:.0f}, smaller details are lost"
    if short == long:
        return f"{text}. The picture is square, so all three ways are the same."
    cut = "sides" if width > height else "top and bottom"
    return (
        f"{text}. **Centre crop** cuts off {share_text(1 - short / long, 0)}, the {cut}. "
        f"**Squash** keeps everything, distorted {long / short:.1f} times. **Pad** keeps "
        "everything, smaller, and fills the rest with the picture's mean colour. Click one to use "
        "it."
    )

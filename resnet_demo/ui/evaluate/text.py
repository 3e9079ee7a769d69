"""An evaluation's numbers as HTML and Markdown. Text from users is escaped."""

import math
from collections.abc import Mapping
from typing import Any

from resnet_demo.errors import counted
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.fingerprint import SPLIT_NAMES
from resnet_demo.runs.text import (
    FEW_IMAGES,
    accuracy_text,
    image_notes,
    loss_text,
    share_range,
    share_text,
)
from resnet_demo.ui.evaluate.matrix import escape_html

MODE_LABELS = {
    "plain": "plain: each image once",
    "flip": "flip: with its mirror image",
    "flip-and-shift": "flip and shift: six views",
    "flip-and-five-shifts": "flip and five shifts: ten views",
    "article": "article: training mode, as in the tutorial",
}
MODE_DETAILS = {
    "flip": "Mean of two views: each image and its mirror image",
    "flip-and-shift": "Mean of six views: mirrored, and shifted by a pixel",
    "flip-and-five-shifts": "Mean of ten views: mirrored, and shifted by up to two pixels",
    "article": "As in the article, the network is in training mode, on shuffled batches of 64: "
    "each prediction depends on the other images of its batch",
}
SIGNIFICANT = 0.05  # the usual level: a smaller p is reported as unlikely to be chance
SMALLEST_P = 0.0001  # smaller ones are shown as less than this


def headline(result: Mapping[str, Any]) -> str:
    """Return the accuracy with its interval, the other measures, and what was evaluated."""
    # With five classes or fewer, top-5 is 100 % for every network.
    top5 = (
        [
            (
                "top-5 accuracy",
                share_text(result["top5"], 2),
                "true class among the five most likely",
            )
        ]
        if has_top5(result)
        else []
    )
    tiles = "".join(
        f'<div class="tile"><span>{name}</span><b>{value}</b><small>{note}</small></div>'
        for name, value, note in (
            *top5,
            ("loss", loss_text(result), loss_note(result)),
            (
                "mean F1 (macro)",
                share_text(result["macro_f1"], 2),
                macro_text(result),
            ),
            ("calibration error", error_text(result), calibration_text(result["calibration"])),
        )
    )
    return (
        f'<div class="score"><div class="score-main"><span>accuracy (top-1)</span>'
        f"<b>{accuracy_text(result['top1'], result['n'])}</b>"
        f"<small>95 % interval <strong>{range_text(result)}</strong>: likely range on new "
        f"images</small></div>{tiles}</div>"
        f'<p class="score-of">{source_text(result)}</p>{notes_html(result)}'
        f"{mode_difference(result)}"
    )


def has_top5(result: Mapping[str, Any]) -> bool:
    """Return True where top-5 says anything: with six classes or more."""
    return len(result["per_class"]) > 5


def loss_note(result: Mapping[str, Any]) -> str:
    """Return what the loss is, with the best value and that of guessing."""
    guessing = math.log(len(result["per_class"]))
    return f"cross-entropy: 0 is perfect, guessing has {guessing:.2f}"


def macro_text(result: Mapping[str, Any]) -> str:
    """Return what the mean is over: classes without images are left out."""
    untested = sum(not row["support"] for row in result["per_class"])
    without = f"; {untested} without images left out" if untested else ""
    return f"over the classes, explained below{without}"


def source_text(result: Mapping[str, Any]) -> str:
    """Return the run, the images and the weights of a result, as HTML."""
    split = SPLIT_NAMES[result["split"]]
    stored = " · from the predictions stored with the run" if result["stored"] else ""
    return (
        f"{escape_html(result['run'])} on the {counted(result['n'], f'{split} image')} of "
        f"{escape_html(result['dataset'])}{stored} · weights {escape_html(result['weights'][:12])}"
    )


def notes_html(result: Mapping[str, Any], run: str = "") -> str:
    """Return what is to be known about the scored images; empty if there is nothing.

    run: whose score it is, where there are two.
    """
    notes, prefix = image_notes(result), f"{escape_html(run)}: " if run else ""
    return f'<p class="score-of">⚠ {prefix}{escape_html(notes)}</p>' if notes else ""


def calibration_text(calibration: Mapping[str, Any]) -> str:
    """Return the difference of mean confidence and accuracy, and its direction, as text.

    calibration: the fields of `evaluation.calibration.Calibration`.
    """
    bins = zip(
        calibration["count"], calibration["confidence"], calibration["accuracy"], strict=True
    )
    # The error itself has no sign: it is a mean of absolute differences.
    gap = sum(count * (confidence - accuracy) for count, confidence, accuracy in bins)
    points = 100 * gap / max(sum(calibration["count"]), 1)
    if abs(points) < 0.05:  # shown as 0.0
        return "neither over- nor underconfident on average"
    direction = "overconfident" if points > 0 else "underconfident"
    return f"on average {abs(points):.1f} points {direction}"


def mode_difference(result: Mapping[str, Any]) -> str:
    """Return the difference from the plain mode's accuracy, as HTML; "" for the plain mode."""
    plain = result["beside"]
    if plain is None:
        return ""
    gap = gap_text(result["top1"] - plain["top1"], result["n"])
    return (
        f'<p class="score-of"><strong>{gap}</strong> against plain '
        f"(accuracy {accuracy_text(plain['top1'], result['n'])}, loss {loss_text(plain)}). "
        f"{MODE_DETAILS[result['mode']]}.</p>"
    )


def comparison_html(
    compared: Mapping[str, Any], first: Mapping[str, Any], second: Mapping[str, Any]
) -> str:
    """Return two runs' numbers as a table, below a verdict on their difference."""
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{left}</td><td>{right}</td><td>{difference}</td></tr>'
        for name, left, right, difference in comparison_rows(first, second)
    )
    heads = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("", escape_html(first["run"]), escape_html(second["run"]), "difference")
    )
    return (
        f'<p>{verdict(compared)}</p><div class="pair-box"><table class="pair">'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        # The first run's notes stand in its headline.
        f"{notes_html(second, second['run'])}"
    )


def comparison_rows(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return name, both values, and the first minus the second, in percent and points."""

    def share_row(name: str, key: str) -> tuple[str, ...]:
        left, right = first[key], second[key]
        return (
            name,
            share_text(left, 2),
            share_text(right, 2),
            f"{signed(100 * (left - right))} points",
        )

    accuracies = [accuracy_text(result["top1"], result["n"]) for result in (first, second)]
    difference = gap_text(first["top1"] - second["top1"], first["n"])
    intervals = [range_text(result) for result in (first, second)]
    loss_gap = difference_text(first["loss"], second["loss"], digits=4)
    errors = [result["calibration"]["error"] for result in (first, second)]
    error_gap = difference_text(*errors, factor=100, unit=" points")
    return [
        ("accuracy (top-1)", *accuracies, difference),
        ("95 % interval", *intervals, ""),
        # Both runs are scored on the same images, so they have the same classes.
        *([share_row("top-5 accuracy", "top5")] if has_top5(first) else []),
        ("loss", loss_text(first), loss_text(second), loss_gap),
        share_row("mean F1 (macro)", "macro_f1"),
        ("calibration error", error_text(first), error_text(second), error_gap),
    ]


def verdict(compared: Mapping[str, Any]) -> str:
    """Return the better run, its margin, and whether that may be chance, as HTML."""
    first, second = escape_html(compared["first"]), escape_html(compared["second"])
    # McNemar's test looks only at images that one of both gets right: the others are no difference.
    only = len(compared["only_first"]), len(compared["only_second"])
    better = first if only[0] > only[1] else second
    gap = gap_text(abs(compared["difference"]), compared["n"]).removeprefix("+")
    head = f"{better} is {gap} better" if only[0] != only[1] else "Both score equally"
    p = compared["p"]
    # More digits for a small p: where it is near the usual limits, 0.01 is too coarse.
    p_text = f"< {SMALLEST_P}" if p < SMALLEST_P else f"= {p:.4f}" if p < 0.01 else f"= {p:.2f}"
    chance = "unlikely to be chance" if p < SIGNIFICANT else "this may be chance"
    return (
        f"<strong>{head}: {chance}.</strong> Only {first} gets {counted(only[0], 'image')} right, "
        f"only {second} {counted(only[1], 'image')}. McNemar's exact test: p "
        f"{escape_html(p_text)}, the probability of such a difference between two equally good "
        "networks."
    )


def gap_text(difference: float, n: int) -> str:
    """Return a difference of two shares of n images: in points, or of few images in images."""
    # One of twelve images is 8 points: a difference in points would look more exact than it is.
    if n >= FEW_IMAGES:
        return f"{signed(100 * difference)} points"
    count = round(difference * n)
    return f"{signed(count, 0)} {'image' if abs(count) == 1 else 'images'}"


def range_text(result: Mapping[str, Any]) -> str:
    """Return the interval of a result's accuracy; of few images without decimals."""
    return share_range(*result["interval"], result["n"])


def interval_text(low: float, high: float, digits: int) -> str:
    """Return an interval of shares in percent, without the sign."""
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}"


def error_text(result: Mapping[str, Any]) -> str:
    """Return the expected calibration error in percent; None for a network that diverged."""
    error = result["calibration"]["error"]  # JSON has no NaN
    return "not a number" if error is None else share_text(error, 2)


def difference_text(
    first: float | None,
    second: float | None,
    factor: float = 1,
    digits: int = 2,
    unit: str = "",
) -> str:
    """Return the first minus the second, times `factor`, as text; "" if one is missing."""
    if first is None or second is None:
        return ""
    return f"{signed(factor * (first - second), digits)}{unit}"


def signed(value: float, digits: int = 2) -> str:
    """Format a number with its sign, using a true minus; no sign if it rounds to zero."""
    # Formatted first: -0.001 rounds to zero, which has no sign.
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def robustness_text(result: Mapping[str, Any]) -> str:
    """Return the sample, and the least and most harmful corruption (Markdown)."""
    means = {kind: sum(top1) / len(top1) for kind, top1 in result["kinds"].items()}
    best, worst = max(means, key=means.get), min(means, key=means.get)
    notes = image_notes(result)
    n, top1 = result["n"], result["top1"]
    interval = share_range(*wilson_interval(round(top1 * n), n), n)

    # With a decimal: a mean over five strengths need not be a whole number of images.
    def mean_text(share: float) -> str:
        return f"{share * n:.1f} of {n}" if n < FEW_IMAGES else share_text(share)

    return (
        f"Sample of {counted(n, 'image')}: accuracy {accuracy_text(top1, n)} (95 % interval "
        f"{interval}) undamaged. Mean over the five strengths: best with **{best}**, "
        f"{mean_text(means[best])}; worst with **{worst}**, {mean_text(means[worst])}."
        + (f" ⚠ {notes}." if notes else "")
    )

"""An evaluation's numbers as the page tells them. HTML of ours; other people's words escaped."""

from collections.abc import Mapping
from typing import Any

from resnet_demo.runs.text import loss_text
from resnet_demo.ui.evaluate.matrix import safe

SPLIT_WORDS = {"test": "test", "val": "validation", "train": "training"}
MODE_WORDS = {
    "plain": "plain: each image once",
    "flip": "flip: with its mirror image",
    "flip-and-shift": "flip and shift: six views",
    "flip-and-five-shifts": "flip and five shifts: ten views",
    "article": "as the article did: in training mode",
}
OF_MODE = {
    "flip": "Each image and its mirror image were asked about",
    "flip-and-shift": "Six views of each image were asked about, mirrored and shifted by a pixel",
    "flip-and-five-shifts": "Ten views of each image were asked about, mirrored and shifted by up "
    "to two pixels",
    "article": "As the article did, it was asked in training mode, in shuffled batches of 64: each "
    "answer depends on the other images of its batch",
}
SURE = 0.05  # a smaller p is hardly luck, as is the custom
SMALLEST_P = 0.0001


def headline(result: Mapping[str, Any]) -> str:
    """The score with its interval, large; then what else is counted, and on what."""
    low, high = result["interval"]
    tiles = "".join(
        f'<div class="tile"><span>{name}</span><b>{value}</b><small>{what}</small></div>'
        for name, value, what in (
            ("top-5", f"{result['top5']:.2%}", "the truth is among its five likeliest"),
            ("loss", loss_text(result), "cross-entropy in nats; 0 would be perfect"),
            ("macro F1", f"{result['macro_f1']:.2%}", "every class counts the same"),
            ("calibration error", error_text(result), "confidence and accuracy differ by so much"),
        )
    )
    return (
        f'<div class="score"><div class="score-main"><span>top-1</span>'
        f"<b>{result['top1']:.2%}</b>"
        f"<small>95% interval <strong>{interval_text(low, high)}</strong>: how far other images "
        f"of the same kind could have moved it</small></div>{tiles}</div>"
        f'<p class="score-of">{of_text(result)}</p>{beside_text(result)}'
    )


def of_text(result: Mapping[str, Any]) -> str:
    """What the numbers were counted on."""
    split = SPLIT_WORDS[result["split"]]
    stored = " · counted on the answers kept with the run" if result["stored"] else ""
    return (
        f"{safe(result['run'])} on the {result['n']:,} {split} images of "
        f"{safe(result['dataset'])}{stored} · weights {safe(result['weights'][:12])}"
    )


def beside_text(result: Mapping[str, Any]) -> str:
    """What another way of asking changed; nothing for the plain one."""
    plain = result["beside"]
    if plain is None:
        return ""
    points = 100 * (result["top1"] - plain["top1"])
    return (
        f'<p class="score-of"><strong>{signed(points)} points</strong> against the plain way '
        f"(top-1 {plain['top1']:.2%}, loss {loss_text(plain)}). {OF_MODE[result['mode']]}.</p>"
    )


def comparison_html(
    compared: Mapping[str, Any], first: Mapping[str, Any], second: Mapping[str, Any]
) -> str:
    """Two runs' numbers in a table, and in words whether the difference could be luck."""
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{mine}</td><td>{its}</td><td>{difference}</td></tr>'
        for name, mine, its, difference in measures(first, second)
    )
    heads = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("", safe(first["run"]), safe(second["run"]), "difference")
    )
    return (
        f'<p>{verdict(compared)}</p><div class="pair-box"><table class="pair">'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def measures(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Name, both values, and the first less the second; shares in percent and points."""

    def shares(name: str, key: str) -> tuple[str, ...]:
        mine, its = first[key], second[key]
        return name, f"{mine:.2%}", f"{its:.2%}", f"{signed(100 * (mine - its))} points"

    losses = first["loss"], second["loss"]
    errors = first["calibration"]["error"], second["calibration"]["error"]
    return [
        shares("top-1", "top1"),
        ("95% interval", *(interval_text(*each["interval"]) for each in (first, second)), ""),
        shares("top-5", "top5"),
        ("loss", loss_text(first), loss_text(second), gap(*losses, 1, 4, "")),
        shares("macro F1", "macro_f1"),
        ("calibration error", error_text(first), error_text(second),
         gap(*errors, 100, 2, " points")),
    ]  # fmt: skip


def verdict(compared: Mapping[str, Any]) -> str:
    """Who is better, on how many images, and McNemar's p in plain words."""
    first, second = safe(compared["first"]), safe(compared["second"])
    only = len(compared["only_first"]), len(compared["only_second"])
    who = first if only[0] > only[1] else second
    points = abs(100 * compared["difference"])
    head = f"{who} is {points:.2f} points better" if only[0] != only[1] else "Both score the same"
    p = compared["p"]
    chance = f"less than {SMALLEST_P}" if p < SMALLEST_P else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"
    luck = "hardly luck" if p < SURE else "could well be luck"
    return (
        f"<strong>{head}: {luck}.</strong> Only {first} gets {images_text(only[0])} right, "
        f"only {second} {images_text(only[1])}. Two equally good networks would differ as much or "
        f"more with probability {chance} (McNemar's exact test)."
    )


def images_text(count: int) -> str:
    """A number of images."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def interval_text(low: float, high: float) -> str:
    """An interval of shares, in percent."""
    return f"{100 * low:.2f} – {high:.2%}"


def error_text(result: Mapping[str, Any]) -> str:
    """The expected calibration error in percent; a network that went astray may have none."""
    error = result["calibration"]["error"]
    return "not a number" if error is None else f"{error:.2%}"


def gap(mine: float | None, its: float | None, times: float, digits: int, unit: str) -> str:
    """The first less the second, where both are numbers."""
    if mine is None or its is None:
        return ""
    return f"{signed(times * (mine - its), digits)}{unit}"


def signed(value: float, digits: int = 2) -> str:
    """With a sign that is as wide as a digit; no minus before what is shown as nought."""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def robustness_words(result: Mapping[str, Any]) -> str:
    """On what it was measured, and what it bears best and worst (Markdown)."""
    means = {kind: sum(top1) / len(top1) for kind, top1 in result["kinds"].items()}
    best, worst = max(means, key=means.get), min(means, key=means.get)
    return (
        f"On {images_text(result['n'])}: {result['top1']:.1%} right (± "
        f"{100 * result['interval_half_width']:.1f} points) as they are. It bears **{best}** best, "
        f"{means[best]:.1%} right on average over the five strengths, and **{worst}** worst, "
        f"{means[worst]:.1%}."
    )

"""Text for people: events, results, amounts, the same in the terminal, worker.log and page.

Also the two guards for text of unknown origin: `escape_markdown` and `csv_safe`.
"""

import re
from collections.abc import Iterator
from typing import Any

from resnet_demo.events import Compiled, Ended, Epoch, Event, Started, Step

MARKDOWN_MARKS = re.compile(r"([\\`*_\[\]<>!&~|$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
LINE_BREAKS = re.compile(r"\s*[\r\n]\s*")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def event_text(event: Event) -> str:
    """One line for a person."""
    if isinstance(event, Started):
        steps = event.epochs * event.steps_per_epoch
        head = f"resumed at step {event.step}" if event.kind == "resumed" else "started"
        note = getattr(event, "message", "")
        return (
            f"{head} on {event.device} in {event.precision}: "
            f"{count_text(event.parameters)} parameters, "
            f"{count_text(event.macs)} multiply-adds an image, {steps} steps"
            + (f"; {note}" if note else "")
        )
    if isinstance(event, Compiled):
        return f"compiled the network in {duration_text(event.seconds)}: steps begin"
    if isinstance(event, Step):
        return (
            f"step {event.step}: loss {event.loss:.4f}, learning rate {event.lr:.4g}, "
            f"{event.images_per_s:.0f} images/s"
        )
    if isinstance(event, Epoch):
        return (
            f"epoch {event.epoch}: train loss {event.train_loss:.4f}, top-1 "
            f"{event.train_top1:.2%}; val loss {event.val_loss:.4f}, top-1 "
            f"{event.val_top1:.2%}; {duration_text(event.seconds)}"
        )
    if isinstance(event, Ended):
        kept = ""
        if event.best_val_top1 is not None:
            kept = f"; kept epoch {event.best_epoch}, validation top-1 {event.best_val_top1:.2%}"
        return f"{event.kind} after {duration_text(event.seconds)}: {event.message}{kept}"
    return event.kind


def count_text(number: float) -> str:
    """Three digits that matter and a word: 1.65 million."""
    for size, word in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if number >= 0.9995 * size:  # what rounds to it
            return f"{number / size:.3g}{word}"
    return f"{number:.0f}"


def duration_text(seconds: float) -> str:
    """As a person says it: 42 s, 3 min 05 s, 27 min, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def loss_text(result: dict[str, Any]) -> str:
    """The loss of an evaluation; a network that went astray has none."""
    return "not a number" if result["loss"] is None else f"{result['loss']:.4f}"


def evaluation_text(result: dict[str, Any]) -> str:
    """Accuracy and what it is worth, and a line a class."""
    head = f"{result['run']} on {result['dataset']} {result['split']} ({result['n']} images): "
    head += f"top-1 {result['top1']:.2%}, {interval_text(result)}; loss {loss_text(result)}"
    lines = [
        f"  {row['label']:<16} precision {row['precision']:6.1%}  recall {row['recall']:6.1%}  "
        f"F1 {row['f1']:6.1%}  images {row['support']}"
        for row in result["per_class"]
    ]
    macro = f"F1 {result['macro_f1']:.2%}, the mean over all classes"
    told = [macro, calibration_text(result["calibration"]), mode_text(result)]
    return "\n".join([head, *filter(None, told), *lines])


def interval_text(result: dict[str, Any]) -> str:
    """How far the accuracy can be trusted."""
    low, high = result["interval"]
    return f"95% interval {low:.2%} to {high:.2%}"


def calibration_text(calibration: dict[str, Any]) -> str:
    """Whether a network is as often right as it is sure."""
    n = sum(calibration["count"])
    if not n:
        return "confidence: no answer is a number"
    sure, right = (
        sum(count * mean for count, mean in zip(calibration["count"], means, strict=True)) / n
        for means in (calibration["confidence"], calibration["accuracy"])
    )
    return (
        f"sure by {sure:.2%} and right in {right:.2%} on average; among answers of like confidence "
        f"the two differ by {calibration['error']:.2%} (calibration error)"
    )


def mode_text(result: dict[str, Any]) -> str:
    """What another mode than plain changes; "" for plain."""
    plain = result["beside"]
    if plain is None:
        return ""
    return (
        f"mode {result['mode']}: {points_text(result['top1'] - plain['top1'])} than plain, "
        f"which has {plain['top1']:.2%}, loss {loss_text(plain)}"
    )


def points_text(difference: float) -> str:
    """A difference of two shares, in words."""
    if not difference:
        return "0.00 points more or less"
    return f"{abs(difference) * 100:.2f} points {'more' if difference > 0 else 'less'}"


def comparison_text(against: dict[str, Any]) -> str:
    """Two runs on the same images; against: of `comparison.with_against`."""
    first, second = against["first"], against["second"]
    return (
        f"{first} has {points_text(against['difference'])} than {second}, which has "
        f"{against['top1_second']:.2%}: only {first} is right on {len(against['only_first']):,} "
        f"images, only {second} on {len(against['only_second']):,}\n"
        f"{chance_text(against['p'])} (McNemar's exact test)"
    )


def chance_text(p: float) -> str:
    """What a p says of two networks on the same images."""
    share = "fewer than 0.01%" if p < 1e-4 else f"{p:.2%}"
    return f"two equally good networks would differ as much or more in {share} of such tests"


def robustness_text(result: dict[str, Any]) -> str:
    """A line a kind of damage."""
    head = (
        f"{result['run']} with images made worse, strength 1 to 5 ({result['n']} images; "
        f"as they are {result['top1']:.2%} ± {result['interval_half_width']:.2%}):"
    )
    lines = [
        f"  {kind:<16}" + "".join(f"{top1:8.1%}" for top1 in row)
        for kind, row in result["kinds"].items()
    ]
    return "\n".join([head, *lines])


def epoch_lines(seen: dict[str, Any]) -> Iterator[str]:
    """A line an epoch of what `tasks.look` sees."""
    for row in seen["history"]:
        yield (
            f"  epoch {row['epoch']}: train loss {row['train_loss']:.4f} top-1 "
            f"{row['train_top1']:.2%}, val loss {row['val_loss']:.4f} top-1 {row['val_top1']:.2%}"
        )


def dataset_text(info: Any) -> str:
    """A line on a DatasetInfo, which is not imported: it needs numpy, and `--help` must not."""
    return (
        f"{info.name}: {info.train:,} training and {info.test:,} test images of {info.size} "
        f"pixels, {len(info.classes)} classes; {info.source}"
    )


def dataset_lines(info: Any, counts: dict[str, dict[str, int]]) -> Iterator[str]:
    """A line a class, and the moments of the training pixels."""
    train, test = counts["train"], counts["test"]
    for label in info.classes:
        yield f"  {label:<16} {train[label]:>7,} training {test[label]:>7,} test"
    mean, std = (" ".join(f"{value:.4f}" for value in triple) for triple in (info.mean, info.std))
    yield f"  mean {mean}, deviation {std} (training pixels, from 0 to 1)"
    if info.skipped_count:
        yield f"  unreadable and left out: {info.skipped_count:,}, such as {info.skipped[0]}"


def transfer_text(what: str, done: int, total: int | None, unit: str, rate: float) -> str:
    """How far something is, how fast, how long to go; rate in units a second, 0 if unknown.

    unit: "bytes", or what is counted; "" where only the share says something.
    """
    if not unit:
        return f"{what} ({done / total:.0%})" if total else what
    if unit != "bytes":
        return f"{what}: {done:,} of {total:,} {unit}" if total else what
    amount = f"{bytes_text(done)} of {bytes_text(total)}" if total else bytes_text(done)
    speed = f", {bytes_text(rate)}/s" if rate else ""
    left = f", {duration_text((total - done) / rate)} left" if rate and total else ""
    return f"{what}: {amount}{speed}{left}"


def bytes_text(count: float) -> str:
    """Bytes as a person says them: 812 kB, 4.2 MB, 171 MB."""
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e7 else f"{count / 1e6:.0f} MB"


def escape_markdown(text: str) -> str:
    """Return Markdown that shows `text` literally, on one line."""
    # gr.Markdown runs no script, but it would fetch an image from any address in a class name or
    # an error message, and it turns everything that looks like an address into a link.
    return MARKDOWN_MARKS.sub(r"\\\1", LINE_BREAKS.sub(" ", text))


def csv_safe(value: Any) -> Any:
    """Return the value; put an apostrophe before text that a spreadsheet would run as a formula."""
    is_formula = isinstance(value, str) and value.startswith(FORMULA_STARTS)
    return f"'{value}" if is_formula else value

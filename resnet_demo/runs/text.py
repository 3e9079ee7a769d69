"""Text for people about runs: the same in the terminal, in worker.log and on the page.

Also the two guards for text of unknown origin: `escape_markdown` and `csv_safe`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from resnet_demo.errors import counted
from resnet_demo.events import Compiled, Embedding, Ended, Epoch, Event, Head, Started, Step
from resnet_demo.files import bytes_text
from resnet_demo.fingerprint import SPLIT_NAMES

# Besides Markdown's own marks: the colon before // and the dot after www, which make links.
MARKDOWN_MARKS = re.compile(r"([\\`*_\[\]<>!&~|$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
LINE_BREAKS = re.compile(r"\s*[\r\n]\s*")
DATASET_CHANGED = "the dataset has changed since training"
FEW_IMAGES = 100  # a share of fewer is shown as a count
# In Excel, LibreOffice and Google Sheets; tab and return are skipped before them.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def event_text(event: Event) -> str:
    """Return an event as one line."""
    if isinstance(event, Started):
        steps = event.epochs * event.steps_per_epoch
        head = f"resumed at step {event.step}" if event.kind == "resumed" else "started"
        note = getattr(event, "message", "")
        return (
            f"{head} on {event.device} in {event.precision}: "
            f"{count_text(event.parameters)} parameters, "
            f"{count_text(event.macs)} multiply-adds per image, {counted(steps, 'step')}"
            + (f"; {note}" if note else "")
        )
    if isinstance(event, Compiled):
        return f"compiled the network in {duration_text(event.seconds)}"
    if isinstance(event, Embedding):
        return (
            f"embedded {event.done:,} of {counted(event.total, 'image')}, "
            f"{event.images_per_s:.0f} images/s"
        )
    if isinstance(event, Head):
        curve = learning_curve_text(event.curve)
        how = f"cross-validation in {event.folds} parts" if event.folds else "validation"
        return (
            f"head: weight decay {event.weight_decay:g}, {how} loss {event.val_loss:.4f}, accuracy "
            f"{accuracy_text(event.val_top1, event.curve[-1][2] if event.curve else 0)}"
            + (f"; {curve}" if curve else "")
        )
    if isinstance(event, Step):
        return (
            f"step {event.step}: loss {event.loss:.4f}, learning rate {event.lr:.4g}, "
            f"{event.images_per_s:.0f} images/s"
        )
    if isinstance(event, Epoch):
        return (
            f"epoch {event.epoch}: train loss {event.train_loss:.4f}, accuracy "
            f"{share_text(event.train_top1, 2)}; val loss {event.val_loss:.4f}, accuracy "
            f"{accuracy_text(event.val_top1, event.val_images)}; {duration_text(event.seconds)}"
        )
    if isinstance(event, Ended):
        kept = ""
        if event.best_val_top1 is not None:
            top1 = accuracy_text(event.best_val_top1, event.val_images)
            # Epoch 0 is the head that was fitted before all layers were trained.
            which = f"epoch {event.best_epoch}" if event.best_epoch else "the head"
            kept = f"; kept {which}, validation accuracy {top1}"
        return f"{event.kind} after {duration_text(event.seconds)}: {event.message}{kept}"
    return event.kind


def learning_curve_text(curve: Sequence[Sequence[int]]) -> str:
    """Return what more training images would bring, as one sentence without its dot.

    Empty without a curve.

    curve: of a `Head` event or the metrics in model.json: for each share of the training images the
    number trained on, of right answers and of answers.
    """
    if len(curve) < 2 or not curve[-1][2]:
        return ""
    (_, half_right, n), (_, right, _) = curve[-2:]
    points = f"{', '.join(f'{c[1]} of {n} right with {c[0]}' for c in curve)} training images: "
    gain = right - half_right
    # Both answer the same images. How many only one of them has right is not known: at most the
    # errors of both, whose root is then the standard error of the gain.
    error = max(1.0, (n - right + n - half_right) ** 0.5)
    if gain > 2 * error:  # outside of what chance explains, 95 times in 100
        return f"{points}twice as many brought {share_text(gain / n)}, so more would help"
    if n < FEW_IMAGES:
        return f"{points}these are too few to say what more would bring"
    return f"{points}twice as many changed little, so more of the same kind may not help"


def count_text(number: float) -> str:
    """Return a number with three significant digits: 1.65 million."""
    for size, word in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if number >= 0.9995 * size:  # rounds to at least 1.00 of this size
            return f"{number / size:.3g}{word}"
    return f"{number:.0f}"


def duration_text(seconds: float) -> str:
    """Return a duration: 42 s, 3 min 05 s, 27 min, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    # Seconds matter below ten minutes only.
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def loss_text(result: dict[str, Any]) -> str:
    """Return the loss of an evaluation; it is None where the network diverged."""
    return "not a number" if result["loss"] is None else f"{result['loss']:.4f}"


def evaluation_text(result: dict[str, Any]) -> str:
    """Return accuracy, its interval, loss and calibration, and one line per class."""
    images = counted(result["n"], "image")
    head = f"{result['run']} on {result['dataset']} {result['split']} ({images}): "
    accuracy = accuracy_text(result["top1"], result["n"])
    head += f"top-1 {accuracy}, {interval_text(result)}; loss {loss_text(result)}"
    lines = [
        f"  {row['label']:<16} precision {precision:>7}  recall {recall:>7}  "
        f"F1 {share_text(row['f1']):>7}  images {row['support']}"
        for row, precision, recall in class_shares(result["per_class"], result["confusion"])
    ]
    # A small test split may lack a class: the mean is then over fewer than all.
    untested = any(not row["support"] for row in result["per_class"])
    over = "the classes with images" if untested else "all classes"
    macro = f"mean F1 over {over} {share_text(result['macro_f1'], 2)}"
    notes = [
        image_notes(result),
        macro,
        calibration_text(result["calibration"]),
        mode_text(result),
    ]
    return "\n".join([head, *filter(None, notes), *lines])


def image_notes(result: dict[str, Any]) -> str:
    """Return what is to be known about the images of a score; empty if there is nothing.

    result: of an evaluation or a robustness measurement.
    """
    notes, count = [], result["trained_on_pictures"]
    if result.get("folds"):
        notes.append(
            f"cross-validation in {result['folds']} parts: each image was predicted by a head that "
            "was fitted without it"
        )
    if result["dataset_changed"]:
        notes.append(DATASET_CHANGED)
    # The training split was trained on by definition, which needs no warning.
    if count and result["split"] != "train":
        images = counted(result["n"], f"{SPLIT_NAMES[result['split']]} image")
        were = "was" if count == 1 else "were"
        notes.append(f"{count:,} of the {images} {were} trained on, so the score may be too good")
    return "note: " + "; ".join(notes) if notes else ""


def accuracy_text(top1: float, n: int) -> str:
    """Return an accuracy over n images: `93.80 %`, or `11 of 12` for few images.

    n: 0 if it is not known, as in the log of an older run. One image of twelve is 8 %: a percentage
    would look more exact than it is.
    """
    is_few = 0 < n < FEW_IMAGES
    return count_of(round(top1 * n), n) if is_few else share_text(top1, 2)


def count_of(count: int, n: int) -> str:
    """Return a part of n images: `11 of 12`, and a dash of none."""
    return f"{count:,} of {n:,}" if n else "–"


def class_shares(
    per_class: Sequence[dict[str, Any]], confusion: Sequence[Sequence[int]]
) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Yield each row with its precision and recall as text, over few images as counts.

    confusion: counts (C, C), true class in rows.
    """
    predicted = [sum(column) for column in zip(*confusion, strict=True)]
    for place, (row, answers) in enumerate(zip(per_class, predicted, strict=True)):
        right, images = confusion[place][place], row["support"]
        precision, recall = share_text(row["precision"]), share_text(row["recall"])
        yield (
            row,
            precision if answers >= FEW_IMAGES else count_of(right, answers),
            recall if images >= FEW_IMAGES else count_of(right, images),
        )


def space_run_text(packed: dict[str, Any]) -> str:
    """Return what a run brings to a Space, from the result of packing it."""
    size, split = bytes_text(packed["weights_bytes"]), SPLIT_NAMES[packed["split"]]
    n = packed["n"]
    top1, exact = (accuracy_text(packed[name], n) for name in ("top1", "top1_float32"))
    before = f" (in float32 {exact})" if packed["weights"] == "float16" else ""
    return (
        f"{size} of weights in {packed['weights']}; accuracy on {n:,} {split} images {top1}{before}"
    )


def share_text(share: float | None, digits: int = 1) -> str:
    """Return a share in percent: `94.3 %`; for None, as the recall without images, a dash.

    The one style of percentages, in the terminal, on the page and in exports.
    """
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def interval_text(result: dict[str, Any]) -> str:
    """Return the 95 % confidence interval of the accuracy."""
    return f"95 % interval {share_range(*result['interval'], result['n'])}"


def share_range(low: float, high: float, n: int) -> str:
    """Return an interval of a share of n images, in percent: of few images without decimals."""
    digits = 2 if n >= FEW_IMAGES else 0
    return f"{share_text(low, digits)} to {share_text(high, digits)}"


def calibration_text(calibration: dict[str, Any]) -> str:
    """Return mean confidence and calibration error, and the accuracy unless images are few."""
    n = sum(calibration["count"])
    if not n:
        return "calibration unknown: no prediction is a number"
    confidence, accuracy = (
        sum(count * mean for count, mean in zip(calibration["count"], means, strict=True)) / n
        for means in (calibration["confidence"], calibration["accuracy"])
    )
    # The accuracy is printed here only to be compared with the confidence.
    digits, beside = (2, f", accuracy {share_text(accuracy, 2)}") if n >= FEW_IMAGES else (0, "")
    return (
        f"mean confidence {share_text(confidence, digits)}{beside}, "
        f"calibration error {share_text(calibration['error'], digits)}"
    )


def mode_text(result: dict[str, Any]) -> str:
    """Return how a test-time mode compares with plain; empty for plain itself."""
    plain = result["beside"]
    if plain is None:
        return ""
    n = result["n"]
    return (
        f"mode {result['mode']}: {points_text(result['top1'] - plain['top1'], n)} plain "
        f"({accuracy_text(plain['top1'], n)}, loss {loss_text(plain)})"
    )


def points_text(difference: float, n: int) -> str:
    """Return a difference of two shares of n images, to be followed by the second.

    `1.25 points above`, and of few images `2 images above`.
    """
    if not difference:
        return "equal to"
    if n < FEW_IMAGES:
        images = counted(round(abs(difference) * n), "image")
        return f"{images} {'above' if difference > 0 else 'below'}"
    return f"{abs(difference) * 100:.2f} points {'above' if difference > 0 else 'below'}"


def comparison_text(against: dict[str, Any]) -> str:
    """Return the comparison of two runs on the same images, as in an evaluation's `against`."""
    first, second = against["first"], against["second"]
    notes = image_notes(against)
    n = against["n"]
    return (
        f"{first} is {points_text(against['difference'], n)} {second} "
        f"({accuracy_text(against['top1_second'], n)}): only {first} is right on "
        f"{counted(len(against['only_first']), 'image')}, only {second} on "
        f"{counted(len(against['only_second']), 'image')}\n"
        f"{chance_text(against['p'])} (McNemar's exact test)"
        + (f"\n{second}: {notes}" if notes else "")
    )


def chance_text(p: float) -> str:
    """Return the meaning of a p-value of McNemar's exact test."""
    share = "fewer than 0.01 %" if p < 1e-4 else share_text(p, 2)  # not 0.00 %
    return f"two equally good networks would differ as much or more in {share} of such tests"


def robustness_text(result: dict[str, Any], interval: tuple[float, float]) -> str:
    """Return the accuracy under each corruption, one line per kind.

    interval: the 95 % interval of the accuracy on undamaged images.
    """
    n = result["n"]
    head = (
        f"{result['run']} on damaged images, strengths 1 to 5 ({counted(n, 'image')}; undamaged "
        f"{accuracy_text(result['top1'], n)}, 95 % interval {share_range(*interval, n)}):"
    )
    few = n < FEW_IMAGES
    lines = [
        f"  {kind:<16}"
        + "".join(f"{count_of(round(top1 * n), n) if few else share_text(top1):>9}" for top1 in row)
        for kind, row in result["kinds"].items()
    ]
    notes = image_notes(result)
    return "\n".join([head, *([notes] if notes else []), *lines])


def epoch_lines(snapshot: dict[str, Any]) -> Iterator[str]:
    """Yield one line per epoch of a run's snapshot (`Snapshot.to_dict`)."""
    for row in snapshot["history"]:
        yield (
            f"  epoch {row['epoch']}: train loss {row['train_loss']:.4f} top-1 "
            f"{share_text(row['train_top1'], 2)}, val loss {row['val_loss']:.4f} top-1 "
            f"{accuracy_text(row['val_top1'], row['val_images'])}"
        )


# `info` is a DatasetInfo. Its module loads numpy, which would slow the start of the command line.
def dataset_text(info: Any) -> str:
    """Return one line about a DatasetInfo."""
    square = "" if info.fit == "crop" else f", made square by {info.fit}"
    return (
        f"{info.name}: {split_counts(info)} images of {info.size} pixels{square}, "
        f"{len(info.classes)} classes; {info.source}"
    )


def split_counts(info: Any) -> str:
    """Return the number of images of each split of a DatasetInfo."""
    validation = f", {info.val:,} validation" if info.val else ""
    test = f"{info.test:,}" if info.test else "no"
    return f"{info.train:,} training{validation} and {test} test"


def dataset_lines(info: Any, counts: dict[str, dict[str, int]]) -> Iterator[str]:
    """Yield one line per class, and the statistics of the training pixels."""
    names = {"train": "training", "val": "validation", "test": "test"}
    for label in info.classes:
        row = (f"{per_class[label]:>7,} {names[split]}" for split, per_class in counts.items())
        yield f"  {label:<16} {' '.join(row)}"
    mean, std = (" ".join(f"{value:.4f}" for value in triple) for triple in (info.mean, info.std))
    yield f"  mean {mean}, std {std} (training pixels, 0 to 1)"
    if info.skipped_count:
        yield f"  skipped as unreadable: {info.skipped_count:,}, such as {info.skipped[0]}"


def transfer_text(what: str, done: int, total: int | None, unit: str, rate: float) -> str:
    """Return the progress of a transfer, with its rate and remaining time.

    unit: "bytes", or the name of what is counted; "" to show only the percentage.
    rate: in units per second, 0 if unknown.
    """
    if not unit:
        return f"{what} ({share_text(done / total, 0)})" if total else what
    if unit != "bytes":
        return f"{what}: {done:,} of {total:,} {unit}" if total else what
    amount = f"{bytes_text(done)} of {bytes_text(total)}" if total else bytes_text(done)
    speed = f", {bytes_text(rate)}/s" if rate else ""
    left = f", {duration_text((total - done) / rate)} left" if rate and total else ""
    return f"{what}: {amount}{speed}{left}"


def escape_markdown(text: str) -> str:
    """Return Markdown that shows `text` literally, on one line."""
    # gr.Markdown runs no script, but it would fetch an image from any address in a class name or
    # an error message, and it turns everything that looks like an address into a link.
    return MARKDOWN_MARKS.sub(r"\\\1", LINE_BREAKS.sub(" ", text))


def error_note(error: Exception) -> str:
    """Return an error as a sentence for the page (Markdown)."""
    text = str(error)
    if text.partition(" ")[0].isalpha():  # a file or a setting keeps its name
        text = text[:1].upper() + text[1:]
    return f"⚠ {escape_markdown(text.rstrip('.'))}."


def csv_safe(value: Any) -> Any:
    """Return the value; put an apostrophe before text that a spreadsheet would run as a formula."""
    is_formula = isinstance(value, str) and value.startswith(FORMULA_STARTS)
    return f"'{value}" if is_formula else value

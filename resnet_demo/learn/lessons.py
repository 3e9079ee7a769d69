"""Lessons of the Learn tab: the configs of the runs of each, and the range test. No torch here.

An arm is one variant in a group of runs. Each arm has one run per seed; runs with the same seed see
the same images in the same order in every arm.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.config import TrainConfig, make_config
from resnet_demo.errors import ConfigError, one_of
from resnet_demo.runs.groups import read_membership
from resnet_demo.runs.store import Run

if TYPE_CHECKING:  # numpy, which the command line does not load for its help
    from resnet_demo.data.info import DatasetInfo

Arms = list[tuple[str, TrainConfig]]

KINDS = ("duel", "gradient", "vgg", "bugs", "range", "transfer")
MAX_SEEDS = 5
MAX_RUNS = 40  # each waiting run is a process
PROBE_EVERY = 2  # steps, in the lesson on gradients
MIN_STEPS, MAX_STEPS = 20, 2000  # of a range test
VGG_LR = 0.02  # at the recipe's 0.1, VGG-16 is at chance level after three epochs
SMALL_TRAINING = {"train_images": 5_000, "val_share": 0.04}  # 2,000 validation images

BUGS: dict[str, tuple[str, dict[str, Any]]] = {
    "training mode": (
        "validation in training mode: BatchNorm normalizes by the batch",
        {"validate_in_training_mode": True},
    ),
    "deviation": ("normalizing by the mean of per-image deviations", {"per_image_std": True}),
    "upsampling": ("scaling images from 32 to 64 pixels", {"image_size": 64}),
    "no augmentation": ("no flip and no crop", {"flip": False, "crop": 0}),
    "decay": ("weight decay on BatchNorm and biases too", {"decay_all": True}),
    "garbage": ("gc.collect() and empty_cache() after every step", {"collect_garbage": True}),
    "last batch": ("reporting the last batch's loss as the epoch's", {"report_last_batch": True}),
}
BASELINE_ARM = "none"  # the arm without a bug

PER_CLASS = (10, 30, 100, 300)  # training images of a class, in the lesson on transfer
SCRATCH, TRANSFER = "scratch", "transfer"  # an arm is one of these, and the images of a class
LEARNERS: dict[str, dict[str, Any]] = {
    SCRATCH: {"recipe": "quick", "peak_lr": 0.1, "keep": "last"},
    # Smaller than the recipe's images: half the time.
    TRANSFER: {"recipe": "transfer", "image_size": 160},
}
FEW_IMAGES = {"val_share": 0.01, "stratify": True}  # 500 validation images of CIFAR-10


def is_experiment(run: Run) -> bool:
    """Return whether a lesson made the run: an own experiment, or a recording.

    Lists of runs leave these out unless they are asked for.
    """
    if run.is_recording:
        return True
    member = read_membership(run)
    return member is not None and member.kind in KINDS


def duel_arms(depths: Sequence[int], seeds: int, fields: Mapping[str, Any]) -> Arms:
    """Return the arms of the duel: a plain and a residual network of each depth.

    Raises ConfigError for no depth or an unknown one, and as `make_arms`.
    """
    if not depths:
        raise ConfigError("choose at least one depth, got none", "depths")
    for depth in depths:
        if depth not in CIFAR_DEPTHS:
            raise ConfigError.rule("depths", one_of(map(str, CIFAR_DEPTHS)), depth)
    # By depth, so that the first pair can be compared while deeper ones still train.
    names = [f"{kind}{depth}" for depth in sorted(depths) for kind in ("plain", "resnet")]
    return make_arms({name: {"model": name} for name in names}, seeds, fields)


def gradient_arms(depth: int, seeds: int, fields: Mapping[str, Any]) -> Arms:
    """Return plain without BatchNorm, plain, and residual, with probes every second step.

    Raises ConfigError for an unknown depth, and as `make_arms`.
    """
    if depth not in CIFAR_DEPTHS:
        raise ConfigError.rule("depth", one_of(map(str, CIFAR_DEPTHS)), depth)
    # Small: what happens to gradients shows in the first steps.
    common = {**SMALL_TRAINING, "epochs": 2, "probe_every": PROBE_EVERY, **fields}
    networks = {
        "plain without BatchNorm": {"model": f"plain{depth}", "batch_norm": False},
        "plain": {"model": f"plain{depth}"},
        "residual": {"model": f"resnet{depth}"},
    }
    return make_arms(networks, seeds, common)


def vgg_arms(seeds: int, fields: Mapping[str, Any]) -> Arms:
    """Return VGG-16 and ResNet-18 with the same config."""
    networks = {"vgg16": {"model": "vgg16"}, "resnet18": {"model": "resnet18"}}
    return make_arms(networks, seeds, {"peak_lr": VGG_LR, **fields})


def bug_arms(chosen: Sequence[str], seeds: int, fields: Mapping[str, Any]) -> Arms:
    """Return a small correct training, and one with each chosen bug alone.

    chosen: keys of BUGS. Raises ConfigError for none or an unknown one, and as `make_arms`.
    """
    if not chosen:
        raise ConfigError("choose at least one switch, got none", "bugs")
    for name in chosen:
        if name not in BUGS:
            raise ConfigError.rule("bugs", one_of(BUGS), name)
    faults = {name: BUGS[name][1] for name in BUGS if name in chosen}  # in the order of the page
    # The smallest network: more pairs in the same time give a narrower interval.
    common = {**SMALL_TRAINING, "model": "resnet8", "epochs": 4, **fields}
    return make_arms({BASELINE_ARM: {}, **faults}, seeds, common)


def transfer_arms(
    per_class: Sequence[int],
    seeds: int,
    fields: Mapping[str, Any],
    info: "DatasetInfo | None" = None,
) -> Arms:
    """Return, for each number of images a class, a training from scratch and one by transfer.

    info: of the dataset, if it is on this machine. Raises ConfigError for no number or an
    impossible one, and as `make_arms`.
    """
    if not per_class:
        raise ConfigError("choose at least one number of images, got none", "per_class")
    # Without the dataset: CIFAR-10's numbers, which the lesson is about.
    classes, most = (len(info.classes), info.train // len(info.classes)) if info else (10, 5000)
    for count in per_class:
        if type(count) is not int or not 2 <= count <= most:
            raise ConfigError.rule("per_class", f"whole numbers from 2 to {most}", count)
    arms = {
        arm_name(learner, count): {
            **FEW_IMAGES,
            **settings,
            **(scratch_steps(count) if learner == SCRATCH else {}),
            **fields,
            # Last: the number of images is what the arms differ in.
            "train_images": count * classes,
        }
        for count in sorted(per_class)
        for learner, settings in LEARNERS.items()
    }
    return make_arms(arms, seeds, fields)


def scratch_steps(count: int) -> dict[str, int]:
    """Return epochs and batch size of a training from scratch on so many images a class.

    Fewer images need more epochs and smaller batches to get enough steps: 160 steps at 10 images of
    each of ten classes (40 epochs), 390 at 300 (13 epochs).
    """
    epochs = max(2, round(40 * (10 / count) ** (1 / 3)))
    return {"epochs": epochs, "batch_size": min(100, max(25, count // 2))}


def arm_name(learner: str, count: int) -> str:
    """Return the name of an arm of the lesson on transfer: `scratch 10`."""
    return f"{learner} {count}"


def parse_arm(arm: str) -> tuple[str, int] | None:
    """Return learner and images a class of an `arm_name`; None for any other text."""
    learner, _, count = arm.partition(" ")
    is_known = learner in LEARNERS and count.isdecimal() and count.isascii()
    return (learner, int(count)) if is_known else None


def range_arms(steps: int, fields: Mapping[str, Any], info: "DatasetInfo | None" = None) -> Arms:
    """Return one run whose learning rate rises from step to step.

    info: of the dataset, if it is on this machine. With few images it takes several epochs to get
    as many steps.

    Raises:
        ConfigError: an invalid field or number of steps.
    """
    # numpy, which the command line does not load for its help.
    from resnet_demo.data.splits import split_sizes

    if type(steps) is not int or not MIN_STEPS <= steps <= MAX_STEPS:
        rule = f"a whole number from {MIN_STEPS} to {MAX_STEPS}"
        raise ConfigError.rule("steps", rule, steps)
    # Nearly all images are trained on: the test looks at the training loss only.
    config = make_config({"recipe": "paper", "epochs": 1, "val_share": 0.01, **fields})
    wanted = steps * config.batch_size
    images = split_sizes(config, info.train, info.val)[0] if info else wanted
    passes = math.ceil(wanted / images)
    rising = replace(
        config,
        schedule="range-test",
        peak_lr=10.0,  # the rate of the last step: five decades above the first
        warmup_epochs=0.0,
        epochs=max(config.epochs, passes),
        train_images=min(images, math.ceil(steps / passes) * config.batch_size),
    )
    return [("range test", rising)]


def make_arms(
    settings: Mapping[str, Mapping[str, Any]], seeds: int, fields: Mapping[str, Any]
) -> Arms:
    """Return a config for each arm and seed. settings: arm -> fields that it sets.

    Raises:
        ConfigError: an invalid field, or too many seeds or runs.
    """
    if type(seeds) is not int or not 1 <= seeds <= MAX_SEEDS:
        raise ConfigError.rule("seeds", f"a whole number from 1 to {MAX_SEEDS}", seeds)
    if len(settings) * seeds > MAX_RUNS:
        raise ConfigError.rule("runs", f"at most {MAX_RUNS} in a group", len(settings) * seeds)
    base = {"recipe": "paper", **fields}
    first = make_config(base).seed
    # Seed by seed, so that complete pairs exist early.
    return [
        (arm, make_config({**base, **own, "seed": first + number}))
        for number in range(seeds)
        for arm, own in settings.items()
    ]


SMOOTHING = 0.9  # decay per step of the exponential moving average
DIVERGED = 4.0  # times the lowest loss; points after that are meaningless
SUGGESTION_DIVISOR = 10  # the suggested rate is the rate of the lowest loss divided by this
WARM_UP_STEPS = 10  # before the lowest loss counts, because the average has to settle
LEARNED = 0.97  # of the loss of guessing; the smoothed loss varies by less than the rest


@dataclass(frozen=True)
class RangeTest:
    """The result of all steps of a range test.

    points: (learning rate, smoothed loss in nats), up to where the loss diverged. lowest: the point
    of the lowest loss, None with too few steps. guessing: the loss that a network had to beat.
    suggested: a tenth of the lowest point's rate, to two digits; None if nothing was learned.
    """

    points: list[tuple[float, float]]
    lowest: tuple[float, float] | None
    guessing: float | None
    suggested: float | None
    diverged: bool


def analyze_range_test(
    steps: Sequence[tuple[float, float]], guessing: float | None = None
) -> RangeTest:
    """Analyze the (learning rate, loss) of each step, in order.

    guessing: see `guessing_loss`; if it is not known, the loss of the first steps, whose rates are
    too small to change anything.
    """
    points: list[tuple[float, float]] = []
    average, lowest, diverged = 0.0, None, False
    for n, (rate, loss) in enumerate(steps, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smooth = average / (1 - SMOOTHING**n)  # corrects the bias of starting at 0
        points.append((rate, smooth))
        if n >= WARM_UP_STEPS and (lowest is None or smooth < lowest[1]):
            lowest = points[-1]
        diverged = lowest is not None and smooth > DIVERGED * lowest[1]
        if diverged:
            break
    if lowest is None:
        return RangeTest(points, None, guessing, None, False)
    if guessing is None:
        guessing = points[WARM_UP_STEPS - 1][1]
    # A loss that only falls to that of guessing has a lowest point too, at a meaningless rate.
    has_learned = lowest[1] < LEARNED * guessing
    suggested = suggest_rate(lowest[0]) if has_learned else None
    return RangeTest(points, lowest, guessing, suggested, diverged)


def guessing_loss(class_counts: Sequence[int]) -> float:
    """Return the loss in nats of always answering with the share of each class.

    It is the entropy of these shares: ln 10 for ten classes with as many images each.
    """
    total = sum(class_counts)
    shares = [count / total for count in class_counts if count]
    return -sum(share * math.log(share) for share in shares)


def suggest_rate(rate: float) -> float:
    """Return a tenth of the rate, to two digits."""
    value = rate / SUGGESTION_DIVISOR
    digits = 1 - math.floor(math.log10(value))
    return round(value, digits)

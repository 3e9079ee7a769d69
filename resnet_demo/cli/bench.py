"""`bench`: how fast training and answering are here, how good the results, what could be done."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any

from resnet_demo.bench import text as words
from resnet_demo.cli.common import find, flag, tell, verb, whole
from resnet_demo.config import TrainConfig, make_config, parse
from resnet_demo.paths import Paths
from resnet_demo.tasks.process_setup import configure_process

WORK = (  # the knobs that decide what a step costs
    "recipe", "dataset", "model", "stem", "batch_norm", "image_size", "batch_size", "optimizer",
    "flip", "crop", "cutout", "precision",
)  # fmt: skip
AGAINST = {
    **{"article": ("article",), "loader": ("loader",), "both": ("article", "loader")},
    "probed": ("probed",),
    "compiled": ("compiled",),
}


def add(verbs: Any) -> None:
    """The verb, its kinds and their flags."""
    help = "measure throughput, time to accuracy, and the machine"
    kinds = verbs.add_parser("bench", help=help, description=help.capitalize() + ".")
    kinds = kinds.add_subparsers(dest="what", required=True, metavar="WHAT")
    each = "for each loop in each round"
    parser = one_kind(kinds, "throughput", throughput, "images/s, against other loops", WORK, each)
    parser.add_argument("--rounds", type=whole, default=3, help="that count, 3; one warms up")
    parser.add_argument(
        "--against",
        choices=tuple(AGAINST),
        default="both",
        help="whose loop (both); or its own, probed or compiled",
    )
    knobs = tuple(knob.name for knob in fields(TrainConfig) if knob.name != "seed")
    each = "for the reference network before each seed"
    help = "training time and test top-1 over seeds"
    parser = one_kind(kinds, "accuracy", accuracy, help, knobs, each)
    parser.add_argument("--seeds", type=whole, default=5, help="how many, from 0 on; 5")
    each = "for each network"
    knobs = tuple(name for name in WORK if name != "model")
    help = "share of the machine's best rates that training reaches"
    parser = one_kind(kinds, "roofline", roofline, help, knobs, each)
    parser.add_argument(
        "--model", nargs="+", default=["resnet9", "resnet18"], metavar="NAME",
        help="one network or several (resnet9 resnet18)",
    )  # fmt: skip

    add_of_a_run(kinds)


def add_of_a_run(kinds: Any) -> None:
    """What is measured of networks that were trained already."""
    help = "seconds to an answer about a picture"
    parser = verb(kinds, "classify", classify, help)
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a trained one (resnet20 with its first weights)"
    )
    parser.add_argument("--rounds", type=whole, default=30, help="that count, 30; three warm up")
    parser.add_argument("--fresh", type=whole, default=3, help="processes of their own, 3")
    help = "how well a run notices pictures of something else"
    parser = verb(kinds, "outside", outside, help)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument(
        "--images", type=images, default=2000, metavar="N", help="of each kind (2000; 2 to 100000)"
    )


def images(text: str) -> int:
    """How many images to look at."""
    if not text.isdecimal() or not 2 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"must be a whole number from 2 to 100000, got {text!r}")
    return int(text)


def one_kind(
    kinds: Any, name: str, do: Callable, help: str, knobs: tuple[str, ...], each: str
) -> argparse.ArgumentParser:
    """A parser with the flags of those knobs, and how long to measure."""
    parser = verb(kinds, name, do, help)
    parser.allow_abbrev = False  # --seed is not --seeds
    for knob in fields(TrainConfig):
        if knob.name in knobs:
            parser.add_argument(f"--{knob.name.replace('_', '-')}", **flag(knob))
    parser.add_argument(
        "--seconds", type=duration, default=10.0, metavar="X", help=f"{each} (10; 0.01 to 3600)"
    )
    return parser


def duration(text: str) -> float:
    """Seconds to measure for."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.01 <= seconds <= 3600:  # NaN too
        raise argparse.ArgumentTypeError(f"must be seconds from 0.01 to 3600, got {text!r}")
    return seconds


def throughput(asked: argparse.Namespace, paths: Paths) -> None:
    """One object."""
    from resnet_demo.data.store import Datasets

    datasets = Datasets(paths.data)
    config = make_config(knobs_of(asked, datasets))
    with alone(paths):
        from resnet_demo.bench.throughput import throughput as measure

        result = measure(config, datasets, AGAINST[asked.against], asked.seconds, asked.rounds)
    tell(result, "\n".join(words.throughput_lines(result)), asked.json)


def accuracy(asked: argparse.Namespace, paths: Paths) -> None:
    """A line a seed, and one for all."""
    from resnet_demo.data.store import Datasets

    datasets = Datasets(paths.data)
    config = make_config(knobs_of(asked, datasets))
    with alone(paths):
        from resnet_demo.bench.accuracy import accuracy as measure

        for row in measure(config, datasets, asked.seeds, asked.seconds):
            tell(row, "\n".join(words.accuracy_lines(row)), asked.json)


def roofline(asked: argparse.Namespace, paths: Paths) -> None:
    """A line for the machine, and one a network."""
    from resnet_demo.data.store import Datasets

    datasets = Datasets(paths.data)
    knobs = knobs_of(asked, datasets)
    configs = [make_config({**knobs, "model": model}) for model in asked.model]
    with alone(paths):
        from resnet_demo.bench.roofline import roofline as measure

        for row in measure(configs, datasets, asked.seconds):
            tell(row, words.roofline_line(row), asked.json)


def classify(asked: argparse.Namespace, paths: Paths) -> None:
    """One object."""
    from resnet_demo.runs.store import Runs

    run = None if asked.run is None else find(Runs(paths), asked.run)
    with alone(paths):
        from resnet_demo.bench.latency import latency, untrained

        with untrained() if run is None else nullcontext(run) as measured:
            result = latency(measured, asked.rounds, asked.fresh)
    tell(result, "\n".join(words.latency_lines(result)), asked.json)


def outside(asked: argparse.Namespace, paths: Paths) -> None:
    """One object."""
    from resnet_demo.data.store import Datasets
    from resnet_demo.runs.store import Runs

    run = find(Runs(paths), asked.run)
    with alone(paths):
        from resnet_demo.bench.ood import outside as measure

        result = measure(run, Datasets(paths.data), asked.images)
    tell(result, "\n".join(words.outside_lines(result)), asked.json)


def knobs_of(asked: argparse.Namespace, datasets: Any) -> dict[str, Any]:
    """The knobs that were given; where no dataset was, cifar10, or shapes10 if that is not here."""
    given = {knob.name: getattr(asked, knob.name, None) for knob in fields(TrainConfig)}
    knobs = {name: parse(name, text) for name, text in given.items() if isinstance(text, str)}
    here = "cifar10" if "cifar10" in datasets.names() else "shapes10"
    return {"dataset": here, **knobs}


@contextmanager
def alone(paths: Paths) -> Iterator[None]:
    """While no run trains on this device: a queued one waits, one that trains is told of."""
    configure_process()  # as a worker trains
    from resnet_demo.tasks.status import take

    paths.runs.mkdir(parents=True, exist_ok=True)
    lock = take(paths.runs / ".device.lock")
    if lock is None:
        print("resnet_demo bench: a run trains here now, and slows this down", file=sys.stderr)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)

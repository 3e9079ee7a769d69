"""The verb `bench`: measure speed, accuracy over seeds, and the limits of this machine."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any

from resnet_demo.bench import text as bench_text
from resnet_demo.cli.common import (
    Parser,
    add_field_options,
    add_verb,
    count_argument,
    field_names,
    print_result,
)
from resnet_demo.config import TrainConfig, make_config, parse_field
from resnet_demo.file_locks import release_lock, try_lock
from resnet_demo.paths import Paths
from resnet_demo.tasks.locks import DEVICE_LOCK
from resnet_demo.tasks.process_setup import configure_process

STEP_FIELDS = (  # the fields that decide what a training step costs
    "recipe",
    "dataset",
    "model",
    "stem",
    "batch_norm",
    "image_size",
    "batch_size",
    "optimizer",
    "flip",
    "crop",
    "cutout",
    "crop_area",
    "rotation",
    "colour_jitter",
    "precision",
)
LOOPS = {  # value of --against -> the loops to compare with
    "article": ("article",),
    "loader": ("loader",),
    "both": ("article", "loader"),
    "probed": ("probed",),
    "compiled": ("compiled",),
}


def add(verbs: Any) -> None:
    """Add the verb, its measurements and their options."""
    help = "measure speed, accuracy over seeds, and the limits of this machine"
    bench = verbs.add_parser("bench", help=help, description=help.capitalize() + ".")
    kinds = bench.add_subparsers(dest="measurement", required=True, metavar="MEASUREMENT")
    add_throughput(kinds)
    add_accuracy(kinds)
    add_roofline(kinds)
    add_classify(kinds)
    add_ood(kinds)
    add_waits(kinds)


def add_throughput(kinds: Any) -> None:
    """Add `bench throughput`."""
    help = "measure training images per second beside other training loops"
    parser = add_training(kinds, "throughput", run_throughput, help, STEP_FIELDS)
    add_seconds(parser, "seconds per loop and round")
    parser.add_argument(
        "--rounds",
        type=count_argument,
        default=3,
        metavar="N",
        help="measured rounds, after one to warm up (default 3)",
    )
    parser.add_argument(
        "--against",
        choices=tuple(LOOPS),
        default="both",
        help="loop to compare with: the tutorial's (article), a DataLoader (loader), both, or this "
        "program's own with probes (probed) or compiled (default both)",
    )


def add_accuracy(kinds: Any) -> None:
    """Add `bench accuracy`."""
    help = "train with several seeds and report time and test accuracy"
    names = [name for name in field_names() if name != "seed"]  # --seeds counts them
    parser = add_training(kinds, "accuracy", run_accuracy, help, names)
    add_seconds(parser, "seconds for the reference network before each seed")
    parser.add_argument(
        "--seeds",
        type=count_argument,
        default=5,
        metavar="N",
        help="number of seeds, counted from 0 (default 5)",
    )


def add_roofline(kinds: Any) -> None:
    """Add `bench roofline`."""
    help = "compare training speed with the highest arithmetic rate of this machine"
    names = [name for name in STEP_FIELDS if name != "model"]
    parser = add_training(kinds, "roofline", run_roofline, help, names)
    add_seconds(parser, "seconds per network")
    parser.add_argument(
        "--model",
        nargs="+",
        default=["resnet9", "resnet18"],
        metavar="NAME",
        help="one network or several (default resnet9 resnet18)",
    )


def add_classify(kinds: Any) -> None:
    """Add `bench classify`."""
    parser = add_verb(kinds, "classify", run_classify, "measure the time to classify one picture")
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a trained run (default: an untrained resnet20)"
    )
    parser.add_argument(
        "--rounds",
        type=count_argument,
        default=30,
        metavar="N",
        help="measured pictures, after three to warm up (default 30)",
    )
    parser.add_argument(
        "--fresh",
        type=count_argument,
        default=3,
        metavar="N",
        help="new processes in which the first picture is measured (default 3)",
    )


def add_ood(kinds: Any) -> None:
    """Add `bench ood`, whose name was `outside` before."""
    help = "measure how well a run detects pictures of other things (out-of-distribution)"
    parser = add_verb(kinds, "ood", run_ood, help, aliases=("outside",))
    parser.add_argument("run", metavar="RUN", help="a trained run")
    parser.add_argument(
        "--images",
        type=image_count_argument,
        default=2000,
        metavar="N",
        help="images of each kind (2 to 100000; default 2000)",
    )
    parser.add_argument(
        "--others",
        default="",
        metavar="NAME",
        help="a dataset, of which the classes that the run does not know are tried, too",
    )


def add_waits(kinds: Any) -> None:
    """Add `bench waits`."""
    help = "start the app and measure how long a person waits for it"
    parser = add_verb(kinds, "waits", run_waits, help)
    parser.add_argument(
        "--rounds",
        type=count_argument,
        default=5,
        metavar="N",
        help="how often everything is measured, about a minute each (default 5)",
    )
    parser.add_argument(
        "--pictures",
        type=image_count_argument,
        default=0,
        metavar="N",
        help="also import so many PNG files (2 to 100000; default none)",
    )


def add_training(
    kinds: Any, name: str, handler: Callable, help: str, names: tuple[str, ...] | list[str]
) -> Parser:
    """Add a measurement that trains, with options for these fields of TrainConfig."""
    parser = add_verb(kinds, name, handler, help)
    parser.allow_abbrev = False  # else argparse takes --seed for --seeds
    add_field_options(parser, names)
    return parser


def add_seconds(parser: Parser, help: str) -> None:
    """Add the option that decides how long to measure."""
    parser.add_argument(
        "--seconds",
        type=seconds_argument,
        default=10.0,
        metavar="X",
        help=f"{help} (0.01 to 3600; default 10)",
    )


def image_count_argument(text: str) -> int:
    """Parse a whole number from 2 to 100000."""
    # isdecimal refuses a sign, spaces and underscores, which int() accepts.
    if not text.isdecimal() or not 2 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"must be a whole number from 2 to 100000, got {text!r}")
    return int(text)


def seconds_argument(text: str) -> float:
    """Parse a duration from 0.01 to 3600 s."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 3600:  # NaN fails too
        raise argparse.ArgumentTypeError(f"must be seconds from 0.01 to 3600, got {text!r}")
    return value


def run_throughput(args: argparse.Namespace, paths: Paths) -> None:
    """Print one result."""
    from resnet_demo.data.store import Datasets

    datasets = Datasets(paths.data)
    config = make_config(field_values(args, datasets))
    with device_reserved(paths):  # first: it sets up the process before torch is imported
        from resnet_demo.bench.throughput import measure_throughput as measure

        result = measure(config, datasets, LOOPS[args.against], args.seconds, args.rounds)
    print_result(result, "\n".join(bench_text.throughput_lines(result)), args.json)


def run_accuracy(args: argparse.Namespace, paths: Paths) -> None:
    """Print a result for each seed, and a summary."""
    from resnet_demo.data.store import Datasets

    datasets = Datasets(paths.data)
    config = make_config(field_values(args, datasets))
    with device_reserved(paths):
        from resnet_demo.bench.accuracy import measure_accuracy as measure

        for row in measure(config, datasets, args.seeds, args.seconds):
            print_result(row, "\n".join(bench_text.accuracy_lines(row)), args.json)


def run_roofline(args: argparse.Namespace, paths: Paths) -> None:
    """Print a result for the machine, and one for each network."""
    from resnet_demo.data.store import Datasets

    datasets = Datasets(paths.data)
    values = field_values(args, datasets)
    configs = [make_config({**values, "model": model}) for model in args.model]
    with device_reserved(paths):
        from resnet_demo.bench.roofline import measure_roofline as measure

        for row in measure(configs, datasets, args.seconds):
            print_result(row, bench_text.roofline_line(row), args.json)


def run_classify(args: argparse.Namespace, paths: Paths) -> None:
    """Print one result."""
    from resnet_demo.runs.store import Runs

    run = None if args.run is None else Runs(paths).find(args.run)
    with device_reserved(paths):
        from resnet_demo.bench.latency import measure_latency, untrained_run

        # The time does not depend on the weights, so no training is needed to measure it.
        with untrained_run() if run is None else nullcontext(run) as measured:
            result = measure_latency(measured, args.rounds, args.fresh)
    print_result(result, "\n".join(bench_text.latency_lines(result)), args.json)


def run_ood(args: argparse.Namespace, paths: Paths) -> None:
    """Print one result."""
    from resnet_demo.data.store import Datasets
    from resnet_demo.runs.store import Runs

    run = Runs(paths).find(args.run)
    with device_reserved(paths):
        from resnet_demo.bench.ood import measure_ood as measure

        result = measure(run, Datasets(paths.data), args.images, others=args.others)
    print_result(result, "\n".join(bench_text.ood_lines(result)), args.json)


def run_waits(args: argparse.Namespace, paths: Paths) -> None:
    """Print one result."""
    from resnet_demo.bench.waits import measure_waits

    with runs_waiting(paths):
        # This process only starts others and looks at them: it is not set up for torch.
        result = measure_waits(paths, args.rounds, args.pictures)
    print_result(result, "\n".join(bench_text.waits_lines(result)), args.json)


def field_values(args: argparse.Namespace, datasets: Any) -> dict[str, Any]:
    """Return the fields given as options, and the dataset: cifar10 if it is here, else shapes10."""
    given = {field.name: getattr(args, field.name, None) for field in fields(TrainConfig)}
    values = {
        name: parse_field(name, text) for name, text in given.items() if isinstance(text, str)
    }
    # shapes10 is drawn: a benchmark needs no download.
    dataset = "cifar10" if "cifar10" in datasets.names() else "shapes10"
    return {"dataset": dataset, **values}


@contextmanager
def device_reserved(paths: Paths) -> Iterator[None]:
    """Set up this process as a worker, and let queued runs wait, until the block ends."""
    configure_process()  # a benchmark must use the threads and the memory as a worker does
    with runs_waiting(paths):
        yield


@contextmanager
def runs_waiting(paths: Paths) -> Iterator[None]:
    """Hold the device lock, so that queued runs wait; warn on standard error if a run trains."""
    # A fresh checkout has no folder for the lock.
    paths.runs.mkdir(parents=True, exist_ok=True)
    lock = try_lock(paths.runs / DEVICE_LOCK)
    if lock is None:
        message = "a run is training on this device, so the results will be slower"
        print(f"resnet_demo bench: {message}", file=sys.stderr)
    try:
        yield
    finally:
        if lock is not None:
            release_lock(lock)

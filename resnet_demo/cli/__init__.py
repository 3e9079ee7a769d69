"""python -m resnet_demo VERB: the same functions the page calls, for a terminal and for programs.

With --json, one JSON object a line on standard output and nothing else there. Exit code 0 done,
2 a mistake in what was asked, 1 a failure, 130 stopped.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn

from resnet_demo import __version__
from resnet_demo.config import RECIPES, TrainConfig, make_config, one_of, parse
from resnet_demo.errors import ConfigError, DemoError, NotFoundError, StoppedError
from resnet_demo.events import Event, to_dict
from resnet_demo.places import Places
from resnet_demo.runs.words import dataset_text, epoch_lines, evaluation_text, in_words


class Parser(argparse.ArgumentParser):
    """One line on standard error for a mistake, not the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Exit 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def main(argv: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code."""
    asked = make_parser().parse_args(argv)
    try:
        return asked.do(asked, Places.from_environment()) or 0
    except DemoError as error:
        print(f"resnet_demo {asked.verb}: {option(asked, error)}{error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"resnet_demo {asked.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return StoppedError.exit_code


def option(asked: argparse.Namespace, error: DemoError) -> str:
    """The flag that an error is about, to stand before its sentence; "" where it is none."""
    field = getattr(error, "field", None)
    if field in ("run", "run_id") and getattr(asked, "resume", None) is not None:
        return "--resume: "
    is_flag = field in {*knob_names(), "run_id", "split", "size"} and hasattr(asked, field)
    return f"--{field.replace('_', '-')}: " if is_flag else ""


def make_parser() -> Parser:
    """Every verb and flag; those of `train` come from the fields of TrainConfig."""
    parser = Parser(prog="resnet_demo", description="Train residual networks and use them.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)

    train = verb(verbs, "train", train_verb, "train a network in this process")
    train.add_argument("--run-id", metavar="ID", help="name of the new run; made up if left out")
    train.add_argument("--resume", metavar="RUN", help="go on with this run; no other flag counts")
    for knob in fields(TrainConfig):
        train.add_argument(f"--{knob.name.replace('_', '-')}", **flag(knob))

    evaluate = verb(verbs, "evaluate", evaluate_verb, "score a run on a split")
    evaluate.add_argument("run", metavar="RUN")
    evaluate.add_argument("--split", default="test", help="test (default), val or train")
    evaluate.add_argument("--dataset", metavar="NAME", help="instead of the run's own")

    classify = verb(verbs, "classify", classify_verb, "name what pictures show")
    classify.add_argument("run", metavar="RUN")
    classify.add_argument("files", nargs="+", metavar="FILE")
    classify.add_argument("--top", type=whole, default=5, help="labels a picture, 5")
    classify.add_argument("--dataset", metavar="NAME", help="must have the run's classes")

    runs = verb(verbs, "runs", runs_verb, "list, show or delete runs")
    runs.add_argument("what", choices=("list", "show", "delete"))
    runs.add_argument("run", nargs="?", metavar="RUN")

    data = verb(verbs, "data", data_verb, "see and import datasets")
    data.add_argument("what", choices=("status", "import"))
    data.add_argument("name", nargs="?", metavar="NAME")
    data.add_argument("path", nargs="?", type=Path, metavar="PATH", help="folder, zip or tar")
    data.add_argument("--size", type=whole, default=32, help="side of the stored images, 32 pixels")
    return parser


def verb(verbs: Any, name: str, do: Callable, help: str) -> Parser:
    """One verb, with the flag that all have."""
    parser = verbs.add_parser(name, help=help, description=help.capitalize() + ".")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
    parser.set_defaults(do=do)
    return parser


def flag(knob: Field) -> dict[str, Any]:
    """How argparse shows a knob. It stays text here: only TrainConfig decides what is right."""
    rule = knob.metadata
    words = rule.get("choices") or (RECIPES if knob.name == "recipe" else ())
    told = [one_of(words)] if words else []
    if "low" in rule:
        told = [f"{rule['low']:g} to {rule['high']:.10g} {rule.get('unit', '')}".strip()]
    help = f"{rule['help']} ({'; '.join([*told, f'default {knob.default}'])})"
    shown = {bool: "true|false", int: "N", float: "X", str: "NAME"}[knob.type]
    return {"metavar": shown, "help": help.replace("%", "%%")}


def whole(text: str) -> int:
    """A whole number from 1 to 1000, for flags that are no knob."""
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 1000, got {text!r}")
    return int(text)


def knob_names() -> list[str]:
    """The fields of TrainConfig."""
    return [knob.name for knob in fields(TrainConfig)]


def train_verb(asked: argparse.Namespace, places: Places) -> int:
    """Train, or go on with a run; the same command again, or after a kill, is right."""
    from resnet_demo.tasks.launcher import Launcher

    launcher = Launcher(places)
    if asked.resume is not None:
        run, lock = resumed(launcher, asked.resume, asked.json)
    else:
        given = {name: getattr(asked, name) for name in knob_names()}
        knobs = {name: parse(name, text) for name, text in given.items() if text is not None}
        run, lock = launcher.make(make_config(knobs), asked.run_id)
    if lock is None:
        return 0
    try:
        return train_here(run, places, asked.json)
    finally:
        os.close(lock)


def resumed(launcher: Any, name: str, as_json: bool) -> tuple[Any, int | None]:
    """The run and its lock; no lock where there is nothing left to do."""
    from resnet_demo.tasks.status import settle

    run = find(launcher.runs, name)
    status = settle(run.path)
    if status.state == "finished":
        tell({"run": run.id, "state": "finished"}, f"run {run.id} is finished", as_json)
        return run, None
    return run, launcher.requeue(run)


def train_here(run: Any, places: Places, as_json: bool) -> int:
    """Train in this process; Ctrl-C stops after the step and keeps the checkpoint."""
    from resnet_demo.tasks.worker import ask_to_stop, train

    def waiting(place: int) -> None:
        print(f"another run trains: place {place} in the queue", file=sys.stderr)

    print(f"run {run.id} in {run.path}", file=sys.stderr)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda *_: ask_to_stop(run.path))
    try:
        last = train(run, places, lambda event: show(event, as_json), waiting)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if last.kind == "failed":
        print(f"resnet_demo train: {last.message}", file=sys.stderr)
    return {"finished": 0, "stopped": 130, "failed": 1}[last.kind]


def show(event: Event, as_json: bool) -> None:
    """An event, on standard output; a damaged checkpoint is named on standard error too."""
    warning = getattr(event, "message", "") if event.kind == "resumed" else ""
    if warning:
        print(f"resnet_demo train: {warning}", file=sys.stderr)
    tell(to_dict(event), in_words(event), as_json)


def evaluate_verb(asked: argparse.Namespace, places: Places) -> None:
    """Score a run's best weights."""
    from resnet_demo.data.rules import check_split
    from resnet_demo.data.store import Datasets
    from resnet_demo.runs.store import Runs

    check_split(asked.split)
    run = find(Runs(places), asked.run)
    from resnet_demo.runs.evaluation import evaluate_run

    result = evaluate_run(run, Datasets(places.data), asked.split, asked.dataset)
    tell(result, evaluation_text(result), asked.json)


def classify_verb(asked: argparse.Namespace, places: Places) -> int:
    """A line a picture; a picture that cannot be read does not end the others."""
    from resnet_demo.runs.store import Runs

    run = find(Runs(places), asked.run)
    from resnet_demo.runs.evaluation import Classifier

    classifier = Classifier.of(run)
    if asked.dataset is not None:
        from resnet_demo.data.store import Datasets

        classifier.check_classes(Datasets(places.data).get(asked.dataset))
    failed = 0
    for name in asked.files:
        try:
            labels = classifier.classify_file(Path(name), asked.top).labels
            words = ", ".join(f"{row['label']} {row['confidence']:.1%}" for row in labels)
            tell({"file": name, "labels": labels}, f"{name}: {words}", asked.json)
        except DemoError as error:
            failed += 1
            tell({"file": name, "error": str(error)}, f"{name}: {error}", asked.json)
    return 1 if failed else 0


def runs_verb(asked: argparse.Namespace, places: Places) -> None:
    """List, show, delete."""
    from resnet_demo.runs.store import Runs
    from resnet_demo.tasks.launcher import discard
    from resnet_demo.tasks.look import look, summary, summary_text

    runs = Runs(places)
    if asked.what == "list":
        for run in runs.list():
            row = summary(run)
            tell(row, summary_text(row), asked.json)
        return
    if asked.run is None:
        raise ConfigError.rule("run", "the id of a run", asked.run)
    run = find(runs, asked.run)
    if asked.what == "delete":
        discard(run)
        tell({"run": run.id, "deleted": True}, f"{run.id} is in the trash folder", asked.json)
    else:
        seen = look(run)
        tell(seen, "\n".join([summary_text(summary(run)), *epoch_lines(seen)]), asked.json)


def data_verb(asked: argparse.Namespace, places: Places) -> None:
    """What is on this machine, and bringing more."""
    from resnet_demo.data.store import Datasets

    if asked.what == "status":
        for info in Datasets(places.data).list():
            tell(info.to_dict(), dataset_text(info), asked.json)
        return
    if asked.name is None or asked.path is None:
        raise ConfigError("data import needs a name and the path of a folder, a zip or a tar")
    from resnet_demo.data.importing import import_images

    def progress(done: int, total: int | None, what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{done} {what}", end="", file=sys.stderr, flush=True)

    info = import_images(places.data, asked.name, asked.path, size=asked.size, progress=progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    tell(info.to_dict(), dataset_text(info), asked.json)


def find(runs: Any, name: str) -> Any:
    """A run by its id or by the path of its directory. Raises NotFoundError."""
    from resnet_demo.runs.store import Run

    if "/" not in name:
        return runs.get(name)
    path = Path(name).resolve()
    if not (path / "config.json").is_file():
        raise NotFoundError.rule("run", "an id or the folder of a run", name)
    return Run(path, runs.is_shipped(path))


def tell(values: dict[str, Any], text: str, as_json: bool) -> None:
    """One object, or words."""
    print(json.dumps(values) if as_json else text, flush=True)

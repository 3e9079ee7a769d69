"""Helpers that the verbs share: parsers, options for configuration fields, runs by name, output."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn

from resnet_demo.config import TrainConfig, help_text
from resnet_demo.errors import ConfigError, one_of
from resnet_demo.recipes import RECIPES

FIELD_OPTIONS = "configuration fields"  # title of the group of options made from TrainConfig
RECIPE_NOTE = "Defaults are those of the recipe quick. Another recipe has its own."


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Print the message to standard error and exit with code 2."""
        # Contract: a mistake is one line that names option, rule and value.
        self.exit(2, f"{self.prog}: {message}\n")

    def option_names(self) -> set[str]:
        """Return the names of all options, without those of positional arguments."""
        return {action.dest for action in self._actions if action.option_strings}


def add_verb(
    verbs: Any, name: str, handler: Callable, help: str, aliases: Iterable[str] = ()
) -> Parser:
    """Add a verb with the option `--json`, which all verbs have.

    handler: called with the parsed arguments and the Paths; its result is the exit code, None is 0.
    """
    description = help[0].upper() + help[1:] + "."
    parser = verbs.add_parser(name, help=help, description=description, aliases=list(aliases))
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.set_defaults(handler=handler, option_names=parser.option_names)
    return parser


def add_field_options(
    parser: Parser, names: Iterable[str] | None = None, note: str = RECIPE_NOTE
) -> None:
    """Add an option for each of these fields of TrainConfig, for all fields by default."""
    # In a separate group, which the reference replaces by a link to the table of fields.
    group = parser.add_argument_group(FIELD_OPTIONS, note)
    wanted = set(field_names() if names is None else names)
    for config_field in fields(TrainConfig):
        if config_field.name in wanted:
            flag = f"--{config_field.name.replace('_', '-')}"
            kind = {bool: "true|false", int: "N", float: "X", str: "NAME"}[config_field.type]
            # No type= and no choices=: TrainConfig alone validates, with one message everywhere.
            group.add_argument(flag, metavar=kind, help=field_help(config_field).replace("%", "%%"))


def field_help(config_field: Field) -> str:
    """Return the help of a field with its range or choices and its default in parentheses."""
    rule = config_field.metadata
    choices = rule.get("choices") or (RECIPES if config_field.name == "recipe" else ())
    notes = [one_of(choices)] if choices else []
    if "low" in rule:
        notes = [f"{rule['low']:g} to {rule['high']:.10g} {rule.get('unit', '')}".strip()]
    notes.append(f"default {config_field.default}")
    return f"{help_text(config_field)} ({'; '.join(notes)})"


def field_names() -> list[str]:
    """Return the names of the fields of TrainConfig."""
    return [config_field.name for config_field in fields(TrainConfig)]


def count_argument(text: str) -> int:
    """Parse a whole number from 1 to 1000, for options that are no configuration field."""
    # int() alone takes signs and underscores.
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 1000, got {text!r}")
    return int(text)


def output_folder(field: str, name: str | None) -> Path | None:
    """Return the folder to write to, which need not exist. Raises ConfigError for a file."""
    if name is None:
        return None
    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise ConfigError.rule(field, "a folder, existing or new", name)
    return folder


@contextmanager
def signals_stop(folder: Path) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into a request to stop this task, until the block ends."""
    from resnet_demo.tasks.worker import stop_from_signal

    # A request instead of an exception: training ends after its step and saves a checkpoint.

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda *_: stop_from_signal(folder))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def print_result(values: dict[str, Any], text: str, as_json: bool) -> None:
    """Print the values as one JSON object, or else the text."""
    # Names of files need not be Unicode, and a terminal's encoding need not have every character.
    encoding = sys.stdout.encoding or "utf-8"
    line = json.dumps(values) if as_json else text
    # Flushed, so that a program that reads a pipe gets each line at once.
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def show_progress(text: str) -> None:
    """Write progress to a terminal over the line before it; write nothing to a file or pipe."""
    # \r returns to the start of the line, and \033[K erases the rest of a longer text.
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def end_progress() -> None:
    """End the line of `show_progress`."""
    if sys.stderr.isatty():
        print(file=sys.stderr)

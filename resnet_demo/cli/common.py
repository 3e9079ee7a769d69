"""What the verbs share: how a flag looks, how a run is named, how an answer is told."""

import argparse
import json
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn

from resnet_demo.config import RECIPES, TrainConfig, one_of
from resnet_demo.errors import ConfigError, NotFoundError


class Parser(argparse.ArgumentParser):
    """One line on standard error for a mistake, not the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Exit 2."""
        self.exit(2, f"{self.prog}: {message}\n")


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


def find(runs: Any, name: str) -> Any:
    """A run by its id or by the path of its directory. Raises NotFoundError."""
    from resnet_demo.runs.store import Run

    if "/" not in name:
        return runs.get(name)
    path = Path(name).resolve()
    if not (path / "config.json").is_file():
        raise NotFoundError.rule("run", "an id or the folder of a run", name)
    return Run(path, runs.is_shipped(path))


def folder_for(field: str, name: str | None) -> Path | None:
    """Where files are to be written, there or not. Raises ConfigError for a file."""
    if name is None:
        return None
    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise ConfigError.rule(field, "a folder, there or not", name)
    return folder


def tell(values: dict[str, Any], text: str, as_json: bool) -> None:
    """One object, or words."""
    print(json.dumps(values) if as_json else text, flush=True)

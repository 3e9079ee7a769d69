"""Checked reading of JSON files: size, nesting, and the names and types of the fields.

Standard library only. A schema library would check types too, but neither size nor nesting, and it
would slow the start of every command.
"""

import json
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from resnet_demo.errors import DamagedError
from resnet_demo.files import open_file

MAX_BYTES = 64 * 2**20  # the largest real file is the result of 1,000 classes, a few megabytes
MAX_DEPTH = 32  # the deepest real file has 5 levels
MAX_NUMBER = 1e300  # no quantity here is as large: a line that holds one was damaged

T = TypeVar("T")


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError, also for too many levels."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    # What json.loads can just read may still exceed the recursion limit of a later step.
    containers, depth = nested([value]), 0
    while containers:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels")
        containers = [
            inner
            for outer in containers
            for inner in nested(outer.values() if isinstance(outer, dict) else outer)
        ]
    return value


def nested(values: Iterable[Any]) -> list[Any]:
    """Return those values that are lists or objects."""
    return [value for value in values if isinstance(value, dict | list)]


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. Raises DamagedError, for a missing file too."""
    try:
        with open_file(path) as file:
            # One byte more than allowed shows that a file is too large without reading all of it.
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        return parse_json(content.decode("utf-8"))
    except (OSError, ValueError) as error:
        raise damaged_error(path) from error


def read_object(path: Path, kind: type[T], **options: bool) -> T:
    """Return a dataclass read from a JSON file; see `build`. Raises DamagedError."""
    values = read_json(path)
    try:
        return build(kind, values, **options)
    except ValueError as error:
        raise damaged_error(path) from error


def damaged_error(path: Path) -> DamagedError:
    """Return the error of a file that is not what was written."""
    return DamagedError(f"{path.name} of {path.parent.name} is damaged")


def build(kind: type[T], values: Any, *, complete: bool = False, exact: bool = False) -> T:
    """Return a dataclass of that kind from a JSON object, whose values have the fields' types.

    complete: fields with a default must be there too. exact: unknown names are refused; else they
    are ignored, since a later version may have written them.
    Raises ValueError.
    """
    if not isinstance(values, dict):
        raise ValueError("not an object")
    types = field_types(kind)
    if complete and types.keys() - values.keys():
        raise ValueError(f"without {', '.join(sorted(types.keys() - values.keys()))}")
    if exact and values.keys() - types.keys():
        raise ValueError(f"with unknown {', '.join(sorted(values.keys() - types.keys()))}")
    # Only known names: a later version may have written more.
    known = {name: convert(values[name], types[name]) for name in types if name in values}
    try:
        return kind(**known)
    except TypeError as error:  # a field without a default is missing
        raise ValueError("incomplete") from error


@cache
def field_types(kind: type) -> dict[str, Any]:
    """Return name -> type of a dataclass's fields."""
    return {field.name: field.type for field in fields(kind)}


def convert(value: Any, kind: Any) -> Any:
    """Return the value if JSON's counterpart of that type; a tuple is made of a list.

    Numbers are finite, a whole number is a float too, and true and false are no numbers.
    Raises ValueError.
    """
    if kind is float or kind is int:  # first: events are read by the hundred thousand
        if is_number(value) and (kind is float or isinstance(value, int)):
            return value
    elif kind is Any:
        return value
    elif (origin := get_origin(kind)) in (Union, UnionType):
        return convert_union(value, get_args(kind))
    elif origin is tuple:
        return convert_tuple(value, get_args(kind))
    elif origin is list and isinstance(value, list):
        return [convert(item, get_args(kind)[0]) for item in value]
    elif origin is dict and isinstance(value, dict):
        return {name: convert(item, get_args(kind)[1]) for name, item in value.items()}
    elif origin is None and isinstance(value, NoneType if kind is None else kind):
        return value
    raise ValueError(f"{type(value).__name__} instead of {kind}")


def convert_union(value: Any, kinds: tuple[Any, ...]) -> Any:
    """Return the value as the first of the types that accepts it. Raises ValueError."""
    for kind in kinds:
        try:
            return convert(value, kind)
        except ValueError:
            continue
    raise ValueError(f"{type(value).__name__} instead of one of {kinds}")


def convert_tuple(value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a list as a tuple; `...` repeats the type before it. Raises ValueError."""
    if not isinstance(value, list):
        raise ValueError(f"{type(value).__name__} instead of a list")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{len(value)} values instead of {len(kinds)}")
    return tuple(convert(item, kind) for item, kind in zip(value, kinds, strict=True))


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a finite number; true and false are not."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < MAX_NUMBER  # false for NaN
    )

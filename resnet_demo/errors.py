"""Errors whose text is one sentence for the user.

Form, command line and API show the same sentence.
"""

from collections.abc import Iterable
from unicodedata import bidirectional, category

# Control characters, halves of surrogate pairs and line ends; and marks of writing direction, which
# would reorder the text after them.
UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
DIRECTION_MARKS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def shortened(value: object, limit: int = 80) -> str:
    """Return the value's repr, cut to `limit` characters; "nothing" for None."""
    text = "nothing" if value is None else repr(value)  # repr: control characters are written out
    # A value may be a whole file: an error stays one line.
    return text if len(text) <= limit else text[: limit - 1] + "…"


def counted(number: int, noun: str) -> str:
    """Return a number of things: `1 image`, `1,200 images`. noun: in the singular."""
    plural = (
        f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}{'es' * noun.endswith('s') or 's'}"
    )
    return f"{number:,} {noun if number == 1 else plural}"


def one_of(names: Iterable[str]) -> str:
    """Return the rule of a choice: `one of a, b, c`."""
    return "one of " + ", ".join(names)


def is_displayable(text: str) -> bool:
    """Return whether a person's text can be shown, in a terminal too, as one line."""
    # Not `isprintable`: it refuses joined emoji, wide spaces, and letters newer than Python's
    # tables. Refused is only what could control a terminal, reorder text, or is not Unicode.
    return not any(
        category(char) in UNPRINTABLE or bidirectional(char) in DIRECTION_MARKS for char in text
    )


class DemoError(Exception):
    """A failure. Exit code 1."""

    exit_code = 1


class ConfigError(DemoError):
    """A mistake in the request, found before anything started. Exit code 2.

    field: the setting at fault, if there is one, for a form to point at. expected: its rule.
    """

    exit_code = 2

    def __init__(self, message: str, field: str | None = None, expected: str = "") -> None:
        super().__init__(message)
        self.field, self.expected = field, expected

    @classmethod
    def rule(cls, field: str, rule: str, value: object) -> "ConfigError":
        """Return an error that names field, rule and value: `epochs must be …, got 0`."""
        return cls(f"{field} must be {rule}, got {shortened(value)}", field, rule)


class NotFoundError(ConfigError):
    """A named run, dataset or file does not exist. Exit code 2."""


class DamagedError(DemoError):
    """A file is missing, torn, altered or of another kind. It is not used."""


class DiskFullError(DemoError):
    """The disk is full. Files written before are intact."""

    @classmethod
    def needing(cls, needed: int, free: int, what: str) -> "DiskFullError":
        """Return the error for a file of `needed` bytes on a disk with `free` bytes left."""
        # Rounded up, so that making this much room is enough.
        megabytes = -(-needed // 10**6)
        return cls(f"disk full: {megabytes} MB needed for {what}, {free // 10**6} MB free")


class ReadOnlyError(DemoError):
    """A folder cannot be written to. Nothing has changed."""


class StoppedError(DemoError):
    """The user stopped the work. Exit code 130, as a shell reports an interrupt."""

    exit_code = 130

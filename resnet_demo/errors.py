"""What can go wrong, as one plain sentence each.

The sentence is the whole message in the form, on the command line and over the API; only the
exit code and the colour around it differ.
"""

from collections.abc import Iterable


def shortened(value: object, most: int = 80) -> str:
    """The value as Python writes it, cut where somebody sent a novel."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def one_of(names: Iterable[str]) -> str:
    """Return the rule of a choice: `one of a, b, c`."""
    return "one of " + ", ".join(names)


class DemoError(Exception):
    """Something failed; its text is one sentence for a person. Exit code 1."""

    exit_code = 1


class ConfigError(DemoError):
    """A mistake in what was asked, found before anything started. Exit code 2.

    `field` is the knob at fault, where there is one, so that a form can point at it.
    """

    exit_code = 2

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field

    @classmethod
    def rule(cls, field: str, rule: str, value: object) -> "ConfigError":
        """The field, the rule it broke and the value: `epochs must be …, got 0`."""
        return cls(f"{field} must be {rule}, got {shortened(value)}", field)


class NotFoundError(ConfigError):
    """A run, a dataset or a file that was named is not there. Exit code 2."""


class DamagedError(DemoError):
    """A file is not what was written: torn, altered, or not of its kind. It is never used."""


class DiskFullError(DemoError):
    """There is no room for a file. What was there before is whole."""

    @classmethod
    def needing(cls, needed: int, free: int, what: str) -> "DiskFullError":
        """How many bytes are needed for what, and how many are free."""
        megabytes = -(-needed // 10**6)
        return cls(f"disk full: {megabytes} MB needed for {what}, {free // 10**6} MB free")


class StoppedError(DemoError):
    """A person asked for the end of it. Exit code 130, as a shell reports an interrupt."""

    exit_code = 130

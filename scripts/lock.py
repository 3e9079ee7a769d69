"""Print the exact versions of all that requirements.txt brings, as they are installed here.

`.venv/bin/python scripts/lock.py > requirements.lock`, once all tests have passed on them.
"""

import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HEAD = """\
# All that requirements.txt brings, in the versions on which the tests were run: Python {}.{}, {}.
# `pip install -r requirements.lock` makes that environment again. Made by scripts/lock.py.
"""


def closure(wanted: list[Requirement]) -> dict[str, str]:
    """name -> version of these and of all they need, as installed."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while wanted:
        one = wanted.pop()
        name = canonicalize_name(one.name)
        for extra in ("", *one.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            installed = distribution(one.name)
            found[name] = installed.version
            needs = [Requirement(text) for text in installed.requires or []]
            applies = [n for n in needs if not n.marker or n.marker.evaluate({"extra": extra})]
            wanted += applies
    return found


def asked(text: str) -> list[Requirement]:
    """The lines of a requirements.txt."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return [Requirement(line) for line in lines if line]


def main() -> None:
    """Print the lock."""
    found = closure(asked((ROOT / "requirements.txt").read_text("utf-8")))
    print(HEAD.format(*sys.version_info[:2], sys.platform))
    for name, version in sorted(found.items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()

"""Print the installed versions of everything that requirements.txt brings.

Run `.venv/bin/python scripts/lock.py > requirements.lock` after all tests passed on them.
"""

import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HEAD = """\
# Everything that requirements.txt brings, in the versions that passed the tests: Python {}.{}, {}.
# `pip install -r requirements.lock` recreates that environment. Written by scripts/lock.py.
"""


def installed_versions(requirements: list[Requirement]) -> dict[str, str]:
    """Return name -> installed version of these requirements and of everything they need."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = list(requirements)
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            installed = distribution(requirement.name)
            versions[name] = installed.version
            needs = [Requirement(text) for text in installed.requires or []]
            todo += [n for n in needs if not n.marker or n.marker.evaluate({"extra": extra})]
    return versions


def parse_requirements(text: str) -> list[Requirement]:
    """Return the requirements in a requirements.txt."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return [Requirement(line) for line in lines if line]


def main() -> None:
    """Print the lock file."""
    requirements = parse_requirements((ROOT / "requirements.txt").read_text("utf-8"))
    print(HEAD.format(*sys.version_info[:2], sys.platform))
    for name, version in sorted(installed_versions(requirements).items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()

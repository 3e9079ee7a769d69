"""`space`: a folder that is a Hugging Face Space, built and checked."""

import argparse
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import tell, verb
from resnet_demo.places import Places


def add(verbs: Any) -> None:
    """The verb and its arguments."""
    space = verb(verbs, "space", space_verb, "build or check a folder that is a Space")
    space.add_argument("what", choices=("build", "check"))
    space.add_argument("folder", metavar="DIR", type=Path)
    space.add_argument("--title", metavar="TEXT", help="for build: what the Space is called")


def space_verb(asked: argparse.Namespace, places: Places) -> int:
    """Build or check; exit code 1 where something is wrong with the folder."""
    from resnet_demo.hosting import VARIABLES, build, check

    if asked.what == "check":
        problems = check(asked.folder)
        for problem in problems:
            tell({"file": problem.file, "problem": problem.what}, str(problem), asked.json)
        if not problems and not asked.json:
            print("nothing is wrong with it")
        return 1 if problems else 0
    files = build(asked.folder, title=asked.title)
    size = sum((asked.folder / file).stat().st_size for file in files)
    told = {"folder": str(asked.folder), "files": len(files), "bytes": size, "variables": VARIABLES}
    lines = [f"{len(files)} files, {size / 1e6:.1f} MB in {asked.folder}"]
    lines += [f"  {name}: {what}" for name, what in VARIABLES.items()]
    tell(told, "\n".join(lines), asked.json)
    return 0

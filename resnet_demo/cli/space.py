"""`space`: a folder that is a Hugging Face Space, built, checked and uploaded."""

import argparse
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import tell, verb
from resnet_demo.errors import ConfigError
from resnet_demo.paths import Paths


def add(verbs: Any) -> None:
    """The verb and its arguments."""
    space = verb(verbs, "space", space_verb, "build, check or upload a folder that is a Space")
    space.add_argument("what", choices=("build", "check", "push"))
    space.add_argument("folder", metavar="DIR", type=Path)
    space.add_argument("repository", metavar="REPO", nargs="?", help="for push: OWNER/NAME")
    space.add_argument("--title", metavar="TEXT", help="for build: what the Space is called")
    space.add_argument("--zero-gpu", action="store_true", help="for build: to run on ZeroGPU")


def space_verb(asked: argparse.Namespace, paths: Paths) -> int:
    """Build, check or upload; exit code 1 where something is wrong with the folder."""
    from resnet_demo.hosting.space import SECRETS_GIVEN, VARIABLES, build, check, push

    if (asked.what == "push") != (asked.repository is not None):
        rule = "named for push, OWNER/NAME, and for nothing else"
        raise ConfigError.rule("REPO", rule, asked.repository)
    if asked.what == "push":
        address = push(asked.folder, asked.repository)
        tell({"address": address}, address, asked.json)
        return 0
    if asked.what == "check":
        problems = check(asked.folder)
        for problem in problems:
            tell({"file": problem.file, "problem": problem.what}, str(problem), asked.json)
        if not problems and not asked.json:
            print("nothing is wrong with it")
        return 1 if problems else 0
    files = build(asked.folder, title=asked.title, zero_gpu=asked.zero_gpu)
    size = sum((asked.folder / file).stat().st_size for file in files)
    told = {"folder": str(asked.folder), "files": len(files), "bytes": size}
    told |= {"variables": VARIABLES, "secrets": SECRETS_GIVEN}
    lines = [f"{len(files)} files, {size / 1e6:.1f} MB in {asked.folder}"]
    lines += ["variables, none of which has to be set (and what holds without):"]
    lines += [f"  {name}: {what}" for name, what in VARIABLES.items()]
    lines += ["secrets:", *(f"  {name}: {what}" for name, what in SECRETS_GIVEN.items())]
    tell(told, "\n".join(lines), asked.json)
    return 0

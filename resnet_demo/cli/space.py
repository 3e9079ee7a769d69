"""The verb `space`: build, check and upload the folder of a Hugging Face Space."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import add_verb, print_result
from resnet_demo.errors import ConfigError
from resnet_demo.paths import Paths
from resnet_demo.runs.text import space_run_text


def add(verbs: Any) -> None:
    """Add the verb and its arguments."""
    help = "build, check or upload the folder of a Hugging Face Space"
    space = add_verb(verbs, "space", run_space, help)
    space.add_argument(
        "action",
        choices=("build", "check", "push"),
        help="build: write the folder; check: look for faults and secrets in it; push: upload it",
    )
    space.add_argument("folder", metavar="DIR", type=Path, help="the folder of the Space")
    space.add_argument("repository", metavar="REPO", nargs="?", help="for push: OWNER/NAME")
    space.add_argument("--title", metavar="TEXT", help="for build: title of the Space")
    space.add_argument("--zero-gpu", action="store_true", help="for build: run on ZeroGPU")
    space.add_argument(
        "--run",
        metavar="RUN",
        action="append",
        default=[],
        help="for build: a finished run (id or folder) that the Space opens with; may be repeated",
    )
    space.add_argument(
        "--classify-only",
        action="store_true",
        help="for build: a static Space, without Gradio: one page on which the visitor's browser "
        "classifies with the one --run, finished or not",
    )


def run_space(args: argparse.Namespace, paths: Paths) -> int:
    """Build, check or upload the folder; return 1 if the check finds a fault."""
    from resnet_demo.hosting.space import check, push

    # argparse accepts every positional argument for every action.
    if (args.action == "push") != (args.repository is not None):
        rule = "OWNER/NAME for push, and left out for build and check"
        raise ConfigError.rule("REPO", rule, args.repository)
    for name in ("run", "classify_only"):
        if getattr(args, name) and args.action != "build":
            raise ConfigError(f"space {args.action} takes no --{name.replace('_', '-')}", name)
    if args.action == "push":
        address = push(args.folder, args.repository)
        print_result({"address": address}, address, args.json)
        return 0
    if args.action == "check":
        problems = check(args.folder)
        for problem in problems:
            values = {"file": problem.file, "problem": problem.what}
            print_result(values, str(problem), args.json)
        # With --json, no line at all means no problem: each line is one.
        if not problems and not args.json:
            print("no problem found")
        return 1 if problems else 0
    build = build_page if args.classify_only else build_space
    build(args, paths)
    return 0


def build_space(args: argparse.Namespace, paths: Paths) -> None:
    """Write the folder and print its size and the variables that may be set on the Space."""
    from resnet_demo.hosting.space import PLATFORM_SECRETS, VARIABLES, build

    # Packed beside the Space and copied: a run that cannot be packed leaves no half of a folder.
    with tempfile.TemporaryDirectory() as temporary:
        packed = pack_runs(args.run, paths, Path(temporary))
        runs = [Path(result["folder"]) for result in packed]
        files = build(args.folder, title=args.title, zero_gpu=args.zero_gpu, runs=runs)
    size = sum((args.folder / file).stat().st_size for file in files)
    values = {"folder": str(args.folder), "files": len(files), "bytes": size}
    values |= {"runs": [{**result, "folder": f"checkpoints/{result['run']}"} for result in packed]}
    values |= {"variables": VARIABLES, "secrets": PLATFORM_SECRETS}
    lines = [f"{result['run']}: {space_run_text(result)}" for result in packed]
    lines += [f"{len(files)} files, {size / 1e6:.1f} MB in {args.folder}"]
    lines += ["optional variables (default in parentheses):"]
    lines += [f"  {name}: {text}" for name, text in VARIABLES.items()]
    lines += ["secrets:", *(f"  {name}: {text}" for name, text in PLATFORM_SECRETS.items())]
    print_result(values, "\n".join(lines), args.json)


def pack_runs(names: list[str], paths: Paths, folder: Path) -> list[dict[str, Any]]:
    """Pack these runs for a Space, each into a folder of its name; return what `pack` returns."""
    if not names:  # packing imports torch
        return []
    from resnet_demo.data.store import Datasets
    from resnet_demo.export.pack import pack_for_space
    from resnet_demo.runs.store import Runs

    runs, datasets = Runs(paths), Datasets(paths.data)
    return [pack_for_space(runs.find(name), datasets, folder) for name in names]


def build_page(args: argparse.Namespace, paths: Paths) -> None:
    """Write a static Space that classifies with one run, and print the files and the comparison."""
    from resnet_demo.export.formats import check_folder, export_run
    from resnet_demo.hosting.space import set_front_matter
    from resnet_demo.runs.store import Runs

    if len(args.run) != 1:
        rule = "given once with --classify-only"
        raise ConfigError.rule("run", rule, " ".join(args.run) or None)
    if args.zero_gpu:
        raise ConfigError("space build --classify-only takes no --zero-gpu", "zero_gpu")
    check_folder(args.folder, "web")  # before the parity, which takes a minute
    exported = export_run(Runs(paths).find(args.run[0]), args.folder, "web", paths)
    if args.title:
        set_front_matter(args.folder / "README.md", {"title": args.title})
    values = {"folder": str(args.folder), **exported.to_dict()}
    lines = [f"{args.folder}: {', '.join(exported.files)}", exported.parity.text()]
    print_result(values, "\n".join([*lines, *exported.notes]), args.json)

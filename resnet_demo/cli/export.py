"""The verb `export`: take a run's network out of the app."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import add_verb, end_progress, print_result, show_progress
from resnet_demo.errors import ConfigError
from resnet_demo.export.formats import FORMATS, check_folder, check_format
from resnet_demo.paths import Paths
from resnet_demo.tasks.process_setup import limit_spinning


def add(verbs: Any) -> None:
    """Add the verb and its arguments."""
    help = "write a run's network for use outside this app, and prove that it answers the same"
    export = add_verb(verbs, "export", run_export, help)
    export.add_argument("run", metavar="RUN", help="id or folder of a run with weights")
    export.add_argument(
        "folder",
        metavar="DIR",
        type=Path,
        nargs="?",
        help="where to write: a folder that is new, empty, or holds an earlier export to replace; "
        "may be left out with --push",
    )
    formats = "; ".join(f"{name}: {text}" for name, text in FORMATS.items())
    export.add_argument(
        "--format", metavar="NAME", help=f"{formats} (default onnx, with --push hub)"
    )
    export.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="upload the folder of format hub to this model repository at Hugging Face, which is "
        "created if there is none; needs HF_TOKEN, or `hf auth login`",
    )
    export.add_argument("--private", action="store_true", help="for push: only you see it")
    export.add_argument(
        "--licence",
        metavar="NAME",
        help="for hub: the Hub's name of a licence for the weights (default mit, or that of the "
        "ImageNet weights that the run started from)",
    )
    export.add_argument(
        "--offline",
        metavar="FOLDER",
        nargs="?",
        const=True,
        help="for web: put onnxruntime-web into DIR too, from FOLDER or fetched by npm (default: "
        "the page loads it from a CDN)",
    )


def run_export(args: argparse.Namespace, paths: Paths) -> None:
    """Export the run, and upload it if asked to; print the files and the comparison."""
    from resnet_demo.export.hub import check_repository

    # Mistakes are reported before torch is imported.
    format = args.format or ("hub" if args.push else "onnx")
    check_format(format)
    if args.push is not None:
        if format != "hub":
            raise ConfigError.rule("format", "hub with --push", format)
        check_repository(args.push, "push")
    elif args.folder is None:
        raise ConfigError("DIR must be given without --push, got nothing", "DIR")
    for name in ("private", "licence"):
        if getattr(args, name) and format != "hub":
            raise ConfigError(f"export --format {format} takes no --{name}", name)
    if args.offline and format != "web":
        raise ConfigError(f"export --format {format} takes no --offline", "offline")
    if args.folder is not None:
        write_and_push(args, format, args.folder, paths)
        return
    # With --push alone the files are only a step on the way to the Hub.
    with tempfile.TemporaryDirectory() as temporary:
        write_and_push(args, format, Path(temporary), paths)


def write_and_push(args: argparse.Namespace, format: str, folder: Path, paths: Paths) -> None:
    """Write the files into the folder, upload them if asked to, and print what was done."""
    from resnet_demo.export.formats import export_run
    from resnet_demo.export.hub import push_model
    from resnet_demo.runs.store import Runs

    check_folder(folder, format)
    run = Runs(paths).find(args.run)
    # Before torch is imported, which reads the environment once.
    limit_spinning()
    # True, from `--offline` without a folder, stays True: npm fetches the files.
    offline = Path(args.offline) if isinstance(args.offline, str) else args.offline
    options = {"on_progress": report, "licence": args.licence, "offline": offline}
    try:
        exported = export_run(run, folder, format, paths, **options)
    # Also after an error, whose message must not be appended to the line of progress.
    finally:
        end_progress()
    kept = None if args.folder is None else str(args.folder)
    values = {"format": format, "folder": kept, **exported.to_dict()}
    lines = [f"{kept or run.id}: {', '.join(exported.files)}"]
    lines += [exported.parity.text()] if exported.parity else []
    lines += exported.notes
    if args.push is not None:
        values["address"] = push_model(folder, args.push, private=args.private)
        lines.append(values["address"])
    print_result(values, "\n".join(lines), args.json)


def report(what: str, done: int, total: int) -> None:
    """Show progress on a terminal."""
    show_progress(f"{what}: {done:,} of {total:,}")

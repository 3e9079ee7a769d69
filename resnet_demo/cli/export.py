"""The verb `export`: take a run's network out of the app."""

import argparse
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import add_verb, end_progress, print_result, show_progress
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
        help="where to write: a folder that is new, empty, or holds an earlier export to replace",
    )
    formats = "; ".join(f"{name}: {text}" for name, text in FORMATS.items())
    export.add_argument(
        "--format", metavar="NAME", default="onnx", help=f"{formats} (default onnx)"
    )


def run_export(args: argparse.Namespace, paths: Paths) -> None:
    """Export the run and print the files and the comparison with the app."""
    from resnet_demo.export.formats import export_run
    from resnet_demo.runs.store import Runs

    # Mistakes are reported before torch is imported.
    check_format(args.format)
    check_folder(args.folder, args.format)
    run = Runs(paths).find(args.run)
    limit_spinning()
    try:
        exported = export_run(run, args.folder, args.format, paths, on_progress=report)
    finally:
        end_progress()
    values = {"format": args.format, "folder": str(args.folder), **exported.to_dict()}
    files = ", ".join(exported.files)
    lines = [f"{args.folder}: {files}"]
    lines += [exported.parity.text()] if exported.parity else []
    print_result(values, "\n".join([*lines, *exported.notes]), args.json)


def report(what: str, done: int, total: int) -> None:
    """Show progress on a terminal."""
    show_progress(f"{what}: {done:,} of {total:,}")

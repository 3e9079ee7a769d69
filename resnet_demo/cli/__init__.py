"""The command line, `python -m resnet_demo VERB`: it calls the functions that the page calls.

With `--json`, standard output holds one JSON object per line and nothing else. Exit codes: 0 done,
2 a mistake in the arguments, 1 a failure, 130 stopped. Each module here adds one verb. It imports
torch, numpy and most of the package only when the verb runs, so that `--help` answers at once.
"""

import argparse
import os
import sys

from resnet_demo import __version__
from resnet_demo.cli import bench, classify, data, evaluate, export, learn, runs, space, train
from resnet_demo.cli.common import Parser
from resnet_demo.errors import DemoError, StoppedError
from resnet_demo.file_locks import check_system
from resnet_demo.paths import Paths


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = make_parser().parse_args(argv)
    try:
        check_system()
        return args.handler(args, Paths.from_environment()) or 0
    except DemoError as error:
        print(f"resnet_demo {args.verb}: {option_prefix(args, error)}{error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # a reader like `head` has closed the pipe
        # Python flushes standard output at exit, and would fail once more on the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder without write permission
        print(f"resnet_demo {args.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # outside of a task, whose signals request a stop instead
        return StoppedError.exit_code


def option_prefix(args: argparse.Namespace, error: DemoError) -> str:
    """Return the option that the error is about, as `--epochs: `; "" if it is about none."""
    # An error names a field of the config, which is an option only on the command line.
    field = getattr(error, "field", None)
    # Errors about the run of `--resume` name the field `run` or `run_id`.
    if field in ("run", "run_id") and getattr(args, "resume", None) is not None:
        return "--resume: "
    return f"--{field.replace('_', '-')}: " if field in args.option_names() else ""


def make_parser() -> Parser:
    """Build the parser with all verbs and options."""
    parser = Parser(prog="resnet_demo", description="Train residual networks and use them.")
    parser.add_argument("--version", action="version", version=__version__)
    # parser_class: sub-parsers report mistakes in one line too.
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    # As --help lists them.
    for module in (train, evaluate, classify, export, runs, data, learn, bench, space):
        module.add(verbs)
    return parser

"""python -m resnet_demo VERB: the same functions the page calls, for a terminal and for programs.

With --json, one JSON object a line on standard output and nothing else there. Exit code 0 done,
2 a mistake in what was asked, 1 a failure, 130 stopped. A module a group of verbs, each of which
loads what it needs when it is asked for: `--help` answers at once.
"""

import argparse
import os
import sys

from resnet_demo import __version__
from resnet_demo.cli import bench, classify, data, evaluate, learn, runs, space, train
from resnet_demo.cli.common import Parser, knob_names
from resnet_demo.errors import DemoError, StoppedError
from resnet_demo.paths import Paths


def main(argv: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code."""
    asked = make_parser().parse_args(argv)
    try:
        return asked.do(asked, Paths.from_environment()) or 0
    except DemoError as error:
        print(f"resnet_demo {asked.verb}: {option(asked, error)}{error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"resnet_demo {asked.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return StoppedError.exit_code


def option(asked: argparse.Namespace, error: DemoError) -> str:
    """The flag that an error is about, to stand before its sentence; "" where it is none."""
    field = getattr(error, "field", None)
    if field in ("run", "run_id") and getattr(asked, "resume", None) is not None:
        return "--resume: "
    flags = {*knob_names(), "run_id", "split", "size", "top", "fit", "map"}
    flags |= {"mode", "against", "figures", "robustness", "inside", "similar"}
    is_flag = field in flags and hasattr(asked, field)
    return f"--{field.replace('_', '-')}: " if is_flag else ""


def make_parser() -> Parser:
    """Every verb and flag."""
    parser = Parser(prog="resnet_demo", description="Train residual networks and use them.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for module in (train, evaluate, classify, runs, data, learn, bench, space):
        module.add(verbs)
    return parser

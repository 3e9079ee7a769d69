"""Start the app: `python app.py`, also on a Space.

GRADIO_SERVER_NAME and GRADIO_SERVER_PORT set its address.
"""

import argparse
import gc
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from resnet_demo.errors import DemoError
from resnet_demo.file_locks import check_system, warn_of_system
from resnet_demo.hosting.environment import check_environment
from resnet_demo.paths import Paths
from resnet_demo.tasks.limits import is_zerogpu
from resnet_demo.tasks.process_setup import limit_spinning
from resnet_demo.tasks.trash import KEEP_DAYS, empty_trash


def user_number() -> int:
    """Return the number of the user who runs this; 0 where there is none."""
    return getattr(os, "getuid", int)()


# Read by Gradio and its libraries when they are imported.
LIBRARY_VARIABLES = {
    # Uploads have a folder of their own, because what a killed app left there is removed at start.
    "GRADIO_TEMP_DIR": str(Path(tempfile.gettempdir()) / f"resnet-demo-{user_number()}"),
    "GRADIO_ANALYTICS_ENABLED": "False",  # the app reports nothing to anyone
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MPLBACKEND": "agg",  # else Gradio's first event imports pyplot to find out
    "GRADIO_ANALYTICS_MAX_EVENTS": "100",  # else every event costs time for all events before it
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
}


def set_variables() -> None:
    """Set the variables that libraries read, unless a person has set them."""
    for name, value in LIBRARY_VARIABLES.items():
        os.environ.setdefault(name, value)
    limit_spinning()  # the page must not compete with a run for the cores; workers inherit it


def check_arguments() -> None:
    """Exit with a message if there are arguments: there is no option but `--help`."""
    argparse.ArgumentParser(
        usage="[GRADIO_SERVER_PORT=PORT] python app.py [--help]",
        description="Serve the app until it is interrupted.",
        epilog="Variables of the environment set everything else: docs/reference.md lists them.",
    ).parse_args()


def main() -> None:
    """Build the page and serve it until interrupted."""
    set_variables()
    # A fifth of the time of the imports is a search for garbage among objects that all stay.
    gc.disable()
    try:
        check_system()
        warn_of_system()
        check_environment(os.environ)
        paths = Paths.from_environment()
        # Imports Gradio, so it comes after the variables.
        from resnet_demo.ui.app import Access, Limits, build_app, launch
        from resnet_demo.ui.train.zerogpu_panel import zerogpu_slice

        # Before anything else can touch CUDA.
        gpu = zerogpu_slice() if is_zerogpu(os.environ) else None
        access = Access.from_environment(os.environ)
        limits = Limits.from_environment(os.environ)
    except DemoError as error:
        sys.exit(str(error))
    with suppress(OSError):  # a read-only folder is served too
        empty_trash(paths.runs, KEEP_DAYS)
    app = build_app(paths, access, limits, gpu)
    gc.freeze()  # what is there now is not searched again
    gc.enable()
    try:
        launch(app, access, limits)
    except (OSError, OverflowError) as error:  # no free port
        sys.exit(f"the app could not start: {error}")


if __name__ == "__main__":
    check_arguments()
    main()

"""Start the app: `python app.py`, or a Space.

GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say where it listens.
"""

import os
import sys

from resnet_demo.errors import ConfigError
from resnet_demo.paths import Paths
from resnet_demo.tasks.limits import is_zerogpu

QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",  # nothing is told to anybody
    "OMP_WAIT_POLICY": "PASSIVE",  # classifying must not fight with a run for the cores
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_MAX_EVENTS": "100",  # else each event counts over all events before it
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
}


def main() -> None:
    """Build the page and serve it until interrupted."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        from resnet_demo.ui.app import Access, Limits, build_app, launch  # reads it as it comes
        from resnet_demo.ui.train.zerogpu_panel import zerogpu_slice

        # Before anything else can touch CUDA.
        gpu = zerogpu_slice() if is_zerogpu(os.environ) else None
        access = Access.from_environment(os.environ)
        limits = Limits.from_environment(os.environ)
    except ConfigError as error:
        sys.exit(f"{error}")
    launch(build_app(Paths.from_environment(), access, limits, gpu), access, limits)


if __name__ == "__main__":
    main()

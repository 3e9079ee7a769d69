"""Work that begins in the background once a page is open: a standby worker, the first network.

Both need torch, whose import takes seconds, and nobody should wait for it after a click.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from resnet_demo.errors import DemoError
from resnet_demo.hosting.environment import STANDBY
from resnet_demo.tasks.process_setup import import_quickly
from resnet_demo.tasks.queue import live_runs
from resnet_demo.tasks.standby_worker import START_MEMORY, free_memory
from resnet_demo.ui.services import Services

RETRY_S = 5.0
GREY = np.full((32, 32, 3), 128, np.uint8)


def keeps_standby(environment: Mapping[str, str], services: Services) -> bool:
    """Return whether an open page keeps a standby worker.

    Not in public mode, where most pages only look, and not on ZeroGPU, which has no processes.
    """
    is_private = not services.access.is_public and services.slices is None
    return is_private and environment.get(STANDBY, "1") != "0"


class OpenPage:
    """Prepares for what a person may do next; called while a page is open."""

    def __init__(self, environment: Mapping[str, str], services: Services) -> None:
        self.services, self.keeps_standby = services, keeps_standby(environment, services)
        # On ZeroGPU nothing may touch CUDA in the app's process before the first slice.
        self.loads_network = services.slices is None and environment.get(STANDBY, "1") != "0"
        self.next_try = 0.0

    def __call__(self) -> None:
        """Start what is not under way; return at once."""
        if self.keeps_standby:
            self.services.launcher.keep_standby()
        if self.loads_network and time.monotonic() >= self.next_try:
            self.next_try = time.monotonic() + RETRY_S
            threading.Thread(target=self._load_network, daemon=True).start()

    def _load_network(self) -> None:
        """Load the network that Classify offers first, and classify a grey picture with it.

        Later if memory is short, or if a run needs the cores.
        """
        if free_memory() < START_MEMORY or live_runs(self.services.paths.runs):
            return
        self.loads_network = False
        with suppress(DemoError, OSError):  # the Classify tab names it
            if (run_id := self.services.default_trained_run()) is not None:
                import_quickly("resnet_demo.inference.classifier", "resnet_demo.inference.heatmaps")
                classifier = self.services.classifier(run_id)
                result = classifier.classify(GREY)
                classifier.class_map(GREY, result.labels[0]["label"])

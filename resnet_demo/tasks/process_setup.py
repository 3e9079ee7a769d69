"""How a process that computes uses this machine: its threads and its memory. No torch here."""

import ctypes
import os

SPIN_COUNT = "1000"  # looks; more gain a little more alone, and lose beside others
# The C library's own numbers for `mallopt`, and what they are set to (malloc.h)
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
KEPT = {TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 256 * 2**20, MMAP_MAX: 0}


def configure_process() -> None:
    """To be called before torch is loaded, where a network is about to be trained or evaluated."""
    limit_spinning()
    keep_freed_memory()


def limit_spinning() -> None:
    """Threads that wait for their siblings look out for them for a moment, and then sleep.

    Spinning for good, they would take the core that the siblings need as soon as anything else
    runs here, the page itself for one; sleeping at once, each of the many short waits of a small
    network costs being woken (docs/performance.md). Torch reads it when it is loaded; a person's
    own OMP_WAIT_POLICY stands.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def keep_freed_memory() -> None:
    """Memory that a step no longer needs stays with this process, for the next step.

    Given back to the system after each layer, it comes back page by page, every one blanked
    first (docs/performance.md). Elsewhere than in glibc nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in KEPT.items():
            mallopt(name, value)

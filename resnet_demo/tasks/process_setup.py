"""Threads and memory of a process that trains or evaluates. No torch here.

The measurements behind both settings are in docs/performance.md.
"""

import ctypes
import gc
import importlib
import os

OPTIMIZERS = "torch._dynamo"  # which each of torch's imports when it is made: a third of the time
SPIN_COUNT = "1000"  # more is a little faster on an idle machine, and slower on a busy one
# Parameters of the C library's `mallopt` by number (malloc.h), and their values.
# The heap never shrinks, and grows by 256 MiB at a time; no block is mapped separately, since a
# mapped block is returned to the system as soon as it is freed.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
MALLOC_OPTIONS = {TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 256 * 2**20, MMAP_MAX: 0}


def configure_process() -> None:
    """Set up threads and memory. Call it before torch is imported."""
    limit_spinning()
    keep_freed_memory()


def import_quickly(*names: str) -> None:
    """Import modules while Python's garbage collector is off.

    A quarter of the time of importing torch is a search among new objects that all stay.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        if was_enabled:
            gc.enable()


def limit_spinning() -> None:
    """Make OpenMP threads spin briefly before they sleep, unless OMP_WAIT_POLICY is set.

    OpenMP reads the variables when torch loads it.
    """
    # Endless spinning occupies the core that another thread needs as soon as anything else runs,
    # such as the app itself. Sleeping at once adds a wake-up to each of a small network's many
    # short waits.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next step; do nothing with another C library."""
    # Memory that is returned to the system after each layer comes back page by page, and the
    # kernel zeroes every page first.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in MALLOC_OPTIONS.items():
            mallopt(option, value)

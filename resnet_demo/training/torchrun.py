"""The environment variables that torchrun sets for the processes it starts. No torch here.

Without torchrun every function returns what is true of a single process.
"""

import os


def rank() -> int:
    """Return the number of this process among all, from 0. The first one writes."""
    return env_int("RANK", 0)


def size() -> int:
    """Return how many processes train together, over all machines."""
    return env_int("WORLD_SIZE", 1)


def local_rank() -> int:
    """Return the number of this process on this machine, from 0: the index of its device."""
    return env_int("LOCAL_RANK", 0)


def local_size() -> int:
    """Return how many of the processes run on this machine."""
    return env_int("LOCAL_WORLD_SIZE", 1)


def restarts() -> int:
    """Return how often all processes were restarted because one was lost."""
    return env_int("TORCHELASTIC_RESTART_COUNT", 0)


def restarts_left() -> int:
    """Return how many restarts remain."""
    # Set by torchrun, which starts all processes again; without it nothing does, so none are left.
    return env_int("TORCHELASTIC_MAX_RESTARTS", 0) - restarts()


def env_int(name: str, default: int) -> int:
    """Return an environment variable as a number, or the default if it is not set."""
    # An empty variable, as in `RANK= command`, counts as not set.
    return int(os.environ.get(name) or default)

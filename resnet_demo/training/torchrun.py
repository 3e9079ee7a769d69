"""What torchrun tells the processes it starts, in their environment. No torch here."""

import os


def rank() -> int:
    """Which of all processes this one is, from 0. The first also writes; alone, this is it."""
    return env_int("RANK", 0)


def size() -> int:
    """How many processes train together, over all machines; 1 without torchrun."""
    return env_int("WORLD_SIZE", 1)


def local_rank() -> int:
    """Which of this machine's processes this one is, from 0: the number of its device."""
    return env_int("LOCAL_RANK", 0)


def local_size() -> int:
    """How many of the processes are on this machine."""
    return env_int("LOCAL_WORLD_SIZE", 1)


def restarts() -> int:
    """How often all of them were started again, because one was lost."""
    return env_int("TORCHELASTIC_RESTART_COUNT", 0)


def restarts_left() -> int:
    """How often that may happen from now on."""
    return env_int("TORCHELASTIC_MAX_RESTARTS", 0) - restarts()


def env_int(name: str, default: int) -> int:
    """A number of the environment, or the default where torchrun did not start this process."""
    return int(os.environ.get(name) or default)

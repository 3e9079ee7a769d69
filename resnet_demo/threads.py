"""How threads wait for each other while a network computes. No torch here."""

import os

SPINS = "1000"  # looks; more gain a little more alone, and lose beside others


def wait_briefly() -> None:
    """Threads that wait for their siblings look out for them for a moment, and then sleep.

    Spinning for good, they would take the core that the siblings need as soon as anything else
    runs here, the page itself for one; sleeping at once, each of the many short waits of a small
    network costs being woken (docs/performance.md). To be called before torch is loaded, which
    reads it; a person's own OMP_WAIT_POLICY stands.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)

"""What the probes of a run told: a grid of layers by steps, read on from where it ended."""

from dataclasses import dataclass, field

from resnet_demo.events import Event, Probe, Probing, Started
from resnet_demo.json_files import is_number
from resnet_demo.runs.log import CHUNK, EventLog

MOST = 400  # looks that are kept: a screen has no more columns for them


@dataclass
class Probed:
    """layers: their names, in the order of the network. probes: the looks, by step, thinned out.

    every: of the looks in the log only each so-many-th is kept, so that a long run takes no more
    memory than a short one.
    """

    log: EventLog
    offset: int = 0
    every: int = 1
    seen: int = 0
    layers: list[str] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)

    def refresh(self) -> bool:
        """Fold the new lines; True when there were any."""
        before, end = self.offset, -1
        while self.offset != end:
            end = self.offset
            events, self.offset = self.log.read(end, CHUNK)
            for event in events:
                self.fold(event)
        return self.offset != before

    def fold(self, event: Event) -> None:
        """One event; those of other kinds say nothing here."""
        if isinstance(event, Started):  # a resume repeats what came after its checkpoint
            self.probes = [probe for probe in self.probes if probe.step <= event.step]
        elif isinstance(event, Probing):
            self.layers = event.layers
        elif isinstance(event, Probe) and self.is_whole(event):
            self.keep(event)

    def is_whole(self, probe: Probe) -> bool:
        """Whether it tells a number, or that there was none, of each layer."""
        both = (probe.gradients, probe.activations)
        return all(
            len(numbers) == len(self.layers) and all(n is None or is_number(n) for n in numbers)
            for numbers in both
        )

    def keep(self, probe: Probe) -> None:
        """One look, if it is its turn; every second one goes when there are too many."""
        if self.seen % self.every == 0:
            self.probes.append(probe)
        self.seen += 1
        if len(self.probes) > MOST:
            self.probes, self.every = self.probes[::2], 2 * self.every

"""Where runs and data lie. Worked out once at the entry and passed down; nothing else asks."""

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Paths:
    """The folder of runs, the folder of data, the runs that came with the repository.

    cifar10_copy: an address or a path of CIFAR-10, tried before any other source.
    """

    runs: Path
    data: Path
    shipped: Path = REPOSITORY / "checkpoints"
    cifar10_copy: str | None = None

    @classmethod
    def from_environment(cls) -> "Paths":
        """RESNET_DEMO_RUNS and RESNET_DEMO_DATA, else the repository's own; RESNET_DEMO_CIFAR10."""
        return cls(
            runs=Path(os.environ.get("RESNET_DEMO_RUNS") or REPOSITORY / "checkpoints").absolute(),
            data=Path(os.environ.get("RESNET_DEMO_DATA") or REPOSITORY / "data").absolute(),
            cifar10_copy=os.environ.get("RESNET_DEMO_CIFAR10") or None,
        )

    def environment(self) -> dict[str, str]:
        """What tells a process of ours the same places."""
        told = {"RESNET_DEMO_RUNS": str(self.runs), "RESNET_DEMO_DATA": str(self.data)}
        return told | ({"RESNET_DEMO_CIFAR10": self.cifar10_copy} if self.cifar10_copy else {})

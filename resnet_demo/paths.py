"""The folders of runs and data. Entry points read the environment once and pass a Paths on."""

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Paths:
    """The folders that the program uses.

    shipped: runs that come with the repository. cifar10_copy: address or path of a copy of
    CIFAR-10, tried before the other sources.
    """

    runs: Path
    data: Path
    shipped: Path = REPOSITORY / "checkpoints"
    cifar10_copy: str | None = None

    @classmethod
    def from_environment(cls) -> "Paths":
        """Return the folders named by RESNET_DEMO_RUNS, _DATA and _CIFAR10, or the defaults."""
        return cls(
            runs=Path(os.environ.get("RESNET_DEMO_RUNS") or REPOSITORY / "checkpoints").absolute(),
            data=Path(os.environ.get("RESNET_DEMO_DATA") or REPOSITORY / "data").absolute(),
            cifar10_copy=os.environ.get("RESNET_DEMO_CIFAR10") or None,
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that give a child process the same folders."""
        variables = {"RESNET_DEMO_RUNS": str(self.runs), "RESNET_DEMO_DATA": str(self.data)}
        if self.cifar10_copy:
            variables["RESNET_DEMO_CIFAR10"] = self.cifar10_copy
        return variables

"""Where runs and data lie. Worked out once at the entry and passed down; nothing else asks."""

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Places:
    """The folder of runs, the folder of data, and the runs that came with the repository."""

    runs: Path
    data: Path
    shipped: Path = REPOSITORY / "checkpoints"

    @classmethod
    def from_environment(cls) -> "Places":
        """RESNET_DEMO_RUNS and RESNET_DEMO_DATA, else the repository's own two folders."""
        return cls(
            runs=Path(os.environ.get("RESNET_DEMO_RUNS") or REPOSITORY / "checkpoints").absolute(),
            data=Path(os.environ.get("RESNET_DEMO_DATA") or REPOSITORY / "data").absolute(),
        )

"""The folders of runs and data. Entry points read the environment once and pass a Paths on."""

import os
from dataclasses import dataclass
from pathlib import Path

from resnet_demo.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Paths:
    """The folders that the program uses.

    shipped: runs that come with the repository. cifar10_copy: address or path of a copy of
    CIFAR-10, tried before the other sources. weights_copy: a folder with files of pretrained
    weights, used in place of the one below the data root. weights_mirror: address of such a folder.
    """

    runs: Path
    data: Path
    shipped: Path = REPOSITORY / "checkpoints"
    cifar10_copy: str | None = None
    weights_copy: Path | None = None
    weights_mirror: str | None = None

    @property
    def weights(self) -> Path:
        """Return the folder of downloaded pretrained weights, which need not exist."""
        return self.weights_copy or self.data / ".weights"  # hidden: other folders are datasets

    @classmethod
    def from_environment(cls) -> "Paths":
        """Return what RESNET_DEMO_RUNS, _DATA, _CIFAR10 and _WEIGHTS name, or the defaults.

        Raises ConfigError for a name that cannot be a folder's.
        """
        weights = os.environ.get("RESNET_DEMO_WEIGHTS", "")
        is_address = weights.startswith(("http://", "https://"))
        return cls(
            runs=folder_from_environment("RESNET_DEMO_RUNS", REPOSITORY / "checkpoints"),
            data=folder_from_environment("RESNET_DEMO_DATA", REPOSITORY / "data"),
            cifar10_copy=os.environ.get("RESNET_DEMO_CIFAR10") or None,
            weights_copy=(
                None if is_address else folder_from_environment("RESNET_DEMO_WEIGHTS", None)
            ),
            weights_mirror=weights if is_address else None,
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that give a child process the same folders."""
        variables = {"RESNET_DEMO_RUNS": str(self.runs), "RESNET_DEMO_DATA": str(self.data)}
        if self.cifar10_copy:
            variables["RESNET_DEMO_CIFAR10"] = self.cifar10_copy
        if weights := self.weights_mirror or self.weights_copy:
            variables["RESNET_DEMO_WEIGHTS"] = str(weights)
        return variables


def folder_from_environment(variable: str, default: Path | None) -> Path | None:
    """Return the folder that a variable names, which need not exist. Raises ConfigError."""
    name = os.environ.get(variable)
    if not name:
        return default and default.absolute()
    try:
        # No shell has expanded `~` in a unit of systemd or a file of variables.
        folder = Path(name).expanduser().absolute()
        # The folder may be made later, but only if the nearest one that exists is a folder.
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        is_possible = existing.is_dir()
    except (OSError, RuntimeError):  # not allowed to look, too long, no such home
        is_possible = False
    if not is_possible:
        raise ConfigError.rule(variable, "a folder that can be read, existing or new", name)
    return folder

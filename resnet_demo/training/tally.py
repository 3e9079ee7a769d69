"""What an epoch's steps add up to, summed where the device is not waited for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_demo.training.distributed import World


@dataclass
class Tally:
    """Sums over the epoch so far; loss and correct stay on the device until somebody asks.

    Of several ranks each has a part of loss and correct; `seen` and seconds are of the whole.
    """

    loss: Tensor  # 0-d float64 or float32: sum over images of their batch's loss, nats
    correct: Tensor  # 0-d int64
    last: Tensor  # 0-d: the last batch's loss, nats
    seen: int = 0
    seconds: float = 0.0

    @classmethod
    def on(cls, device: torch.device) -> "Tally":
        """All zero. MPS has no float64."""
        kind = torch.float32 if device.type == "mps" else torch.float64
        return cls(
            torch.zeros((), dtype=kind, device=device),
            torch.zeros((), dtype=torch.int64, device=device),
            torch.zeros((), device=device),
        )

    def add(self, loss: Tensor, correct: Tensor, images: int) -> None:
        """One batch of so many images over all ranks; does not wait for the device."""
        self.loss += loss * images
        self.correct += correct
        self.last = loss
        self.seen += images

    def over(self, world: World) -> "Tally":
        """The same with the sums of all ranks."""
        loss, correct, last = world.total(self.loss, self.correct, self.last)
        return Tally(loss, correct.to(self.correct.dtype), last, self.seen, self.seconds)

    def means(self) -> tuple[float, float, int]:
        """Mean loss, top-1 as a fraction, and over how many images."""
        return self.loss.item() / self.seen, self.correct.item() / self.seen, self.seen

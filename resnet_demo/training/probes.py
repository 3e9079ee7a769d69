"""Looking into a training step, layer by layer: how large the gradient is, and the signal.

Hooks are there only while a step is looked into: a run without probes pays nothing, one with them
a pass over what each layer put out, in those steps alone. Nothing that is computed changes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from resnet_demo.events import Probe
from resnet_demo.training.state import Training

DIGITS = 4  # that a plot could ever show; the log stays small


def probed_layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Name -> layer, in the order of the network: what has weights that are learned.

    Shortcuts are left out: the layers that remain stand one behind the other, as depth counts.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        and module.weight.requires_grad
        and "shortcut" not in name.split(".")
    }


def is_probed(step: int, every: int) -> bool:
    """Whether update number `step` (from 1) is looked into; every: 0 for none."""
    return every > 0 and (step == 1 or step % every == 0)


class StepProbe:
    """One step of a network: the passes tell, `event` reads the numbers when the step is done."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = probed_layers(model)
        self.scales: dict[str, Tensor] = {}  # 0-d each, on the device
        self.lengths: list[Tensor] = []

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Hooks on every layer while the network runs within; none is left behind."""
        handles = [
            layer.register_forward_hook(self._scale_of(name)) for name, layer in self.layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def gradients(self) -> None:
        """Between the backward pass and the update, which may change them in place."""
        self.lengths = torch._foreach_norm([layer.weight.grad for layer in self.layers.values()])

    def event(self, training: Training) -> Probe:
        """The numbers; this is where the device is waited for."""
        scales = [self.scales[name] for name in self.layers]
        both = torch.stack([*self.lengths, *scales]).double().tolist()
        count = len(self.layers)
        numbers = [round_off(value) for value in both]
        return Probe(**training.position(), gradients=numbers[:count], activations=numbers[count:])

    def _scale_of(self, name: str) -> object:
        def hook(module: nn.Module, arguments: object, output: Tensor) -> None:
            # one pass in float32, whatever the precision, and no copy of the map
            length = torch.linalg.vector_norm(output.detach(), dtype=torch.float32)
            self.scales[name] = length / math.sqrt(output.numel())

        return hook


def round_off(value: float) -> float | None:
    """To the digits that count; None for what JSON has no number for."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None

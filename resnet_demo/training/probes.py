"""Measure single training steps layer by layer: gradient norms and activation sizes.

Hooks exist only during a probed step, so a run without probes pays nothing. A probed step pays one
pass over each layer's output. Probes do not change what is computed.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from resnet_demo.events import Probe
from resnet_demo.training.state import Training

DIGITS = 4  # enough for a plot, and the log stays small


def probed_layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the trained convolution and linear layers by name, in the order of the network.

    Shortcuts are left out: the remaining layers follow one another, and count as depth.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        and module.weight.requires_grad  # not the fixed stem of resnet9, which has no gradient
        and "shortcut" not in name.split(".")
    }


def is_probed(step: int, every: int) -> bool:
    """Return whether update number `step` (from 1) is probed; every: 0 for never."""
    # The first step always: it shows the network as it was initialized.
    return every > 0 and (step == 1 or step % every == 0)


class StepProbe:
    """Measurements of one step: collected during its passes, read by `event` afterwards."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = probed_layers(model)
        self.activation_rms: dict[str, Tensor] = {}  # 0-d each, on the device
        self.gradient_norms: list[Tensor] = []  # 0-d each, on the device

    @contextmanager
    def forward_hooks(self) -> Iterator[None]:
        """Hook every layer during the forward pass, and remove the hooks afterwards."""
        handles = [
            layer.register_forward_hook(self._rms_hook(name)) for name, layer in self.layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def record_gradients(self) -> None:
        """Record the gradient norms. Call it before the update, which may change gradients."""
        gradients = [layer.weight.grad for layer in self.layers.values()]
        # One call for all layers: on a GPU a kernel per layer would cost more than the norms.
        self.gradient_norms = torch._foreach_norm(gradients)

    def event(self, training: Training) -> Probe:
        """Return the measurements as an event, which waits for the device."""
        activations = [self.activation_rms[name] for name in self.layers]
        # one stack, so that the device is waited for once
        values = torch.stack([*self.gradient_norms, *activations]).double().tolist()
        numbers = [round_digits(value) for value in values]
        count = len(self.layers)
        return Probe(**training.position(), gradients=numbers[:count], activations=numbers[count:])

    def _rms_hook(self, name: str) -> object:
        """Return a forward hook that records the root mean square of the layer's output."""

        def hook(module: nn.Module, arguments: object, output: Tensor) -> None:
            # one pass in float32, whatever the precision, without a copy of the feature map
            norm = torch.linalg.vector_norm(output.detach(), dtype=torch.float32)
            self.activation_rms[name] = norm / math.sqrt(output.numel())

        return hook


def round_digits(value: float) -> float | None:
    """Return the value rounded to DIGITS significant digits; None for NaN and infinity."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None

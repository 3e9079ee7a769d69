"""Compile the network before its first step, so that the wait has its own event.

A separate module: importing torch's compiler takes seconds.
"""

import time
from collections.abc import Iterable

import torch
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor.exc import InductorError

from resnet_demo.errors import ConfigError
from resnet_demo.events import Compiled
from resnet_demo.training.state import Training


def warm_up(training: Training) -> Compiled:
    """Run one forward and backward pass per batch size, which compiles the network.

    No weight changes; BatchNorm's running statistics and the gradients are reset afterwards.
    Raises ConfigError if nothing can be compiled, for example without a C++ compiler.
    """
    began = time.monotonic()
    before = [buffer.clone() for buffer in training.model.buffers()]
    training.model.train()
    try:
        # backward too: its graph is compiled separately
        for index in batch_indices_by_size(training):
            x, _ = training.batches.train_batch(training.batches.plan(1), index)
            with training.autocast():
                logits = training.step_model(x)
            logits.float().sum().backward()
    except (BackendCompilerFailed, InductorError) as error:
        reason = str(error).strip().splitlines()[0]  # the rest is a page of the compiler's output
        raise ConfigError(
            f"compile must be false where the network cannot be compiled: {reason}", "compile"
        ) from error
    # The first real step must not add to the gradients of this one.
    training.optimizer.zero_grad(set_to_none=True)
    for buffer, old in zip(training.model.buffers(), before, strict=True):
        buffer.copy_(old)
    # The kernels are only queued so far; the reported time includes them.
    if training.device.type != "cpu":
        torch.accelerator.synchronize(training.device)
    return Compiled(**training.position(), seconds=time.monotonic() - began)


def batch_indices_by_size(training: Training) -> Iterable[int]:
    """Return one batch index for each batch size of an epoch: the last batch may be smaller."""
    # shapes are static (`dynamic=False`), so that each size is compiled separately
    last = training.batches.steps_per_epoch - 1
    sizes = {len(training.batches.positions(index)): index for index in (0, last)}
    return sizes.values()

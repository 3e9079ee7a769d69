"""Several processes, one run: each has a device and a share of every batch.

All of them have the same weights, because each makes the same update from the same gradients, the
mean over the batch. torchrun starts them and sets their ranks; a single process runs the same code.
Decisions that all ranks must share go through gloo, from CPU to CPU, so that no device is waited
for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from resnet_demo.config import TrainConfig
from resnet_demo.errors import DemoError
from resnet_demo.models.device import pick_device
from resnet_demo.training import torchrun
from resnet_demo.training.batches import rank_share

AGREE_EVERY = 4  # steps: an exchange takes about 0.1 ms, and a stop still comes soon enough
TIMEOUT = timedelta(hours=1)  # for a silent rank: the first one may have to wait in the queue


@dataclass(frozen=True)
class World:
    """The processes of a run. rank: of this process, from 0 to `size` - 1. Rank 0 writes.

    Methods that exchange data must be called by all ranks, in the same order.
    """

    rank: int
    size: int
    device: torch.device

    def broadcast(self, compute: Callable[[], Any]) -> Any:
        """Return what `compute` returns on rank 0, on all ranks; a DemoError is raised on all."""
        if self.size == 1:
            return compute()
        value = error = None
        if self.rank == 0:
            try:
                value = compute()
            except DemoError as raised:
                error = raised
        # The error is sent too: a rank that went on alone would wait forever in its next exchange.
        box = [value, error]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        if box[1] is not None:
            raise box[1]
        return box[0]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is true on any rank."""
        if self.size == 1:
            return flag
        # On the CPU, so that gloo exchanges it and no device is waited for.
        tensor = torch.tensor(int(flag))
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return bool(tensor)

    def any_at_step(self, condition: Callable[[], bool], step: int) -> bool:
        """Return whether the condition holds on any rank.

        A single process checks it at every step, several ranks at every AGREE_EVERY-th.
        """
        if self.size > 1 and step % AGREE_EVERY:
            return False
        return self.any(condition())

    def sum(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Return 0-d tensors on the device, summed over all ranks in float64."""
        if self.size == 1:
            return values
        sums = torch.stack([value.double() for value in values])
        dist.all_reduce(sums)
        return tuple(sums)

    def average(self, tensors: list[Tensor]) -> None:
        """Replace each floating-point tensor by its mean over all ranks, in place."""
        for tensor in tensors if self.size > 1 else []:
            # BatchNorm's count of batches is an integer, and the same on all ranks.
            if tensor.is_floating_point():
                dist.all_reduce(tensor)
                tensor /= self.size

    def share(self, n: int) -> slice:
        """Return this rank's part of n items."""
        return rank_share(n, self.rank, self.size)

    def concatenate(self, part: Tensor, n: int) -> Tensor:
        """Return (n, …) on the CPU, of which each rank passes its `share`."""
        if self.size == 1:
            return part
        # As a sum, since gathering needs parts of equal length.
        whole = part.new_zeros(n, *part.shape[1:])
        whole[self.share(n)] = part
        dist.all_reduce(whole)  # exact: every value is added to zeros
        return whole

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model such that a backward pass averages the gradients over all ranks.

        They are exchanged while the pass is still running.
        """
        if self.size == 1:
            return model
        # BatchNorm's running statistics are averaged before validation and saving instead
        # (`average`): an exchange at every step costs more than it is worth.
        name = "forward_sync_buffers"
        if name not in signature(DistributedDataParallel).parameters:
            name = "broadcast_buffers"  # its name before torch 2.14, which warns about the old one
        sync = {name: False}
        device_ids = None if self.device.type == "cpu" else [self.device]
        return DistributedDataParallel(
            model, device_ids=device_ids, gradient_as_bucket_view=True, **sync
        )

    def to_device(self, model: nn.Module, config: TrainConfig) -> nn.Module:
        """Move the model to the device; with `sync_batch_norm` it normalizes over the whole batch.

        PyTorch has that for accelerators only: on a CPU each rank normalizes over its own share.
        """
        if self.size > 1 and config.sync_batch_norm and self.device.type != "cpu":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return model.to(self.device).to(memory_format=torch.channels_last)


def single_process() -> World:
    """Return the world of one process."""
    return World(0, 1, pick_device())


@contextmanager
def join_world() -> Iterator[World]:
    """Join the processes that torchrun started, and wait for all of them.

    Without torchrun: `single_process`. Raises ConfigError if this machine has fewer devices than
    processes.
    """
    if torchrun.size() == 1:
        yield single_process()
        return
    device = pick_device(torchrun.local_rank(), torchrun.local_size())
    # For what goes from CPU to CPU; tensors on a device use its own backend.
    backend = "gloo"
    if device.type != "cpu":
        torch.accelerator.set_device_index(device.index)
        backend = f"cpu:gloo,{device.type}:{dist.get_default_backend_for_device(device)}"
    rank, size = torchrun.rank(), torchrun.size()
    dist.init_process_group(
        backend, store=rendezvous_store(), rank=rank, world_size=size, timeout=TIMEOUT
    )
    yield World(rank, size, device)
    dist.destroy_process_group()  # not after an error: it could wait for a rank that is gone


def rendezvous_store() -> dist.Store:
    """Return the store through which the ranks exchange their addresses."""
    # torchrun's store still holds the addresses of lost ranks after a restart (torch 2.14). On one
    # machine each start gets its own prefix. Several machines may count restarts differently;
    # docs/scaling.md describes how to make torchrun create a new store there.
    store, _, size = next(rendezvous("env://", timeout=TIMEOUT))
    if torchrun.local_size() < size:
        return store
    return dist.PrefixStore(f"start-{torchrun.restarts()}", store)

"""Several processes, one run: each has a device and a share of every batch, and all have the same
weights, because each makes the same update from the same gradients, the mean over the batch.

torchrun starts them and says which is which; one process alone needs none of this, and runs the
same code. What every rank must decide alike is agreed on through gloo, from host to host: a device
that computes is not waited for.
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

AGREE_EVERY = 4  # steps; asking all hosts costs some 0.1 ms, and a stop comes soon enough
TIMEOUT = timedelta(hours=1)  # for a rank that says nothing: the first may wait in the queue


@dataclass(frozen=True)
class World:
    """rank: which of `size` processes this is, from 0. The first is the one that writes.

    Methods that say "all ranks" must be called by every rank, in the same order.
    """

    rank: int
    size: int
    device: torch.device

    def broadcast(self, ask: Callable[[], Any]) -> Any:
        """What the first rank's `ask` returns, on all ranks; its DemoError is raised on all."""
        if self.size == 1:
            return ask()
        answer = error = None
        if self.rank == 0:
            try:
                answer = ask()
            except DemoError as raised:
                error = raised
        box = [answer, error]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        if box[1] is not None:
            raise box[1]
        return box[0]

    def any(self, yes: bool) -> bool:
        """Whether one of all ranks says yes."""
        if self.size == 1:
            return yes
        flag = torch.tensor(int(yes))
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def any_at_step(self, ask: Callable[[], bool], step: int) -> bool:
        """The same of `ask`, for before or after each step: alone always, else at fixed steps."""
        if self.size > 1 and step % AGREE_EVERY:
            return False
        return self.any(ask())

    def sum(self, *numbers: Tensor) -> tuple[Tensor, ...]:
        """0-d tensors on the device, summed over all ranks in float64; alone as they are."""
        if self.size == 1:
            return numbers
        sums = torch.stack([number.double() for number in numbers])
        dist.all_reduce(sums)
        return tuple(sums)

    def average(self, tensors: list[Tensor]) -> None:
        """Put the mean over all ranks into each tensor of floating point."""
        for tensor in tensors if self.size > 1 else []:
            if tensor.is_floating_point():
                dist.all_reduce(tensor)
                tensor /= self.size

    def share(self, n: int) -> slice:
        """Which of n things are this rank's."""
        return rank_share(n, self.rank, self.size)

    def concatenate(self, part: Tensor, n: int) -> Tensor:
        """(n, …) on the CPU, of which each of all ranks gave its share. Exact: to 0 it is added."""
        if self.size == 1:
            return part
        whole = part.new_zeros(n, *part.shape[1:])
        whole[self.share(n)] = part
        dist.all_reduce(whole)
        return whole

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, such that a backward pass ends with gradients that are means over all ranks.

        They are summed while the pass still goes on. BatchNorm's running statistics stay apart
        (`average`): sending them at every step would cost more than they are worth.
        """
        if self.size == 1:
            return model
        device_ids = None if self.device.type == "cpu" else [self.device]
        apart = {"forward_sync_buffers": False}
        if "forward_sync_buffers" not in signature(DistributedDataParallel).parameters:
            apart = {"broadcast_buffers": False}  # its name before torch 2.14, which warns of it
        return DistributedDataParallel(
            model, device_ids=device_ids, gradient_as_bucket_view=True, **apart
        )

    def to_device(self, model: nn.Module, config: TrainConfig) -> nn.Module:
        """The model on the device, its BatchNorm over the whole batch where that was asked for.

        PyTorch has that for accelerators only: on a CPU each rank normalizes over its own share.
        """
        if self.size > 1 and config.sync_batch_norm and self.device.type != "cpu":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return model.to(self.device).to(memory_format=torch.channels_last)


def single_process() -> World:
    """One process, as nearly always."""
    return World(0, 1, pick_device())


@contextmanager
def join_world() -> Iterator[World]:
    """This process's place among those that torchrun started; `alone` without it.

    Waits for the others. Raises ConfigError where this machine has fewer devices than processes.
    """
    if torchrun.size() == 1:
        yield single_process()
        return
    device = pick_device(torchrun.local_rank(), torchrun.local_size())
    backend = "gloo"
    if device.type != "cpu":
        torch.accelerator.set_device_index(device.index)
        backend = f"cpu:gloo,{device.type}:{dist.get_default_backend_for_device(device)}"
    rank, size = torchrun.rank(), torchrun.size()
    dist.init_process_group(
        backend, store=rendezvous_store(), rank=rank, world_size=size, timeout=TIMEOUT
    )
    yield World(rank, size, device)
    dist.destroy_process_group()  # not after an error: it might wait for a rank that is gone


def rendezvous_store() -> dist.Store:
    """Where the ranks read each other's addresses, torchrun's own store.

    After a restart it still holds those of the ranks that are gone (torch 2.14). On one machine
    each start is given a place of its own; on several, restarts are not counted alike, and
    docs/scaling.md says how torchrun is told to make a new store.
    """
    store, _, size = next(rendezvous("env://", timeout=TIMEOUT))
    if torchrun.local_size() < size:
        return store
    return dist.PrefixStore(f"start-{torchrun.restarts()}", store)

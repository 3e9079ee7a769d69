"""All that changes while a run trains, how it is saved and how it comes back."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from resnet_demo import __version__
from resnet_demo.config import TrainConfig
from resnet_demo.data.image_sizes import image_sizes
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError
from resnet_demo.events import Epoch, Resumed, Started
from resnet_demo.files import full_told
from resnet_demo.models.device import autocast, device_name, pick_precision
from resnet_demo.models.measure import measure
from resnet_demo.models.saved import save_model
from resnet_demo.models.zoo import build_model
from resnet_demo.training.batches import Batches
from resnet_demo.training.checkpoint import load_last, save_last
from resnet_demo.training.distributed import World, single_process
from resnet_demo.training.optimizers import CombinedOptimizer, exponential_average, make_optimizer

ADAPT_IMAGES = 500  # images that a network is shown before its first step


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
    def zeros(cls, device: torch.device) -> "Tally":
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

    def over_ranks(self, world: World) -> "Tally":
        """The same with the sums of all ranks."""
        loss, correct, last = world.sum(self.loss, self.correct, self.last)
        return Tally(loss, correct.to(self.correct.dtype), last, self.seen, self.seconds)

    def means(self) -> tuple[float, float, int]:
        """Mean loss, top-1 as a fraction, and over how many images."""
        return self.loss.item() / self.seen, self.correct.item() / self.seen, self.seen


@dataclass
class Training:
    """A run in progress. `step` counts updates done, `validated` the epochs that are complete.

    replica: the model as several ranks train it, or compiled; None where it trains as it is.
    averaged: the running mean of the model's weights, where `ema_decay` asks for one.
    """

    config: TrainConfig
    batches: Batches
    model: nn.Module
    optimizer: Optimizer | CombinedOptimizer
    world: World
    precision: str
    folder: Path | None
    tally: Tally
    step: int = 0
    epochs_done: int = 0
    seconds: float = 0.0
    epoch_began: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)  # epoch, val_top1, val_loss
    resumed: bool = False
    warning: str = ""
    wrapped: nn.Module | None = None
    averaged: AveragedModel | None = None

    @classmethod
    def begin(
        cls,
        config: TrainConfig,
        datasets: Datasets,
        folder: Path | None,
        world: World | None = None,
    ) -> "Training":
        """Network, optimizer and data on the device, as the folder's checkpoint has them.

        Only the first rank needs the folder: it tells the others what was saved.
        """
        world = world or single_process()
        loaded = world.broadcast(lambda: load_own(folder, config) if folder else None)
        if loaded:  # another number of threads adds in another order
            torch.set_num_threads(loaded[0]["threads"])
        batches = Batches.load(config, datasets, world.device, world.rank, world.size)
        model = world.to_device(initial_model(config, len(batches.classes)), config)
        training = cls(
            config=config,
            batches=batches,
            model=model,
            optimizer=make_optimizer(model, config),
            world=world,
            precision=pick_precision(config.precision, world.device),
            folder=folder,
            tally=Tally.zeros(world.device),
        )
        if config.ema_decay:
            training.averaged = exponential_average(model, config.ema_decay)
        if loaded:
            training.restore(*loaded)
        else:
            model.adapt(batches.first_images(ADAPT_IMAGES))
        if world.size > 1:
            training.wrapped = world.wrap(model)
        if config.compile:  # by the first step, which `compiled.warm_up` takes
            training.wrapped = torch.compile(training.step_model, dynamic=False)
        return training

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.world.device

    @property
    def step_model(self) -> nn.Module:
        """What a step goes through: the replica, where there is one."""
        return self.model if self.wrapped is None else self.wrapped

    @property
    def kept_model(self) -> nn.Module:
        """What is validated and kept for classifying: the running mean, where there is one."""
        return self.model if self.averaged is None else self.averaged.module

    @property
    def epoch(self) -> int:
        """The epoch being trained, from 1."""
        return min(self.epochs_done + 1, self.config.epochs)

    def position(self) -> dict[str, int]:
        """Where the run is, for an event."""
        return {"step": self.step, "epoch": self.epoch}

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        return autocast(self.device, self.precision)

    def start_event(self) -> Started | Resumed:
        """What this run is, told once at the start of each stretch."""
        counts = measure(self.model, self.config.image_size)
        ranks = f"{self.world.size} × " if self.world.size > 1 else ""
        facts = {
            **self.position(),
            "device": ranks + device_name(self.device),
            "precision": self.precision,
            "threads": torch.get_num_threads(),
            "parameters": counts.parameters,
            "macs": counts.macs,
            "steps_per_epoch": self.batches.steps_per_epoch,
            "epochs": self.config.epochs,
            "version": __version__,
            "seconds": self.seconds,
            "sides": image_sizes(self.config),
            "keep": self.config.keep,
        }
        return Resumed(**facts, message=self.warning) if self.resumed else Started(**facts)

    def end_fields(self, message: str) -> dict[str, Any]:
        """What the last event of a stretch says of the run as a whole."""
        return {
            "best_epoch": self.best.get("epoch"),
            "best_val_top1": self.best.get("val_top1"),
            "seconds": self.seconds,
            "message": message,
        }

    def close_epoch(self) -> None:
        """The epoch is trained and validated: the next one starts from empty sums."""
        self.epochs_done += 1
        self.epoch_began = self.seconds
        self.tally = Tally.zeros(self.device)

    def keep_weights(self, summary: Epoch, outside: dict[str, Any] | None = None) -> None:
        """Save the weights for classifying: those of the last epoch, or of the best so far.

        The config's `keep` decides; best is the first of the highest validation top-1.
        outside: `Validation.outside` of the same epoch, for model.json's metrics.
        """
        by_validation = self.config.keep == "best"
        if by_validation and self.best and summary.val_top1 <= self.best["val_top1"]:
            return
        self.best = {
            "epoch": summary.epoch,
            "val_top1": summary.val_top1,
            "val_loss": summary.val_loss,
        }
        if not self.folder:
            return
        weights = sum(value.nbytes for value in self.kept_model.state_dict().values())
        with full_told(self.folder, weights, "the kept weights"):
            save_model(
                self.folder,
                self.kept_model,
                network=model_arguments(self.config, len(self.batches.classes)),
                classes=list(self.batches.classes),
                preprocessing=self.batches.preprocessing.to_dict(),
                metrics={**self.best, **({"outside": outside} if outside else {})},
            )

    def average_batch_norm(self) -> None:
        """Make BatchNorm's running statistics those of all ranks: their mean.

        They are means themselves, so that it does not matter when or how often this is done.
        """
        self.world.average(list(self.model.buffers()))
        if self.averaged is not None:
            self.world.average(list(self.averaged.module.buffers()))

    def save(self) -> None:
        """Write `last.pt`: tensors and plain values only. All ranks call; the first one writes."""
        self.average_batch_norm()
        tally = self.tally.over_ranks(self.world)
        if not self.folder:
            return
        state = {
            "config": self.config.to_dict(),
            "threads": torch.get_num_threads(),
            "step": self.step,
            "validated": self.epochs_done,
            "seconds": self.seconds,
            "epoch_began": self.epoch_began,
            "best": self.best,
            "tally": vars(tally),
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "saved_at": time.time(),
        }
        save_last(self.folder, state)

    def restore(self, state: dict[str, Any], warning: str) -> None:
        """Become what was saved."""
        self.model.load_state_dict(state["model"])
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:  # of other weights: PyTorch's own words name none
            raise DamagedError(
                f"the checkpoint was written by another version of this program, which learned "
                f"other weights of {self.config.model}: train it anew"
            ) from error
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.step, self.epochs_done = state["step"], state["validated"]
        self.seconds, self.epoch_began = state["seconds"], state["epoch_began"]
        self.best, self.resumed, self.warning = state["best"], True, warning
        tally = state["tally"]
        if self.world.rank == 0:  # the sums go on in one place, to be counted once
            self.tally.loss += tally["loss"].to(self.device)
            self.tally.correct += tally["correct"].to(self.device)
            self.tally.last = tally["last"].to(self.device)
        self.tally.seen, self.tally.seconds = tally["seen"], tally["seconds"]


def load_own(folder: Path, config: TrainConfig) -> tuple[dict[str, Any], str] | None:
    """As `load_last`, where the checkpoint is of a run that was told the same. Raises DamagedError.

    A config.json that was altered, or a checkpoint of another run, would go on as neither.
    """
    loaded, told = load_last(folder), config.to_dict()
    if loaded is None:
        return None
    saved = loaded[0]["config"]
    for name in told.keys() & saved.keys():  # a later version may know other knobs
        if told[name] != saved[name]:
            raise DamagedError(
                f"config.json of {folder.name} does not belong to its checkpoint: {name} is "
                f"{told[name]!r}, and {saved[name]!r} there"
            )
    return loaded


def initial_model(config: TrainConfig, num_classes: int) -> nn.Module:
    """The network at step 0: a function of the config, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = model_arguments(config, num_classes)
        return build_model(network.pop("name"), **network)


def model_arguments(config: TrainConfig, num_classes: int) -> dict[str, Any]:
    """The arguments of build_model, as model.json keeps them."""
    return {
        "name": config.model,
        "num_classes": num_classes,
        "stem": config.stem,
        "batch_norm": config.batch_norm,
    }

"""A run in progress: network, optimizer, position and sums, and how they are saved and restored."""

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
from resnet_demo.files import reporting_disk_full
from resnet_demo.fingerprint import Fingerprint
from resnet_demo.models.counts import model_counts
from resnet_demo.models.device import autocast, device_name, pick_precision
from resnet_demo.models.saved import save_model
from resnet_demo.paths import Paths
from resnet_demo.runs.weights import (
    InitialWeights,
)
from resnet_demo.training.batches import Batches
from resnet_demo.training.checkpoint import foreign_checkpoint, save_last
from resnet_demo.training.distributed import World, single_process
from resnet_demo.training.initial import (
    class_weights,
    initial_model,
    load_checkpoint,
    load_initial_weights,
    model_arguments,
)
from resnet_demo.training.optimizers import CombinedOptimizer, exponential_average, make_optimizer

INIT_IMAGES = 500  # training images for `init_from_data`


@dataclass
class Tally:
    """Sums over the current epoch. Tensors stay on the device until they are read.

    With several ranks each one holds its part of loss and correct; `seen` and `seconds` are of all.
    """

    loss: Tensor  # 0-d float64, float32 on MPS: batch loss times batch size, summed, in nats
    correct: Tensor  # 0-d int64
    last: Tensor  # 0-d: the last batch's loss, nats
    seen: int = 0  # images
    seconds: float = 0.0

    @classmethod
    def zeros(cls, device: torch.device) -> "Tally":
        """Return an empty tally on the device."""
        kind = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        return cls(
            torch.zeros((), dtype=kind, device=device),
            torch.zeros((), dtype=torch.int64, device=device),
            torch.zeros((), device=device),
        )

    def add(self, loss: Tensor, correct: Tensor, images: int) -> None:
        """Add a batch of that many images over all ranks, without waiting for the device."""
        # Weighted by its images: the last batch of an epoch may be smaller.
        self.loss += loss * images
        self.correct += correct
        self.last = loss
        self.seen += images

    def over_ranks(self, world: World) -> "Tally":
        """Return the tally of all ranks. All ranks call this."""
        loss, correct, last = world.sum(self.loss, self.correct, self.last)
        return Tally(loss, correct.to(self.correct.dtype), last, self.seen, self.seconds)

    def means(self) -> tuple[float, float, int]:
        """Return mean loss, top-1 as a fraction, and the number of images."""
        return self.loss.item() / self.seen, self.correct.item() / self.seen, self.seen


@dataclass
class Training:
    """A run in progress."""

    config: TrainConfig
    batches: Batches
    model: nn.Module
    optimizer: Optimizer | CombinedOptimizer
    world: World
    precision: str  # float32 or bf16
    folder: Path | None  # for checkpoints and kept weights
    tally: Tally  # of the current epoch
    fingerprint: Fingerprint | None = None  # of the dataset, for the kept weights
    initial: InitialWeights | None = None  # None: random
    class_weights: Tensor | None = None  # (num_classes,), in the loss
    step: int = 0  # updates done
    epochs_done: int = 0  # trained and validated
    seconds: float = 0.0  # of work, in all sessions
    epoch_began: float = 0.0  # `seconds` when the current epoch began
    best: dict[str, Any] = field(default_factory=dict)  # epoch, val_top1, val_loss that are kept
    highest: dict[str, Any] = field(default_factory=dict)  # epoch, val_top1: of all epochs so far
    # With `keep` last-or-head: (n,) bool, the validation images that the fitted head has right;
    # empty where none are held out. None elsewhere.
    head_right: Tensor | None = None
    verdict: str = ""  # which weights were kept after the last epoch, and why
    resumed: bool = False
    warning: str = ""  # names a damaged checkpoint
    wrapped: nn.Module | None = None  # the model in DistributedDataParallel, compiled, or both
    averaged: AveragedModel | None = None  # moving average of the weights, with `ema_decay`

    @classmethod
    def begin(
        cls,
        config: TrainConfig,
        datasets: Datasets,
        folder: Path | None,
        world: World | None = None,
        paths: Paths | None = None,
    ) -> "Training":
        """Build network, optimizer and data on the device, and load the folder's checkpoint.

        Only the first rank needs the folder: it sends the checkpoint to the others. paths: where
        initial weights are; by default those of the environment. Raises ConfigError, NotFoundError,
        DamagedError.
        """
        paths = paths or Paths.from_environment()
        world = world or single_process()
        loaded, fingerprint, initial = world.broadcast(
            lambda: load_checkpoint(folder, config, datasets, paths)
        )
        if loaded:
            # another number of threads adds floating-point numbers in another order
            torch.set_num_threads(loaded[0]["threads"])
        batches = Batches.load(config, datasets, world.device, world.rank, world.size, initial)
        model = initial_model(config, len(batches.classes))
        if initial is not None and not loaded:
            load_initial_weights(model, config, batches.classes, paths)
        model = world.to_device(model, config)
        training = cls(
            config=config,
            batches=batches,
            model=model,
            optimizer=make_optimizer(model, config),
            world=world,
            precision=pick_precision(config.precision, world.device),
            folder=folder,
            fingerprint=fingerprint,
            initial=initial,
            class_weights=class_weights(config, batches),
            tally=Tally.zeros(world.device),
        )
        # Before the checkpoint is loaded, which holds the average too.
        if config.ema_decay:
            training.averaged = exponential_average(model, config.ema_decay)
        if loaded:
            training.load_state_dict(*loaded)
        elif initial is None:  # some networks compute their first layer from the images
            model.init_from_data(batches.first_images(INIT_IMAGES))
        if world.size > 1:
            training.wrapped = world.wrap(model)
        if config.compile:  # lazily, in the first pass: `compiled.warm_up`
            training.wrapped = torch.compile(training.step_model, dynamic=False)
        return training

    @property
    def device(self) -> torch.device:
        """Return the device of this process."""
        return self.world.device

    @property
    def step_model(self) -> nn.Module:
        """Return the module that a training step calls."""
        return self.model if self.wrapped is None else self.wrapped

    @property
    def kept_model(self) -> nn.Module:
        """Return the model that is validated and kept: the moving average, if there is one."""
        return self.model if self.averaged is None else self.averaged.module

    @property
    def epoch(self) -> int:
        """Return the number of the current epoch, from 1."""
        return min(self.epochs_done + 1, self.config.epochs)

    def position(self) -> dict[str, int]:
        """Return the fields `step` and `epoch` of an event."""
        return {"step": self.step, "epoch": self.epoch}

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass."""
        return autocast(self.device, self.precision)

    def start_event(self) -> Started | Resumed:
        """Return the event that opens a session."""
        network = model_arguments(self.config, len(self.batches.classes))
        counts = model_counts(image_size=self.config.image_size, **network)
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
        """Return the fields of the event that ends a session, but for `position`."""
        return {
            "best_epoch": self.best.get("epoch"),
            "best_val_top1": self.best.get("val_top1"),
            "seconds": self.seconds,
            "message": message,
            "val_images": len(self.batches.val_labels),
        }

    def set_training_mode(self) -> None:
        """Set the network to training mode; with `freeze_batch_norm`, BatchNorm stays as it is."""
        self.model.train()
        if self.config.freeze_batch_norm:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                    module.eval()

    def is_out_of_patience(self) -> bool:
        """Return whether `patience` epochs in a row were no better than one before them."""
        waited = self.epochs_done - self.highest.get("epoch", self.epochs_done)
        return 0 < self.config.patience <= waited

    def close_epoch(self, summary: Epoch | None = None) -> None:
        """Move on to the next epoch, with empty sums. summary: of a validated epoch."""
        if summary and (not self.highest or summary.val_top1 > self.highest["val_top1"]):
            self.highest = {"epoch": summary.epoch, "val_top1": summary.val_top1}
        self.epochs_done += 1
        self.epoch_began = self.seconds
        self.tally = Tally.zeros(self.device)

    def keep_weights(
        self,
        summary: Epoch,
        ood_threshold: dict[str, Any] | None = None,
        metrics: dict[str, Any] | None = None,
    ) -> None:
        """Save the weights for classifying: of the last epoch, or of the best one so far.

        The config's `keep` decides; the best epoch is the first with the highest validation top-1.
        With last-or-head, `validate.keeps_head` decides before.
        ood_threshold: of the same epoch, for the metrics in model.json; metrics: others for it.
        Raises DiskFullError.
        """
        keeps_best = self.config.keep == "best"
        if keeps_best and self.best and summary.val_top1 <= self.best["val_top1"]:
            return
        self.best = {
            "epoch": summary.epoch,
            "val_top1": summary.val_top1,
            "val_loss": summary.val_loss,
        }
        if not self.folder:
            return
        metrics = {**self.best, **(metrics or {})}
        if ood_threshold:
            metrics["outside"] = ood_threshold
        if self.initial is not None:
            metrics["initial_weights"] = self.initial.to_dict()
        size = sum(value.nbytes for value in self.kept_model.state_dict().values())
        with reporting_disk_full(self.folder, size, "the kept weights"):
            save_model(
                self.folder,
                self.kept_model,
                network=model_arguments(self.config, len(self.batches.classes)),
                classes=list(self.batches.classes),
                preprocessing=self.batches.preprocessing.to_dict(),
                metrics=metrics,
                fingerprint=self.fingerprint and self.fingerprint.to_dict(),
            )

    def average_batch_norm(self) -> None:
        """Replace BatchNorm's running statistics by their mean over all ranks.

        They are running means themselves, so it does not matter when or how often this is done.
        """
        self.world.average(list(self.model.buffers()))
        if self.averaged is not None:
            self.world.average(list(self.averaged.module.buffers()))

    def save(self) -> None:
        """Write `last.pt`. All ranks call this; the first one writes. Raises DiskFullError."""
        self.average_batch_norm()
        tally = self.tally.over_ranks(self.world)
        if self.folder:
            save_last(self.folder, self.state_dict(tally))

    def state_dict(self, tally: Tally) -> dict[str, Any]:
        """Return the content of `last.pt`: tensors and plain values only. tally: of all ranks."""
        return {
            "config": self.config.to_dict(),
            "threads": torch.get_num_threads(),
            "step": self.step,
            "validated": self.epochs_done,
            "seconds": self.seconds,
            "epoch_began": self.epoch_began,
            "best": self.best,
            "highest": self.highest,
            "head_right": self.head_right,
            "verdict": self.verdict,
            "tally": vars(tally),
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "saved_at": time.time(),
        }

    def load_state_dict(self, state: dict[str, Any], warning: str) -> None:
        """Restore what `state_dict` returned; warning: from `load_last`. Raises DamagedError."""
        try:
            self.model.load_state_dict(state["model"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
        except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
            network = f"{self.config.model} with the {len(self.batches.classes)} classes of"
            raise self.mismatch(
                f"its weights are not those of {network} {self.config.dataset}, which may have "
                "changed since training"
            ) from error
        self.restore_optimizer(state["optimizer"])
        self.step, self.epochs_done = state["step"], state["validated"]
        self.seconds, self.epoch_began = state["seconds"], state["epoch_began"]
        self.best, self.resumed, self.warning = state["best"], True, warning
        # Checkpoints of older versions have none of these.
        self.highest = state.get("highest", {})
        self.head_right, self.verdict = state.get("head_right"), state.get("verdict", "")
        if not self.fits_validation(self.head_right):
            raise self.mismatch("its comparison is of other validation images")
        tally = state["tally"]
        if self.world.rank == 0:  # the saved sums are of all ranks, and must count once
            self.tally.loss += tally["loss"].to(self.device)
            self.tally.correct += tally["correct"].to(self.device)
            self.tally.last = tally["last"].to(self.device)
        self.tally.seen, self.tally.seconds = tally["seen"], tally["seconds"]

    def fits_validation(self, right: Any) -> bool:
        """Return whether this can be `head_right`."""
        return right is None or (
            isinstance(right, Tensor)
            and right.dtype == torch.bool
            and right.shape in ((0,), self.batches.val_labels.shape)
        )

    def restore_optimizer(self, state: dict[str, Any]) -> None:
        """Restore the optimizer. Raises DamagedError where its state does not fit the weights."""
        settings = [set(group) for group in self.optimizer.param_groups]
        try:
            self.optimizer.load_state_dict(state)
        except ValueError as error:  # another set of parameters; PyTorch's message names none
            raise DamagedError(
                f"the checkpoint was written by another version of this program, which trained "
                f"other weights of {self.config.model}: start a new run"
            ) from error
        except (KeyError, TypeError, AttributeError, RuntimeError, IndexError) as error:
            raise self.mismatch("its optimizer's state is not one") from error
        groups = self.optimizer.param_groups
        if any(not names <= set(group) for names, group in zip(settings, groups, strict=True)):
            raise self.mismatch("settings of its optimizer are missing")
        # PyTorch does not compare these shapes, and would raise in the middle of the next step.
        parts = getattr(self.optimizer, "parts", [self.optimizer])
        for weight, values in (pair for part in parts for pair in part.state.items()):
            tensors = values.values() if isinstance(values, dict) else [None]
            if any(not fits_weight(tensor, weight) for tensor in tensors):
                raise self.mismatch("its optimizer's state is of other weights")

    def mismatch(self, reason: str) -> DamagedError:
        """Return the error of a checkpoint that does not belong to this training."""
        return foreign_checkpoint(self.folder or Path("run"), reason)


def fits_weight(value: Any, weight: Any) -> bool:
    """Return whether this can be in an optimizer's state of a weight: a number or its shape."""
    if not isinstance(value, Tensor):
        return value is None or isinstance(value, int | float)
    return isinstance(weight, Tensor) and (value.numel() == 1 or value.shape == weight.shape)

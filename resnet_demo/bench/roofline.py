"""Roofline: the machine's best FLOP/s, and the share of them that training reaches.

Convention: a multiply-add is two FLOP, and a training step costs three forward passes, because the
backward pass computes gradients for the weights and for the inputs. Only convolutions and the
linear layer count, as in `models.counts`.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from resnet_demo.bench.loops import Clock, ProductLoop, begin_training, measure_interleaved
from resnet_demo.bench.throughput import conditions
from resnet_demo.config import TrainConfig
from resnet_demo.data.recipe_fit import check_data
from resnet_demo.data.store import Datasets
from resnet_demo.models.counts import model_counts
from resnet_demo.models.device import device_name, pick_device, pick_precision
from resnet_demo.training.fit import train_step
from resnet_demo.training.speed import CHUNK_S, STEP_IN_FORWARDS, synchronizer
from resnet_demo.training.state import Training

FLOP_PER_MAC = 2
MATRICES = (512, 1024, 2048, 4096)  # sides of square matrices
LARGE_MATRICES = (8192, 16384)  # for accelerators, which smaller ones do not keep busy
CONVOLUTIONS = (  # (channels in and out, side of the map, images), as in the product's networks
    (64, 32, 128),
    (128, 16, 128),
    (256, 8, 128),
    (512, 4, 128),
    (64, 56, 64),
    (128, 16, 512),
    (256, 8, 512),
)


def measure_roofline(
    configs: list[TrainConfig], datasets: Datasets, seconds: float = 10.0
) -> Iterator[dict[str, Any]]:
    """Yield the machine's best rates, then a row for each config.

    seconds: for each config, after as long a warm-up; each shape gets a tenth of it.

    Raises:
        ConfigError, DamagedError: a config or the dataset cannot be used.
    """
    for config in configs:
        check_data(config, datasets)
    device = pick_device()
    precision = pick_precision(configs[0].precision, device)
    best = measure_peaks(device, precision, seconds / 10)
    machine = {"device": device_name(device), "threads": torch.get_num_threads()}
    yield {**best, "precision": precision, **machine}
    for config in configs:
        yield training_share(begin_training(config, datasets), best, seconds)


def measure_peaks(device: torch.device, precision: str, seconds: float) -> dict[str, Any]:
    """Measure the best FLOP/s of square matrix products and of 3x3 convolutions, by shape."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    wait = synchronizer(device)
    sides = MATRICES if device.type == "cpu" else (*MATRICES, *LARGE_MATRICES)
    gemms, convolutions = {}, {}
    for side in sides:
        gemms[f"{side}x{side}"] = best_rate(*gemm(side, device, dtype), seconds, wait)
    for channels, side, images in CONVOLUTIONS:
        name = f"{channels} channels, {side}x{side}, {images} images"
        work = convolution(channels, side, images, device, dtype)
        convolutions[name] = best_rate(*work, seconds, wait)
    return {
        "gemm_flop_per_s": max(gemms.values()),
        "convolution_flop_per_s": max(convolutions.values()),
        "gemm": gemms,
        "convolution": convolutions,
    }


def gemm(side: int, device: torch.device, dtype: torch.dtype) -> tuple[Callable, float]:
    """Return a product of two square matrices to run, and its FLOP."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), FLOP_PER_MAC * side**3


def convolution(
    channels: int, side: int, images: int, device: torch.device, dtype: torch.dtype
) -> tuple[Callable, float]:
    """Return a forward 3x3 convolution to run, channels-last, and its FLOP with padding."""
    x = torch.randn(images, channels, side, side, device=device)
    weight = torch.randn(channels, channels, 3, 3, device=device)
    # As the product trains: channels-last is the layout in which its convolutions are fastest.
    x, weight = (t.to(dtype).to(memory_format=torch.channels_last) for t in (x, weight))
    macs = 9 * channels**2 * side**2 * images
    return lambda: F.conv2d(x, weight, padding=1), FLOP_PER_MAC * macs


def best_rate(
    work: Callable[[], object],
    flop: float,
    seconds: float,
    wait: Callable[[], None] = lambda: None,
    clock: Clock = time.monotonic,
) -> float:
    """Return the highest FLOP/s over chunks of calls of `work` for that time; two calls or more."""
    work()  # one-time set-up does not count
    wait()
    calls, best, end = 1, 0.0, clock() + seconds
    while True:
        start = clock()
        for _ in range(calls):
            work()
        wait()
        now = clock()
        best = max(best, calls * flop / max(now - start, 1e-9))
        if now >= end:
            return best
        if now - start < CHUNK_S:
            calls *= 2  # until one reading of the clock costs next to nothing


def training_share(training: Training, best: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Measure the share of the best rates that training reaches, and the parts of a step."""
    config, wait = training.config, synchronizer(training.device)
    rate = measure_interleaved({"own": ProductLoop(training)}, 1, seconds, wait=wait)["own"][0]
    classes = len(training.batches.classes)
    macs = model_counts(
        config.model, classes, config.image_size, config.stem, config.batch_norm
    ).macs
    flop_per_s = rate * STEP_IN_FORWARDS * FLOP_PER_MAC * macs
    return {
        **conditions(training),
        "macs": macs,
        "images_per_s": rate,
        "flop_per_s": flop_per_s,
        "share_of_gemm": flop_per_s / best["gemm_flop_per_s"],
        "share_of_convolution": flop_per_s / best["convolution_flop_per_s"],
        "parts": step_parts(training, seconds, wait),
    }


def step_parts(
    training: Training,
    seconds: float,
    wait: Callable[[], None] = lambda: None,
    clock: Clock = time.monotonic,
) -> dict[str, float]:
    """Return the median seconds of the parts of a step.

    batch: augmentation and preparation. network: forward and backward. update: the optimizer,
    measured by a second update with the same gradient. The device is synchronized after each part,
    although an accelerator would overlap them.
    """
    batches, times = training.batches, []
    plan, end = batches.plan(1), clock() + seconds
    while len(times) < 2 or clock() < end:
        start = clock()
        x, labels = batches.train_batch(plan, len(times) % batches.steps_per_epoch)
        wait()
        prepared = clock()
        train_step(training, x, labels)
        wait()
        stepped = clock()
        training.optimizer.step()
        wait()
        times.append((prepared - start, stepped - prepared, clock() - stepped))
    # Without the first step, which sets things up.
    batch, step, update = map(median, zip(*times[1:], strict=True))
    return {"batch": batch, "network": max(step - update, 0.0), "update": update}

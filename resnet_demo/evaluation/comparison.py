"""Two runs on the same images: who is right where, and whether the difference could be luck."""

from typing import Any

import torch

from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.compare import compare
from resnet_demo.evaluation.evaluate_run import Evaluated

TOLD = ("weights", "mode", "stored", "top1", "interval", "loss", "macro_f1")


def compare_evaluations(first: Evaluated, second: Evaluated) -> dict[str, Any]:
    """How two runs differ, ready for JSON.

    top1_first, top1_second: from 0 to 1; difference: the first less the second; p: McNemar's, see
    `analysis.compare`; only_first, only_second: places in the split, from 0, of the images that
    just this one gets right. Raises ConfigError for evaluations of other images.
    """
    check_same_images(first, second)
    compared = compare(first.logits, second.logits, first.labels)
    return {
        "n": compared.n,
        "first": first.result["run"],
        "second": second.result["run"],
        "top1_first": first.result["top1"],
        "top1_second": second.result["top1"],
        "difference": compared.difference,
        "p": compared.p,
        "only_first": compared.only_first,
        "only_second": compared.only_second,
    }


def check_same_images(first: Evaluated, second: Evaluated) -> None:
    """Raises ConfigError, whose field is `against`, where the two did not see the same images."""
    mine, its = first.result, second.result
    where, there = ((one["dataset"], one["split"]) for one in (mine, its))
    if where != there:
        raise ConfigError(
            f"against must be a run evaluated on the same images: {mine['run']} was asked about "
            f"{where[0]} {where[1]}, {its['run']} about {there[0]} {there[1]}",
            "against",
        )
    if not torch.equal(first.labels, second.labels):
        raise ConfigError(
            f"against must be a run with the same images: {its['run']} keeps other images in its "
            f"{there[1]} split of {there[0]} than {mine['run']} (another val_share or seed)",
            "against",
        )


def with_against(first: Evaluated, second: Evaluated | None) -> dict[str, Any]:
    """The first's result; under `against` the second's own numbers and the comparison, if any."""
    if second is None:
        return first.result
    told = {"run": second.result["run"], **{key: second.result[key] for key in TOLD}}
    return {**first.result, "against": {**told, **compare_evaluations(first, second)}}

"""Two networks asked about the same images: who is better, and whether that could be luck."""

from dataclasses import dataclass

from torch import Tensor

from resnet_demo.evaluation.predictions import verdicts


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """difference: top-1 of the first less that of the second, a share of the n images.

    only_first, only_second: places, from 0, of the images that just this one gets right.
    p: McNemar's, the chance of a difference as large as this between two equally good networks.
    """

    n: int
    difference: float
    only_first: list[int]
    only_second: list[int]
    p: float


def compare(first: Tensor, second: Tensor, labels: Tensor) -> Comparison:
    """Logits (N, C) of two networks and the true labels (N,) int64; N is 1 at least.

    An answer that is not a number counts as `score` counts it: as one class, mostly a wrong one.
    """
    labels = labels.cpu()
    right, also = (verdicts(logits).predicted == labels for logits in (first, second))
    only_first = (right & ~also).nonzero().flatten().tolist()
    only_second = (also & ~right).nonzero().flatten().tolist()
    return Comparison(
        n=len(labels),
        difference=(len(only_first) - len(only_second)) / len(labels),
        only_first=only_first,
        only_second=only_second,
        p=mcnemar(len(only_first), len(only_second)),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p of McNemar's exact test (McNemar 1947), from the images that divide the two.

    Were both equally good, each such image would be a fair coin: twice the chance of so few heads
    or fewer, 1 at most. 1 where nothing divides them. Exact integers to the last division.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    ways = total = 1  # n over 0
    for heads in range(fewer):
        ways = ways * (n - heads) // (heads + 1)
        total += ways
    return min(2 * total, 2**n) / 2**n

"""How far a share of right answers can be trusted. No torch here."""

from math import sqrt

Z_95 = 1.959964  # normal quantile: 95 % lie within so many deviations of the mean


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, from 0 to 1, of which `right` of `n` trials were counted.

    Wilson's score interval (1927): unlike the share and a multiple of its deviation, it stays
    within 0 and 1 and keeps a width where all or none were right. n is 1 at least.
    """
    share, z2 = right / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = Z_95 * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - reach), min(1.0, middle + reach)

"""An interval for a difference, from the intervals of its two sides."""

import math

from lapwing.stats.interval import Interval


def difference(first: Interval, second: Interval) -> Interval:
    """Interval of first − second where only the two intervals are left.

        d = x − y,   [ d − √((x − l_x)² + (u_y − y)²),  d + √((u_x − x)² + (y − l_y)²) ]

    The distances between a mean and its bounds take the place of standard errors (square-and-add); of two Wilson
    intervals it is Newcombe's. It covers as often as the two do if they are independent, and more often if they were
    measured on the same matches, which makes both sides rise and fall together.

    Reference: Newcombe 1998, "Interval Estimation for the Difference Between Independent Proportions", method 10.
      https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I; Zou and Donner 2008,
      "Construction of confidence limits about effect measures: a general approach". https://doi.org/10.1002/sim.3095

    Args:
      first, second: with the same confidence and in the same unit, low ≤ mean ≤ high.

    Returns:
      Interval: the difference of the means, low and high, with that confidence and in that unit.
    """
    mean = first.mean - second.mean
    down = math.hypot(first.mean - first.low, second.high - second.mean)
    up = math.hypot(first.high - first.mean, second.mean - second.low)
    return Interval(mean, mean - down, mean + up)

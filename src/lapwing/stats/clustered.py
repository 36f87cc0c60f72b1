"""Intervals for means over trials that come in clusters: what one cluster holds is not independent."""

import numpy as np

from lapwing.core.errors import LapwingError
from lapwing.core.rng import generator
from lapwing.stats.interval import Interval, check_confidence
from lapwing.stats.wilson import score_interval

_RESAMPLES = 2000
_NUMBERS_AT_ONCE = 2_000_000


def clustered_share(
    successes: np.ndarray, sizes: np.ndarray, *, most: float | None = None, confidence: float = 0.95
) -> Interval:
    """Wilson's interval for a share of trials in clusters, with as many trials as they are worth.

        p = Σ s_c / Σ m_c,   v = k / (k − 1) · Σ (s_c − p m_c)² / (Σ m_c)²
        n* = p (1 − p) / v,  at least (Σ m_c)² / Σ m_c² (each cluster one trial) and at most `most`

    At p = 0 or 1, where v says nothing, n* is the least.

    Reference: Korn and Graubard 1998, "Confidence Intervals for Proportions with Small Expected Number of Positive
      Counts Estimated from Survey Data" (the effective sample size n*); Wilson 1927, "Probable Inference, the Law of
      Succession, and Statistical Inference". https://doi.org/10.1080/01621459.1927.10502953

    Args:
      successes: s_c, of each cluster, [k], 0 … m_c.
      sizes: m_c, trials in each cluster, [k], ≥ 1.
      most: what all trials are worth at the most; left out, their number.
      confidence: of the interval, in (0, 1).

    Returns:
      Interval: mean, low and high, shares in [0, 1].

    Raises:
      UserError: `confidence` lies outside (0, 1).
      LapwingError: there are fewer than two clusters, or a count is impossible.
    """
    check_confidence(confidence)
    s, m = _checked(successes, sizes)
    if (s < 0).any() or (s > m).any():
        raise LapwingError("A cluster has no more successes than trials, and no fewer than 0.")
    share = float(s.sum() / m.sum())
    least = float(m.sum() ** 2 / (m**2).sum())
    greatest = float(m.sum()) if most is None else most
    if share in (0.0, 1.0):
        return score_interval(share, least, confidence)
    variance = len(m) / (len(m) - 1) * float(((s - share * m) ** 2).sum()) / float(m.sum()) ** 2
    worth = np.inf if variance == 0.0 else share * (1.0 - share) / variance
    return score_interval(share, max(min(worth, greatest), min(least, greatest)), confidence)


def clustered_mean(sums: np.ndarray, sizes: np.ndarray, *, confidence: float = 0.95) -> Interval:
    """Percentile bootstrap over whole clusters, for the mean of all their values.

        mean*_b = Σ S_c / Σ m_c over k clusters drawn with replacement, b = 1 … 2,000

    Clusters that all have the same mean give an interval of width 0.

    Reference: Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8.

    Args:
      sums: S_c, the sum of the values of each cluster, [k], any unit, finite.
      sizes: m_c, how many values that are, [k], ≥ 1.
      confidence: of the interval, in (0, 1).

    Returns:
      Interval: mean, low and high, in the unit of the values.

    Raises:
      UserError: `confidence` lies outside (0, 1).
      LapwingError: there are fewer than two clusters, or a number is not finite.
    """
    check_confidence(confidence)
    s, m = _checked(sums, sizes)
    k = len(m)
    rng, at_once = generator("clustered bootstrap"), max(1, _NUMBERS_AT_ONCE // k)
    found = []
    for begin in range(0, _RESAMPLES, at_once):
        drawn = rng.integers(k, size=(min(at_once, _RESAMPLES - begin), k))
        found.append(s[drawn].sum(axis=1) / m[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(found), [0.5 - confidence / 2.0, 0.5 + confidence / 2.0])
    mean = float(s.sum() / m.sum())
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def _checked(values: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s, m = np.asarray(values, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    if s.shape != m.shape or s.ndim != 1 or len(s) < 2:
        raise LapwingError("An interval over clusters needs at least two of them, each with a number and a size.")
    if not np.isfinite(s).all() or not (m >= 1).all():
        raise LapwingError("Clusters hold finite numbers, and at least one each.")
    return s, m

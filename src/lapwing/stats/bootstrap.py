"""An interval for a mean, without assuming a distribution."""

import numpy as np
from scipy import stats

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.rng import generator
from lapwing.stats.interval import Interval, check_confidence

_METHODS = ("percentile", "BCa")
_NUMBERS_AT_ONCE = 2_000_000


def bootstrap(
    values: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    method: str = "percentile",
    rng: np.random.Generator | None = None,
) -> Interval:
    """Bootstrap interval of the mean.

        mean*_b = mean of n values drawn with replacement, b = 1 … B
        percentile: [q_{(1−c)/2}, q_{(1+c)/2}] of mean*     BCa: the same with corrected levels

    Values that are all equal, one value among them, give an interval of width 0: resampling cannot know better.
    The same values give the same interval, because the default stream is keyed and not seeded by the clock.

    Reference: Efron 1987, "Better Bootstrap Confidence Intervals". https://doi.org/10.1080/01621459.1987.10478410

    Args:
      values: independent numbers, [n], n ≥ 1, any unit, finite.
      confidence: c, in (0, 1).
      resamples: B, ≥ 100.
      method: "percentile" or "BCa" (bias-corrected and accelerated; better for few, skewed values).
      rng: the source of the resamples; by default the stream with the key "bootstrap".

    Returns:
      Interval: mean, low and high, in the unit of the values.

    Raises:
      UserError: `confidence` lies outside (0, 1), `resamples` is below 100, or `method` is unknown.
      LapwingError: there are no values, or one is not finite.
    """
    check_confidence(confidence)
    # Fewer cannot hold the tails, and with very few BCa is undefined because no resampled mean lies below the mean.
    if resamples < 100:
        raise UserError(f"resamples must be at least 100, but it is {resamples}.")
    if method not in _METHODS:
        raise UserError(f"There is no bootstrap method '{method}'; valid names: {', '.join(_METHODS)}.")
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0 or not np.isfinite(values).all():
        raise LapwingError("An interval needs at least one value, and finite ones.")
    if values.min() == values.max():
        return Interval(float(values[0]), float(values[0]), float(values[0]))
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _NUMBERS_AT_ONCE // len(values)),
        confidence_level=confidence,
        method=method,
        # SciPy 1.15 renamed this to `rng` and takes both; 1.12, our oldest, knows only this name.
        random_state=generator("bootstrap") if rng is None else rng,  # pyright: ignore[reportCallIssue]
    ).confidence_interval
    return Interval(float(values.mean()), float(found.low), float(found.high))

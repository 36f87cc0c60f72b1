"""The interval that fits a set of values."""

import numpy as np

from lapwing.stats.bootstrap import bootstrap
from lapwing.stats.interval import Interval
from lapwing.stats.wilson import wilson


def summarise(values: np.ndarray, *, confidence: float = 0.95, rng: np.random.Generator | None = None) -> Interval:
    """Mean of the values with an interval that suits them.

        mean = Σ x / n

    Booleans (successes) get Wilson's interval, which has a width even if all are equal; numbers the percentile
    bootstrap, which has none then.

    Reference: Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion".
      https://doi.org/10.1214/ss/1009213286; Efron 1987, "Better Bootstrap Confidence Intervals".
      https://doi.org/10.1080/01621459.1987.10478410

    Args:
      values: independent booleans or finite numbers, [n], n ≥ 1, any unit.
      confidence: probability of covering the true mean, in (0, 1).
      rng: source of the bootstrap; by default a stream with a fixed key.

    Returns:
      Interval: mean, low and high, in the unit of the values.

    Raises:
      UserError: `confidence` lies outside (0, 1).
      LapwingError: there are no values, or one is not finite.
    """
    values = np.asarray(values)
    if values.dtype == bool:
        return wilson(int(values.sum()), len(values), confidence)
    return bootstrap(values, confidence=confidence, rng=rng)

"""A mean that neither one lucky nor one failed run moves much."""

import numpy as np
from scipy import stats

from lapwing.core.errors import LapwingError


def interquartile_mean(scores: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of the middle half of the scores.

        IQM = mean of x_(k+1) … x_(n−k),   k = ⌊n / 4⌋

    The 25 % trimmed mean. Only whole scores are left out, so that with fewer than 4 of them it is the plain mean.

    Reference: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", section 4.3.
      https://arxiv.org/abs/2108.13264

    Args:
      scores: finite numbers, any shape and unit, at least one along `axis`.
      axis: along which the mean is taken; None takes all scores together.

    Returns:
      Array without that axis, in the unit of the scores; 0-dimensional for None.

    Raises:
      LapwingError: there are no scores, or one is not finite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.size == 0 or not np.isfinite(scores).all():
        raise LapwingError("An interquartile mean needs at least one score, and finite ones.")
    # SciPy documents None for all axes; its annotation lacks it.
    return np.asarray(stats.trim_mean(scores, 0.25, axis=axis))  # pyright: ignore[reportArgumentType]

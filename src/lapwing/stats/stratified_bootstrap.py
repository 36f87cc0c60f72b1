"""An interval for a statistic of runs over seeds and tasks."""

from collections.abc import Callable

import numpy as np
from scipy import stats

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.rng import generator
from lapwing.stats.interquartile_mean import interquartile_mean
from lapwing.stats.interval import Estimate, check_confidence

_NUMBERS_AT_ONCE = 2_000_000


def stratified_bootstrap(
    scores: np.ndarray,
    statistic: Callable[..., np.ndarray] = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    rng: np.random.Generator | None = None,
) -> Estimate:
    """Percentile interval of a statistic, with the seeds of every task drawn anew.

        θ*_b = θ(for each task m: n seeds drawn with replacement from its n),   b = 1 … B
        [q_{(1−c)/2}, q_{(1+c)/2}] of θ*

    A seed is the replicate: what is drawn are whole runs, never their episodes. Tasks are strata: each keeps its n runs
    in every resample, and they are drawn independently of each other. One seed gives an interval of width 0: there is
    nothing to draw.

    Reference: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", section 4.1.
      https://arxiv.org/abs/2108.13264

    Args:
      scores: one finite number for each run, [seeds, tasks], or [seeds] for one task; any unit.
      statistic: of all scores of a resample; takes `(values, axis=…)` as `np.mean` does.
      confidence: c, in (0, 1).
      resamples: B, ≥ 100.
      rng: the source of the resamples; by default the stream with the key "stratified_bootstrap".

    Returns:
      Estimate: the statistic of the scores, low and high, in the unit of the statistic.

    Raises:
      UserError: `confidence` lies outside (0, 1), or `resamples` is below 100.
      LapwingError: there are no scores, or one is not finite, or they have more than two axes.
    """
    check_confidence(confidence)
    check_resamples(resamples)
    strata = columns(scores)

    def of_all(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        return statistic(np.concatenate(drawn, axis=axis), axis=axis)

    value = float(of_all(*strata))
    if len(strata[0]) == 1:
        return Estimate(value, value, value)
    low, high = percentile_interval(strata, of_all, confidence, resamples, rng or generator("stratified_bootstrap"))
    return Estimate(value, low, high)


def columns(scores: np.ndarray) -> list[np.ndarray]:
    """The scores of each task, [seeds] each.

    Raises:
      LapwingError: there are no scores, or one is not finite, or they have more than two axes.
    """
    scores = np.asarray(scores, dtype=np.float64)
    scores = scores[:, None] if scores.ndim == 1 else scores
    if scores.ndim != 2 or scores.size == 0 or not np.isfinite(scores).all():
        raise LapwingError(f"Scores are finite numbers [seeds, tasks] with at least one of each; found {scores.shape}.")
    return list(scores.T)


def check_resamples(resamples: int) -> None:
    """Refuse so few resamples that they cannot hold the tails.

    Raises:
      UserError: `resamples` is below 100.
    """
    if resamples < 100:
        raise UserError(f"resamples must be at least 100, but it is {resamples}.")


def percentile_interval(
    samples: list[np.ndarray],
    statistic: Callable[..., np.ndarray],
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Percentile interval of a statistic of several samples, each of ≥ 2 values and drawn anew independently."""
    found = stats.bootstrap(
        samples,
        statistic,
        n_resamples=resamples,
        batch=max(1, _NUMBERS_AT_ONCE // sum(len(sample) ** 2 for sample in samples)),
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        # SciPy 1.15 renamed this to `rng` and takes both; 1.12, our oldest, knows only this name.
        random_state=rng,  # pyright: ignore[reportCallIssue]
    ).confidence_interval
    return float(found.low), float(found.high)

"""How probable it is that a run of one method beats a run of another."""

import numpy as np

from lapwing.core.errors import LapwingError
from lapwing.core.rng import generator
from lapwing.stats.interval import Estimate, check_confidence
from lapwing.stats.stratified_bootstrap import check_resamples, columns, percentile_interval


def probability_of_improvement(
    first: np.ndarray,
    second: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    rng: np.random.Generator | None = None,
) -> Estimate:
    """Probability that a run of the first method scores above one of the second, averaged over tasks.

        P = 1/M · Σ_m ( P(X_m > Y_m) + ½ P(X_m = Y_m) )

    Every run of the first is held against every run of the second on the same task (the Mann–Whitney statistic), also
    where they have different seeds: it is about a run to come, not about pairs. It says how often, and not by how much.
    The interval is a stratified percentile bootstrap that draws the seeds of both methods independently of each other;
    where all runs of one lie above all of the other it has width 0, as it has with one seed each.

    Reference: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", section 4.3.
      https://arxiv.org/abs/2108.13264

    Args:
      first, second: one finite number for each run, [seeds, tasks] or [seeds]; higher is better, any unit; the numbers
        of seeds may differ.
      confidence: probability of covering the true P, in (0, 1).
      resamples: of the bootstrap, ≥ 100.
      rng: the source of the resamples; by default the stream with the key "probability_of_improvement".

    Returns:
      Estimate: P, low and high, in [0, 1]; ½ for equal methods.

    Raises:
      UserError: `confidence` lies outside (0, 1), or `resamples` is below 100.
      LapwingError: there are no scores, or one is not finite, or the numbers of tasks differ.
    """
    check_confidence(confidence)
    check_resamples(resamples)
    x, y = columns(first), columns(second)
    if len(x) != len(y):
        raise LapwingError(f"Both methods need scores on the same tasks; found {len(x)} and {len(y)} tasks.")

    def improvement(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        pairs = zip(drawn[: len(x)], drawn[len(x) :], strict=True)
        return np.mean([_mean_win(np.moveaxis(a, axis, -1), np.moveaxis(b, axis, -1)) for a, b in pairs], axis=0)

    value = float(improvement(*x, *y))
    if len(x[0]) == len(y[0]) == 1:
        return Estimate(value, value, value)
    if min(len(x[0]), len(y[0])) == 1:
        # Drawing from one value with replacement is drawing from two copies of it, which SciPy accepts.
        x, y = ([np.repeat(task, 2) if len(task) == 1 else task for task in method] for method in (x, y))
    source = rng or generator("probability_of_improvement")
    low, high = percentile_interval([*x, *y], improvement, confidence, resamples, source)
    return Estimate(value, low, high)


def _mean_win(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Wins of a over b with ties counted half, mean over all pairs, [… without the last axis]."""
    a, b = a[..., :, None], b[..., None, :]
    return ((a > b) + 0.5 * (a == b)).mean(axis=(-2, -1))

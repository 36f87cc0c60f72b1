"""How much of what happens a critic foresees."""

import numpy as np

from lapwing.core.errors import LapwingError


def explained_variance(value: np.ndarray, target: np.ndarray) -> float:
    """Share of the targets' variance that the values account for.

        1 − Var(target − value) / Var(target)

    1 is a perfect critic, 0 one that might as well be a constant, below 0 one that is worse than a constant. A
    constant added to the values changes nothing: it measures whether a critic tells states apart, and not its bias.
    Targets without variance, a single one among them, give 0.

    Reference: Raffin et al. 2021, "Stable-Baselines3: Reliable Reinforcement Learning Implementations", the logged
      `explained_variance`. https://stable-baselines3.readthedocs.io/en/master/common/logger.html

    Args:
      value: what the critic said, [n], n ≥ 1, finite, in units of reward.
      target: what it should have said, [n], finite, in units of reward.

    Returns:
      The share, at most 1, without a unit.

    Raises:
      LapwingError: there are no values, their numbers differ, or one is not finite.
    """
    value, target = np.asarray(value, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if value.ndim != 1 or value.shape != target.shape or not len(value):
        raise LapwingError(
            f"explained_variance needs as many values as targets, one or more, but they have the shapes {value.shape} "
            f"and {target.shape}."
        )
    if not (np.isfinite(value).all() and np.isfinite(target).all()):
        raise LapwingError("explained_variance needs finite values and targets.")
    # Equal targets differ by the rounding of their sums, which is no variance to explain.
    if np.ptp(target) <= 1e-10 * np.abs(target).max():
        return 0.0
    return float(1.0 - np.var(target - value) / np.var(target))

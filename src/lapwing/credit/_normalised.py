"""Numbers relative to those that they are compared with, in standard deviations."""

import numpy as np

from lapwing.core.ragged import group_mean, group_std


def normalised(values: np.ndarray, group: np.ndarray, *, ddof: int, eps: float) -> np.ndarray:
    """Centre and scale each number within its group.

        z_i = (x_i − mean_g x) / (std_g x + ε)

    A group without spread, or of at most `ddof` members, gives exactly 0.

    Args:
      values: x, [M], any axis.
      group: the number of each one's group, [M].
      ddof: delta degrees of freedom of the standard deviation, ≥ 0.
      eps: ε, in the units of x, ≥ 0.

    Returns:
      z, float64 [M], in standard deviations.
    """
    std = group_std(values, group, ddof=ddof)
    centred = values - group_mean(values, group)
    return np.divide(centred, std + eps, out=np.zeros_like(centred), where=std > 0)

"""p values of several tests at once."""

import numpy as np

from lapwing.core.errors import LapwingError


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values, which bound the probability of any false finding.

        p̃_(i) = min(1, max_{j ≤ i} (m − j + 1) · p_(j)),   p_(1) ≤ … ≤ p_(m)

    It assumes nothing about how the tests depend on each other. One test keeps its p.

    Reference: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure". https://www.jstor.org/stable/4615733

    Args:
      p_values: of m tests, [m], each in [0, 1].

    Returns:
      Adjusted p values, [m], in the order of the tests.

    Raises:
      LapwingError: a p value lies outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise LapwingError(f"p values lie in [0, 1]; found {p.tolist()}.")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted

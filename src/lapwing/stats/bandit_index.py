"""What an arm is worth trying: estimates of its payoff, and bonuses for what is not known of it."""

import math

import numpy as np

from lapwing.core.errors import LapwingError


def ucb1(count: np.ndarray, total: np.ndarray, *, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Exploitation value and exploration bonus of every arm.

        value_a = total_a / n_a        bonus_a = scale · √(2 ln t / n_a),   t = Σ n

    The arm with the largest sum is pulled. An arm that was never pulled has value 0 and an infinite bonus.

    Reference: Auer, Cesa-Bianchi and Fischer 2002, "Finite-time Analysis of the Multiarmed Bandit Problem", figure 1.
      https://doi.org/10.1023/A:1013689704352

    Args:
      count: n, how often each arm was pulled, ≥ 0, [arms].
      total: summed payoffs of each arm, [arms].
      scale: > 0; 1 for payoffs in [0, 1], a standard deviation for Gaussian ones.

    Returns:
      value and bonus, each float64 [arms], in units of payoff.

    Raises:
      LapwingError: the shapes differ, a count is negative, or `scale` is not positive.
    """
    count, total = np.asarray(count, dtype=np.float64), np.asarray(total, dtype=np.float64)
    if count.ndim != 1 or count.shape != total.shape or (count < 0).any() or not 0.0 < scale < math.inf:
        raise LapwingError("ucb1 needs a count ≥ 0 and a total for each arm, and a scale above 0.")
    pulled = np.maximum(count, 1.0)
    bonus = scale * np.sqrt(2.0 * math.log(max(count.sum(), 1.0)) / pulled)
    return np.where(count > 0, total / pulled, 0.0), np.where(count > 0, bonus, np.inf)


def lin_ucb(
    gram: np.ndarray, moment: np.ndarray, context: np.ndarray, *, alpha: float = 1.0, ridge: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Exploitation value and exploration bonus of every arm in a context, with a linear model for each arm.

        A_a = ridge · I + Σ x xᵀ    b_a = Σ r x       (over the rounds in which a was chosen)
        value_a = xᵀ A_a⁻¹ b_a      bonus_a = alpha · √(xᵀ A_a⁻¹ x)

    Reference: Li et al. 2010, "A Contextual-Bandit Approach to Personalized News Article Recommendation", algorithm 1.
      https://doi.org/10.1145/1772690.1772758

    Args:
      gram: Σ x xᵀ, [arms, d, d].
      moment: Σ r x, [arms, d].
      context: x, [d].
      alpha: weight of the bonus, ≥ 0.
      ridge: > 0.

    Returns:
      value and bonus, each float64 [arms], in units of payoff.

    Raises:
      LapwingError: the shapes do not fit, or a number is out of range.
    """
    gram, moment, context = (np.asarray(part, dtype=np.float64) for part in (gram, moment, context))
    d = len(context)
    if gram.ndim != 3 or gram.shape[1:] != (d, d) or moment.shape != gram.shape[:2]:
        raise LapwingError("lin_ucb needs gram [arms, d, d], moment [arms, d] and context [d].")
    if not 0.0 <= alpha < math.inf or not 0.0 < ridge < math.inf:
        raise LapwingError(f"lin_ucb needs alpha ≥ 0 and ridge > 0, not {alpha} and {ridge}.")
    matrix = gram + ridge * np.eye(d)
    estimate = np.linalg.solve(matrix, moment[..., None])[..., 0]
    spread = np.linalg.solve(matrix, np.broadcast_to(context, moment.shape)[..., None])[..., 0]
    return estimate @ context, alpha * np.sqrt(np.maximum(spread @ context, 0.0))

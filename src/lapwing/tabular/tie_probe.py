"""How far the optimum of a choice moves when rewards move a little: the cliff of the greedy policy, made visible."""

from typing import NamedTuple

import numpy as np

from lapwing.core.errors import LapwingError


class TieProbe(NamedTuple):
    """How far optima move, as total variation in [0, 1], when the reward of one action does; the largest of all.

    Attributes:
      greedy: of the policy that takes the best action.
      regularised: of the policy that maximises reward plus temperature · entropy.
      is_cliff: the greedy optimum moves by more than 10 δ / temperature.
    """

    greedy: float
    regularised: float
    is_cliff: bool


def regularised_optimum(reward: np.ndarray, temperature: float) -> np.ndarray:
    """The policy that maximises mean reward plus temperature · entropy.

        π(a) ∝ exp(r_a / β);   with two actions σ((r_1 − r_0) / β)

    Args:
      reward: of each action, [A].
      temperature: β, above 0, in units of reward.

    Returns:
      Probabilities, float64 [A].
    """
    if not temperature > 0.0:
        raise LapwingError(f"The temperature is above 0, not {temperature}.")
    logits = np.asarray(reward, dtype=np.float64) / temperature
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def tie_probe(reward: np.ndarray, *, delta: float, temperature: float) -> TieProbe:
    """Move each action's reward by ±δ, and see how far the optimum moves.

        max_a TV(π*(r + δ e_a), π*(r − δ e_a))

    Where optimal actions tie, the greedy optimum moves by 1 however small δ is; the entropy-regularised one by
    O(δ / β).

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Xu et al. 2025, "The Policy Cliff: A Theoretical Analysis of Reward-Policy Maps in Large Language
      Models". https://arxiv.org/abs/2507.20150

    Args:
      reward: of each action, [A], A ≥ 2.
      delta: δ, above 0, in units of reward.
      temperature: β, above 0, in units of reward.

    Raises:
      LapwingError: there are fewer than two actions, or δ or β is not above 0.
    """
    reward = np.asarray(reward, dtype=np.float64)
    if reward.ndim != 1 or len(reward) < 2 or not np.isfinite(reward).all():
        raise LapwingError("A tie needs the finite rewards of two or more actions.")
    if not delta > 0.0:
        raise LapwingError(f"delta is above 0, not {delta}.")
    moved = delta * np.eye(len(reward))
    greedy = max(_variation(_best(reward + step), _best(reward - step)) for step in moved)
    regularised = max(
        _variation(regularised_optimum(reward + step, temperature), regularised_optimum(reward - step, temperature))
        for step in moved
    )
    return TieProbe(greedy, regularised, greedy > 10.0 * delta / temperature)


def _best(reward: np.ndarray) -> np.ndarray:
    return np.eye(len(reward))[int(np.argmax(reward))]


def _variation(p: np.ndarray, q: np.ndarray) -> float:
    return float(0.5 * np.abs(p - q).sum())

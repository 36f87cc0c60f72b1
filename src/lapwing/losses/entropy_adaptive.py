"""A bonus for spread-out next-token distributions whose weight follows the entropy."""

import numpy as np
import torch

from lapwing.core.errors import UserError

MERGEABLE = True
NEEDS = ()


def initial_state(*, initial: float = 0.01, low: float = 0.0, high: float = 0.1, **_: float) -> dict[str, np.ndarray]:
    """The weight α of the first update, and whether the bonus is on: it is until an entropy was measured.

    Args:
      initial: α of the first update.
      low, high: bounds of α.
    """
    return {"weight": np.float64(np.clip(initial, low, high)).reshape(1), "on": np.ones(1)}


def after_update(
    state: dict[str, np.ndarray],
    *,
    entropy: float,
    target: float,
    change: float = 0.005,
    low: float = 0.0,
    high: float = 0.1,
    **_: float,
) -> dict[str, np.ndarray]:
    """α ← clip(α + δ, low, high) where the entropy of the update's tokens was at most the target, else α − δ.

    Args:
      state: of the update that was made.
      entropy: mean over its tokens, nats.
      target, change, low, high: as for `entropy_adaptive`.
    """
    is_low = entropy <= target
    weight = np.clip(state["weight"] + (change if is_low else -change), low, high)
    return {"weight": weight, "on": np.full(1, float(is_low))}


def entropy_adaptive(
    *,
    token_entropy: torch.Tensor,
    state: dict[str, np.ndarray],
    target: float,
    initial: float = 0.01,
    change: float = 0.005,
    low: float = 0.0,
    high: float = 0.1,
) -> torch.Tensor:
    """Negative entropy at each token, weighted more the longer the entropy stays below a target.

        ℓ = −α H   while H̄ ≤ target, else 0;   after each update α ← α + δ if H̄ ≤ target, else α − δ

    H̄ is the mean entropy over the tokens of the last update, and α stays within [low, high]. The recipe's
    coefficient multiplies α; 1 leaves it as it is. Before the first update the bonus is on. The target depends on the
    vocabulary and the game: 0.2 to 1 nat for instruct models.

    Provenance: formula and defaults from TRL's code; the upper bound 0.1 is Lapwing's choice.
    Reference: He et al. 2025, "Skywork Open Reasoner 1 Technical Report", section on adaptive entropy control.
      https://arxiv.org/abs/2505.22312

    Args:
      token_entropy: H at each token under the weights being trained, [K], nats, with gradient.
      state: α and whether the bonus is on.
      target: entropy that is to be kept, nats, at least 0.
      initial: α of the first update.
      change: δ, above 0.
      low: lower bound of α, at least 0.
      high: upper bound of α, at least `low`.

    Returns:
      Loss of each token, to be minimised, [K], nats.

    Raises:
      UserError: a bound, the target or the change is impossible.
    """
    if not 0.0 <= low <= high:
        raise UserError(f"low and high bound the weight, 0 ≤ low ≤ high, but they are {low} and {high}.")
    if not low <= initial <= high:
        raise UserError(f"initial lies between low = {low} and high = {high}, but it is {initial}.")
    if not target >= 0.0:
        raise UserError(f"target is an entropy in nats, at least 0, but it is {target}.")
    if not change > 0.0:
        raise UserError(f"change is above 0, but it is {change}.")
    return -float(state["weight"][0] * state["on"][0]) * token_entropy

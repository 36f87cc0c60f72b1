"""How a group of players fares: efficiency, equality, sustainability, peace, and welfare."""

import numpy as np

from lapwing.core.errors import LapwingError


def efficiency(reward: np.ndarray) -> float:
    """What all players earn a step.

        U = Σ_i R_i / T

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Perolat et al. 2017, "A multi-agent reinforcement learning model of common-pool resource appropriation",
      section 3. https://arxiv.org/abs/1707.06600

    Args:
      reward: of each player in each step, [N, T], T ≥ 1.

    Returns:
      U, in units of reward.
    """
    reward = _checked(reward)
    return float(reward.sum() / reward.shape[1])


def equality(reward: np.ndarray) -> float:
    """How evenly returns are shared, one minus the Gini coefficient.

        E = 1 − Σ_i Σ_j |R_i − R_j| / (2 N Σ_i R_i),   1 where Σ R = 0

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: as of `efficiency`. https://arxiv.org/abs/1707.06600

    Args:
      reward: of each player in each step, [N, T].

    Returns:
      E, at most 1, without a unit.
    """
    returns = _checked(reward).sum(axis=1)
    total = returns.sum()
    if total == 0.0:
        return 1.0
    return float(1.0 - np.abs(returns[:, None] - returns).sum() / (2 * len(returns) * total))


def sustainability(reward: np.ndarray) -> float:
    """How late rewards come, the mean over the players of the mean step of their positive rewards.

        S = mean_i mean { t : r_{i,t} > 0 },   steps from 1; players without a reward are left out, 0 without any

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: as of `efficiency`. https://arxiv.org/abs/1707.06600

    Args:
      reward: of each player in each step, [N, T].

    Returns:
      S, in steps.
    """
    times = [np.flatnonzero(row > 0.0) + 1 for row in _checked(reward)]
    means = [found.mean() for found in times if len(found)]
    return float(np.mean(means)) if means else 0.0


def peace(tagged: np.ndarray) -> float:
    """How many players take part, the mean over the steps.

        P = (N T − steps that players are tagged out) / T

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: as of `efficiency`. https://arxiv.org/abs/1707.06600

    Args:
      tagged: whether each player is out in each step, bool [N, T].

    Returns:
      P, in players.
    """
    tagged = np.asarray(tagged, dtype=bool)
    if tagged.ndim != 2 or 0 in tagged.shape:
        raise LapwingError("Peace needs one truth for each player and step.")
    return float((tagged.size - tagged.sum()) / tagged.shape[1])


def isoelastic_welfare(consumption: np.ndarray, *, aversion: float) -> float:
    """The welfare of a population that dislikes inequality.

        W = Σ_i (c_i^{1−η} − 1) / (1 − η),   Σ_i log c_i where η = 1

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Karten et al. 2025, "LLM Economist: Large Population Models and Mechanism Design in Multi-Agent
      Generative Simulacra". https://arxiv.org/abs/2507.15815

    Args:
      consumption: c of each, [N], above 0.
      aversion: η, at least 0.

    Returns:
      W, without a unit.

    Raises:
      LapwingError: a consumption is not above 0, or η is negative.
    """
    consumption = np.asarray(consumption, dtype=np.float64)
    if not (consumption > 0.0).all() or not aversion >= 0.0:
        raise LapwingError("Welfare needs consumption above 0 and an aversion of at least 0.")
    if aversion == 1.0:
        return float(np.log(consumption).sum())
    return float(((consumption ** (1.0 - aversion) - 1.0) / (1.0 - aversion)).sum())


def _checked(reward: np.ndarray) -> np.ndarray:
    reward = np.asarray(reward, dtype=np.float64)
    if reward.ndim != 2 or 0 in reward.shape or not np.isfinite(reward).all():
        raise LapwingError("Social measures need one finite reward for each player and step.")
    return reward

"""What hindsight would have saved in a sequence of decisions with known losses."""

import math

import numpy as np

from lapwing.core.errors import LapwingError


def external_regret(loss: np.ndarray, policy: np.ndarray) -> float:
    """Loss beyond that of the best fixed action.

        Regret = Σ_t ⟨l_t, π_t⟩ − min_a Σ_t l_{t,a}

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Park et al. 2024, "Do LLM Agents Have Regret? A Case Study in Online Learning and Games".
      https://arxiv.org/abs/2403.16843

    Args:
      loss: l, [rounds, actions], finite.
      policy: π, the probabilities of the actions in each round, same shape.

    Returns:
      The regret, in units of loss; it may be negative.

    Raises:
      LapwingError: the shapes differ, there are no rounds, a loss is not finite, or a policy is no distribution.
    """
    loss, policy = _checked(loss, policy)
    return float(np.sum(loss * policy) - loss.sum(axis=0).min())


def regret_curve(loss: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """The external regret after each round: Σ_{s≤t} ⟨l_s, π_s⟩ − min_a Σ_{s≤t} l_{s,a}.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Cesa-Bianchi and Lugosi 2006, "Prediction, Learning, and Games", section 2.1.
      https://doi.org/10.1017/CBO9780511546921

    Args:
      loss: l, [rounds, actions], finite.
      policy: π, same shape.

    Returns:
      float64 [rounds], in units of loss; the last is `external_regret`.

    Raises:
      LapwingError: as of `external_regret`.
    """
    loss, policy = _checked(loss, policy)
    return np.cumsum((loss * policy).sum(axis=1)) - np.cumsum(loss, axis=0).min(axis=1)


def internal_regret(loss: np.ndarray, policy: np.ndarray) -> float:
    """Loss beyond that of playing one action wherever one certain other was played.

        Regret = max_{a, b} Σ_t π_{t,a} (l_{t,a} − l_{t,b})

    Where no player has any on average, the joint play is a correlated equilibrium; external regret only makes it a
    coarse one. It is at most the external regret with two actions, and may be more with three.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Foster and Vohra 1999, "Regret in the On-Line Decision Problem". https://doi.org/10.1006/game.1999.0740

    Args:
      loss: l, [rounds, actions], finite.
      policy: π, same shape.

    Returns:
      The regret, ≥ 0, in units of loss.

    Raises:
      LapwingError: as of `external_regret`.
    """
    loss, policy = _checked(loss, policy)
    instead = policy.T @ loss  # [a, b]: what b would have lost where a was played
    return float((np.diag(instead)[:, None] - instead).max())


def dynamic_regret(loss: np.ndarray, policy: np.ndarray) -> float:
    """Loss beyond that of the best action of every single round.

        Regret = Σ_t ⟨l_t, π_t⟩ − Σ_t min_a l_{t,a}

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Zinkevich 2003, "Online Convex Programming and Generalized Infinitesimal Gradient Ascent".
      https://www.aaai.org/Papers/ICML/2003/ICML03-120.pdf

    Args:
      loss: l, [rounds, actions], finite.
      policy: π, same shape.

    Returns:
      The regret, ≥ 0 up to rounding and ≥ `external_regret`, in units of loss.

    Raises:
      LapwingError: as of `external_regret`.
    """
    loss, policy = _checked(loss, policy)
    return float(np.sum(loss * policy) - loss.min(axis=1).sum())


def regret_loss(regret: np.ndarray, *, temperature: float = 1.0) -> float:
    """What is minimised so that the worst regret over several sequences of losses falls.

        L = Σ_j F_j h(Reg_j),   h(x) = max(0, x)²,   F = softmax(Reg / temperature)

    One sequence gives plain h. As the temperature goes to 0 only the worst sequence counts.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Park et al. 2024, "Do LLM Agents Have Regret? A Case Study in Online Learning and Games" (regret-loss).
      https://arxiv.org/abs/2403.16843

    Args:
      regret: of each sequence, [sequences], at least one, finite, in units of loss.
      temperature: > 0, in units of loss.

    Returns:
      The loss, ≥ 0, in units of loss squared.

    Raises:
      LapwingError: there are no regrets, one is not finite, or `temperature` is not positive.
    """
    regret = np.asarray(regret, dtype=np.float64)
    if regret.ndim != 1 or not len(regret) or not np.isfinite(regret).all():
        raise LapwingError("regret_loss needs one or more finite regrets in one row.")
    if not 0.0 < temperature < math.inf:
        raise LapwingError(f"temperature must be finite and above 0, but it is {temperature}.")
    weight = np.exp((regret - regret.max()) / temperature)
    return float(np.sum(weight * np.maximum(regret, 0.0) ** 2) / weight.sum())


def hedge(loss: np.ndarray, *, rate: float | None = None) -> np.ndarray:
    """The policy of exponential weights: no action is favoured but for what it lost less so far.

        π_t ∝ exp(−η Σ_{s<t} l_s),   η = √(8 ln d / T)

    With that rate and losses in [0, 1] the regret is at most √(T ln d / 2).

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Cesa-Bianchi and Lugosi 2006, "Prediction, Learning, and Games", theorem 2.2.
      https://doi.org/10.1017/CBO9780511546921

    Args:
      loss: l, [rounds, actions].
      rate: η ≥ 0; None is the rate above.

    Returns:
      π, float64 [rounds, actions].
    """
    loss = np.asarray(loss, dtype=np.float64)
    rounds, actions = loss.shape
    eta = math.sqrt(8.0 * math.log(actions) / rounds) if rate is None else rate
    before = np.cumsum(loss, axis=0) - loss
    weight = np.exp(-eta * (before - before.min(axis=1, keepdims=True)))
    return weight / weight.sum(axis=1, keepdims=True)


def follow_the_leader(loss: np.ndarray) -> np.ndarray:
    """All on the action that lost least so far, the first of several, float64 [rounds, actions]."""
    loss = np.asarray(loss, dtype=np.float64)
    before = np.cumsum(loss, axis=0) - loss
    return np.eye(loss.shape[1])[before.argmin(axis=1)]


def _checked(loss: np.ndarray, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    loss, policy = np.asarray(loss, dtype=np.float64), np.asarray(policy, dtype=np.float64)
    if loss.ndim != 2 or loss.shape != policy.shape or not loss.size:
        raise LapwingError(
            f"A regret needs losses and policies [rounds, actions], but they have the shapes {loss.shape} and "
            f"{policy.shape}."
        )
    if not np.isfinite(loss).all():
        raise LapwingError("A regret needs finite losses.")
    if (policy < -1e-9).any() or not np.allclose(policy.sum(axis=1), 1.0):
        raise LapwingError("A policy holds probabilities that sum to 1 in every round.")
    return loss, policy

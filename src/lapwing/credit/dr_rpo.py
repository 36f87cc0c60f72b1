"""Advantages under the worst distribution near the empirical one of a group's returns."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_index, has_spread
from lapwing.credit._settings import check_choice, check_weight

LEVEL = "step"
SCOPE = "group"
NEEDS = ()

_BALLS = ("kl", "tv")


@checked(*NEEDS)
def dr_rpo(batch: EpisodeBatch, *, radius: float = 0.05, ball: str = "kl") -> np.ndarray:
    """Give every step of an episode its return relative to the group's worst case, with the worst case's weight.

        A_i = G q_i (R_i − b),   b = Σ_j q_j R_j,   q = the distribution in the ball with the smallest mean return
        KL ball:   q_i ∝ exp(−R_i / λ*),   KL(q ‖ uniform) = ρ,   b = sup_{λ>0} −λ log mean exp(−R/λ) − λρ
        TV ball:   the mass ρ moves from the highest returns to the lowest,   b = max_a mean min(R, a) − ρ (a − min R)

    The robust value alone is one number for the whole group and no advantage; its gradient weighs each return with q.
    As b is the mean under q, the advantages of a group add up to 0. ρ = 0 gives R − mean_g R (`dr_grpo`). Where ρ is
    so large that the worst return alone is left, the KL ball gives 0 everywhere: nothing below it can be
    improved upon. It is worth something where the members of a group meet different chance or variants of a
    game (`sampler.share_chance = false`); with equal chance the spread is the policy's own. A group of one, or with
    equal returns, gives exactly 0. The paper's robust backup over states is tabular; here the group's returns take the
    place of the values of next states. The optimism bonus of its theory is left out.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: DR-RPO 2025, policy-regularised distributionally robust Markov decision processes with linear function
      approximation. https://arxiv.org/abs/2510.14246; the dual of the KL ball: Hu and Hong 2013, "Kullback-Leibler
      Divergence Constrained Distributionally Robust Optimization". https://optimization-online.org/2012/11/3677

    Args:
      batch: N steps in E episodes.
      radius: ρ ≥ 0, of the ball; in nats, and as a probability where it is TV.
      ball: "kl" or "tv".

    Returns:
      Advantage of each step, float64 [N], in units of reward.

    Raises:
      UserError: `radius` is negative or not finite, above 1 for "tv", or `ball` is unknown.
    """
    check_choice("ball", ball, _BALLS)
    _check_radius(radius, most=1.0 if ball == "tv" else math.inf)
    weights = worst_weights_kl if ball == "kl" else worst_weights_tv
    returns = batch.episode_return
    index, size = group_index(batch.group)
    advantage = np.zeros(batch.num_episodes)
    spread = has_spread(returns, batch.group)
    for number in np.unique(index[spread]):
        mine = np.flatnonzero(index == number)
        weight = weights(returns[mine], radius)
        advantage[mine] = size[number] * weight * (returns[mine] - weight @ returns[mine])
    return advantage[batch.episode_of_step]


def robust_value_kl(values: np.ndarray, radius: float) -> float:
    """The smallest mean of the values over all distributions within a KL ball around the uniform one.

        inf { Σ q_i X_i : KL(q ‖ uniform) ≤ ρ } = sup_{λ>0} −λ log mean exp(−X/λ) − λρ

    Args:
      values: X, [n], n ≥ 1, finite.
      radius: ρ ≥ 0, in nats.

    Returns:
      The value, between the least of X and their mean, which it is for ρ = 0.

    Raises:
      UserError: there are no values, one is not finite, or `radius` is negative.
    """
    values = _finite(values)
    return float(worst_weights_kl(values, radius) @ values)


def robust_value_tv(values: np.ndarray, radius: float) -> float:
    """The smallest mean of the values over all distributions within a total-variation ball around the uniform one.

        inf { Σ q_i X_i : ½ Σ |q_i − 1/n| ≤ ρ } = max_a mean min(X, a) − ρ (a − min X)

    Args:
      values: X, [n], n ≥ 1, finite.
      radius: ρ, in [0, 1].

    Returns:
      The value, between the least of X and their mean, which it is for ρ = 0.

    Raises:
      UserError: there are no values, one is not finite, or `radius` lies outside [0, 1].
    """
    values = _finite(values)
    return float(worst_weights_tv(values, radius) @ values)


def worst_weights_kl(values: np.ndarray, radius: float) -> np.ndarray:
    """The distribution q ∝ exp(−X/λ*) with KL(q ‖ uniform) = ρ, float64 [n].

    Where ρ reaches −log of the share of the smallest values, all mass lies on these.
    """
    values = _finite(values)
    _check_radius(radius, most=math.inf)
    scaled = _scaled(values)
    least = scaled == 0.0
    if radius == 0.0 or least.all():
        return np.full(len(values), 1.0 / len(values))
    if radius >= -math.log(least.mean()):
        return least / least.sum()
    # One bracket of λ fits all scaled values; the divergence falls as λ grows. Halved so often it is as narrow as the
    # rounding of its ends.
    low, high = math.log(1e-12), math.log(1e12)
    for _ in range(56):
        middle = (low + high) / 2.0
        if _divergence(_tilted(scaled, math.exp(middle))) > radius:
            low = middle
        else:
            high = middle
    return _tilted(scaled, math.exp((low + high) / 2.0))


def worst_weights_tv(values: np.ndarray, radius: float) -> np.ndarray:
    """The uniform distribution with the mass ρ moved from the highest values to the smallest, float64 [n].

    Equal values lose and gain equally.
    """
    values = _finite(values)
    _check_radius(radius, most=1.0)
    weight = np.full(len(values), 1.0 / len(values))
    scaled = _scaled(values)
    left = radius
    for value in np.unique(scaled)[:0:-1]:
        mine = scaled == value
        taken = min(left, float(weight[mine].sum()))
        weight[mine] -= taken / mine.sum()
        left -= taken
    least = scaled == 0.0
    weight[least] += (radius - left) / least.sum()
    return weight


def kl_softmax_target(action_value: np.ndarray, reference: np.ndarray, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """The policy that trades its value against its divergence from a reference, and what it is worth.

        π(a|s) ∝ π_ref(a|s) exp(Q(s, a) / β),   V(s) = β log Σ_a π_ref(a|s) exp(Q(s, a) / β)

    Args:
      action_value: Q, [..., actions], finite.
      reference: π_ref, same shape, probabilities that sum to 1 over the last axis.
      beta: β > 0, in units of Q.

    Returns:
      π, float64 [..., actions], and V, float64 [...].

    Raises:
      UserError: `beta` is not positive, or the reference is no distribution.
    """
    action_value, reference = np.asarray(action_value, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if not 0.0 < beta < math.inf:
        raise UserError(f"beta must be finite and above 0, but it is {beta}.")
    if (reference < 0).any() or not np.allclose(reference.sum(axis=-1), 1.0):
        raise UserError("reference must hold probabilities that sum to 1 over the last axis.")
    highest = action_value.max(axis=-1, keepdims=True)
    mass = reference * np.exp((action_value - highest) / beta)
    total = mass.sum(axis=-1, keepdims=True)
    return mass / total, (highest + beta * np.log(total))[..., 0]


def _scaled(values: np.ndarray) -> np.ndarray:
    """The values from 0 to 1; those that differ by the rounding of their sums become equal."""
    spread = np.ptp(values)
    return np.round((values - values.min()) / spread, 12) if spread > 0 else np.zeros(len(values))


def _tilted(scaled: np.ndarray, temperature: float) -> np.ndarray:
    weight = np.exp(-scaled / temperature)  # the smallest is 0, so that nothing overflows
    return weight / weight.sum()


def _divergence(weight: np.ndarray) -> float:
    positive = weight[weight > 0]
    return float(np.sum(positive * np.log(positive * len(weight))))


def _check_radius(radius: float, *, most: float) -> None:
    check_weight("radius", radius)
    if radius > most:
        raise UserError(f"radius is a probability of at most {most:g}, but it is {radius}.")


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise UserError("A robust value needs one or more finite numbers in one row.")
    return values

"""Absolute-advantage-weighted sampling of episodes."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_index
from lapwing.core.types import Selection
from lapwing.selection._magnitude import episode_magnitude
from lapwing.selection._share import number_to_keep

SCOPE = "batch"
NEEDS = ()

_SCOPES = ("batch", "group")
_CORRECTIONS = ("none", "inverse", "capped")


def aaw(
    batch: EpisodeBatch,
    advantage: np.ndarray,
    rng: np.random.Generator,
    *,
    keep: float = 0.5,
    alpha: float = 1.0,
    delta: float = 0.0,
    scope: str = "batch",
    replacement: bool = False,
    correction: str = "none",
    cap: float = 3.0,
) -> Selection:
    """Draw episodes with probability proportional to the size of their advantage.

        w_e = |A_e|^α + δ,   p_e = w_e / Σ w,   |A_e| = mean over the steps of e of |advantage|
        n = max(1, round(keep · E)) episodes are drawn by p, without or with replacement

    Very good and very bad episodes are both favoured. Without replacement the n largest of log w_e + Gumbel noise
    are taken, which has the law of successive draws with probability proportional to w. Episodes with w = 0 are
    never drawn: if fewer than n have w > 0 those are all that is taken (with replacement, all that is drawn from),
    and if none has, every count is 0. α = 0 is uniform over all episodes. Halves round up.

    Without correction the expected update weighs an episode by |A| · A, a biased and sharper objective.
    "inverse" undoes the sampling: for a loss proportional to the advantage, and under `episode_mean`,
    `episode_step_mean` or `constant`, the expected update is that of training on all episodes (under the other
    aggregations up to the randomness of their denominator). With n_s of the n draws in the episode's scope s,

        factor_e = n / (E π_e),   π_e = n_s p_e                        with replacement (one scope: 1 / (E p_e))
                                  π_e = 1 − exp(−exp(log w_e − κ))     without

    where κ is the largest noisy log w that was not taken (−∞ if all were). 1 / (E p_e) itself would be wrong
    without replacement: with keep = 1 everything is taken and nothing needs a correction. "capped" is "inverse"
    with factors of at most `cap`: a little bias for a bounded step. The factor of an episode that was not drawn
    is 1.

    Provenance: formula from the paper's text; code not seen.

    Reference: Dilkes, Yazdanpanah and Stein 2025, "Reinforced Language Models for Sequential Decision Making"
      (absolute-advantage-weighted episode sampling; formula, exponent and correction are not in its abstract and
      are settings here). https://arxiv.org/abs/2508.10839; Kool, van Hoof and Welling 2019, "Stochastic Beams and
      Where to Find Them: The Gumbel-Top-k Trick for Sampling Sequences Without Replacement" (the draw and its
      unbiased weights). https://arxiv.org/abs/1903.06059

    Args:
      batch: E episodes with N steps and K tokens.
      advantage: per step [N] or per token [K], any unit.
      rng: the source of the draw.
      keep: share of the episodes of each scope, in (0, 1]; at least one is kept.
      alpha: α, ≥ 0; 0 is uniform, large values approach `top_k`.
      delta: δ, ≥ 0, in units of |advantage|^α; above 0 lets episodes without advantage be drawn.
      scope: "batch" draws from all episodes at once, "group" from each group separately.
      replacement: an episode may be drawn several times and then counts several times.
      correction: "none", "inverse" or "capped".
      cap: largest factor of "capped", > 0.

    Returns:
      Selection: `count` int64 [E], how often an episode was drawn, and `factor` float64 [E], both without unit.

    Raises:
      UserError: `keep` lies outside (0, 1], `alpha` or `delta` is negative, `cap` is not positive, or `scope` or
        `correction` is unknown.
      LapwingError: `advantage` has neither N nor K elements.
    """
    _check(alpha, delta, scope, correction, cap)
    log_weight = _log_weight(episode_magnitude(batch, advantage), alpha, delta)
    episodes = batch.num_episodes
    pool = group_index(batch.group)[0] if scope == "group" else np.zeros(episodes, dtype=np.int64)
    draw = _with_replacement if replacement else _without_replacement
    count = np.zeros(episodes, dtype=np.int64)
    expected = np.ones(episodes)
    for number in np.unique(pool):
        members = np.flatnonzero(pool == number)
        size = number_to_keep(keep, len(members))
        drawable = members[log_weight[members] > -np.inf]
        if len(drawable):
            count[drawable], expected[drawable] = draw(log_weight[drawable], size, rng)
    factor = np.ones(episodes)
    if correction != "none":
        drawn = count > 0
        factor[drawn] = count.sum() / (episodes * expected[drawn])
    if correction == "capped":
        factor = np.minimum(factor, cap)
    return Selection(count, factor)


def _log_weight(magnitude: np.ndarray, alpha: float, delta: float) -> np.ndarray:
    """log(|A|^α + δ), with −∞ for weight 0; in logarithms because |A|^α may overflow."""
    if alpha == 0.0:
        return np.zeros(len(magnitude))
    with np.errstate(divide="ignore"):
        return np.logaddexp(alpha * np.log(magnitude), np.log(delta))


def _without_replacement(log_weight: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gumbel top-k: the counts, and the probability of each to exceed the threshold κ."""
    noisy = log_weight + rng.gumbel(size=len(log_weight))
    order = np.argsort(-noisy, kind="stable")
    threshold = noisy[order[size]] if size < len(order) else -np.inf
    count = np.zeros(len(order), dtype=np.int64)
    count[order[:size]] = 1
    with np.errstate(over="ignore"):
        return count, -np.expm1(-np.exp(log_weight - threshold))


def _with_replacement(log_weight: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Independent draws: the counts, and their expectations."""
    weight = np.exp(log_weight - log_weight.max())
    probability = weight / weight.sum()
    drawn = rng.choice(len(weight), size, p=probability)
    return np.bincount(drawn, minlength=len(weight)), size * probability


def _check(alpha: float, delta: float, scope: str, correction: str, cap: float) -> None:
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not 0.0 <= value < math.inf:
            raise UserError(f"{name} must be finite and at least 0, but it is {value}.")
    for name, value, valid in (("scope", scope, _SCOPES), ("correction", correction, _CORRECTIONS)):
        if value not in valid:
            raise UserError(f"There is no {name} '{value}'; valid names: {', '.join(valid)}.")
    if not cap > 0.0:
        raise UserError(f"cap must be positive, but it is {cap}.")

"""Advantages from the lower part of the distribution of bundle scores, with quantiles that are tracked."""

from typing import NamedTuple

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_index, group_mean, group_std, has_spread
from lapwing.credit._settings import check_choice, check_normalisation, check_weight

LEVEL = "step"
SCOPE = "batch"
NEEDS = ()

_QUANTILES = ("track", "batch", "mix")
_ASSIGNMENTS = ("uniform", "std", "score", "sum_mean")
# The authors' code leaves groups with less spread than this unscaled.
_LEAST_STD = 1e-3
_LEAST_SUM = 1e-6
# Sums of the same rewards in another order differ by rounding.
_LEAST_RETURN = 1e-10


class Papers(NamedTuple):
    """The papers of a batch: one member of each group of a bundle.

    Attributes:
      score: of each paper, float64 [papers].
      bundle: number of each paper's bundle, int64 [papers].
      paper: the paper of each pair of a paper and a member, int64 [pairs].
      episode: the episode of each pair, int64 [pairs].
    """

    score: np.ndarray
    bundle: np.ndarray
    paper: np.ndarray
    episode: np.ndarray


def initial_state(**_: object) -> dict[str, np.ndarray]:
    """Quantiles that no batch has set yet: `quantile` [2] for α and β, and `batches` [1], how many were seen."""
    return {"quantile": np.zeros(2), "batches": np.zeros(1, dtype=np.int64)}


@checked(*NEEDS)
def riskpo(
    batch: EpisodeBatch,
    *,
    state: dict[str, np.ndarray],
    alpha: float = 0.2,
    beta: float = 0.8,
    omega: float = 1.5,
    bundle: int = 5,
    rate: float = 0.1,
    quantiles: str = "track",
    center: bool = False,
    scale_by_std: bool = False,
    eps: float = 1e-6,
    assign: str = "uniform",
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Give the members of a paper the mixed value at risk of its score, which stresses hard bundles.

        S = Σ returns of the paper's members,   a paper = one member of each group of a bundle
        rv = ((S − q_α)⁺ − (S − q_β)⁺ + q_α − q_β) / (β − α),   cv = −(q_α − S)⁺ / α
        A = (ω cv + rv) / (ω + 1)
        q_s ← q_s + η (s − mean [S < q_s]),   s = α, β

    Groups are bundled in the order of their numbers, that in which the sampler drew them, and papers pair members by
    index, as the released code does: replies are drawn independently, so that a permutation would change nothing but
    the noise. A last bundle with fewer groups has its scores scaled up to `bundle`. Where groups have unequal sizes a
    member of a smaller one is in several papers and gets the mean of what they give it (the code leaves the rest of
    a larger group out). The quantiles of the first batch are its own; a later batch uses those tracked so far, which
    it moves afterwards. With the constant q_α − q_β every A ≤ 0; `center` subtracts the mean over the papers. α = 0
    has no lower tail and cv = 0. Standard deviations have ddof 1. Tasks of different reward scale should not share a
    bundle. The method's other half is a ratio of sequences (`gspo`).

    Provenance: formula and defaults from the authors' code.

    Reference: RiskPO 2025, "Risk-based Policy Optimization via Verifiable Reward for LLM Post-Training".
      https://arxiv.org/abs/2510.00911; https://github.com/RTkenny/RiskPO

    Args:
      batch: N steps in E episodes.
      state: `quantile` [2] and `batches` [1], as `initial_state` or an earlier call gave them.
      alpha: α, in [0, β).
      beta: β, in (α, 1].
      omega: ω, weight of the lower tail, ≥ 0.
      bundle: how many groups make a bundle, ≥ 1.
      rate: η, how far a batch moves the quantiles, ≥ 0, in units of reward.
      quantiles: "track" those of the state, "batch" those of the bundle's own papers, "mix" the mean of both.
      center: subtract the mean advantage over the papers of the batch.
      scale_by_std: divide by the standard deviation of the bundle's scores, plus ε; without spread the result is 0.
      eps: ε, ≥ 0, in units of reward.
      assign: "uniform" gives A to each member; "std" divides it by the standard deviation of the member's group plus ε
        (by 1 + ε where that is below 0.001); "score" multiplies it by ½ for a return above 0 and by 1½ for another;
        "sum_mean" shares it by return minus group mean, each share clipped to [−1, 1], equally where these sum to 0.

    Returns:
      Advantage of each step, float64 [N], in units of reward (of none where a scale divides), and the new state.

    Raises:
      UserError: a setting lies outside its range.
    """
    _check(alpha, beta, bundle, quantiles, assign)
    check_weight("omega", omega)
    check_weight("rate", rate)
    check_normalisation(1, eps)
    if batch.num_episodes == 0:
        return np.zeros(0), state
    papers = _papers(batch, bundle)
    new_state = _tracked(state, papers.score, np.array([alpha, beta]), rate)
    known = state["quantile"] if state["batches"][0] else new_state["quantile"]
    low, high = _quantiles(papers, known, np.array([alpha, beta]), quantiles)
    advantage = mixed_value_at_risk(papers.score, low, high, alpha=alpha, beta=beta, omega=omega)
    if center:
        advantage = advantage - advantage.mean()
    if scale_by_std:
        std = group_std(papers.score, papers.bundle, ddof=1)
        advantage = np.divide(advantage, std + eps, out=np.zeros_like(advantage), where=std > 0)
    share = _assigned(batch, papers, assign, eps) * advantage[papers.paper]
    per_episode = np.bincount(papers.episode, weights=share) / np.bincount(papers.episode)
    return per_episode[batch.episode_of_step], new_state


def mixed_value_at_risk(
    score: np.ndarray, low: np.ndarray | float, high: np.ndarray | float, *, alpha: float, beta: float, omega: float
) -> np.ndarray:
    """The advantage A of scores S for given quantiles q_α (`low`) and q_β (`high`); see `riskpo` for the equation."""
    score = np.asarray(score, dtype=np.float64)
    between = np.maximum(score - low, 0.0) - np.maximum(score - high, 0.0) + low - high
    below = np.maximum(low - score, 0.0)
    tail = -below / alpha if alpha > 0 else np.zeros_like(below)
    return (omega * tail + between / (beta - alpha)) / (omega + 1.0)


def moved_quantile(quantile: np.ndarray, score: np.ndarray, level: np.ndarray, rate: float) -> np.ndarray:
    """One step of quantiles towards those of the scores.

        q_s ← q_s + η (s − mean [S < q_s])

    Args:
      quantile: q, [n].
      score: S, [papers], at least one.
      level: s, [n].
      rate: η.

    Returns:
      The new quantiles, float64 [n].
    """
    below = np.mean(np.asarray(score)[None, :] < np.asarray(quantile)[:, None], axis=1)
    return np.asarray(quantile) + rate * (np.asarray(level) - below)


def _check(alpha: float, beta: float, bundle: int, quantiles: str, assign: str) -> None:
    if not 0.0 <= alpha < beta <= 1.0:
        raise UserError(f"alpha and beta must be quantile levels, 0 ≤ alpha < beta ≤ 1, but are {alpha} and {beta}.")
    if bundle < 1:
        raise UserError(f"bundle must be at least 1, but it is {bundle}.")
    check_choice("quantiles", quantiles, _QUANTILES)
    check_choice("assign", assign, _ASSIGNMENTS)


def _papers(batch: EpisodeBatch, bundle: int) -> Papers:
    """Bundle the groups and pair their members by index; the order of the episodes in the batch plays no part."""
    group, size = group_index(batch.group)
    order = np.lexsort((batch.player, batch.match, group))
    returns = batch.episode_return
    first = np.cumsum(size) - size
    score, of_bundle, paper, episode = [], [], [], []
    papers = 0
    for start in range(0, len(size), bundle):
        groups = np.arange(start, min(start + bundle, len(size)))
        number = int(size[groups].max())
        # members [papers of the bundle, groups of the bundle]
        members = order[first[groups] + np.arange(number)[:, None] % size[groups]]
        score.append(returns[members].sum(axis=1) * (bundle / len(groups)))
        of_bundle.append(np.full(number, start // bundle))
        paper.append(np.repeat(papers + np.arange(number), len(groups)))
        episode.append(members.reshape(-1))
        papers += number
    return Papers(*(np.concatenate(parts) for parts in (score, of_bundle, paper, episode)))


def _tracked(state: dict[str, np.ndarray], score: np.ndarray, level: np.ndarray, rate: float) -> dict[str, np.ndarray]:
    """The state after these scores; the first ones set the quantiles."""
    if state["batches"][0]:
        quantile = moved_quantile(state["quantile"], score, level, rate)
    else:
        quantile = np.quantile(score, level)
    return {"quantile": quantile, "batches": state["batches"] + 1}


def _quantiles(papers: Papers, known: np.ndarray, level: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
    """q_α and q_β of each paper's bundle, [papers] each."""
    tracked = np.broadcast_to(known[:, None], (2, len(papers.score)))
    if source == "track":
        return tracked[0], tracked[1]
    own = np.empty((2, len(papers.score)))
    for number in np.unique(papers.bundle):
        mine = papers.bundle == number
        own[:, mine] = np.quantile(papers.score[mine], level)[:, None]
    used = own if source == "batch" else (own + tracked) / 2.0
    return used[0], used[1]


def _assigned(batch: EpisodeBatch, papers: Papers, assign: str, eps: float) -> np.ndarray:
    """What the advantage of its paper is multiplied by for each member, [pairs]."""
    returns = batch.episode_return
    if assign == "std":
        std = group_std(returns, batch.group, ddof=1)
        return (1.0 / (np.where(std > _LEAST_STD, std, 1.0) + eps))[papers.episode]
    if assign == "score":
        return np.where(returns > _LEAST_RETURN, 0.5, 1.5)[papers.episode]
    if assign == "sum_mean":
        spread = has_spread(returns, batch.group)
        above = np.where(spread, returns - group_mean(returns, batch.group), 0.0)[papers.episode]
        total = np.bincount(papers.paper, weights=above)[papers.paper]
        equal = 1.0 / np.bincount(papers.paper)[papers.paper]
        usable = np.abs(total) > _LEAST_SUM
        return np.where(usable, np.clip(above / np.where(usable, total, 1.0), -1.0, 1.0), equal)
    return np.ones(len(papers.episode))

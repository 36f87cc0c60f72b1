"""Policy filtration: episodes of the ranks at which the reward can be trusted."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError, nearest
from lapwing.core.types import Selection

SCOPE = "group"
NEEDS = ()

FILTERS = ("best", "best_and_rest", "best_and_worst", "power")


def pf_ppo(
    batch: EpisodeBatch,
    advantage: np.ndarray,
    rng: np.random.Generator,
    *,
    filter: str = "best_and_rest",
    resample: bool = True,
    best: float = 0.4,
    rest: float = 0.1,
    power: float = 2.0,
) -> Selection:
    """Draw the episodes of each group with weights that depend on the rank, or the size, of their return.

        best:            w = 1 for the best
        best_and_rest:   w = `best` for the best, `rest` for every other (N = 5: the best is drawn with ½)
        best_and_worst:  w = 1 for the best and for the worst
        power:           w = |R|^power
        p_e = w_e / Σ_group w

    With `resample` every group draws as many episodes as it has, with replacement, by p. Without, each episode with
    w > 0 is kept once, and its factor, p_e times the number that is kept, does what the drawing would on average. Of
    equal returns chance decides which is the best; the worst is another episode than the best wherever there are two.
    Where all weights of a group are 0, all are taken as equal. Ranks are of the group: extrema of the whole batch, as
    in a public port, would leave out every prompt that is not the easiest or the hardest. The advantage is computed on
    the full group and plays no part here; computed afterwards, it would make a ± pair of best and worst whatever their
    gap. The filters are for rewards from a model, of which the middle ranks are noise (`choose_filter` finds out
    which); a verified reward needs none. The paper finds the filters with the rest or the worst good, and "best" bad.

    Provenance: formula and defaults from the authors' code.

    Reference: Shen and Zhang 2024, "Policy Filtration in RLHF to Fine-Tune LLM for Code Generation" (PF-PPO).
      https://arxiv.org/abs/2409.06957; https://github.com/swtheing/PF-PPO-RLHF

    Args:
      batch: E episodes.
      advantage: not used; every selection has the same signature.
      rng: the source of the draw, and of the order of equal returns.
      filter: "best", "best_and_rest", "best_and_worst" or "power".
      resample: draw with replacement; else keep what has a weight.
      best: weight of the best under "best_and_rest", ≥ 0.
      rest: weight of every other under "best_and_rest", ≥ 0.
      power: exponent of |return|, ≥ 0.

    Returns:
      Selection: `count` int64 [E], how often an episode was drawn, and `factor` float64 [E], both without unit.

    Raises:
      UserError: `filter` is unknown, or a weight is negative or not finite.
    """
    del advantage
    _check(filter, best=best, rest=rest, power=power)
    returns = np.asarray(batch.episode_return, dtype=np.float64)
    count = np.zeros(batch.num_episodes, dtype=np.int64)
    factor = np.ones(batch.num_episodes)
    for number in np.unique(batch.group):
        mine = np.flatnonzero(batch.group == number)
        shuffled = mine[rng.permutation(len(mine))]
        weight = filter_weights(returns[shuffled], filter, best=best, rest=rest, power=power)
        if resample:
            drawn = rng.choice(shuffled, len(shuffled), p=weight)
            count[mine] = np.bincount(drawn, minlength=batch.num_episodes)[mine]
        else:
            kept = weight > 0
            count[shuffled[kept]] = 1
            factor[shuffled[kept]] = weight[kept] * kept.sum()
    return Selection(count, factor)


def filter_weights(
    reward: np.ndarray, filter: str, *, best: float = 0.4, rest: float = 0.1, power: float = 2.0
) -> np.ndarray:
    """The probabilities of one group's members under a filter, float64 [n]; of equal rewards the first is better.

    Args:
      reward: [n], n ≥ 1.
      filter: see `pf_ppo`.
      best: see `pf_ppo`.
      rest: see `pf_ppo`.
      power: see `pf_ppo`.
    """
    reward = np.asarray(reward, dtype=np.float64)
    order = np.argsort(-reward, kind="stable")
    if filter == "power":
        size = np.abs(reward)
        # Relative to the largest, which cannot overflow.
        weight = (size / size.max()) ** power if size.max() > 0 else np.zeros(len(reward))
    else:
        weight = np.full(len(reward), rest if filter == "best_and_rest" else 0.0)
        weight[order[0]] = best if filter == "best_and_rest" else 1.0
        if filter == "best_and_worst":
            weight[order[-1]] = 1.0
    total = weight.sum()
    return weight / total if total > 0 else np.full(len(reward), 1.0 / len(reward))


def choose_filter(
    reward: np.ndarray, truth: np.ndarray, *, filters: tuple[str, ...] = FILTERS
) -> tuple[str, dict[str, float]]:
    """The filter under which the reward foretells the true score best, on a calibration set.

        R² = 1 − min_{a,b} Σ p (truth − a − b · reward)² / Σ p (truth − mean)²

    The samples of every prompt have the weights p that the filter gives them. True scores without variance give 0. The
    authors average over ranks first; two ranks would then fit any line exactly.

    Args:
      reward: what a reward model said, [prompts, samples].
      truth: the true scores, same shape.
      filters: those to choose from.

    Returns:
      The first filter with the largest R², and R² of each by name.

    Raises:
      UserError: the shapes differ, there is nothing, a number is not finite, or a filter is unknown.
    """
    reward, truth = np.asarray(reward, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if reward.ndim != 2 or reward.shape != truth.shape or not reward.size or not filters:
        raise UserError(
            f"choose_filter needs rewards and true scores [prompts, samples], but they have the shapes {reward.shape} "
            f"and {truth.shape}."
        )
    if not (np.isfinite(reward).all() and np.isfinite(truth).all()):
        raise UserError("choose_filter needs finite rewards and true scores.")
    for name in filters:
        _check(name)
    found = {name: _fit(reward, truth, np.array([filter_weights(row, name) for row in reward])) for name in filters}
    return max(found, key=lambda name: found[name]), found


def _fit(reward: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """The weighted R² of the line through the samples."""
    weight = weight / weight.sum()
    x, y = reward - np.sum(weight * reward), truth - np.sum(weight * truth)
    of_x, of_y, both = np.sum(weight * x**2), np.sum(weight * y**2), np.sum(weight * x * y)
    return float(both**2 / (of_x * of_y)) if of_x > 1e-20 and of_y > 1e-20 else 0.0


def _check(filter: str, **weights: float) -> None:
    if filter not in FILTERS:
        raise UserError(f"There is no filter '{filter}'; {nearest(str(filter), FILTERS)}")
    for name, value in weights.items():
        if not 0.0 <= value < math.inf:
            raise UserError(f"{name} must be finite and at least 0, but it is {value}.")

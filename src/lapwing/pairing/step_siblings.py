"""Pairs of steps that answer the same question with different actions."""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.checked import checked
from lapwing.core.errors import UserError, nearest
from lapwing.core.pair_batch import PairBatch
from lapwing.core.ragged import group_mean, match_index, reverse_discounted_sum
from lapwing.pairing._groups import as_episodes, check_gap, differs

SCOPE = "group"
NEEDS = ("context_key",)

_VALUES = ("mean_return", "exact_advantage")


@checked(*NEEDS)
def step_siblings(
    batch: EpisodeBatch, *, min_gap: float = 0.1, value: str = "mean_return", discount: float = 1.0
) -> PairBatch:
    """Prefer of the actions that a group tried in one place the best to the worst.

        Q(s, a) = mean of G over the group's steps that saw s and did a,   G_t = r_t + γ G_{t+1}
        a⁺ = argmax_a Q(s, a),  a⁻ = argmin_a Q(s, a):   one pair where Q(s, a⁺) − Q(s, a⁻) ≥ δ,  w = 1

    A place is a view together with the context in which it was shown. With `value = "exact_advantage"` the column of
    that name stands for Q, from which it differs by the value of the state alone. Each pair is of two steps, which the
    batch of the result holds as episodes of one step: of each action the first reply that stands for it. What stands in
    one place only, or was an invalid reply, is in no pair.

    The source takes Q from a tree search; here the tree is what the group played.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Zhai et al. 2024, "Enhancing Decision-Making for LLM Agents via Step-Level Q-Value Models" (its
      preferences of steps). https://arxiv.org/abs/2409.09345

    Args:
      batch: N steps in E episodes, with the column `context_key` [N].
      min_gap: δ, the least difference of two Q that makes a pair, ≥ 0, in units of reward.
      value: "mean_return" or "exact_advantage".
      discount: γ of the mean return, per step, in [0, 1].

    Returns:
      The pairs, with chosen, rejected, weight and margin [P], and a batch of one-step episodes; the margin is
      Q(s, a⁺) − Q(s, a⁻), in units of reward.

    Raises:
      UserError: `min_gap` is negative, `discount` lies outside [0, 1], `value` is unknown, or its column is missing.
    """
    check_gap("min_gap", min_gap)
    if not 0.0 <= discount <= 1.0:
        raise UserError(f"discount must be in [0, 1], but it is {discount}.")
    if value not in _VALUES:
        raise UserError(f"There is no value '{value}'; {nearest(value, _VALUES)}")
    if value == "exact_advantage":
        worth = batch.column("exact_advantage", needed_by="step_siblings")
    else:
        worth = reverse_discounted_sum(merged_reward(batch), discount, batch.step_splits)
    replied = np.diff(batch.token_splits) > 0
    steps = np.flatnonzero(replied & batch.valid & (batch.view_key != 0) & (batch.action_key != 0))
    if not len(steps):
        return PairBatch(steps, steps, np.zeros(0), as_episodes(batch, steps))
    of_group = batch.group[batch.episode_of_step[steps]]
    place = match_index(of_group, batch.view_key[steps], batch.column("context_key")[steps])
    worth = group_mean(worth[steps], match_index(place, batch.action_key[steps]))
    best, worst = _ends(worth, place)
    gap = worth[best] - worth[worst]
    kept = (gap >= min_gap) & differs(gap, worth[best], worth[worst])
    best, worst, gap = best[kept], worst[kept], gap[kept]
    pairs = np.arange(len(gap))
    siblings = as_episodes(batch, steps[np.stack([best, worst], axis=1).reshape(-1)])
    return PairBatch(2 * pairs, 2 * pairs + 1, np.ones(len(gap)), siblings, margin=gap)


def _ends(value: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first step with the largest and the first with the smallest value of each place."""
    number = np.arange(len(value))
    rising, falling = np.lexsort((number, value, place)), np.lexsort((number, -value, place))
    first = np.unique(place[rising], return_index=True)[1]
    return falling[first], rising[first]

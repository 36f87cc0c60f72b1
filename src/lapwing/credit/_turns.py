"""Turn rewards and outcomes as two streams, shared by the turn-level estimators."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.ragged import group_index, reverse_discounted_sum
from lapwing.credit._normalised import normalised
from lapwing.credit._settings import check_choice, check_normalisation, check_weight


def same_turn(batch: EpisodeBatch) -> np.ndarray:
    """One number per group and turn index, int64 [N]; an episode has at most one step with each."""
    turn = np.arange(batch.num_steps) - np.repeat(batch.step_splits[:-1], batch.episode_length)
    group, _ = group_index(batch.group)
    return group[batch.episode_of_step] * (turn.max(initial=0) + 1) + turn


def mt_grpo_advantage(
    batch: EpisodeBatch,
    peers: np.ndarray,
    *,
    coefficient: float,
    weight_on: str,
    horizon: str,
    ddof: int,
    eps: float,
) -> np.ndarray:
    """MT-GRPO with the turn rewards compared within `peers`; see `mt_grpo` for the equation and the settings.

    Args:
      batch: N steps in E episodes.
      peers: the number of the set of intermediate steps that each step's turn reward is compared with, [N]; those
        of last steps are not read.
      coefficient: α or c, ≥ 0.
      weight_on: "outcome" or "turn".
      horizon: "suffix" or "immediate".
      ddof: of both standard deviations.
      eps: of both standard deviations.

    Returns:
      Advantage of each step, float64 [N], in standard deviations.
    """
    check_weight("coefficient", coefficient)
    check_choice("weight_on", weight_on, ("outcome", "turn"))
    check_choice("horizon", horizon, ("suffix", "immediate"))
    check_normalisation(ddof, eps)
    episode = batch.episode_of_step
    last = batch.step_splits[1:] - 1
    intermediate = np.ones(batch.num_steps, dtype=bool)
    intermediate[last] = False

    of_outcome = normalised(batch.outcome + batch.reward[last], batch.group, ddof=ddof, eps=eps)[episode]
    of_turn = np.zeros(batch.num_steps)
    of_turn[intermediate] = normalised(batch.reward[intermediate], peers[intermediate], ddof=ddof, eps=eps)
    if horizon == "suffix":
        of_turn = reverse_discounted_sum(of_turn, 1.0, batch.step_splits)
    if weight_on == "outcome":
        advantage = of_turn + np.where(intermediate, coefficient, 1.0) * of_outcome
    else:
        advantage = of_outcome + coefficient * of_turn
    # Without an intermediate turn an episode would never hear that the others earned turn rewards.
    merged = normalised(batch.episode_return, batch.group, ddof=ddof, eps=eps)[episode]
    return np.where((batch.episode_length == 1)[episode], merged, advantage)

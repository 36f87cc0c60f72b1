"""Correct answers worth more the fewer tool calls they took."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_index

SCOPE = "group"
NEEDS = ("tool_calls", "success")

_FORMS = ("group", "single")


@checked(*NEEDS)
def otc(batch: EpisodeBatch, *, limit: int, scale: float = 1.0, form: str = "group") -> EpisodeBatch:
    """Multiply the outcome of successful episodes by a coefficient that is largest for the fewest tool calls.

        o′ = α · ρ · max(o, 0) · [success] + min(o, 0)
        ρ = sin(f π / (2 n)),   f = 2 n m / (m + n)       if n > 0
        ρ = cos(m π / (2 m + c))                          if n = 0, or the form is "single"

    m is the number of tool calls of the episode and n the fewest among the successful episodes of its group, so that
    ρ = 1 for m = n. The form "single" knows no group, for credit by a critic. A failure earns nothing for its thrift:
    the paper multiplies, as a bonus that is added would pay for not calling tools while wrong. What an outcome has
    below 0 is a penalty, of a format gate that comes before this in a recipe (`router_r1`), and stays, or else fewer
    calls would make it worse. Rewards of steps stay too: what a game pays as reward and not as outcome is not
    multiplied. All calls count, those that failed or were refused as well.

    The method has no memory: n is of this batch. With the minimum over earlier iterations, as in the paper, a
    better episode than any before (m < n) would be punished unless n is updated first; here m < n cannot happen.

    Reference: Wang et al. 2025, "OTC: Optimal Tool Calls via Reinforcement Learning" (OTC-GRPO and OTC-PPO), whose
      c is not known here. https://arxiv.org/abs/2504.14870

    Args:
      batch: E episodes with N steps, with the columns `tool_calls` and `success`.
      limit: c, the most turns that an episode may take, ≥ 1; the larger, the less a call costs where n = 0.
      scale: α, of the outcomes of successes, ≥ 0.
      form: "group" or "single".

    Returns:
      The batch with another `outcome`, float64 [E], in units of reward.

    Raises:
      UserError: `limit` is below 1, `scale` is negative or not finite, `form` is unknown, or `tool_calls` is negative.
    """
    if limit < 1:
        raise UserError(f"limit is the most turns that an episode may take, at least 1, but it is {limit}.")
    if not 0.0 <= scale < math.inf:
        raise UserError(f"scale must be finite and at least 0, but it is {scale}.")
    if form not in _FORMS:
        raise UserError(f"There is no form '{form}'; valid names: {', '.join(_FORMS)}.")
    calls = np.asarray(batch.column("tool_calls"), dtype=np.float64)
    if np.any(calls < 0):
        at = int(np.argmax(calls < 0))
        raise UserError(f"tool_calls is a number of at least 0, but episode {at} has {calls[at]:g}.")
    success = np.asarray(batch.column("success")) > 0.5
    fewest = _fewest(calls, success, batch.group) if form == "group" else np.zeros(batch.num_episodes)
    outcome = np.asarray(batch.outcome, dtype=np.float64)
    earned = scale * _economy(calls, fewest, limit) * np.maximum(outcome, 0.0) * success
    return batch.with_columns(outcome=earned + np.minimum(outcome, 0.0))


def _fewest(calls: np.ndarray, success: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The fewest calls of a success in each episode's group, float64 [E]; 0 where nothing succeeded."""
    index, size = group_index(group)
    fewest = np.full(len(size), np.inf)
    np.minimum.at(fewest, index[success], calls[success])
    return np.where(np.isfinite(fewest), fewest, 0.0)[index]


def _economy(calls: np.ndarray, fewest: np.ndarray, limit: int) -> np.ndarray:
    """The coefficient ρ in [0, 1] of m calls where n would do, [E]."""
    # f π / (2 n) = π m / (m + n).
    share = calls / np.where(fewest > 0, calls + fewest, 1.0)
    alone = np.cos(np.pi * calls / (2.0 * calls + limit))
    return np.where(fewest > 0, np.sin(np.pi * share), alone)

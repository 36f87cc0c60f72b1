"""A soft penalty for episodes that come near the longest length."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import segment_sum

SCOPE = "group"
NEEDS = ()

_UNITS = ("tokens", "steps")


@checked(*NEEDS)
def overlong(batch: EpisodeBatch, *, limit: int, cache: int, unit: str = "tokens", scale: float = 1.0) -> EpisodeBatch:
    """Lower the outcome of episodes whose length is within a window below the limit, and most of those beyond it.

        o′ = o + scale · p,   p = 0                                   if L ≤ L_max − L_cache
                              p = ((L_max − L_cache) − L) / L_cache   if L ≤ L_max
                              p = −1                                  if L > L_max, or the episode was cut

    L counts what the agent wrote, reply tokens or steps, and never what it read: it is not punished for a verbose
    game. An episode that a limit cut, of steps or of context, is overlong whatever its length. The penalty is added
    after every coefficient on the outcome (`otc`, `router_r1`, `gtalign`, `a2fm_adaptive`), and is the last shaping.
    Leaving the cut episodes out of training as well (filter `truncated`, selection `untruncated`) contradicts it.

    Provenance: formula and defaults from the authors' code.

    Reference: Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", section 3.4 (soft
      overlong punishment; 20,480 and 4,096 tokens). https://arxiv.org/abs/2503.14476

    Args:
      batch: E episodes with N steps and K tokens.
      limit: L_max, in the unit, ≥ 1.
      cache: L_cache, how long before the limit the penalty begins, in the unit, from 1 to `limit`.
      unit: "tokens" or "steps".
      scale: the largest penalty, ≥ 0, in units of reward.

    Returns:
      The batch with another `outcome`, float64 [E], in units of reward.

    Raises:
      UserError: `limit`, `cache` or `scale` lies out of its range, or `unit` is unknown.
    """
    if not 1 <= cache <= limit:
        raise UserError(f"cache must be from 1 to limit, but cache is {cache} and limit {limit}.")
    if unit not in _UNITS:
        raise UserError(f"There is no unit '{unit}'; valid names: {', '.join(_UNITS)}.")
    if not 0.0 <= scale < math.inf:
        raise UserError(f"scale must be finite and at least 0, but it is {scale}.")
    length = batch.episode_length.astype(np.float64)
    if unit == "tokens":
        length = segment_sum(np.diff(batch.token_splits), batch.step_splits)
    penalty = np.clip((limit - cache - length) / cache, -1.0, 0.0)
    cut = batch.truncated & ~batch.terminated
    return batch.with_columns(outcome=batch.outcome + scale * np.where(cut, -1.0, penalty))

"""A partial reward where the gold answer is first found."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import check_columns, checked
from lapwing.core.columns import PART_PREFIX
from lapwing.core.errors import UserError

SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def tspo(batch: EpisodeBatch, *, part: str = "answer_in_result", bonus: float = 0.5) -> EpisodeBatch:
    """Add a partial reward to the first step of an episode whose result contains the gold answer.

        r′_t = r_t + bonus · [t = min { u : part_u > 0 }]

    Every step's result is searched by the game, which reports it as a named part of each transition, 1 where the
    gold answer is in it and 0 elsewhere. Finding it again earns nothing, and an episode that never finds it stays as
    it is. How large the partial reward of the paper is, and whether episodes that answer correctly get it too, is not
    known here: all get it, and the default is what MT-GRPO pays for the same event.

    Provenance: formula from a paper note; code not seen.

    Reference: Ma et al. 2026, "TSPO: Breaking the Double Homogenization Dilemma in Multi-turn Search Policy
      Optimization" (first-occurrence latent reward). https://arxiv.org/abs/2601.22776

    Args:
      batch: N steps in E episodes, with the column `part:<part>`.
      part: name of the game's part that is above 0 where the result of the step contains the gold answer.
      bonus: what is added once per episode, in units of reward.

    Returns:
      The batch with another `reward`, float64 [N], in units of reward.

    Raises:
      UserError: `part` is empty or `bonus` is not finite.
      MissingColumnError: the game reports no such part.
    """
    if not part:
        raise UserError("part must name a part of the game's reward, but it is empty.")
    if not math.isfinite(bonus):
        raise UserError(f"bonus must be finite, but it is {bonus}.")
    check_columns(batch, "tspo", (PART_PREFIX + part,))
    found = np.flatnonzero(batch.column(PART_PREFIX + part) > 0)
    _, first = np.unique(batch.episode_of_step[found], return_index=True)
    reward = batch.reward.astype(np.float64)
    reward[found[first]] += bonus
    return batch.with_columns(reward=reward)

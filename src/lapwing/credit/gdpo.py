"""Several rewards, each normalised within the group before they are added."""

import math
from collections.abc import Sequence

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import check_columns, checked
from lapwing.core.columns import PART_PREFIX
from lapwing.core.errors import UserError
from lapwing.core.ragged import segment_sum
from lapwing.credit._normalised import normalised
from lapwing.credit._settings import check_normalisation

LEVEL = "step"
SCOPE = "batch"
NEEDS = ()

RETURN = "episode_return"


@checked(*NEEDS)
def gdpo(
    batch: EpisodeBatch,
    *,
    parts: tuple[str, ...] = (RETURN,),
    part_weights: tuple[float, ...] = (),
    batch_norm: bool = True,
    ddof: int = 1,
    eps: float = 1e-6,
) -> np.ndarray:
    """Give every step of an episode the weighted sum of its rewards, each normalised within the group.

        z_ki = (r_ki − mean_g r_k) / (std_g r_k + ε)
        s_i = Σ_k w_k z_ki
        A_i = (s_i − mean_batch s) / (std_batch s + ε)

    r_k of an episode is the sum of a named part of the game's reward over its steps. Added first and normalised
    afterwards, the reward with the largest scale drowns the others; here each has the weight that it was given. Only
    what `parts` names counts: the name "episode_return" stands for the whole return, with penalties for invalid
    replies and all shaping, so that a format penalty reaches the advantage only through it. A part without spread in a
    group adds exactly 0 there; one that no step of the batch reports is refused, so that a part must be reported as 0
    where it did not happen. With "episode_return" alone and no batch step it is GRPO.

    Provenance: formula and defaults from the authors' code.

    Reference: GDPO 2026, "Group reward-Decoupled Normalization Policy Optimization for Multi-reward RL Optimization".
      https://arxiv.org/abs/2601.05242; as in TRL. https://github.com/huggingface/trl

    Args:
      batch: N steps in E episodes, with the columns `part:<name>` [N] of the parts.
      parts: names of parts of the game's reward, or `episode_return`; at least one.
      part_weights: w, one for each part, of either sign; empty gives all 1.
      batch_norm: normalise the sums over the batch.
      ddof: delta degrees of freedom of all standard deviations, an integer ≥ 0; 1 = sample, 0 = population.
      eps: ε, ≥ 0, in units of each reward and of the sum.

    Returns:
      Advantage of each step, float64 [N], in standard deviations (in their weighted sum without the batch step).

    Raises:
      UserError: there are no parts, one comes twice, their number is not that of the weights, a weight is not finite,
        or `ddof` or `eps` is negative.
      MissingColumnError: the game reports no such part.
    """
    _check(parts, part_weights)
    check_normalisation(ddof, eps)
    total = np.zeros(batch.num_episodes)
    for name, weight in zip(parts, part_weights or (1.0,) * len(parts), strict=True):
        total += weight * normalised(part_of_episode(batch, name), batch.group, ddof=ddof, eps=eps)
    if batch_norm:
        total = normalised(total, np.zeros(batch.num_episodes, dtype=np.int64), ddof=ddof, eps=eps)
    return total[batch.episode_of_step]


def part_of_episode(batch: EpisodeBatch, name: str) -> np.ndarray:
    """The sum of a part over the steps of each episode, or its whole return, float64 [E]."""
    if name == RETURN:
        return batch.episode_return
    check_columns(batch, "gdpo", (PART_PREFIX + name,))
    return segment_sum(batch.column(PART_PREFIX + name), batch.step_splits)


def _check(parts: Sequence[str], weights: Sequence[float]) -> None:
    if not parts or not all(parts):
        raise UserError(f"parts must name at least one part of the game's reward, but it is {list(parts)}.")
    if len(set(parts)) < len(parts):
        raise UserError(f"parts names one part twice: {', '.join(parts)}.")
    if weights and len(weights) != len(parts):
        raise UserError(f"There are {len(parts)} parts, but {len(weights)} part_weights; give one for each.")
    if not all(math.isfinite(weight) for weight in weights):
        raise UserError(f"part_weights must be finite, but they are {list(weights)}.")

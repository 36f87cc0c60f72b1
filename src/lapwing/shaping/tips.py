"""Potential-based shaping by the probability of the gold answer."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError

SCOPE = "group"
NEEDS = ("gold_probability",)


@checked(*NEEDS)
def tips(batch: EpisodeBatch, *, discount: float = 1.0, scale: float = 1.0) -> EpisodeBatch:
    """Add to every step the change of a potential, which leaves the optimal policy as it is.

        r′_t = r_t + γ Φ_{t+1} − Φ_t,   Φ_t = scale · p_t,   Φ_T = 0

    p_t is the column `gold_probability`: the probability of the gold answer under a frozen teacher, given the history
    when step t is decided, its view read and its reply not yet written. The potential after the end is 0, also of a
    truncated episode, so that the shaping adds up to −Φ_0 in every episode (Σ γ^t of it, with γ < 1). The
    members of a group begin in the same state: their returns all move by the same amount, and group-relative credit
    of whole episodes does not change. Credit that looks at steps does. `discount` must be that of the credit
    method for this to hold. The sum from a step to the end is −Φ_t, so that MT-GRPO's suffix sums lose the signal;
    a recipe with both is refused.

    Provenance: formula from a paper note; code not seen.

    Reference: TIPS 2026 (turn-level potential-based shaping). https://arxiv.org/abs/2603.22293; Ng, Harada and
      Russell 1999, "Policy Invariance Under Reward Transformations".
      https://people.eecs.berkeley.edu/~russell/papers/icml99-shaping.pdf

    Args:
      batch: N steps in E episodes, with the column `gold_probability`.
      discount: γ, per step, in [0, 1].
      scale: of the potential, ≥ 0, in units of reward per unit of probability.

    Returns:
      The batch with another `reward`, float64 [N], in units of reward.

    Raises:
      UserError: `discount` lies outside [0, 1], or `scale` is negative.
    """
    if not 0.0 <= discount <= 1.0:
        raise UserError(f"discount must be in [0, 1], but it is {discount}.")
    if not 0.0 <= scale < math.inf:
        raise UserError(f"scale must be finite and at least 0, but it is {scale}.")
    potential = scale * np.asarray(batch.column("gold_probability"), dtype=np.float64)
    following = np.append(potential[1:], np.zeros(min(1, len(potential))))
    following[batch.step_splits[1:] - 1] = 0.0
    return batch.with_columns(reward=batch.reward + discount * following - potential)

"""Agreement within the group as the reward, without any label."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_index, match_index

SCOPE = "group"
NEEDS = ("answer_key",)

# Entropies of equal clusters in another order differ by rounding.
_ROUNDING = 1e-9


@checked(*NEEDS)
def empo(batch: EpisodeBatch, *, h_low: float = 0.0, h_high: float | None = None) -> EpisodeBatch:
    """Replace the outcome by the share of the group that gives the same final answer.

        o′_i = |cluster of i| / G   if h_low ≤ H < h_high,   else 0
        H = −Σ_c p_c log p_c,   p_c = |c| / G

    Answers are the same where their keys are, an equivalence relation by construction. An episode without an answer
    (key 0) gets 0 and stands alone in H. With the default ends only a group whose answers all differ is left without
    a signal; the paper's gate also has a lower end. Rewards of steps stay as they are: those that a game pays for
    being right (`turn_weight` of search_qa) have no place in label-free training and should be turned off. Agreement
    is all that is rewarded, so that confident mistakes are reinforced and the entropy only falls: watch `success` of
    the evaluations, which this never reads, and stop there.

    Provenance: formula and defaults from the authors' code.

    Reference: Zhang et al. 2025, "Right Question is Already Half the Answer: Fully Unsupervised LLM Reasoning
      Incentivization" (EMPO). https://arxiv.org/abs/2504.05812; https://github.com/QingyangZhang/EMPO

    Args:
      batch: E episodes, with the column `answer_key`.
      h_low: entropy below which a group is trivial, ≥ 0, in nats.
      h_high: entropy from which a group is hopeless, in nats; None is log G of each group.

    Returns:
      The batch with another `outcome`, float64 [E], a share.

    Raises:
      UserError: `h_low` is negative, or `h_high` is not above it.
    """
    if not 0.0 <= h_low < math.inf:
        raise UserError(f"h_low must be finite and at least 0, but it is {h_low}.")
    if h_high is not None and not h_high > h_low:
        raise UserError(f"h_high must be above h_low = {h_low}, but it is {h_high}.")
    answer = np.asarray(batch.column("answer_key"))
    index, size = group_index(batch.group)
    cluster = match_index(index, answer, never=0)
    share = np.bincount(cluster)[cluster] / size[index]
    # A member's part of Σ p log p is (1/G) log p: a cluster of n members has n of them.
    entropy = np.bincount(index, weights=-np.log(share) / size[index])[index]
    highest = np.log(size)[index] if h_high is None else h_high
    clear = (entropy >= h_low - _ROUNDING) & (entropy < highest - _ROUNDING)
    return batch.with_columns(outcome=np.where(clear & (answer != 0), share, 0.0))

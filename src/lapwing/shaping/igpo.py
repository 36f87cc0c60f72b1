"""Intermediate steps rewarded by what they taught about the gold answer."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked

SCOPE = "group"
NEEDS = ("gold_probability",)


@checked(*NEEDS)
def igpo(batch: EpisodeBatch) -> EpisodeBatch:
    """Reward every step but the last by the gain in the probability of the gold answer.

        r′_t = p_{t+1} − p_t   for t < T − 1,   r′_{T−1} = r_{T−1}

    p_t is the column `gold_probability`: exp of the mean log-probability of the gold answer's tokens, given the
    history when step t is decided, its view read and its reply not yet written. What step t found out is in the view
    that follows it, hence p_{t+1}. In the paper's count, where p_t is taken after turn t, this is p_t − p_{t−1}. The
    rewards of intermediate steps are replaced, penalties for invalid replies included; the last step keeps its own
    (F1 of the answer), and so does the outcome. An episode of one step stays as it is.

    Provenance: formula from a paper note; code not seen.

    Reference: IGPO 2025 (information gain-based policy optimisation). https://arxiv.org/abs/2510.14967

    Args:
      batch: N steps in E episodes, with the column `gold_probability`.

    Returns:
      The batch with another `reward`, float64 [N]: probabilities, and units of reward at last steps.
    """
    probability = np.asarray(batch.column("gold_probability"), dtype=np.float64)
    reward = batch.reward.astype(np.float64)
    last = np.zeros(batch.num_steps, dtype=bool)
    last[batch.step_splits[1:] - 1] = True
    before = np.flatnonzero(~last)
    reward[before] = probability[before + 1] - probability[before]
    return batch.with_columns(reward=reward)

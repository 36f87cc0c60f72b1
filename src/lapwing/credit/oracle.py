"""The exact advantage, where the game can be enumerated."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked

LEVEL = "step"
SCOPE = "group"
NEEDS = ("exact_advantage",)


@checked(*NEEDS)
def oracle(batch: EpisodeBatch) -> np.ndarray:
    """Give each step the true advantage of its action under the policy that played.

        A_t = Q^π(s_t, a_t) − V^π(s_t)

    Nothing is estimated: the column `exact_advantage` was solved from the game's rules and the model's action
    distribution at every state, so the rewards of the episodes play no part. This is what every other method is
    compared with, and the best that credit assignment alone can do.

    Provenance: Lapwing's own; the constants are its choice.

    Reference: Sutton and Barto 2018, "Reinforcement Learning: An Introduction", sections 3.5 and 4.1.
      http://incompleteideas.net/book/the-book-2nd.html

    Args:
      batch: N steps in E episodes, with `exact_advantage` [N].

    Returns:
      Advantage of each step, float64 [N], in units of reward.

    Raises:
      MissingColumnError: there is no `exact_advantage`.
    """
    return batch.column("exact_advantage").astype(np.float64)

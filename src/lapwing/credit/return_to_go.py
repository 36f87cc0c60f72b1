"""The raw return from each step to the end of its episode."""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.checked import checked
from lapwing.core.ragged import reverse_discounted_sum
from lapwing.credit._discount import check_discount

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def return_to_go(batch: EpisodeBatch, *, discount: float = 1.0) -> np.ndarray:
    """Give each step the discounted sum of the rewards from it to the end of its episode.

        G_t = r_t + γ G_{t+1},   G_T = 0

    The outcome counts as reward of the last step. Nothing is subtracted and nothing is bootstrapped: a truncated
    episode is worth 0 past its end.

    Provenance: formula from the paper; the defaults are common practice.

    Reference: Sutton and Barto 2018, "Reinforcement Learning: An Introduction", eq. 3.9 and section 13.3.
      http://incompleteideas.net/book/the-book-2nd.html

    Args:
      batch: N steps in E episodes.
      discount: γ, per step (not per token), in [0, 1].

    Returns:
      Return to go of each step, float64 [N], in units of reward.

    Raises:
      UserError: `discount` lies outside [0, 1].
    """
    check_discount(discount)
    return reverse_discounted_sum(merged_reward(batch), discount, batch.step_splits)

"""A credit method of your own in one file: the return to go against the group's other episodes.

Run it, from the folder that holds this file:

    lapwing train my_credit.toml --allow-code my_credit
    lapwing compare my_credit.toml frozen_lake_fixed_tiny --seeds 2 --set iterations=45 --allow-code my_credit
    lapwing audit my_credit.toml --methods my_credit:peers_to_go,grpo,group_return_to_go --allow-code my_credit
    python my_credit.py

A credit method says how much better each decision of a batch was than could be expected. It is a function of arrays:
no model, no game, nothing to register. The keyword arguments are its settings, which a recipe states beside its name.
"""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.errors import UserError
from lapwing.core.ragged import match_index, reverse_discounted_sum
from lapwing.testing import episodes

# One number per decision ("step") or per token ("token").
LEVEL = "step"
# What may influence an episode's numbers: its group, or the whole batch.
SCOPE = "group"
# Columns that annotators must supply, such as ("value",) of a critic: none.
NEEDS = ()


def peers_to_go(batch: EpisodeBatch, *, discount: float = 1.0) -> np.ndarray:
    """Give each decision its return to go minus the mean of the other episodes that got so far.

        A_{i,t} = G_{i,t} − 1/(m − 1) · Σ_{j ≠ i} G_{j,t}

    G is the return from step t on, discounted, and m counts the episodes of the group that have a step t. What was
    earned before a decision cannot change its credit, and neither can the episode's own return be part of what was
    expected. A step that no other episode reached gets 0.

    Args:
      batch: N steps in E episodes.
      discount: γ, per step, in [0, 1].

    Returns:
      Advantage of each step, float64 [N], in units of reward.

    Raises:
      UserError: `discount` lies outside [0, 1].
    """
    if not 0.0 <= discount <= 1.0:
        raise UserError(f"discount must be in [0, 1], but it is {discount}.")
    # Episodes lie end to end: episode e has the steps step_splits[e] to step_splits[e + 1].
    to_go = reverse_discounted_sum(merged_reward(batch), discount, batch.step_splits)
    index = np.arange(batch.num_steps) - batch.step_splits[batch.episode_of_step]
    # One number for each pair of a group and a step index.
    peers = match_index(batch.group[batch.episode_of_step], index)
    number = np.bincount(peers)[peers]
    total = np.bincount(peers, weights=to_go)[peers]
    expected = (total - to_go) / np.maximum(number - 1, 1)
    return np.where(number > 1, to_go - expected, 0.0)


def by_hand() -> None:
    """A case that fits on the back of an envelope: the first test of every method."""
    # Two episodes reach step 0 and earn 1 and 0 from there on; the second alone reaches step 1.
    batch = episodes([[1.0], [0.0, 0.0]])
    np.testing.assert_allclose(peers_to_go(batch), [1.0, -1.0, 0.0])
    # With a third episode of return 1, the first is held against (0 + 1) / 2.
    batch = episodes([[1.0], [0.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(peers_to_go(batch), [0.5, -1.0, -1.0, 0.5, 1.0])


if __name__ == "__main__":
    by_hand()
    print("peers_to_go agrees with the cases worked by hand.")

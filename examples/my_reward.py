r"""A reward of your own in one file: the game stays as it is.

Run it, from the folder that holds this file:

    lapwing train my_reward.toml --allow-code my_reward --allow-code my_game
    lapwing compare my_reward.toml my_game.toml --seeds 2 --set iterations=40 \
        --allow-code my_reward --allow-code my_game
    python my_reward.py

A shaping function takes the batch that was played and returns it with other rewards, before credit is given. What is
reported stays the game's own reward (the column `domain_reward`), so that a shaped run and a plain one can be compared.
"""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.testing import episodes

# An episode's numbers depend on nothing but the episode; "batch" would say that all others may matter.
SCOPE = "group"
# Columns that the batch must have. Parts of the reward that a game names are always there, as `part:<name>`.
NEEDS = ()


def progress(batch: EpisodeBatch, *, part: str, weight: float = 0.1, cost: float = 0.0) -> EpisodeBatch:
    """Pay for a part of the reward that the game reports but does not pay for, and charge for every decision.

        r′_t = r_t + weight · part_t − cost

    This changes what is worth doing: an episode that gets half way now earns something. Keep the weight so small that
    nothing is worth more than to succeed.

    Args:
      batch: N steps in E episodes, with the column `part:<part>`.
      part: the name of the part, as in `Transition.parts`.
      weight: in units of reward per unit of the part.
      cost: of one decision, in units of reward.

    Returns:
      The batch with another `reward`, float64 [N].
    """
    return batch.with_columns(reward=batch.reward + weight * batch.column(f"part:{part}") - cost)


def by_hand() -> None:
    """Two episodes: one gets a passenger over and back again, the other gets one over and loses."""
    batch = episodes([[0.0, 0.0], [0.0]]).with_columns(**{"part:across": np.array([1.0, -1.0, 1.0])})
    shaped = progress(batch, part="across", weight=0.5, cost=0.1)
    np.testing.assert_allclose(shaped.reward, [0.4, -0.6, 0.4])
    # The batch that was given is as it was.
    np.testing.assert_allclose(batch.reward, [0.0, 0.0, 0.0])


if __name__ == "__main__":
    by_hand()
    print("progress agrees with the case worked by hand.")

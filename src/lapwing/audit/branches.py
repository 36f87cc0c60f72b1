"""Values of branches as a branching sampler would measure them, played on the table of an enumerated game."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.tabular.enumerate import TabularGame
from lapwing.tabular.solve import InvalidReplies, Solution, simulate


def branch_values(
    batch: EpisodeBatch,
    table: TabularGame,
    solution: Solution,
    state: np.ndarray,
    left: np.ndarray,
    rng: np.random.Generator,
    *,
    branches: int,
    invalid: InvalidReplies,
) -> dict[str, np.ndarray]:
    """Play branches from every step's state and take their mean return, as the columns of `vine`.

        branch_value_t = mean of K returns from s_t with the steps that are left
        next_branch_value_t = branch_value_{t+1}

    After the end of an episode, by the rules or by the cap, the next value is 0.

    Reference: Kazemnejad et al. 2024, "VinePPO: Unlocking RL Potential For LLM Reasoning Through Refined Credit
      Assignment". https://arxiv.org/abs/2410.01679

    Args:
      batch: N steps.
      table, solution: the enumerated game and the policy that plays the branches.
      state, left: of each step, [N].
      rng: the source of replies and chance.
      branches: K, at least 1.
      invalid: what an invalid reply does.

    Returns:
      `branch_value` and `next_branch_value`, float64 [N], in units of the training reward.
    """
    every, steps = np.repeat(state, branches), np.repeat(left, branches)
    value = simulate(table, solution, every, steps, rng, invalid=invalid).reshape(-1, branches).mean(axis=1)
    following = np.append(value[1:], 0.0)
    following[batch.step_splits[1:] - 1] = 0.0
    return {"branch_value": value, "next_branch_value": following}

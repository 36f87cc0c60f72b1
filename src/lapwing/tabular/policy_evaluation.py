"""Values of a given policy in an enumerated game, by the number of steps that are left."""

import numpy as np

from lapwing.core.errors import LapwingError
from lapwing.tabular.enumerate import TabularGame


def policy_values(table: TabularGame, policy: np.ndarray, horizon: int, discount: float = 1.0) -> np.ndarray:
    """Value of each state under a policy with a given number of steps left.

        v_0(s) = 0
        v_h(s) = Σ_a π(a | s) Σ p · (r + γ · v_{h-1}(s'))

    Being cut off is worth 0, and so is a state where the game is over; rows of such states are not read.

    Reference: Sutton & Barto 2018, "Reinforcement Learning", eq. 4.5.

    Args:
      table: the enumerated game.
      policy: [S, A] probability of each legal action in each state, 0 for actions that do not exist.
      horizon: the largest number of steps left, at least 0.
      discount: γ, per step, in [0, 1].

    Returns:
      [horizon + 1, S] in units of reward; row h belongs to h steps left.

    Raises:
      LapwingError: the policy is of another shape or is no distribution over the legal actions.
    """
    shape = (table.num_states, table.num_actions)
    if policy.shape != shape:
        raise LapwingError(f"The policy has shape {policy.shape}, the enumerated game needs {shape}.")
    decides = table.is_legal[:, 0]
    on_legal = np.where(table.is_legal, policy, 0.0)
    wrong = decides & ((np.abs(on_legal.sum(axis=1) - 1.0) > 1e-9) | (policy < 0.0).any(axis=1))
    if wrong.any():
        raise LapwingError(
            f"The policy of state {int(wrong.argmax())} is {policy[wrong.argmax()].tolist()}; "
            "it must be probabilities of the legal actions that sum to 1."
        )
    values = np.zeros((horizon + 1, table.num_states))
    for left in range(1, horizon + 1):
        action_value = table.action_values(values[left - 1], discount=discount)
        values[left] = (on_legal * action_value).sum(axis=1)
    return values


def uniform_policy(table: TabularGame) -> np.ndarray:
    """All legal actions equally likely.

    Returns:
      [S, A]; all 0 in states where the game is over.
    """
    count = table.is_legal.sum(axis=1, keepdims=True)
    return table.is_legal / np.maximum(count, 1)

"""Optimal values and an optimal policy of an enumerated game, by the number of steps that are left."""

import numpy as np

from lapwing.tabular.enumerate import TabularGame


def optimal_values(table: TabularGame, horizon: int, discount: float = 1.0) -> np.ndarray:
    """Value of each state under the best play with a given number of steps left.

        v_0(s) = 0
        v_h(s) = max_a Σ p · (r + γ · v_{h-1}(s'))

    Being cut off is worth 0, and so is a state where the game is over.

    Reference: Bellman 1957, "Dynamic Programming", chapter III.

    Args:
      table: the enumerated game.
      horizon: the largest number of steps left, at least 0.
      discount: γ, per step, in [0, 1].

    Returns:
      [horizon + 1, S] in units of reward; row h belongs to h steps left.
    """
    values = np.zeros((horizon + 1, table.num_states))
    for left in range(1, horizon + 1):
        values[left] = _legal_action_values(table, values[left - 1], discount).max(axis=1)
        values[left, ~table.is_legal[:, 0]] = 0.0
    return values


def optimal_policy(table: TabularGame, horizon: int, discount: float = 1.0) -> np.ndarray:
    """Best action of each state with a given number of steps left.

        π_h(s) = argmax_a Σ p · (r + γ · v_{h-1}(s'))

    Of equally good actions (within 1e-12) the first is chosen.

    Args:
      table: the enumerated game.
      horizon: the largest number of steps left, at least 0.
      discount: γ, per step, in [0, 1].

    Returns:
      [horizon + 1, S] index among the legal actions of the state; -1 where no step is left or the game is over.
    """
    values = optimal_values(table, horizon, discount)
    policy = np.full(values.shape, -1, dtype=np.int64)
    decides = table.is_legal[:, 0]
    for left in range(1, horizon + 1):
        action_value = _legal_action_values(table, values[left - 1], discount)
        is_best = action_value >= values[left][:, None] - 1e-12
        policy[left, decides] = is_best[decides].argmax(axis=1)
    return policy


def _legal_action_values(table: TabularGame, value: np.ndarray, discount: float) -> np.ndarray:
    return np.where(table.is_legal, table.action_values(value, discount=discount), -np.inf)

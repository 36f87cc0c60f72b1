"""How many steps of the game pass before and between the decisions of seat 0."""

import numpy as np

from lapwing.core.errors import UserError
from lapwing.tabular.enumerate import TabularGame


def steps_between_decisions(table: TabularGame) -> tuple[np.ndarray, np.ndarray]:
    """Count the steps of the game before a match's first decision, and from each decision to the next.

    Args:
      table: the enumerated game.

    Returns:
      [S] the steps before the first decision of a match if that is made in the state, 0 where it never is; and [S]
      the steps from a decision in the state to the next one, at least 1.

    Raises:
      UserError: a number is not the same on every way, so that it cannot be told from decisions alone.
    """
    before, between = np.zeros(table.num_states, dtype=np.int64), np.ones(table.num_states, dtype=np.int64)
    if not table.waits.any():
        return before, between
    least, most = _until_first(table)
    begins = table.decides & np.isfinite(least)
    low, high = _until_next(table)
    goes_on = table.decides & np.isfinite(low)
    if (least[begins] != most[begins]).any() or (low[goes_on] != high[goes_on]).any():
        raise UserError(
            "The number of moves between two decisions of seat 0 is not always the same in this game, so that the "
            "steps left cannot be told from its decisions alone."
        )
    before[begins], between[goes_on] = least[begins], low[goes_on]
    return before, between


def _waiting_moves(table: TabularGame) -> tuple[np.ndarray, np.ndarray]:
    """The transitions from states in which only others move, as (source, target)."""
    source = table.row // table.num_actions
    onward = table.waits[source] & ~table.terminated
    return source[onward], table.next_state[onward]


def _until_first(table: TabularGame) -> tuple[np.ndarray, np.ndarray]:
    """Least and most steps from a start to each state without a decision on the way, [S] each."""
    starts = table.start > 0
    least, most = np.where(starts, 0.0, np.inf), np.where(starts, 0.0, -np.inf)
    source, target = _waiting_moves(table)
    return _settled(least, most, target, source, table.num_states)


def _until_next(table: TabularGame) -> tuple[np.ndarray, np.ndarray]:
    """Least and most steps from a decision in each state to the next, [S] each; infinite where none follows."""
    least, most = np.where(table.decides, 0.0, np.inf), np.where(table.decides, 0.0, -np.inf)
    source, target = _waiting_moves(table)
    least, most = _settled(least, most, source, target, table.num_states)
    away = table.row // table.num_actions
    onward = ~table.terminated & np.isfinite(least[table.next_state])
    low, high = np.full(table.num_states, np.inf), np.full(table.num_states, -np.inf)
    np.minimum.at(low, away[onward], 1 + least[table.next_state[onward]])
    np.maximum.at(high, away[onward], 1 + most[table.next_state[onward]])
    return low, high


def _settled(
    least: np.ndarray, most: np.ndarray, to: np.ndarray, by: np.ndarray, rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Carry the counts along the moves, one step each, until nothing changes."""
    for _ in range(rounds):
        before = least.copy(), most.copy()
        np.minimum.at(least, to, 1 + least[by])
        np.maximum.at(most, to, 1 + most[by])
        if np.array_equal(before[0], least) and np.array_equal(before[1], most):
            break
    return least, most

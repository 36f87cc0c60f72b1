"""Generalised advantage estimation over ragged segments, and the value past a cut; shared by the critic's methods."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import check_columns
from lapwing.core.ragged import reverse_scan


def lambda_advantage(
    reward: np.ndarray,
    value: np.ndarray,
    after: np.ndarray,
    splits: np.ndarray,
    *,
    discount: np.ndarray | float,
    lambda_: np.ndarray | float,
) -> np.ndarray:
    """Exponentially weighted sum of the TD errors from each element to the end of its segment.

        A_t = δ_t + γ_t λ_t A_{t+1},   δ_t = r_t + γ_t V_{t+1} − V_t,   A = 0 past the end of the segment

    Args:
      reward: r, [M].
      value: V, [M].
      after: value past the end of each segment, [S]; 0 where nothing follows.
      splits: boundaries of the segments, [S+1]; a segment may be empty.
      discount: γ, one number or [M]: between an element and the next.
      lambda_: λ, one number or [M].

    Returns:
      A, float64 [M].
    """
    td_error = reward + discount * next_value(value, after, splits) - value
    return reverse_scan(td_error, np.multiply(discount, lambda_), splits)


def next_value(value: np.ndarray, after: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """The value of the element that follows in the segment, and `after` [S] behind the last one, float64 [M]."""
    following = np.zeros(len(value))
    following[:-1] = value[1:]
    holds = np.diff(splits) > 0
    following[splits[1:][holds] - 1] = after[holds]
    return following


def final_value(batch: EpisodeBatch, method: str) -> np.ndarray:
    """The critic's value of the state after each cut episode, 0 after one that ended by the rules, float64 [E].

    The column is asked for only if some episode was cut, and only those episodes' numbers count.

    Raises:
      MissingColumnError: an episode was cut, and the batch has no `final_value`.
      UserError: the final value of a cut episode is not finite.
    """
    cut = is_cut(batch)
    if not cut.any():
        return np.zeros(batch.num_episodes)
    known = np.where(cut, batch.column("final_value", needed_by=method), 0.0)
    check_columns(batch.with_columns(final_value=known), method, ("final_value",))
    return known


def own_value(batch: EpisodeBatch, last_value: np.ndarray) -> np.ndarray:
    """The value of the last element for each cut episode, 0 for one that ended by the rules, float64 [E]."""
    return np.where(is_cut(batch), last_value, 0.0)


def is_cut(batch: EpisodeBatch) -> np.ndarray:
    """Whether a limit stopped the episode and the rules did not, bool [E]."""
    return batch.truncated & ~batch.terminated

"""How much the episode returns of each group differ, shared by the filters of StarPO-S."""

from typing import NamedTuple

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_index, group_std


class Spread(NamedTuple):
    """The groups of a batch by the standard deviation of their episode returns.

    Attributes:
      group_of_episode: number of each episode's group, int64 [E].
      std: sample standard deviation of each group's returns, float64 [groups]; 0 for a group of one.
      share: `std` as a share of the largest, to 12 digits; 0 where nothing has spread.
      order: groups from the largest to the smallest; of equal ones the smaller group id first.
    """

    group_of_episode: np.ndarray
    std: np.ndarray
    share: np.ndarray
    order: np.ndarray


def spread_of_groups(batch: EpisodeBatch) -> Spread:
    """Measure and rank the groups of a batch."""
    index, size = group_index(batch.group)
    std = np.zeros(len(size))
    std[index] = group_std(batch.episode_return, batch.group, ddof=1)
    largest = std.max(initial=0.0)
    # The same returns in another order differ by rounding, which must not rank one group above the other.
    share = np.round(std / largest, 12) if largest > 0 else std
    return Spread(index, std, share, np.argsort(-share, kind="stable"))


def check_share(share: float) -> None:
    """Refuse a share outside (0, 1]; NaN is refused too."""
    if not 0.0 < share <= 1.0:
        raise UserError(f"share must be in (0, 1], but it is {share}.")

"""Split the episodes that began in the same state into groups of a size."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError


def regroup(batch: EpisodeBatch, size: int) -> EpisodeBatch:
    """Number the episodes of each group anew, in order, so many to a group.

    The last group of a start may be smaller; a single episode that is left over joins the group before it.

    Args:
      batch: E episodes whose `group` says where they began.
      size: episodes of a group, at least 2.

    Returns:
      The same episodes with other `group` numbers.

    Raises:
      UserError: the size is below 2, or larger than the number of episodes that share a start.
    """
    member = np.unique(batch.group, return_inverse=True)[1].reshape(-1)
    count = np.bincount(member)
    if not 2 <= size <= count.min():
        raise UserError(
            f"A group of the audit has 2 to {count.min()} episodes, because that many share a start; not {size}."
        )
    order = np.argsort(member, kind="stable")
    place = np.empty(len(member), dtype=np.int64)
    place[order] = np.arange(len(member)) - np.repeat(np.cumsum(count) - count, count)
    part = place // size
    alone = (count[member] % size == 1) & (place == count[member] - 1)
    part[alone] -= 1
    most = int(count.max()) // size + 1
    return batch.with_columns(group=np.unique(member * most + part, return_inverse=True)[1].reshape(-1))

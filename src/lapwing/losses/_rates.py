"""How often the episodes of a group succeed."""

from typing import NamedTuple

import torch


class Rates(NamedTuple):
    """What is known of the group of each episode.

    Attributes:
      success: the episode itself counts as won, bool [E].
      rate: share of successes among those of the group's episodes whose result is known, 0 where none is, [E].
      mixed: the group has both a success and a failure, bool [E].
      known: the episode's own result is known, bool [E].
    """

    success: torch.Tensor
    rate: torch.Tensor
    mixed: torch.Tensor
    known: torch.Tensor


def group_rates(success: torch.Tensor, group_of_episode: torch.Tensor, dtype: torch.dtype) -> Rates:
    """Count successes by group.

    Args:
      success: [E], NaN where unknown; above ½ is a success.
      group_of_episode: int64 [E].
      dtype: of the rates.
    """
    known, won = ~torch.isnan(success), success > 0.5
    _, index = torch.unique(group_of_episode, return_inverse=True)

    def in_group(flag: torch.Tensor) -> torch.Tensor:
        # Counts are exact in any order.
        counts = torch.zeros(len(index), dtype=dtype, device=index.device)
        return counts.index_add(0, index, flag.to(dtype))[index]

    wins, results = in_group(won), in_group(known)
    return Rates(won, wins / results.clamp(min=1.0), (wins > 0) & (wins < results), known)

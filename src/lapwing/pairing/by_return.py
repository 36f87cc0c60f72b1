"""Pairs of episodes by their returns."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.pair_batch import PairBatch
from lapwing.pairing._groups import check_gap, differs, joined, members

SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def by_return(batch: EpisodeBatch, *, every: bool = False, min_gap: float = 0.0, weighted: bool = False) -> PairBatch:
    """Prefer of two episodes of a group the one with the larger return.

        i ≻ j  where  R_i − R_j ≥ min_gap and R_i > R_j
        w = 1,  or R_i − R_j with `weighted`

    A group gives one pair, its best against its worst episode (of equal ones the first), or with `every` all pairs that
    differ enough. A group of one, or of equal returns, gives none. The episodes of a group begin in the same state,
    which takes the place of the prompt that two replies share; what the game said afterwards may differ.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Yuan et al. 2024, "Self-Rewarding Language Models" (the best of several samples against the
      worst). https://arxiv.org/abs/2401.10020

    Args:
      batch: E episodes.
      every: all pairs of a group instead of one.
      min_gap: the least difference of two returns that makes a pair, ≥ 0, in units of reward.
      weighted: let a pair count by how much the returns differ.

    Returns:
      The pairs, with chosen, rejected, weight and margin [P]; the margin is R_i − R_j, in units of reward.

    Raises:
      UserError: `min_gap` is negative.
    """
    check_gap("min_gap", min_gap)
    found = []
    for group in members(batch.group):
        value = batch.episode_return[group]
        if every:
            gap = value[:, None] - value
            better, worse = np.nonzero((gap > 0) & (gap >= min_gap) & differs(gap, value[:, None], value))
        else:
            better, worse = np.array([np.argmax(value)]), np.array([np.argmin(value)])
            gap = value[better] - value[worse]
            kept = (gap >= min_gap) & differs(gap, value[better], value[worse])
            better, worse = better[kept], worse[kept]
        margin = value[better] - value[worse]
        found.append((group[better], group[worse], margin if weighted else np.ones(len(margin)), margin))
    return joined(batch, found)

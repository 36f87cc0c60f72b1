"""Keep a share of the groups: those whose episodes differ most."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.filters._spread import check_share, spread_of_groups

SCOPE = "batch"
NEEDS = ()


@checked(*NEEDS)
def star_po_top_k(batch: EpisodeBatch, *, share: float = 0.25) -> np.ndarray:
    """Keep the episodes of the share of groups whose episode returns spread most.

        u_g = std_g R
        keep the n = max(1, ⌊share · groups⌋) groups with the largest u_g

    The standard deviation has ddof 1; a group of one has 0. At least one group is kept, even if nothing has spread;
    put `zero_spread` behind this filter to leave such groups out. Of groups with the same spread the one with the
    smaller id goes first.

    Provenance: formula and defaults from the authors' code.

    Reference: Wang et al. 2025, "RAGEN: Understanding Self-Evolution in LLM Agents via Multi-Turn Reinforcement
      Learning" (StarPO-S, uncertainty-based filtering). https://arxiv.org/abs/2504.20073

    Args:
      batch: E episodes.
      share: of the groups, in (0, 1].

    Returns:
      `keep`, bool [E], without unit; True = counts.

    Raises:
      UserError: `share` lies outside (0, 1].
    """
    check_share(share)
    spread = spread_of_groups(batch)
    groups = len(spread.std)
    chosen = np.zeros(groups, dtype=bool)
    # 0.29 · 100 is 28.999… in floating point.
    chosen[spread.order[: max(1, math.floor(share * groups + 1e-9))]] = True
    return chosen[spread.group_of_episode]

"""Keep the groups whose spread comes near the largest."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.filters._spread import check_share, spread_of_groups

SCOPE = "batch"
NEEDS = ()


@checked(*NEEDS)
def star_po_min_p(batch: EpisodeBatch, *, share: float = 0.5) -> np.ndarray:
    """Keep the episodes of groups whose episode returns spread at least a share of what the widest group's do.

        u_g = std_g R
        keep_i = u_g ≥ share · max u,   never where u_g = 0

    The standard deviation has ddof 1; a group of one has 0. If nothing has spread, nothing is kept and the update is
    skipped. No published setting is known; the default keeps groups with half the largest spread.

    Provenance: formula and defaults from the authors' code.

    Reference: Wang et al. 2025, "RAGEN: Understanding Self-Evolution in LLM Agents via Multi-Turn Reinforcement
      Learning" (StarPO-S, uncertainty-based filtering). https://arxiv.org/abs/2504.20073

    Args:
      batch: E episodes.
      share: of the largest spread, in (0, 1].

    Returns:
      `keep`, bool [E], without unit; True = counts.

    Raises:
      UserError: `share` lies outside (0, 1].
    """
    check_share(share)
    spread = spread_of_groups(batch)
    return (spread.share >= share)[spread.group_of_episode]

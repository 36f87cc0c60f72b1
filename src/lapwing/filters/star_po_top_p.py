"""Keep the groups that hold a share of all the spread."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.filters._spread import check_share, spread_of_groups

SCOPE = "batch"
NEEDS = ()

_FORMS = ("linear", "softmax")


@checked(*NEEDS)
def star_po_top_p(
    batch: EpisodeBatch, *, share: float = 0.9, tolerance: float = 0.01, form: str = "linear"
) -> np.ndarray:
    """Keep the fewest groups that together hold the given share of the spread of the episode returns.

        u_g = std_g R,   groups with u_g = 0 left out, the others in descending order
        linear:   keep until Σ u_g ≥ share · Σ_all u_g − tolerance
        softmax:  keep until Σ exp(u_g) / Σ_all exp(u_g) ≥ share

    The standard deviation has ddof 1; a group of one has 0. If nothing has spread, nothing is kept and the update is
    skipped. In the linear form a batch whose spreads sum to tolerance / share or less keeps nothing either: the empty
    sum reaches the threshold already, which is what the tolerance is for. Of groups with the same spread the
    one with the smaller id goes first. The linear form is the recommendation of the second paper; the softmax form
    came before it.

    Provenance: formula and defaults from the authors' code.

    Reference: RAGEN V2, https://arxiv.org/abs/2604.06268; Wang et al. 2025, "RAGEN: Understanding Self-Evolution in
      LLM Agents via Multi-Turn Reinforcement Learning" (StarPO-S). https://arxiv.org/abs/2504.20073

    Args:
      batch: E episodes.
      share: of the summed spread, in (0, 1].
      tolerance: how far the kept sum may fall short of the share, ≥ 0, in units of reward; for the linear form.
      form: "linear" or "softmax".

    Returns:
      `keep`, bool [E], without unit; True = counts.

    Raises:
      UserError: `share` lies outside (0, 1], `tolerance` is negative, or `form` is unknown.
    """
    check_share(share)
    if not tolerance >= 0.0:
        raise UserError(f"tolerance must be at least 0, but it is {tolerance}.")
    if form not in _FORMS:
        raise UserError(f"There is no form '{form}'; valid names: {', '.join(_FORMS)}.")
    spread = spread_of_groups(batch)
    ranked = spread.order[spread.std[spread.order] > 0]
    mass = spread.std[ranked]
    if form == "softmax":
        mass = np.exp(mass - mass.max(initial=0.0))
    kept_sum = np.concatenate([[0.0], np.cumsum(mass)])
    threshold = share * kept_sum[-1] - (tolerance if form == "linear" else 0.0)
    # Sums that miss the threshold by rounding reach it; the sum of no groups, 0, reaches one that is not above 0.
    number = np.searchsorted(kept_sum, threshold * (1.0 - 1e-12))
    chosen = np.zeros(len(spread.std), dtype=bool)
    chosen[ranked[:number]] = True
    return chosen[spread.group_of_episode]

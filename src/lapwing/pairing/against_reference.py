"""Every episode against the others of its group, as if these came from a mixture with the reference."""

import numpy as np
from scipy.special import expit, softmax

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.pair_batch import PairBatch
from lapwing.core.ragged import segment_sum
from lapwing.pairing._groups import joined, members

SCOPE = "group"
NEEDS = ("reference_logprob",)


@checked(*NEEDS)
def against_reference(batch: EpisodeBatch, *, share: float = 0.5, scale: float = 1.0) -> PairBatch:
    """Compare each episode with the others of its group, weighed towards those that the reference would play.

        P_ij = σ((R_i − R_j) / scale)
        w_ij = exp(b d_j) / Σ_{k ≠ i} exp(b d_k),   d = Σ_t (log π_ref − log π)

    The opponent of Nash-MD plays the geometric mixture π^{1−b} π_ref^b. These are episodes of π, so that each counts by
    its importance, self-normalised over the group. That is the mixture of whole episodes; the paper's is of tokens,
    which are the same where an episode is one token. With b = 0 the opponent is the policy itself. In long episodes
    few opponents get all the weight.

    In each pair `chosen` is who learns and `rejected` the opponent, from whom nothing is learnt; each episode takes
    both parts in turn. A group of one has no pairs.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Munos et al. 2023, "Nash Learning from Human Feedback". https://arxiv.org/abs/2312.00886

    Args:
      batch: E episodes, with the column `reference_logprob` [K].
      share: b, of the reference in the mixture, in [0, 1], no unit.
      scale: the difference of two returns that is preferred with odds e to 1, > 0, in units of reward.

    Returns:
      The pairs, with chosen, rejected, weight and margin [P]; the margin is P − ½, in [−½, ½].

    Raises:
      UserError: `share` lies outside [0, 1], or `scale` is not above 0.
    """
    if not 0.0 <= share <= 1.0:
        raise UserError(f"share must be in [0, 1], but it is {share}.")
    if not scale > 0.0:
        raise UserError(f"scale must be above 0, but it is {scale}.")
    by_token = batch.column("reference_logprob") - batch.sampler_logprob
    drift = segment_sum(segment_sum(by_token, batch.token_splits), batch.step_splits)
    found = []
    for group in members(batch.group):
        size, value = len(group), batch.episode_return[group]
        learner, opponent = np.nonzero(~np.eye(size, dtype=bool))
        log_weight = np.where(np.eye(size, dtype=bool), -np.inf, share * drift[group])
        weight = softmax(log_weight, axis=1)[learner, opponent] if size > 1 else np.zeros(0)
        preference = expit((value[learner] - value[opponent]) / scale)
        found.append((group[learner], group[opponent], weight, preference - 0.5))
    return joined(batch, found)

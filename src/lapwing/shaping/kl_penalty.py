"""The divergence from the reference as a price in the reward."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import segment_sum

SCOPE = "group"
NEEDS = ("reference_logprob",)


@checked(*NEEDS)
def kl_penalty(batch: EpisodeBatch, *, coefficient: float = 0.01) -> EpisodeBatch:
    """Take from every step what its reply diverges from the reference.

        r′_t = r_t − β Σ_k (log π(y_k) − log π_ref(y_k)),   k over the reply tokens of step t

    This is k1, the log-ratio as sampled; its expectation is the divergence of the policy that played from the
    reference. It is part of the reward and no gradient flows through it: credit spreads it back over the steps before,
    so that a step also answers for divergence that it leads to. As a term of the loss, k1 would have no effect on
    average (`kl_k2` has the gradient of this divergence, `kl_k3` that of the reverse one). Both, in the reward and in
    the loss, count it twice. With whole-episode credit the penalties of an episode are one sum. The domain reward,
    which is reported, stays as it is. A step without tokens pays nothing.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Ouyang et al. 2022, "Training language models to follow instructions with human feedback", section 3.4.
      https://arxiv.org/abs/2203.02155; the estimators: Schulman 2020. http://joschu.net/blog/kl-approx.html

    Args:
      batch: N steps with K reply tokens, with the column `reference_logprob` [K], of the temperature of sampling.
      coefficient: β ≥ 0, in units of reward per nat.

    Returns:
      The batch with another `reward`, float64 [N], in units of reward.

    Raises:
      UserError: `coefficient` is negative or not finite, or a sampled log-probability is not finite.
    """
    if not 0.0 <= coefficient < math.inf:
        raise UserError(f"coefficient must be finite and at least 0, but it is {coefficient}.")
    sampled = np.asarray(batch.sampler_logprob, dtype=np.float64)
    if not np.isfinite(sampled).all():
        at = int(np.argmin(np.isfinite(sampled)))
        raise UserError(
            f"the sampler's log-probability of token {at} is {sampled[at]}; without it no divergence can be estimated."
        )
    log_ratio = sampled - np.asarray(batch.column("reference_logprob"), dtype=np.float64)
    return batch.with_columns(reward=batch.reward - coefficient * segment_sum(log_ratio, batch.token_splits))

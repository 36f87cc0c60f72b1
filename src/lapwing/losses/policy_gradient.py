"""The plain policy gradient."""

import torch

MERGEABLE = True
SILENT = True
NEEDS = ()


def policy_gradient(*, logprob: torch.Tensor, behavior_logprob: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
    """Weigh the log-probability of each token by its advantage.

        ℓ = −A · log π(token)

    The gradient is −A ∇log π. It is the policy gradient only while the weights are those that played: nothing
    corrects for a second update on the same episodes.

    Provenance: general knowledge; there are no constants.

    Reference: Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
      Learning", section 5. https://doi.org/10.1007/BF00992696

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      behavior_logprob: not used; policy losses have the same signature.
      advantage: of each token, [K], no gradient.

    Returns:
      Loss of each token, to be minimised, [K], in units of the advantage times nats.
    """
    del behavior_logprob
    return -advantage * logprob

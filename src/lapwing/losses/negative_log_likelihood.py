"""Imitation: make the recorded replies more likely."""

import torch

MERGEABLE = True
NEEDS = ()


def negative_log_likelihood(*, logprob: torch.Tensor) -> torch.Tensor:
    """Negative log-probability of each token.

        ℓ = −log π(token)

    It equals `policy_gradient` with advantage 1.

    Provenance: general knowledge; there are no constants.

    Reference: Pomerleau 1991, "Efficient Training of Artificial Neural Networks for Autonomous Navigation"
      (behaviour cloning). https://doi.org/10.1162/neco.1991.3.1.88

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.

    Returns:
      Loss of each token, to be minimised, [K], nats.
    """
    return -logprob

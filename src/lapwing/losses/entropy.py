"""A bonus for spread-out next-token distributions."""

import torch

MERGEABLE = True
# The entropy must carry a gradient, so the learner's scorer supplies it; the annotated column would be a constant.
NEEDS = ()


def entropy(*, token_entropy: torch.Tensor) -> torch.Tensor:
    """Negative entropy of the next-token distribution at each token.

        ℓ = −H,   H = −Σ_v π(v) log π(v)

    Minimising it raises the entropy. The sum runs over the whole vocabulary: −logprob of the sampled token has the
    same mean, but a gradient of mean 0.

    Provenance: general knowledge; there are no constants.

    Reference: Williams and Peng 1991, "Function Optimization using Connectionist Reinforcement Learning
      Algorithms". https://doi.org/10.1080/09540099108946587; Mnih et al. 2016, "Asynchronous Methods for Deep
      Reinforcement Learning", section 4. https://arxiv.org/abs/1602.01783

    Args:
      token_entropy: H at each token under the weights being trained, [K], nats, with gradient.

    Returns:
      Loss of each token, to be minimised, [K], nats.
    """
    return -token_entropy

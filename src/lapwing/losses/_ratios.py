"""The probability ratio of importance sampling."""

import torch

from lapwing.core.errors import UserError

# Beyond it a ratio says no more than that there is none, and exp would overflow.
LARGEST = 20.0


def ratio(logprob: torch.Tensor, behavior_logprob: torch.Tensor) -> torch.Tensor:
    """Probability under the weights being trained over that under the weights that played.

        ρ = exp(clip(logprob − behavior_logprob, −20, 20))

    Args:
      logprob, behavior_logprob: of the same tokens or spans, nats.

    Returns:
      As many numbers; outside the bounds without gradient.
    """
    return torch.exp(torch.clamp(logprob - behavior_logprob, -LARGEST, LARGEST))


def weighted(estimate: torch.Tensor, logprob: torch.Tensor, behavior_logprob: torch.Tensor | None) -> torch.Tensor:
    """An estimate at tokens of older weights as one under the weights being trained: ρ times it, [K].

    Raises:
      UserError: there is no `behavior_logprob`.
    """
    if behavior_logprob is None:
        raise UserError("importance needs behavior_logprob, but there is none; pass it, or leave importance out.")
    return ratio(logprob, behavior_logprob) * estimate

"""Nash mirror descent by REINFORCE: win more often than half of the time against a mixture with the reference."""

import torch

from lapwing.core.errors import UserError

NEEDS = ("reference_logprob",)


def nash_md(
    *,
    chosen_logprob: torch.Tensor,
    chosen_divergence: torch.Tensor,
    margin: torch.Tensor,
    beta: float = 0.1,
) -> torch.Tensor:
    """Make an episode more likely in proportion to how often it is preferred to the opponent's, near the reference.

        ℓ = −(P − ½) Σ_t log π_t + β Σ_t sg(log π_t − log π_ref,t) log π_t

    The opponent plays a geometric mixture of the policy with the reference, and nothing is learnt from what it wrote:
    the loss does not depend on the rejected episode. ½ is the control variate, and what P would be against oneself. The
    second term has the gradient of β `kl_k2`, summed over the episode's tokens; sg is a stop-gradient. The value of the
    loss means nothing, only its gradient does.

    Provenance: formula and defaults from the authors' code.

    Reference: Munos et al. 2023, "Nash Learning from Human Feedback". https://arxiv.org/abs/2312.00886

    Args:
      chosen_logprob: log-probability of the learning player's replies under the weights being trained, [P], nats.
      chosen_divergence: Σ_t sg(log π_t − log π_ref,t) log π_t over the same replies, [P], nats².
      margin: P − ½, how much more often than half of the time they are preferred, [P], in [−½, ½], no gradient.
      beta: β, weight of the divergence, ≥ 0, per nat.

    Returns:
      Loss of each pair, to be minimised, [P], nats.

    Raises:
      UserError: `beta` is negative.
    """
    if not beta >= 0.0:
        raise UserError(f"beta must be at least 0, but it is {beta}.")
    return -margin.detach() * chosen_logprob + beta * chosen_divergence

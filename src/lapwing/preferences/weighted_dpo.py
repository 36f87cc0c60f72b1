"""Weighted direct preference optimisation, with or without a reference policy."""

import torch

from lapwing.core.errors import UserError
from lapwing.preferences._settings import check_beta, log_odds

# Without `reference_free` it needs reference_logprob, as `tensors_of_tokens` says.
NEEDS = ()


def weighted_dpo(
    *,
    chosen_logprob: torch.Tensor,
    rejected_logprob: torch.Tensor,
    chosen_reference: torch.Tensor | None = None,
    rejected_reference: torch.Tensor | None = None,
    beta: float = 0.1,
    reference_free: bool = False,
) -> torch.Tensor:
    """Make the chosen episode more likely than the rejected one, in proportion to what the pair counts.

        h = β [(log π(chosen) − log π_ref(chosen)) − (log π(rejected) − log π_ref(rejected))]
        L = Σ_p w_p ℓ_p / Σ_p w_p,   ℓ = −log σ(h)

    The pairing says the weights w (`outcome_first`: 1 where the outcomes differ, else by how much the process does);
    the function gives ℓ, and the mean over the pairs counts each w times. Small weights do not make the update
    smaller, only pairs of small weight less important than others. The source's h has no reference term, which
    `reference_free` leaves out: h = β (log π(chosen) − log π(rejected)). With a reference and all w = 1 this is `dpo`.

    Provenance: formula from a paper note; code not seen. Whether the paper has the reference term is open.

    Reference: Zhou et al. 2025, "StepORLM: A Self-Evolving Framework With Generative Process Supervision For Operations
      Research Language Models". https://arxiv.org/abs/2509.22558

    Args:
      chosen_logprob: log-probability of the chosen episode's replies under the weights being trained, [P], nats.
      rejected_logprob: of the rejected one's, [P], nats.
      chosen_reference: of the chosen one's under the reference weights, [P], nats, no gradient; None without.
      rejected_reference: of the rejected one's, [P], nats, no gradient; None without.
      beta: β, how closely the policy stays to the reference, > 0, per nat.
      reference_free: leave the reference out.

    Returns:
      Loss of each pair before its weight, to be minimised, [P], nats.

    Raises:
      UserError: `beta` is not above 0, or there is a reference term without a reference.
    """
    check_beta(beta)
    if reference_free:
        odds = log_odds(chosen_logprob, rejected_logprob)
    elif chosen_reference is None or rejected_reference is None:
        raise UserError(
            "weighted_dpo needs the log-probabilities of a reference; annotate reference_logprob, or set "
            "reference_free = true."
        )
    else:
        odds = log_odds(chosen_logprob, rejected_logprob, chosen_reference, rejected_reference)
    return -torch.nn.functional.logsigmoid(beta * odds)

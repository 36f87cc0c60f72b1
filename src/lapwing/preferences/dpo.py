"""Direct preference optimisation."""

import torch

from lapwing.preferences._settings import check_beta, log_odds

NEEDS = ("reference_logprob",)


def dpo(
    *,
    chosen_logprob: torch.Tensor,
    rejected_logprob: torch.Tensor,
    chosen_reference: torch.Tensor,
    rejected_reference: torch.Tensor,
    beta: float = 0.1,
) -> torch.Tensor:
    """Make the chosen episode more likely than the rejected one, as measured from the reference policy.

        h = β [(log π(chosen) − log π_ref(chosen)) − (log π(rejected) − log π_ref(rejected))]
        ℓ = −log σ(h)

    log π of an episode is the sum over its reply tokens; what the game said in between is nobody's choice, and both
    policies give it the same probability. Where π = π_ref the loss is log 2. The gradient is −β σ(−h) ∇(log π(chosen) −
    log π(rejected)), so that a pair which is told apart already hardly counts any more.

    Provenance: formula and defaults from the authors' code.

    Reference: Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
      eq. 7. https://arxiv.org/abs/2305.18290

    Args:
      chosen_logprob: log-probability of the chosen episode's replies under the weights being trained, [P], nats.
      rejected_logprob: of the rejected one's, [P], nats.
      chosen_reference: of the chosen one's under the reference weights, [P], nats, no gradient.
      rejected_reference: of the rejected one's, [P], nats, no gradient.
      beta: β, how closely the policy stays to the reference, > 0, per nat; 0.1 is TRL's default.

    Returns:
      Loss of each pair, to be minimised, [P], nats.

    Raises:
      UserError: `beta` is not above 0.
    """
    check_beta(beta)
    return -torch.nn.functional.logsigmoid(
        beta * log_odds(chosen_logprob, rejected_logprob, chosen_reference, rejected_reference)
    )

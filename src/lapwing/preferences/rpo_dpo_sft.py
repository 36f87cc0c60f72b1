"""Regularised preference optimisation: DPO with imitation of the chosen episodes."""

import torch

from lapwing.core.errors import UserError, nearest
from lapwing.preferences._settings import check_beta, log_odds

NEEDS = ("reference_logprob",)

_REDUCTIONS = ("token_mean", "sum")
_TARGETS = ("chosen", "dataset")


def rpo_dpo_sft(
    *,
    chosen_logprob: torch.Tensor,
    rejected_logprob: torch.Tensor,
    chosen_reference: torch.Tensor,
    rejected_reference: torch.Tensor,
    chosen_length: torch.Tensor,
    rejected_length: torch.Tensor,
    beta: float = 0.01,
    eta: float = 0.005,
    sft_reduction: str = "token_mean",
    sft_target: str = "chosen",
) -> torch.Tensor:
    """Add to DPO the negative log-likelihood of what is preferred, so that it does not become unlikely.

        h = β [(log π(chosen) − log π_ref(chosen)) − (log π(rejected) − log π_ref(rejected))]
        ℓ = −log σ(h) + η NLL(target)

    DPO alone lowers the probability of both episodes as long as it lowers that of the rejected one more; imitation of a
    baseline policy bounds that. The baseline is whoever wrote the chosen episodes, or with `sft_target = "dataset"`
    whoever wrote both: then NLL is the mean over the two episodes. NLL is −log π over the number of tokens of the
    episode, or with `sft_reduction = "sum"` −log π itself, which is that many times as strong. η = 0 gives `dpo`.

    Provenance: formula and defaults from the authors' code.

    Reference: Liu et al. 2024, "Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an
      Adversarial Regularizer". https://arxiv.org/abs/2405.16436

    Args:
      chosen_logprob: log-probability of the chosen episode's replies under the weights being trained, [P], nats.
      rejected_logprob: of the rejected one's, [P], nats.
      chosen_reference: of the chosen one's under the reference weights, [P], nats, no gradient.
      rejected_reference: of the rejected one's, [P], nats, no gradient.
      chosen_length: reply tokens of the chosen episode, [P], ≥ 1.
      rejected_length: reply tokens of the rejected episode, [P], ≥ 1.
      beta: β, how closely the policy stays to the reference, > 0, per nat.
      eta: η, weight of the imitation, ≥ 0, no unit.
      sft_reduction: "token_mean" or "sum", over an episode's tokens.
      sft_target: "chosen" or "dataset", whose episodes are imitated.

    Returns:
      Loss of each pair, to be minimised, [P], nats.

    Raises:
      UserError: `beta` is not above 0, `eta` is negative, or `sft_reduction` or `sft_target` is unknown.
    """
    check_beta(beta)
    if not eta >= 0.0:
        raise UserError(f"eta must be at least 0, but it is {eta}.")
    for name, value, known in (
        ("sft_reduction", sft_reduction, _REDUCTIONS),
        ("sft_target", sft_target, _TARGETS),
    ):
        if value not in known:
            raise UserError(f"There is no {name} '{value}'; {nearest(value, known)}")
    odds = log_odds(chosen_logprob, rejected_logprob, chosen_reference, rejected_reference)
    mean = sft_reduction == "token_mean"
    imitated = chosen_logprob / chosen_length if mean else chosen_logprob
    if sft_target == "dataset":
        imitated = 0.5 * (imitated + (rejected_logprob / rejected_length if mean else rejected_logprob))
    return -torch.nn.functional.logsigmoid(beta * odds) - eta * imitated

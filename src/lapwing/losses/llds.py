"""Holds up the likelihood of what need not be pushed down."""

import torch

from lapwing.losses._spans import check_name, mean, spans, total

MERGEABLE = False
NEEDS = ()

_GATES = ("step", "episode", "token")
_PRESERVED = ("nonnegative", "positive", "all")


def llds(
    *,
    logprob: torch.Tensor,
    behavior_logprob: torch.Tensor,
    advantage: torch.Tensor,
    step_of_token: torch.Tensor,
    episode_of_token: torch.Tensor,
    gate: str = "step",
    preserve: str = "nonnegative",
) -> torch.Tensor:
    """Penalise each fall of a token's log-probability, in steps that became less likely as a whole.

        ℓ = g_k · max(0, d_k),   d = behavior_logprob − logprob,   g_k = 1 if Σ d over the step of k > 0 else 0
        ℓ = 0   in episodes whose mean advantage is negative

    A regulariser: its coefficient is the paper's λ (0.2 in the released script), and the paper's mean over all tokens
    of the batch, those with loss 0 among them, is the aggregation `token_mean`. It is 0 while the weights are those
    that played: it needs two or more minibatches or epochs. The paper's form that leaves out the tokens of the final
    answer is not here.

    Provenance: formula and defaults from the authors' code.

    Reference: Deng et al. 2025, "On GRPO Collapse in Search-R1: The Lazy Likelihood-Displacement Death Spiral".
      https://arxiv.org/abs/2512.04220

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      behavior_logprob: the same under the weights that played, [K], nats, no gradient.
      advantage: of each token, [K], no gradient.
      step_of_token: number of each token's step, int64 [K].
      episode_of_token: number of each token's episode, int64 [K].
      gate: "step", "episode" or "token": what has to become less likely before its tokens are held up.
      preserve: "nonnegative", "positive" or "all": the mean advantage of the episodes that are held up.

    Returns:
      Penalty of each token, at least 0, to be minimised, [K], nats.

    Raises:
      UserError: there is no such gate or set.
    """
    check_name("gate", gate, _GATES)
    check_name("preserve", preserve, _PRESERVED)
    drop = behavior_logprob - logprob
    counts = torch.ones_like(drop, dtype=torch.bool)
    if gate != "token":
        of = spans(step_of_token if gate == "step" else episode_of_token)
        counts &= (total(drop.detach(), of) > 0)[of.index]
    if preserve != "all":
        of = spans(episode_of_token)
        outcome = mean(advantage, of)[of.index]
        counts &= outcome >= 0 if preserve == "nonnegative" else outcome > 0
    return torch.where(counts, torch.relu(drop), 0.0)

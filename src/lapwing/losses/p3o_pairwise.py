"""The policy gradient of pairs: two answers to one start, and the difference of their returns."""

from collections.abc import Sequence

import torch

from lapwing.core.errors import UserError
from lapwing.losses._ratios import LARGEST
from lapwing.losses._spans import check_name, spans, total

MERGEABLE = False
SPLIT = "group"
NEEDS = ()

_VERSIONS = ("joint", "separate")
_SUMS = ("episode", "step_mean", "token_mean")


def p3o_pairwise(
    *,
    logprob: torch.Tensor,
    behavior_logprob: torch.Tensor,
    return_of_episode: torch.Tensor,
    group_of_episode: torch.Tensor,
    step_of_token: torch.Tensor,
    episode_of_token: torch.Tensor,
    version: str = "joint",
    ratio_clip: float = 0.2,
    log_ratio_clip: float = 0.2,
    sums: str = "episode",
) -> torch.Tensor:
    """Make the better episode of each pair of a group likelier than the worse one, by how much it was better.

        l_i = Σ over the tokens of episode i of (logprob − behavior_logprob),   Δ = R_i − R_j,   u = l_i − l_j
        ℓ_ij = −½ sg(clip(exp(l_i + l_j), 1 ± ε₁)) · min(Δ u, Δ clip(u, ±ε₂))                            joint
        ℓ_ij = −½ sg(clip(exp l_i, 1 ± ε₁) clip(exp l_j, 1 ± ε₁))
                 · (min(Δ l_i, Δ clip(l_i, ±ε₂)) + min(−Δ l_j, −Δ clip(l_j, ±ε₂)))                       separate

    sg stops the gradient. Only differences of returns inside a group count. Each token of episode i gets the mean of
    ℓ_ij over the other episodes j of its group, so that the aggregation `episode_mean` makes of them the mean over
    all pairs of a group, groups weighing as many episodes as they have. An episode alone in its group has loss 0. At
    the weights that played, and in groups of two, the gradient is that of the leave-one-out advantage (RLOO) with
    log-probabilities summed over the episode. Sums over long episodes leave the bounds at once: `sums` divides l by
    the number of steps or of tokens. The tokens of a group's episodes must come together.

    Provenance: gradient from the authors' account; the bounds and the separate version are Lapwing's reading.

    Reference: Wu et al. 2023, "Pairwise Proximal Policy Optimization: Harnessing Relative Feedback for LLM
      Alignment". https://arxiv.org/abs/2310.00212

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      behavior_logprob: the same under the weights that played, [K], nats, no gradient.
      return_of_episode: R of each episode of the batch, [E].
      group_of_episode: number of each episode's group, int64 [E].
      step_of_token: number of each token's step, int64 [K].
      episode_of_token: number of each token's episode, int64 [K].
      version: "joint" or "separate": whether pairs or episodes are held near the weights that played.
      ratio_clip: ε₁, in [0, 1].
      log_ratio_clip: ε₂, positive, nats.
      sums: "episode" for l as above; "step_mean" or "token_mean" for l over the number of steps with tokens, or of
        tokens.

    Returns:
      Loss of each token, to be minimised, [K], in units of the return times nats.

    Raises:
      UserError: there is no such version or sum, `ratio_clip` lies outside [0, 1], or `log_ratio_clip` is not
        positive.
    """
    check_name("version", version, _VERSIONS)
    check_name("sums", sums, _SUMS)
    if not 0.0 <= ratio_clip <= 1.0:
        raise UserError(f"ratio_clip must be in [0, 1], but it is {ratio_clip}.")
    if not log_ratio_clip > 0.0:
        raise UserError(f"log_ratio_clip must be positive, but it is {log_ratio_clip}.")
    if len(logprob) == 0:
        return logprob
    of = spans(episode_of_token)
    log_ratio = total(logprob - behavior_logprob, of)
    if sums == "token_mean":
        log_ratio = log_ratio / of.count
    elif sums == "step_mean":
        steps = spans(step_of_token)
        log_ratio = log_ratio / total(1.0 / steps.count[steps.index].to(logprob.dtype), of)
    present = torch.unique(episode_of_token)
    outcome = return_of_episode[present].to(logprob.dtype)
    losses = []
    members = _members(group_of_episode[present])
    pair_losses = _joint if version == "joint" else _separate
    for episodes in members:
        pairs = pair_losses(log_ratio[episodes], outcome[episodes], ratio_clip, log_ratio_clip)
        losses.append(pairs.sum(1) / max(len(episodes) - 1, 1))
    per_episode = torch.cat(losses)[torch.argsort(torch.cat(list(members)))]
    return per_episode[of.index]


def _members(group: torch.Tensor) -> Sequence[torch.Tensor]:
    """The places of the episodes of each group."""
    size = torch.unique(group, return_counts=True)[1]
    return torch.argsort(group, stable=True).split(size.tolist())


def _joint(log_ratio: torch.Tensor, outcome: torch.Tensor, ratio_clip: float, log_ratio_clip: float) -> torch.Tensor:
    """Loss of each pair of n episodes, [n, n], 0 on the diagonal."""
    better = outcome[:, None] - outcome[None, :]
    apart = log_ratio[:, None] - log_ratio[None, :]
    together = (log_ratio[:, None] + log_ratio[None, :]).detach().clamp(-LARGEST, LARGEST)
    weight = together.exp().clamp(1.0 - ratio_clip, 1.0 + ratio_clip)
    return -0.5 * weight * torch.minimum(better * apart, better * apart.clamp(-log_ratio_clip, log_ratio_clip))


def _separate(log_ratio: torch.Tensor, outcome: torch.Tensor, ratio_clip: float, log_ratio_clip: float) -> torch.Tensor:
    """Loss of each pair of n episodes, [n, n], 0 on the diagonal."""
    better = outcome[:, None] - outcome[None, :]
    single = log_ratio.detach().clamp(-LARGEST, LARGEST).exp().clamp(1.0 - ratio_clip, 1.0 + ratio_clip)
    clipped = log_ratio.clamp(-log_ratio_clip, log_ratio_clip)
    own = torch.minimum(better * log_ratio[:, None], better * clipped[:, None])
    # The other one's difference is −Δ, which is Δ of the transposed pair.
    return -0.5 * single[:, None] * single[None, :] * (own + own.T)

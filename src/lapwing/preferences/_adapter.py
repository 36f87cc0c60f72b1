"""From a loss of pairs to a loss of tokens, which is what a learner evaluates."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from lapwing.core.errors import LapwingError
from lapwing.core.pair_batch import PAIR_TENSORS

MERGEABLE = False
SPLIT = "group"

_OF_REFERENCE = ("chosen_reference", "rejected_reference", "chosen_divergence")


def tensors_of_pairs(loss: Callable[..., Any], settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The tensors [P] that a loss of pairs takes with these settings.

    Args:
      loss: a function of this room.
      settings: of it; with `reference_free` it takes nothing of the reference.
    """
    taken = [name for name in inspect.signature(loss).parameters if name in PAIR_TENSORS]
    free = bool(settings.get("reference_free"))
    return tuple(name for name in taken if not (free and name in _OF_REFERENCE))


def tensors_of_tokens(loss: Callable[..., Any], settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The keyword tensors that `over_tokens(loss, **settings)` must be given besides `logprob`.

    Args:
      loss: a function of this room.
      settings: of it.
    """
    taken = tensors_of_pairs(loss, settings)
    reference = ("reference_logprob",) if set(taken) & set(_OF_REFERENCE) else ()
    margin = ("pair_margin",) if "margin" in taken else ()
    return ("episode_of_token", "chosen", "rejected", "pair_weight", "weight", *reference, *margin)


def over_tokens(loss: Callable[..., torch.Tensor], **settings: Any) -> Callable[..., torch.Tensor]:
    """A loss of tokens whose weighted sum is the mean of a loss over pairs.

        Σ_k weight_k ℓ_k = Σ_p w_p ℓ_p / Σ_p w_p   over the pairs of which both episodes are among the tokens
        ℓ_k = Σ_{p ∋ e(k)} w_p ℓ_p / (2 · tokens of e(k) · Σ_p w_p) / weight_k

    The tokens may come in any order, and from any part of a batch that holds whole episodes. Without any such pair,
    or where all weights are 0, every ℓ is 0.

    Args:
      loss: of keyword tensors [P] with names from `PAIR_TENSORS` to one number per pair.
      settings: of the loss.

    Returns:
      A function of `logprob [K]`, `episode_of_token [K]`, `chosen [P]`, `rejected [P]`, `pair_weight [P]`, and where
      the loss asks for them `reference_logprob [K]` and `pair_margin [P]`, to [K]; `weight [K]` > 0 is what each
      token's loss will be multiplied by, 1 if left out.
    """
    wanted = tensors_of_pairs(loss, settings)

    def token_loss(
        *,
        logprob: torch.Tensor,
        episode_of_token: torch.Tensor,
        chosen: torch.Tensor,
        rejected: torch.Tensor,
        pair_weight: torch.Tensor,
        reference_logprob: torch.Tensor | None = None,
        pair_margin: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        episodes = 1 + max((int(x.max()) for x in (episode_of_token, chosen, rejected) if x.numel()), default=-1)
        ones = torch.ones_like(logprob)

        def total(per_token: torch.Tensor) -> torch.Tensor:
            """Sum over each episode's tokens."""
            return per_token.new_zeros(episodes).index_add(0, episode_of_token, per_token)

        tokens = total(ones)
        here = (tokens[chosen] > 0) & (tokens[rejected] > 0) & (pair_weight > 0)
        chosen, rejected, share = chosen[here], rejected[here], pair_weight[here].to(logprob.dtype)
        margin = None if pair_margin is None else pair_margin[here].to(logprob.dtype)
        of_episode = _of_episodes(wanted, total, logprob, reference_logprob, tokens)
        of_pair = _of_pairs(wanted, of_episode, chosen, rejected, margin)
        all_shares = share.sum()
        share = share / torch.where(all_shares > 0, all_shares, torch.ones_like(all_shares))
        half = 0.5 * share * loss(**of_pair, **settings)
        both = logprob.new_zeros(episodes).index_add(0, chosen, half).index_add(0, rejected, half)
        per_token = (both / tokens.clamp(min=1.0))[episode_of_token]
        return per_token if weight is None else per_token / weight

    token_loss.__signature__ = _signature(loss, settings)  # pyright: ignore[reportFunctionMemberAccess]
    return token_loss


def _signature(loss: Callable[..., Any], settings: Mapping[str, Any]) -> inspect.Signature:
    """Of what a loss of tokens takes with these settings: whoever calls it goes by that."""
    kind, needed = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
    names = ("logprob", *tensors_of_tokens(loss, settings))
    return inspect.Signature(
        [inspect.Parameter(name, kind, default=None if name == "weight" else needed) for name in names]
    )


def _of_episodes(
    wanted: tuple[str, ...],
    total: Callable[[torch.Tensor], torch.Tensor],
    logprob: torch.Tensor,
    reference: torch.Tensor | None,
    tokens: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """What pairs are made of, by name, one number per episode."""
    found = {"logprob": total(logprob), "length": tokens}
    if set(wanted) & set(_OF_REFERENCE):
        if reference is None:
            raise LapwingError("This loss of pairs needs reference_logprob; annotate it.")
        found["reference"] = total(reference)
        found["divergence"] = total((logprob - reference).detach() * logprob)
    return found


def _of_pairs(
    wanted: tuple[str, ...],
    of_episode: Mapping[str, torch.Tensor],
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    margin: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """The arguments of a loss of pairs, [P] each."""
    found = {}
    for name in wanted:
        side, _, what = name.partition("_")
        if name != "margin":
            found[name] = of_episode[what][chosen if side == "chosen" else rejected]
        elif margin is None:
            raise LapwingError("This loss of pairs needs pair_margin; the pairing supplies it.")
        else:
            found[name] = margin
    return found

"""From hidden states to log-probabilities and entropies of tokens, without all logits at once."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

# Tensors [nodes, V] in float32 that a pass through the head has alive at the same time, forward or backward.
_ALIVE = 4


class Squash(NamedTuple):
    """What some architectures do to the logits after the head: Granite and Cohere scale, Gemma caps.

        y = cap · tanh(scale · x / (divisor · cap))

    Attributes:
      divisor, scale, cap: None where the architecture has none.
    """

    divisor: float | None
    scale: float | None
    cap: float | None

    @classmethod
    def of(cls, config: Any) -> "Squash":
        """Read them from the configuration of a model."""
        names = ("logits_scaling", "logit_scale", "final_logit_softcapping")
        return cls(*(getattr(config, name, None) for name in names))

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits of the model, given those of its head."""
        if self.divisor is not None:
            logits = logits / self.divisor
        if self.scale is not None:
            logits = logits * self.scale
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits

    def back(self, gradient: torch.Tensor, squashed: torch.Tensor) -> torch.Tensor:
        """The gradient by the head's logits, given that by the squashed ones."""
        if self.cap is not None:
            gradient = gradient * (1.0 - (squashed / self.cap).square())
        if self.scale is not None:
            gradient = gradient * self.scale
        if self.divisor is not None:
            gradient = gradient / self.divisor
        return gradient


def score_tokens(
    model: Any,
    hidden: torch.Tensor,
    node: np.ndarray,
    token: np.ndarray,
    *,
    temperature: float,
    entropy: bool,
    logit_bytes: int,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities of tokens, and entropies of the distributions that they are drawn from.

    Where the logits of all nodes fit into `logit_bytes` they are computed once. Otherwise they are computed for some
    of the nodes at a time, and again in the backward pass, which keeps the hidden states and one number per node; the
    head's gradient is summed in float32.

    Args:
      model: a causal language model of transformers.
      hidden: its hidden states at some nodes, [nodes, width].
      node: for each token, which of them predicts it, int64 [M].
      token: the tokens, int64 [M].
      temperature: logits are divided by it.
      entropy: whether entropies are wanted.
      logit_bytes: most bytes of logits, and of what is computed from them, that are alive at once.

    Returns:
      Log-probability of each token, [M], and entropy of its distribution, [M] or None, nats, at least float32.
    """
    head = model.get_output_embeddings()
    per_pass = max(1, logit_bytes // (_ALIVE * 4 * head.weight.shape[0]))
    at = torch.from_numpy(node).to(hidden.device)
    ids = torch.from_numpy(token).to(hidden.device)
    squash = Squash.of(model.config)
    if len(hidden) <= per_pass:
        return _scored(head, squash, hidden, at, ids, temperature, entropy)
    order = np.argsort(node, kind="stable")
    starts = np.arange(0, len(hidden), per_pass)
    members = np.searchsorted(node[order], np.append(starts, len(hidden))).tolist()
    chunks = [
        _Chunk(slice(start, start + per_pass), slice(low, high))
        for start, low, high in zip(starts.tolist(), members[:-1], members[1:], strict=True)
    ]
    back = torch.from_numpy(np.argsort(order)).to(hidden.device)
    sorted_by_node = torch.from_numpy(order).to(hidden.device)
    at, ids = at[sorted_by_node], ids[sorted_by_node]
    if type(head) is torch.nn.Linear and not hasattr(head.weight, "full_tensor"):
        settings = _Settings(chunks, squash, temperature, entropy)
        logprob, of_node = _ChunkedHead.apply(hidden, head.weight, head.bias, at, ids, settings)  # pyright: ignore
        return logprob[back], of_node[at][back] if entropy else None
    # A head with adapters, or one that is spread over devices, is called as a module.
    found = [
        checkpoint(
            _scored,
            *(head, squash, hidden[chunk.nodes], at[chunk.members] - chunk.nodes.start, ids[chunk.members]),
            *(temperature, entropy),
            use_reentrant=False,
        )
        for chunk in chunks
    ]
    logprob, entropies = zip(*found, strict=True)
    return torch.cat(logprob)[back], torch.cat(entropies)[back] if entropy else None


def _scored(
    head: torch.nn.Module,
    squash: Squash,
    hidden: torch.Tensor,
    at: torch.Tensor,
    ids: torch.Tensor,
    temperature: float,
    entropy: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    logprobs = torch.log_softmax(_wide(squash(head(hidden))) / temperature, dim=-1)
    of_node = -(logprobs.exp() * logprobs).sum(-1) if entropy else None
    return logprobs[at, ids], None if of_node is None else of_node[at]


def _wide(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


class _Chunk(NamedTuple):
    """Some nodes, and the tokens that they predict."""

    nodes: slice
    members: slice


class _Settings(NamedTuple):
    chunks: list[_Chunk]
    squash: Squash
    temperature: float
    entropy: bool


class _ChunkedHead(torch.autograd.Function):
    """A linear head, log-softmax, choice of tokens and entropy, chunk by chunk.

    With z = squash(h Wᵀ + b) / T, ℓ = log Σ exp z and p = exp(z − ℓ), the gradient of Σ_m g_m log p[m] + Σ_n e_n H_n
    by z is, for each node,

        g_m at token m   −   p Σ_m g_m   −   e p (log p + H).
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        at: torch.Tensor,
        ids: torch.Tensor,
        settings: _Settings,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability of each token [M], in the order of the nodes, and entropy of each node (or nothing)."""
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        log_sum = torch.empty(len(hidden), dtype=wide, device=hidden.device)
        entropy = torch.empty(len(hidden) if settings.entropy else 0, dtype=wide, device=hidden.device)
        logprob = torch.empty(len(at), dtype=wide, device=hidden.device)
        for nodes, members in settings.chunks:
            squashed = settings.squash(functional.linear(hidden[nodes], weight, bias))
            scaled = _wide(squashed) / settings.temperature
            log_sum[nodes] = torch.logsumexp(scaled, dim=-1)
            scaled -= log_sum[nodes, None]
            logprob[members] = scaled[at[members] - nodes.start, ids[members]]
            if settings.entropy:
                entropy[nodes] = -(scaled.exp() * scaled).sum(-1)
        ctx.save_for_backward(hidden, weight, bias, at, ids, log_sum, entropy)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        return logprob, entropy

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, by_logprob: torch.Tensor | None, by_entropy: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the hidden states, the head's weight and its bias."""
        hidden, weight, bias, at, ids, log_sum, entropy = ctx.saved_tensors
        settings: _Settings = ctx.settings
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden) if needs_hidden else None
        d_weight = torch.zeros_like(weight, dtype=log_sum.dtype) if needs_weight else None
        d_bias = torch.zeros_like(bias, dtype=log_sum.dtype) if needs_bias else None
        for nodes, members in settings.chunks:
            squashed = settings.squash(functional.linear(hidden[nodes], weight, bias))
            logprobs = (_wide(squashed) / settings.temperature).sub_(log_sum[nodes, None])
            gradient = _by_logits(
                logprobs,
                at[members] - nodes.start,
                ids[members],
                None if by_logprob is None else by_logprob[members],
                None if by_entropy is None or not settings.entropy else (by_entropy[nodes], entropy[nodes]),
            )
            gradient = settings.squash.back((gradient / settings.temperature).to(squashed.dtype), squashed)
            if d_hidden is not None:
                d_hidden[nodes] = gradient @ weight
            if d_weight is not None:
                d_weight += gradient.T @ hidden[nodes]
            if d_bias is not None:
                d_bias += gradient.sum(0)
        return (
            d_hidden,
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(weight.dtype),
            *(None, None, None),
        )


def _by_logits(
    logprobs: torch.Tensor,
    at: torch.Tensor,
    ids: torch.Tensor,
    by_logprob: torch.Tensor | None,
    by_entropy: tuple[torch.Tensor, torch.Tensor] | None,
) -> torch.Tensor:
    """The gradient by the scaled logits of some nodes, [n, V]; the equation is that of `_ChunkedHead`."""
    probability = logprobs.exp()
    if by_entropy is None:
        gradient = logprobs.zero_()
    else:
        slope, entropy = by_entropy
        gradient = logprobs.add_(entropy[:, None]).mul_(probability).mul_(-slope[:, None])
    if by_logprob is not None:
        total = torch.zeros(len(logprobs), dtype=logprobs.dtype, device=logprobs.device)
        total.index_add_(0, at, by_logprob)
        gradient.sub_(probability.mul_(total[:, None]))
        gradient.index_put_((at, ids), by_logprob, accumulate=True)
    return gradient

"""Log-probabilities and entropies of replies under a torch language model."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from lapwing.models.tree import Tree, grow, parts


class Scored(NamedTuple):
    """Columns for some of the K tokens: `index` says which, the tensors have one number each."""

    index: np.ndarray
    logprob: torch.Tensor
    entropy: torch.Tensor | None


def hidden_states(body: Any, tree: Tree, nodes: np.ndarray) -> torch.Tensor:
    """The last hidden states of a model's body at the chosen nodes of a tree, [len(nodes), width]."""
    parameter = next(body.parameters())
    keep = torch.from_numpy(tree.keep).to(parameter.device)
    mask = torch.zeros(keep.shape, dtype=parameter.dtype, device=keep.device)
    mask.masked_fill_(~keep, torch.finfo(parameter.dtype).min)
    hidden = body(
        input_ids=torch.from_numpy(tree.token).to(keep.device),
        position_ids=torch.from_numpy(tree.position).to(keep.device),
        attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    return hidden.reshape(-1, hidden.shape[-1])[torch.from_numpy(nodes).to(keep.device)]


def next_token_logits(model: torch.nn.Module, tree: Tree, nodes: np.ndarray) -> torch.Tensor:
    """Logits of the token that follows each of the chosen nodes of a tree, [len(nodes), V].

    The head is applied to the chosen nodes only.
    """
    chosen = hidden_states(getattr(model, "base_model"), tree, nodes)  # noqa: B009
    logits = model.get_output_embeddings()(chosen)  # pyright: ignore[reportCallIssue]
    return _after_head(model, logits)


def _after_head(model: torch.nn.Module, logits: torch.Tensor) -> torch.Tensor:
    """What some architectures do to the logits after the head: Granite and Cohere scale, Gemma caps."""
    config: Any = model.config
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    if (scale := getattr(config, "logit_scale", None)) is not None:
        logits = logits * scale
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits


class Scorer:
    """Scores replies in micro-batches of packed trees.

    Contexts that share a beginning, and identical context–reply pairs, are computed once; this is exact.
    """

    def __init__(
        self, model: torch.nn.Module, *, temperature: float = 1.0, row_tokens: int = 160, batch_tokens: int = 16384
    ) -> None:
        """Make a scorer.

        Args:
          model: a causal language model of transformers.
          temperature: logits are divided by it, as they were when the replies were sampled.
          row_tokens: aim for the tokens of one packed row.
          batch_tokens: tokens, padding included, that one forward pass may hold.
        """
        self.model = model
        self.temperature = temperature
        self.row_tokens = row_tokens
        self.batch_tokens = batch_tokens

    def micro_batches(
        self,
        contexts: Sequence[np.ndarray],
        replies: Sequence[np.ndarray],
        *,
        entropy: bool = False,
    ) -> Iterator[Scored]:
        """Score replies, one forward pass after the other; the caller may run backward between them.

        Args:
          contexts: the whole context of each step, with at least one token.
          replies: the reply of each step; the K tokens are numbered as if laid end to end.
          entropy: whether the entropy of each next-token distribution is wanted too, nats.

        Yields:
          `Scored`, every token in exactly one of them.
        """
        lengths = np.array([len(reply) for reply in replies], dtype=np.int64)
        ends = np.cumsum(lengths)
        row_of: dict[bytes, int] = {}
        rows: list[np.ndarray] = []
        members: list[list[int]] = []
        for step, (context, reply) in enumerate(zip(contexts, replies, strict=True)):
            if len(reply) == 0:
                continue
            row = np.concatenate([context, reply[:-1]]) if len(reply) > 1 else context
            key = row.tobytes()
            at = row_of.setdefault(key, len(rows))
            if at == len(rows):
                rows.append(row)
                members.append([])
            members[at].append(step)
        if not rows:
            return
        tree = grow(rows, row_tokens=self.row_tokens)
        yield from self._forward(tree, members, replies, ends, entropy)

    def _forward(
        self,
        tree: Tree,
        members: list[list[int]],
        replies: Sequence[np.ndarray],
        ends: np.ndarray,
        entropy: bool,
    ) -> Iterator[Scored]:
        # One entry per reply token: its number, the node that predicts it, and the token itself.
        index, node, token = [], [], []
        for row, steps in enumerate(members):
            for step in steps:
                reply = replies[step]
                index.append(np.arange(ends[step] - len(reply), ends[step]))
                node.append(tree.node[row][len(tree.node[row]) - len(reply) :])
                token.append(reply)
        index, node, token = np.concatenate(index), np.concatenate(node), np.concatenate(token).astype(np.int64)
        for part in parts(tree, node, batch_tokens=self.batch_tokens):
            logits = next_token_logits(self.model, part.tree, part.nodes).float() / self.temperature
            logprobs = torch.log_softmax(logits, dim=-1)
            at = torch.from_numpy(part.inverse).to(logits.device)
            ids = torch.from_numpy(token[part.chosen]).to(logits.device)
            node_entropy = -(logprobs.exp() * logprobs).sum(-1) if entropy else None
            yield Scored(
                index=index[part.chosen],
                logprob=logprobs[at, ids],
                entropy=None if node_entropy is None else node_entropy[at],
            )

    def score(
        self, contexts: Sequence[np.ndarray], replies: Sequence[np.ndarray], *, want: tuple[str, ...] = ("logprob",)
    ) -> dict[str, np.ndarray]:
        """Score replies without gradients.

        Args:
          contexts, replies: as for `micro_batches`.
          want: "logprob" and "entropy".

        Returns:
          float64 arrays [K] by name.
        """
        total = sum(len(reply) for reply in replies)
        result = {name: np.zeros(total) for name in want}
        with torch.no_grad():
            for scored in self.micro_batches(contexts, replies, entropy="entropy" in want):
                if "logprob" in result:
                    result["logprob"][scored.index] = scored.logprob.double().cpu().numpy()
                if "entropy" in result and scored.entropy is not None:
                    result["entropy"][scored.index] = scored.entropy.double().cpu().numpy()
        return result

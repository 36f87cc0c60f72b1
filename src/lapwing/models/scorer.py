"""Log-probabilities and entropies of replies under a torch language model."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from lapwing.core.errors import UserError
from lapwing.models.head import Squash, score_tokens
from lapwing.models.masks import attention_masks
from lapwing.models.tree import Part, Tree, grow, parts

LOGIT_BYTES = 2**30


class Scored(NamedTuple):
    """Columns for some of the K tokens: `index` says which, the tensors have one number each."""

    index: np.ndarray
    logprob: torch.Tensor
    entropy: torch.Tensor | None


def hidden_states(body: Any, tree: Tree, nodes: np.ndarray) -> torch.Tensor:
    """The last hidden states of a model's body at the chosen nodes of a tree, [len(nodes), width]."""
    parameter = next(body.parameters())
    hidden = body(
        input_ids=torch.from_numpy(tree.token).to(parameter.device),
        position_ids=torch.from_numpy(tree.position).to(parameter.device),
        attention_mask=attention_masks(body.config, tree, parameter),
        use_cache=False,
    ).last_hidden_state
    return hidden.reshape(-1, hidden.shape[-1])[torch.from_numpy(nodes).to(hidden.device)]


def next_token_logits(model: torch.nn.Module, tree: Tree, nodes: np.ndarray) -> torch.Tensor:
    """Logits of the token that follows each of the chosen nodes of a tree, [len(nodes), V].

    The head is applied to the chosen nodes only.
    """
    chosen = hidden_states(getattr(model, "base_model"), tree, nodes)  # noqa: B009
    logits = model.get_output_embeddings()(chosen)  # pyright: ignore[reportCallIssue]
    return Squash.of(model.config)(logits)


class Passes(Protocol):
    """Forward passes of a model that is spread over several processes, which must all make equally many."""

    def count(self, own: int) -> int:
        """How many passes every process makes, if this one needs `own` of them."""
        ...

    def run(self, score: Callable[[], Any]) -> Any:
        """Call a function while the model's weights are here."""
        ...


class Scorer:
    """Scores replies in micro-batches of packed trees.

    Contexts that share a beginning, and identical context–reply pairs, are computed once; this is exact.

    Attributes:
      cells, tokens: places and tokens of all forward passes so far; the rest of the places was padding.
      out_of_memory: how often forward passes were made smaller because the device had no memory for them.
      passes: how forward passes are made; None makes those that are needed. Where another process needs more of them,
        a pass over one token follows, which yields a `Scored` without tokens.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        temperature: float = 1.0,
        row_tokens: int = 160,
        batch_tokens: int = 16384,
        logit_bytes: int = LOGIT_BYTES,
    ) -> None:
        """Make a scorer.

        Args:
          model: a causal language model of transformers.
          temperature: logits are divided by it, as they were when the replies were sampled.
          row_tokens: aim for the tokens of one packed row.
          batch_tokens: tokens, padding included, that one forward pass may hold.
          logit_bytes: most bytes of logits, and of what is computed from them, that are alive at once.
        """
        self.model = model
        self.temperature = temperature
        self.row_tokens = row_tokens
        self.batch_tokens = batch_tokens
        self.logit_bytes = logit_bytes
        self.cells = 0
        self.tokens = 0
        self.out_of_memory = 0
        self._newest: Tree | None = None
        self.passes: Passes | None = None

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
        if rows:
            tree = grow(rows, row_tokens=self.row_tokens)
            yield from self._forward(tree, members, replies, ends, entropy)
        elif self.passes is not None:
            yield from self._without_tokens(self.passes.count(0), entropy)

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
        own, further = parts(tree, node, batch_tokens=self.batch_tokens), 0
        if self.passes is not None:
            needed = sum(1 for _ in parts(tree, node, batch_tokens=self.batch_tokens))
            further = self.passes.count(needed) - needed
        for part in own:
            yield Scored(index[part.chosen], *self._pass(part, token[part.chosen], entropy))
        yield from self._without_tokens(further, entropy)

    def _without_tokens(self, count: int, entropy: bool) -> Iterator[Scored]:
        nowhere = np.zeros(0, dtype=np.int64)
        for _ in range(count):
            tree = grow([np.zeros(1, dtype=np.int64)])
            part = next(parts(tree, tree.last, batch_tokens=self.batch_tokens))
            logprob, node_entropy = self._pass(part, np.zeros(1, dtype=np.int64), entropy)
            yield Scored(nowhere, logprob[:0], None if node_entropy is None else node_entropy[:0])

    def _pass(self, part: Part, token: np.ndarray, entropy: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        score = functools.partial(self._score, part, token, entropy)
        return score() if self.passes is None else self.passes.run(score)

    def _score(self, part: Part, token: np.ndarray, entropy: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Log-probabilities of tokens at the chosen nodes of a part, and entropies there."""
        self._newest = part.tree
        self.cells += part.tree.token.size
        self.tokens += part.tree.num_tokens
        hidden = hidden_states(getattr(self.model, "base_model"), part.tree, part.nodes)  # noqa: B009
        return score_tokens(
            self.model,
            hidden,
            part.inverse,
            token,
            temperature=self.temperature,
            entropy=entropy,
            logit_bytes=self.logit_bytes,
        )

    def shrink(self) -> None:
        """Make forward passes half as large as the newest one, for which the device had no memory.

        Raises:
          UserError: it was one row already, or other processes count on as many passes as before.
        """
        rows, width = (1, self.row_tokens) if self._newest is None else self._newest.token.shape
        self._newest = None
        if rows == 1 or self.passes is not None:
            raise UserError(
                f"The device has no memory for a forward pass of {rows} row{'s' * (rows > 1)} of {width} tokens; lower "
                "generation.batch_tokens or generation.row_tokens, train adapters (LoRA), turn gradient checkpointing "
                "on, or choose a smaller model."
            )
        self.batch_tokens = rows // 2 * width
        self.out_of_memory += 1
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

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
        while True:
            with contextlib.suppress(torch.OutOfMemoryError):
                return self._all(contexts, replies, want)
            self.shrink()

    def _all(
        self, contexts: Sequence[np.ndarray], replies: Sequence[np.ndarray], want: tuple[str, ...]
    ) -> dict[str, np.ndarray]:
        total = sum(len(reply) for reply in replies)
        result = {name: np.zeros(total) for name in want}
        with torch.no_grad():
            for scored in self.micro_batches(contexts, replies, entropy="entropy" in want):
                if "logprob" in result:
                    result["logprob"][scored.index] = scored.logprob.double().cpu().numpy()
                if "entropy" in result and scored.entropy is not None:
                    result["entropy"][scored.index] = scored.entropy.double().cpu().numpy()
        return result

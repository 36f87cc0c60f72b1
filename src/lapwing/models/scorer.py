"""Log-probabilities and entropies of replies under a torch language model."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from lapwing.core.errors import UserError
from lapwing.core.ragged import lengths_to_splits
from lapwing.models.head import Squash, score_tokens
from lapwing.models.last_layer import last_layer_at
from lapwing.models.masks import attention_masks, is_causal
from lapwing.models.tree import Part, Tree, grow, parts

LOGIT_BYTES = 2**30


class Scored(NamedTuple):
    """Columns for some of the K tokens: `index` says which, the tensors have one number each."""

    index: np.ndarray
    logprob: torch.Tensor
    entropy: torch.Tensor | None


class Questions(NamedTuple):
    """K tokens at places of sequences, which are scored.

    Attributes:
      sequences: token ids, each with at least one.
      row: the sequence that each token belongs to, int64 [K].
      place: the token of the sequence that stands before it, int64 [K].
      token: int64 [K].
    """

    sequences: list[np.ndarray]
    row: np.ndarray
    place: np.ndarray
    token: np.ndarray


def hidden_states(body: Any, tree: Tree, nodes: np.ndarray) -> torch.Tensor:
    """The last hidden states of a model's body at the chosen nodes of a tree, [len(nodes), width].

    Args:
      body: of transformers.
      tree: B packed rows.
      nodes: flat indices.
    """
    parameter = next(body.parameters())
    inputs = {
        "input_ids": torch.from_numpy(tree.token).to(parameter.device),
        "position_ids": torch.from_numpy(tree.position).to(parameter.device),
        "attention_mask": attention_masks(body.config, tree, parameter, causal=is_causal(body)),
    }
    place, at = _by_row(nodes, *tree.token.shape)
    hidden = last_layer_at(body, torch.from_numpy(place).to(parameter.device), **inputs)
    if hidden is None:
        hidden, at = body(**inputs, use_cache=False).last_hidden_state, nodes
    return hidden.reshape(-1, hidden.shape[-1])[torch.from_numpy(at).to(hidden.device)]


def _by_row(nodes: np.ndarray, rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of nodes in each row, [B, W], and where each node stands in that array, flat.

    Rows with fewer nodes than others name their first token again.
    """
    row, place = np.divmod(nodes, width)
    count = np.bincount(row, minlength=rows)
    order = np.empty(len(nodes), dtype=np.int64)
    order[np.argsort(row, kind="stable")] = np.arange(len(nodes)) - np.repeat(np.cumsum(count) - count, count)
    places = np.zeros((rows, int(count.max(initial=1))), dtype=np.int64)
    places[row, order] = place
    return places, row * places.shape[1] + order


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
        share: bool = True,
    ) -> None:
        """Make a scorer.

        Args:
          model: a causal language model of transformers.
          temperature: logits are divided by it, as they were when the replies were sampled.
          row_tokens: aim for the tokens of one packed row.
          batch_tokens: tokens, padding included, that one forward pass may hold.
          logit_bytes: most bytes of logits, and of what is computed from them, that are alive at once.
          share: compute what sequences begin with alike once; without it the result is the same up to rounding, and
            what sharing saves can be measured.
        """
        self.model = model
        self.temperature = temperature
        self.row_tokens = row_tokens
        self.batch_tokens = batch_tokens
        self.logit_bytes = logit_bytes
        self.share = share
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
        return self.answers(_questions(contexts, replies), entropy=entropy)

    def answers(self, questions: Questions, *, entropy: bool = False) -> Iterator[Scored]:
        """Score tokens at places of sequences, as `micro_batches` does; a transcript's replies lie in one sequence."""
        if len(questions.token):
            rows, row = _different(questions.sequences, questions.row)
            tree = grow(rows, row_tokens=self.row_tokens, share=self.share)
            starts = lengths_to_splits(np.array([len(sequence) for sequence in rows]))
            node = np.concatenate(tree.node)[starts[row] + questions.place]
            yield from self._forward(tree, node, questions.token.astype(np.int64), entropy)
        elif self.passes is not None:
            yield from self._without_tokens(self.passes.count(0), entropy)

    def _forward(self, tree: Tree, node: np.ndarray, token: np.ndarray, entropy: bool) -> Iterator[Scored]:
        """Score tokens, each predicted at a node of a tree."""
        own, further = parts(tree, node, batch_tokens=self.batch_tokens), 0
        if self.passes is not None:
            needed = sum(1 for _ in parts(tree, node, batch_tokens=self.batch_tokens))
            further = self.passes.count(needed) - needed
        for part in own:
            yield Scored(part.chosen, *self._pass(part, token[part.chosen], entropy))
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
        return self.score_answers(_questions(contexts, replies), want=want)

    def score_answers(self, questions: Questions, *, want: tuple[str, ...] = ("logprob",)) -> dict[str, np.ndarray]:
        """Score tokens at places of sequences without gradients, as `score` does."""
        while True:
            with contextlib.suppress(torch.OutOfMemoryError):
                return self._all(questions, want)
            self.shrink()

    def _all(self, questions: Questions, want: tuple[str, ...]) -> dict[str, np.ndarray]:
        result = {name: np.zeros(len(questions.token)) for name in want}
        with torch.no_grad():
            for scored in self.answers(questions, entropy="entropy" in want):
                if "logprob" in result:
                    result["logprob"][scored.index] = scored.logprob.double().cpu().numpy()
                if "entropy" in result and scored.entropy is not None:
                    result["entropy"][scored.index] = scored.entropy.double().cpu().numpy()
        return result


def _questions(contexts: Sequence[np.ndarray], replies: Sequence[np.ndarray]) -> Questions:
    """The tokens of replies, each after its own context."""
    length = np.array([len(reply) for reply in replies], dtype=np.int64)
    start = np.array([len(context) for context in contexts], dtype=np.int64) - 1
    rows = [
        np.concatenate([context, reply[:-1]]) if len(reply) > 1 else context
        for context, reply in zip(contexts, replies, strict=True)
    ]
    token = np.concatenate([np.zeros(0, dtype=np.int64), *replies])
    place = np.repeat(start - lengths_to_splits(length)[:-1], length) + np.arange(len(token))
    return Questions(rows, np.repeat(np.arange(len(rows)), length), place, token)


def _different(sequences: Sequence[np.ndarray], row: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The different ones among the sequences that are asked about, and the number of each question's."""
    numbers: dict[bytes, int] = {}
    found: list[np.ndarray] = []
    asked, which = np.unique(row, return_inverse=True)
    number = np.empty(len(asked), dtype=np.int64)
    for at, i in enumerate(asked.tolist()):
        number[at] = numbers.setdefault(sequences[i].tobytes(), len(found))
        if number[at] == len(found):
            found.append(sequences[i])
    return found, number[which.reshape(-1)]

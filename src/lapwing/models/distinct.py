"""Identical context–reply pairs of a batch, so that each goes through the model once."""

from collections.abc import Iterator

import numpy as np
import torch

from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.protocols import Ranks
from lapwing.core.ragged import lengths_to_splits, take_segments
from lapwing.core.storage import bytes_key
from lapwing.models.scorer import Scored, Scorer


class DistinctReplies:
    """The different context–reply pairs among some steps, and which tokens of the batch each stands for.

    Pairs are told apart by a 64-bit hash of the context and of the reply. Where several ranks are at work, each scores
    its share of the pairs, in the order of their tokens, so that the pairs of a share begin alike.

    Attributes:
      contexts, replies: the different pairs, in no particular order.
      index: for each of the K′ reply tokens of the steps, sorted by the distinct token it equals, its number in the
        batch.
    """

    def __init__(self, batch: EpisodeBatch, steps: np.ndarray, *, ranks: Ranks | None = None) -> None:
        """Find them.

        Args:
          batch: E episodes.
          steps: numbers of the steps.
          ranks: the processes that share the pairs; None scores all of them here.
        """
        splits = batch.token_splits
        index, _ = take_segments(splits, steps)
        lengths = np.diff(splits)[steps]
        _, first, which = np.unique(_pair_keys(batch, steps), return_index=True, return_inverse=True)
        which = which.reshape(-1)
        chosen = steps[first]
        self.contexts = [batch.context(n) for n in chosen.tolist()]
        self.replies = [batch.token[splits[n] : splits[n + 1]] for n in chosen.tolist()]
        starts = lengths_to_splits(lengths[first])
        # The distinct token of each token of the steps: its pair's first, plus its place in the reply.
        place = np.arange(len(index)) - np.repeat(lengths_to_splits(lengths)[:-1], lengths)
        distinct = np.repeat(starts[which], lengths) + place
        order = np.argsort(distinct, kind="stable")
        self.index = index[order]
        self._splits = lengths_to_splits(np.bincount(distinct, minlength=int(starts[-1])))
        self._ranks = ranks
        self._share = None if ranks is None else _Share(self.contexts, self.replies, ranks)

    def to_all(self, values: np.ndarray) -> np.ndarray:
        """Give every token, in the order of `index`, the value of the distinct token that it equals."""
        return np.repeat(values, np.diff(self._splits))

    def scored(self, scorer: Scorer, *, entropy: bool = False) -> Iterator[Scored]:
        """Score every pair (of this rank's share) once and give the result to every token, one forward pass at a time.

        Args:
          scorer: of the model.
          entropy: whether entropies are wanted too.

        Yields:
          `Scored`, whose `index` counts places in this object's `index`.
        """
        share = self._share
        contexts, replies = (self.contexts, self.replies) if share is None else (share.contexts, share.replies)
        for part in scorer.micro_batches(contexts, replies, entropy=entropy):
            members, splits = take_segments(self._splits, part.index if share is None else share.token[part.index])
            at = torch.from_numpy(np.repeat(np.arange(len(part.index)), np.diff(splits))).to(part.logprob.device)
            yield Scored(members, part.logprob[at], None if part.entropy is None else part.entropy[at])

    def score(self, scorer: Scorer, *, want: tuple[str, ...] = ("logprob",)) -> dict[str, np.ndarray]:
        """Score every pair once without gradients; ranks exchange what they scored.

        Args:
          scorer: of the model.
          want: "logprob" and "entropy".

        Returns:
          float64 by name, one number per token in the order of `index`.
        """
        share = self._share
        if share is None or self._ranks is None:
            found = scorer.score(self.contexts, self.replies, want=want)
            return {name: self.to_all(values) for name, values in found.items()}
        mine = scorer.score(share.contexts, share.replies, want=want)
        columns = np.zeros((len(want), len(self._splits) - 1))
        for row, name in enumerate(want):
            columns[row, share.token] = mine[name]
        return {name: self.to_all(column) for name, column in zip(want, self._ranks.sum(columns), strict=True)}


class _Share:
    """The pairs that this rank scores, and the numbers of their tokens among the distinct ones."""

    def __init__(self, contexts: list[np.ndarray], replies: list[np.ndarray], ranks: Ranks) -> None:
        order = sorted(range(len(contexts)), key=lambda i: (contexts[i].tolist(), replies[i].tolist()))
        mine = np.array(order, dtype=np.int64)[ranks.share(len(order))]
        self.contexts = [contexts[i] for i in mine]
        self.replies = [replies[i] for i in mine]
        self.token, _ = take_segments(lengths_to_splits(np.array([len(reply) for reply in replies])), mine)


def _pair_keys(batch: EpisodeBatch, steps: np.ndarray) -> np.ndarray:
    if "context_key" in batch.extra:
        keys = batch.extra["context_key"][steps]
    else:
        keys = np.array([bytes_key(batch.context(n).tobytes()) for n in steps.tolist()], dtype=np.uint64)
    lengths = np.diff(batch.token_splits)[steps]
    keys = rng.fold_many(keys, lengths)
    for place in range(int(lengths.max(initial=0))):
        has = lengths > place
        keys[has] = rng.fold_many(keys[has], batch.token[batch.token_splits[steps[has]] + place])
    return keys

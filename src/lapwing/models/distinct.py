"""Identical context–reply pairs of a batch, so that each goes through the model once."""

from collections.abc import Iterator

import numpy as np
import torch

from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.ragged import lengths_to_splits, take_segments
from lapwing.core.storage import bytes_key
from lapwing.models.scorer import Scored, Scorer


class DistinctReplies:
    """The different context–reply pairs among some steps, and which tokens of the batch each stands for.

    Pairs are told apart by a 64-bit hash of the context and of the reply.

    Attributes:
      contexts, replies: the different pairs, in no particular order.
      index: for each of the K′ reply tokens of the steps, sorted by the distinct token it equals, its number in the
        batch.
    """

    def __init__(self, batch: EpisodeBatch, steps: np.ndarray) -> None:
        """Find them.

        Args:
          batch: E episodes.
          steps: numbers of the steps.
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

    def to_all(self, values: np.ndarray) -> np.ndarray:
        """Give every token, in the order of `index`, the value of the distinct token that it equals."""
        return np.repeat(values, np.diff(self._splits))

    def scored(self, scorer: Scorer, *, entropy: bool = False) -> Iterator[Scored]:
        """Score every pair once and give the result to every token, one forward pass after the other.

        Args:
          scorer: of the model.
          entropy: whether entropies are wanted too.

        Yields:
          `Scored`, whose `index` counts places in this object's `index`.
        """
        for part in scorer.micro_batches(self.contexts, self.replies, entropy=entropy):
            members, splits = take_segments(self._splits, part.index)
            at = torch.from_numpy(np.repeat(np.arange(len(part.index)), np.diff(splits))).to(part.logprob.device)
            yield Scored(members, part.logprob[at], None if part.entropy is None else part.entropy[at])


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

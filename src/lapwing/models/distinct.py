"""Identical context–reply pairs of a batch, so that each goes through the model once."""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch

from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.protocols import Ranks
from lapwing.core.ragged import lengths_to_splits, take_segments
from lapwing.models.scorer import Questions, Scored, Scorer


class DistinctReplies:
    """The different context–reply pairs among some steps, and which tokens of the batch each stands for.

    Pairs are told apart by a 64-bit hash of the context and of the reply. Where several ranks are at work, each scores
    its share of the pairs, in the order of their tokens, so that the pairs of a share begin alike.

    The steps of a transcript extend each other: all that are scored of one lie in the sequence of the last of them.

    Attributes:
      num_pairs: how many different ones there are.
      questions: the tokens of the different replies (of this rank's share), laid end to end in no particular order.
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
        self.num_pairs = len(first)
        starts = lengths_to_splits(lengths[first])
        # The distinct token of each token of the steps: its pair's first, plus its place in the reply.
        place = np.arange(len(index)) - np.repeat(lengths_to_splits(lengths)[:-1], lengths)
        distinct = np.repeat(starts[which], lengths) + place
        order = np.argsort(distinct, kind="stable")
        self.index = index[order]
        self._splits = lengths_to_splits(np.bincount(distinct, minlength=int(starts[-1])))
        self._ranks = ranks
        chains = _Chains(batch)
        if ranks is None:
            self.questions = chains.questions(steps[first])
        else:
            mine = chains.in_order(steps[first])[ranks.share(len(first))]
            self.questions = chains.questions(steps[first[mine]])
            self._token, _ = take_segments(starts, mine)

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
        for part in scorer.answers(self.questions, entropy=entropy):
            members, splits = take_segments(
                self._splits, part.index if self._ranks is None else self._token[part.index]
            )
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
        found = scorer.score_answers(self.questions, want=want)
        if self._ranks is None:
            return {name: self.to_all(values) for name, values in found.items()}
        columns = np.zeros((len(want), len(self._splits) - 1))
        for row, name in enumerate(want):
            columns[row, self._token] = found[name]
        return {name: self.to_all(column) for name, column in zip(want, self._ranks.sum(columns), strict=True)}


class _Chains:
    """The steps of a batch as places in the sequences of the steps that extend each other."""

    def __init__(self, batch: EpisodeBatch) -> None:
        self._batch = batch
        self._number = np.cumsum(~batch.extends_previous) - 1
        self._first = np.flatnonzero(~batch.extends_previous)
        # Where the reply of each step begins in its chain.
        added, reply = np.diff(batch.context_splits), np.diff(batch.token_splits)
        before = lengths_to_splits(added + reply)[:-1]
        self._start = before - before[self._first[self._number]] + added

    def questions(self, steps: np.ndarray) -> Questions:
        """The tokens of the replies of some steps, laid end to end."""
        batch = self._batch
        length = np.diff(batch.token_splits)[steps]
        chains, row = np.unique(self._number[steps], return_inverse=True)
        last = np.zeros(len(chains), dtype=np.int64)
        np.maximum.at(last, row.reshape(-1), steps)
        sequences = [self._sequence(f, n) for f, n in zip(self._first[chains].tolist(), last.tolist(), strict=True)]
        index, splits = take_segments(batch.token_splits, steps)
        place = np.repeat(self._start[steps] - 1 - splits[:-1], length) + np.arange(len(index))
        return Questions(sequences, np.repeat(row.reshape(-1), length), place, batch.token[index])

    def in_order(self, steps: np.ndarray) -> np.ndarray:
        """The order of some steps in which those come together that begin alike, int64 [len(steps)]."""
        chains, row = np.unique(self._number[steps], return_inverse=True)
        ends = [*self._first[1:].tolist(), len(self._start)]
        firsts = self._first[chains].tolist()
        keys = [
            self._sequence(f, ends[c] - 1).astype(">u4").tobytes() for f, c in zip(firsts, chains.tolist(), strict=True)
        ]
        rank = np.empty(len(chains), dtype=np.int64)
        rank[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
        return np.lexsort((steps, rank[row.reshape(-1)]))

    def _sequence(self, first: int, last: int) -> np.ndarray:
        """What the model reads up to the last token of a reply but one, int32."""
        batch = self._batch
        context, reply = batch.context_splits, batch.token_splits
        if first == last and reply[last + 1] - reply[last] <= 1:
            return batch.context_token[context[last] : context[last + 1]]
        pieces = []
        for n in range(first, last + 1):
            pieces.append(batch.context_token[context[n] : context[n + 1]])
            pieces.append(batch.token[reply[n] : reply[n + 1] - (n == last)])
        return np.concatenate(pieces)


def _pair_keys(batch: EpisodeBatch, steps: np.ndarray) -> np.ndarray:
    keys = (batch.extra["context_key"] if "context_key" in batch.extra else _context_keys(batch))[steps]
    lengths = np.diff(batch.token_splits)[steps]
    keys = rng.fold_many(keys, lengths)
    for place in range(int(lengths.max(initial=0))):
        has = lengths > place
        keys[has] = rng.fold_many(keys[has], batch.token[batch.token_splits[steps[has]] + place])
    return keys


def _context_keys(batch: EpisodeBatch) -> np.ndarray:
    """A 64-bit hash of the whole context of each step; what a step extends is not read again."""
    keys = np.empty(batch.num_steps, dtype=np.uint64)
    context, reply, seen = batch.context_splits, batch.token_splits, hashlib.blake2b(digest_size=8)
    for n, extends in enumerate(batch.extends_previous.tolist()):
        if extends:
            seen.update(batch.token[reply[n - 1] : reply[n]].tobytes())
        else:
            seen = hashlib.blake2b(digest_size=8)
        seen.update(batch.context_token[context[n] : context[n + 1]].tobytes())
        keys[n] = int.from_bytes(seen.digest(), "little")
    return keys

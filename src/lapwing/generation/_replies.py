"""Many replies to few prompts, drawn together: equal beginnings of replies are one thing."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lapwing.core import rng
from lapwing.core.ragged import distinct, lengths_to_splits
from lapwing.core.types import Prompt

# The most frequent replies that are computed ahead, and how many of those drawn so far they are to cover.
_GUESSES = 8
_COVER = 0.95
# Longer replies are no longer alike, and remembering all their beginnings takes room.
_LONGEST = 64
# How often a token must have followed for it to be guessed.
_LEAST = 2
_END = -1


class Drawn(NamedTuple):
    """M replies.

    Attributes:
      replies: the different ones, int32 each.
      reply: which of them each is, int64 [M].
      splits: where the tokens of each begin and end, int64 [M+1].
      logprob: of every token, float64 [splits[-1]].
    """

    replies: list[np.ndarray]
    reply: np.ndarray
    splits: np.ndarray
    logprob: np.ndarray


class Wanted(NamedTuple):
    """A context and some tokens of a reply to it; what follows its last len(keys) tokens is wanted.

    Attributes:
      token: int32.
      keys: of the sequences that end with each of these tokens.
    """

    token: np.ndarray
    keys: list[bytes]


class Guesses:
    """The replies that were drawn so far under these weights: the next ones will mostly be the same.

    What they say decides what is computed together and never what is drawn.
    """

    def __init__(self) -> None:
        """Nothing was drawn yet."""
        self._count: Counter[bytes] = Counter()
        self._next: dict[tuple[int, ...], Counter[int]] = {}

    def clear(self) -> None:
        """The weights changed."""
        self._count.clear()
        self._next.clear()

    def add(self, drawn: Drawn) -> None:
        """Count replies."""
        for reply, count in zip(drawn.replies, np.bincount(drawn.reply).tolist(), strict=True):
            if len(reply) <= _LONGEST:
                self._count[reply.tobytes()] += count

    def add_tokens(self, replies: Iterable[Sequence[int]]) -> None:
        """Count what followed each beginning of some replies; nothing is guessed to be a last token."""
        for reply, count in Counter(tuple(reply) for reply in replies if len(reply) <= _LONGEST).items():
            for at in range(len(reply)):
                follows = self._next.setdefault(reply[:at], Counter())
                follows[reply[at] if at + 1 < len(reply) else _END] += count

    def continuation(self, begun: Sequence[int], most: int) -> list[int]:
        """What followed a beginning more often than not, and then after that, `most` tokens at most."""
        found: list[int] = []
        while len(found) < most and (follows := self._next.get((*begun, *found))) is not None:
            token, count = follows.most_common(1)[0]
            if token == _END or count < _LEAST or 2 * count <= follows.total():
                break
            found.append(token)
        return found

    def likely(self) -> list[np.ndarray]:
        """The most frequent replies, the first ones first."""
        most = sum(self._count.values()) * _COVER
        found: list[np.ndarray] = []
        for reply, count in sorted(self._count.items(), key=lambda item: (-item[1], item[0]))[:_GUESSES]:
            if most <= 0:
                break
            most -= count
            found.append(np.frombuffer(reply, dtype=np.int32))
        return found


def wanted(prompt: Prompt, begun: np.ndarray, likely: Sequence[np.ndarray]) -> list[Wanted]:
    """What must be computed to draw the token after the beginning of a reply, and what likely comes after it.

    Args:
      prompt: to which it replies.
      begun: the beginning, int32.
      likely: whole replies that are likely.
    """
    key = prompt.key + begun.tobytes()
    base = np.concatenate([prompt.token, begun]) if len(begun) else prompt.token
    found = [Wanted(base, [key])]
    for reply in likely:
        ahead = reply[len(begun) : -1]  # what follows a last token is nothing
        if len(ahead) and np.array_equal(reply[: len(begun)], begun):
            whole = ahead.tobytes()
            size = ahead.itemsize
            keys = [key + whole[: at * size] for at in range(len(ahead) + 1)]
            found.append(Wanted(np.concatenate([base, ahead]), keys))
    return found


def draw_replies(
    prompts: Sequence[Prompt],
    index: np.ndarray,
    keys: np.ndarray,
    *,
    draw: Callable[[list[tuple[Prompt, np.ndarray]], np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    ended: Callable[[Prompt, list[int]], bool],
) -> Drawn:
    """Draw whole replies, one token of all live ones at a time.

    Args:
      prompts: the different prompts.
      index: which of them each reply continues, [M].
      keys: of the replies' random streams, uint64 [M].
      draw: from pairs of a prompt and the beginning of a reply, which of them each draw continues and its noise, to
        tokens and their log-probabilities.
      ended: whether a reply to a prompt ends with its last token.
    """
    trie = _Trie(prompts)
    node = np.asarray(index).copy()
    live = np.arange(len(node))
    rounds: list[tuple[np.ndarray, np.ndarray]] = []
    while len(live):
        here, at = distinct(node[live])
        noise = rng.uniform(rng.fold_many(keys[live], len(rounds)))
        token, logprob = draw([trie.begun(number) for number in here.tolist()], at, noise)
        rounds.append((live, logprob))
        node[live], over = trie.descend(here, at, token, ended)
        live = live[~over]
    return trie.drawn(node, rounds)


class _Trie:
    """Beginnings of replies by number; the first ones are empty, one for each prompt."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._prompts = prompts
        self._prompt = list(range(len(prompts)))
        self._token: list[tuple[int, ...]] = [()] * len(prompts)
        self._over = [False] * len(prompts)
        self._child: dict[tuple[int, int], int] = {}

    def begun(self, number: int) -> tuple[Prompt, np.ndarray]:
        return self._prompts[self._prompt[number]], np.array(self._token[number], dtype=np.int32)

    def descend(
        self, here: np.ndarray, at: np.ndarray, token: np.ndarray, ended: Callable[[Prompt, list[int]], bool]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The beginnings that are one token longer, and whether they are whole."""
        width = int(token.max()) + 1
        pairs, back = distinct(at * width + token)
        numbers = [
            self._step(parent, one, ended)
            for parent, one in zip(here[pairs // width].tolist(), (pairs % width).tolist(), strict=True)
        ]
        return np.array(numbers)[back], np.array([self._over[number] for number in numbers])[back]

    def _step(self, parent: int, token: int, ended: Callable[[Prompt, list[int]], bool]) -> int:
        found = self._child.get((parent, token))
        if found is None:
            found = self._child[parent, token] = len(self._token)
            self._prompt.append(self._prompt[parent])
            self._token.append((*self._token[parent], token))
            self._over.append(ended(self._prompts[self._prompt[parent]], list(self._token[-1])))
        return found

    def drawn(self, node: np.ndarray, rounds: list[tuple[np.ndarray, np.ndarray]]) -> Drawn:
        leaves, at = distinct(node)
        number: dict[tuple[int, ...], int] = {}
        tokens = [self._token[leaf] for leaf in leaves.tolist()]
        reply = np.array([number.setdefault(token, len(number)) for token in tokens], dtype=np.int64)
        replies = [np.array(token, dtype=np.int32) for token in number]
        lengths = np.array([len(one) for one in replies], dtype=np.int64)
        which = reply[at] if len(node) else np.zeros(0, dtype=np.int64)
        splits = lengths_to_splits(lengths[which])
        logprob = np.empty(splits[-1])
        for place, (live, values) in enumerate(rounds):
            logprob[splits[live] + place] = values
        return Drawn(replies, which, splits, logprob)

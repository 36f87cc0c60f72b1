"""Keys and values of sequences that were computed before, for contexts that begin like them."""

import bisect
from typing import NamedTuple

import numpy as np
import torch

Layers = list[tuple[torch.Tensor, torch.Tensor] | None]


class _Entry:
    """A sequence and its keys and values."""

    __slots__ = ("layers", "size", "stamp", "token")

    def __init__(self, token: np.ndarray, layers: Layers, stamp: int) -> None:
        self.token = token
        self.layers = layers
        self.stamp = stamp
        self.size = sum(part.numel() * part.element_size() for pair in layers if pair is not None for part in pair)


class Match(NamedTuple):
    """The first `length` tokens of a context whose keys and values are known."""

    length: int
    layers: Layers


NOTHING = Match(0, [])


class Prefixes:
    """Keeps keys and values between calls, for one version of the weights and within a number of bytes.

    Sequences stand in lexicographic order, where the longest common beginning with any of them is the longer of the
    two with one's neighbours. A sequence that begins another one is dropped: the other says all that it says. Room is
    made by dropping what this call did not ask for, the longest unasked first; where that is not enough, a new
    sequence is not kept, so that those which live on keep their place.
    """

    def __init__(self) -> None:
        """Begin with nothing, and with no room."""
        self.most_bytes = 0
        self.bytes = 0
        self._keys: list[bytes] = []
        self._entries: dict[bytes, _Entry] = {}
        self._stamp = 0

    def begin(self, most_bytes: int) -> None:
        """A new call begins, with this much room."""
        self._stamp += 1
        self.most_bytes = most_bytes

    def find(self, token: np.ndarray) -> Match:
        """What is known of the beginning of a context; the whole context at most."""
        key = order_key(token)
        at = bisect.bisect_left(self._keys, key)
        best, length = None, 0
        for neighbour in self._keys[max(at - 1, 0) : at + 1]:
            entry = self._entries[neighbour]
            shared = common_prefix(entry.token, token)
            if shared > length:
                best, length = entry, shared
        if best is None:
            return NOTHING
        best.stamp = self._stamp
        return Match(length, best.layers)

    def wants(self, token: np.ndarray) -> bool:
        """Whether a sequence says more than what is kept."""
        if not self.most_bytes:
            return False
        key = order_key(token)
        at = bisect.bisect_left(self._keys, key)
        if at < len(self._keys) and self._keys[at].startswith(key):
            self._entries[self._keys[at]].stamp = self._stamp
            return False
        return True

    def add(self, token: np.ndarray, layers: Layers) -> None:
        """Keep a sequence that `wants` accepted.

        Args:
          token: [n].
          layers: keys and values of these tokens in each layer, [heads, n, width]; None for layers that have none.
        """
        key = order_key(token)
        at = bisect.bisect_left(self._keys, key)
        begun = self._keys[at - 1] if at and key.startswith(self._keys[at - 1]) else None
        entry = _Entry(token, layers, self._stamp)
        if not self._make_room(entry.size, begun):
            return
        if begun is not None:
            self._drop(begun)
        bisect.insort(self._keys, key)
        self._entries[key] = entry
        self.bytes += entry.size

    def clear(self) -> None:
        """Forget everything."""
        self._keys.clear()
        self._entries.clear()
        self.bytes = 0

    def _make_room(self, size: int, begun: bytes | None) -> bool:
        """Drop what is stale until `size` bytes fit in the place of the sequence that the new one begins with."""
        size -= 0 if begun is None else self._entries[begun].size
        stale = sorted((e.stamp, key) for key, e in self._entries.items() if e.stamp < self._stamp and key != begun)
        for _, key in stale:
            if self.bytes + size <= self.most_bytes:
                break
            self._drop(key)
        return self.bytes + size <= self.most_bytes

    def _drop(self, key: bytes) -> None:
        self.bytes -= self._entries.pop(key).size
        del self._keys[bisect.bisect_left(self._keys, key)]


def common_prefix(first: np.ndarray, second: np.ndarray) -> int:
    """How many tokens two sequences have in common at their beginnings."""
    length = min(len(first), len(second))
    differs = first[:length] != second[:length]
    return int(differs.argmax()) if differs.any() else length


def order_key(token: np.ndarray) -> bytes:
    """Bytes by which sequences are ordered: that of single ids does not matter, as long as each has as many bytes."""
    return token.astype(np.int32).tobytes()

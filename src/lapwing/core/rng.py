"""Random streams that are keyed by names and never by call order.

Every draw belongs to a key, a tuple of strings and integers under the run's seed. The same key gives the same
number on every machine, in every process and in every order, so that neither batching nor resuming can change
a match.
"""

import functools
import hashlib
from typing import Any, cast

import numpy as np

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_MULTIPLY_A = 0xBF58476D1CE4E5B9
_MULTIPLY_B = 0x94D049BB133111EB


@functools.lru_cache(maxsize=4096)
def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _finalise(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MULTIPLY_A) & _MASK
    x = ((x ^ (x >> 27)) * _MULTIPLY_B) & _MASK
    return x ^ (x >> 31)


def fold(key: int, *parts: str | int) -> int:
    """Extend a 64-bit key by further parts, one SplitMix64 finaliser each.

        k ← finalise((k + 0x9E37…) ⊕ finalise(part))

    Args:
      key: the key so far, 0 to begin with.
      parts: strings (hashed with blake2b-64) or integers (taken modulo 2⁶⁴).

    Returns:
      The new key, an integer in [0, 2⁶⁴).
    """
    for part in parts:
        word = _word(part) if isinstance(part, str) else int(part) & _MASK
        key = _finalise(((key + _STEP) & _MASK) ^ _finalise(word))
    return key


def _finalise_many(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MULTIPLY_A)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MULTIPLY_B)
    return x ^ (x >> np.uint64(31))


def fold_many(key: np.ndarray, part: np.ndarray | int) -> np.ndarray:
    """Extend many keys at once, element by element as `fold` does.

    Args:
      key: uint64, any shape.
      part: integers that broadcast against `key`.

    Returns:
      uint64 keys of the broadcast shape.
    """
    with np.errstate(over="ignore"):
        part = part & _MASK if isinstance(part, int) else part
        word = _finalise_many(np.asarray(part).astype(np.uint64))
        return _finalise_many((key + np.uint64(_STEP)) ^ word)


def uniform(key: np.ndarray) -> np.ndarray:
    """Map keys to numbers in [0, 1) with 53 random bits; float64 of the same shape."""
    return (key >> np.uint64(11)).astype(np.float64) * 2.0**-53


def unit(key: int) -> float:
    """Map one key to a number in [0, 1), as `uniform` does for many."""
    return (key >> 11) * 2.0**-53


def word_of(text: str) -> int:
    """The 64-bit number that `fold` puts in the place of a string."""
    return _word(text)


def generator(*parts: str | int) -> np.random.Generator:
    """Make the NumPy generator that belongs to a key."""
    key = fold(0, *parts)
    return np.random.Generator(np.random.PCG64([key & 0xFFFFFFFF, key >> 32]))


class _LazyGenerator:
    """A generator that is made at its first use: most transitions of a dry lake draw nothing."""

    __slots__ = ("_generator", "_parts")

    def __init__(self, parts: tuple[str | int, ...]) -> None:
        self._parts = parts
        self._generator: np.random.Generator | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked for by copy and pickle, before there is anything to ask
            raise AttributeError(name)
        if self._generator is None:
            self._generator = generator(*self._parts)
        return getattr(self._generator, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # What a copy draws is drawn, too.
        self._generator = self._generator or generator(*self._parts)
        return super().__reduce_ex__(protocol)


def lazy_generator(*parts: str | int) -> np.random.Generator:
    """As `generator`, but costs nothing unless a number is drawn."""
    return cast(np.random.Generator, _LazyGenerator(parts))


def has_drawn(generator: np.random.Generator) -> bool:
    """Whether a number may have been drawn from what `lazy_generator` made, or from a copy of it."""
    return cast(_LazyGenerator, generator)._generator is not None

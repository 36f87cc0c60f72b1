"""Spaces of Gymnasium: observations as plain data and as words.

Spaces are told apart by the names of their classes, so that nothing is imported here.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lapwing.core.errors import UserError, shown

# Larger observations are pictures or the like, and need words of somebody who knows what is in them.
_MOST_NUMBERS = 512
# Whole numbers up to here are words of their own, others are spelled digit by digit.
_MOST_WORDS = 1024
_DIGITS = (*"0123456789", "-", ".")
_NUMBERS = ("Discrete", "MultiDiscrete", "MultiBinary", "Box")
_KINDS = (*_NUMBERS, "Tuple", "Dict", "Text", "Sequence", "OneOf")


def kind_of(space: Any) -> str:
    """The name of the kind of a space, as Gymnasium calls it."""
    names = [base.__name__ for base in type(space).__mro__]
    return next((name for name in names if name in _KINDS), names[0])


def plain(value: Any) -> Any:
    """An observation as hashable plain data: arrays and lists as tuples, a table as its (key, value) pairs by key."""
    if isinstance(value, Mapping):
        return tuple((str(key), plain(value[key])) for key in sorted(value, key=str))
    if isinstance(value, (tuple, list)):
        return tuple(plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UserError(
        f"An observation holds a {type(value).__name__}, which is no plain data; pass describe= to say it in words."
    )


def check_describable(space: Any, name: str) -> None:
    """See whether observations of a space can be said without being told how.

    Args:
      space: of the observations.
      name: of the environment.

    Raises:
      UserError: they are too large, or of a kind that has no words.
    """
    strange = next(_strange(space), None)
    if strange is not None:
        raise UserError(
            f"An observation of {shown(name)} is of the kind {strange}, which has no words of its own; pass describe=, "
            "a function from an observation to a text."
        )
    count = _size(space)
    if count > _MOST_NUMBERS:
        raise UserError(
            f"An observation of {shown(name)} has {count:,} numbers, which are no words to act on; pass describe=, a "
            "function from an observation to a text."
        )


def parts_of(space: Any) -> list[Any]:
    """The spaces that a space is made of."""
    kind = kind_of(space)
    if kind == "Sequence":
        return [space.feature_space]
    return list(space.spaces.values() if kind == "Dict" else space.spaces) if kind in ("Tuple", "Dict", "OneOf") else []


def _strange(space: Any) -> Iterator[str]:
    """The kinds in a space whose values cannot be said."""
    kind = kind_of(space)
    parts = parts_of(space)
    # Values of other kinds are not stacked into one array.
    is_torn = kind == "Sequence" and space.stack and kind_of(space.feature_space) not in _NUMBERS
    if kind not in _KINDS or is_torn:
        yield kind
    for part in parts:
        yield from _strange(part)


def _size(space: Any) -> int:
    """How many numbers there are; of a sequence, in each of its elements."""
    kind = kind_of(space)
    if kind in ("Box", "MultiDiscrete", "MultiBinary"):
        return math.prod(space.shape)
    sizes = [_size(part) for part in parts_of(space)]
    return max(sizes) if kind == "OneOf" else sum(sizes) if sizes else 1


def spelled(value: Any, space: Any) -> str:
    """An observation in words: small whole numbers as they are, others digit by digit, fractions with three."""
    return " ".join(_words(value, space))


def _words(value: Any, space: Any) -> Iterator[str]:
    kind = kind_of(space)
    if kind == "Dict":
        for key in sorted(space.spaces, key=str):
            yield from (str(key), ":", *_words(value[key], space.spaces[key]), ".")
    elif kind == "Tuple":
        for inner, part in zip(space.spaces, value, strict=True):
            yield from (*_words(part, inner), ",")
    elif kind == "Sequence":
        for part in value:
            yield from (*_words(part, space.feature_space), ";")
    elif kind == "OneOf":
        number, part = value
        yield from (str(int(number)), ":", *_words(part, space.spaces[int(number)]))
    elif kind in ("Text", "Discrete"):
        yield from number_words(int(value)) if kind == "Discrete" else str(value).split()
    else:
        for number in np.asarray(value).ravel().tolist():
            yield from (*number_words(number), ",")


def number_words(number: float) -> Iterator[str]:
    """A number as words of a closed vocabulary."""
    if abs(number) < _MOST_WORDS and float(number).is_integer():
        yield str(int(number))
    elif isinstance(number, int):
        yield from str(number)  # to the last digit: it may be the number of a state
    elif math.isfinite(number):
        yield from np.format_float_positional(number, precision=3, fractional=False, trim="-", unique=False)
    else:
        yield str(number)


def words_of(space: Any) -> set[str]:
    """The words of all observations of a space; of texts those of its alphabet are not known."""
    kind = kind_of(space)
    if kind == "Dict":
        return {":", "."}.union(*({str(key)} | words_of(inner) for key, inner in space.spaces.items()))
    if kind == "Tuple":
        return {","}.union(*(words_of(inner) for inner in space.spaces))
    if kind == "Sequence":
        return {";"} | words_of(space.feature_space)
    if kind == "OneOf":
        numbers = {str(number) for number in range(len(space.spaces))}
        return {":"}.union(numbers, *(words_of(inner) for inner in space.spaces))
    if kind == "Text":
        return set()
    low, high = _bounds(space, kind)
    low, high = max(low, 1 - _MOST_WORDS), min(high, _MOST_WORDS - 1)
    return {",", *_DIGITS, "inf", "-inf", "nan"} | {str(number) for number in range(low, high + 1)}


def _bounds(space: Any, kind: str) -> tuple[int, int]:
    """The whole numbers that observations of a space may hold; of unbounded ones the single digits."""
    if kind == "Discrete":
        return int(space.start), int(space.start + space.n - 1)
    if kind == "MultiDiscrete":
        return int(np.min(space.start)), int(np.max(np.asarray(space.nvec) + np.asarray(space.start))) - 1
    if kind == "MultiBinary":
        return 0, 1
    low, high = float(np.min(space.low)), float(np.max(space.high))
    is_whole = np.issubdtype(space.dtype, np.integer)
    return (int(low), int(high)) if is_whole else (math.ceil(max(-9.0, low)), math.floor(min(9.0, high)))

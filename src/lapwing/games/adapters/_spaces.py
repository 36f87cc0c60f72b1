"""Spaces of Gymnasium: observations as plain data and as words, actions by name.

Spaces are told apart by the names of their classes, so that nothing is imported here.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapwing.core.errors import UserError, shown

# Larger observations are pictures or the like, and need words of somebody who knows what is in them.
_MOST_NUMBERS = 512
# Of more actions than this a list would be of no use.
_MOST_ACTIONS = 4096
# Whole numbers up to here are words of their own, others are spelled digit by digit.
_MOST_WORDS = 1024
_DIGITS = (*"0123456789", "-", ".")


def kind_of(space: Any) -> str:
    """The name of the kind of a space, as Gymnasium calls it."""
    kinds = ("Discrete", "MultiDiscrete", "MultiBinary", "Box", "Tuple", "Dict", "Text", "Sequence")
    names = [base.__name__ for base in type(space).__mro__]
    return next((name for name in names if name in kinds), names[0])


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
      UserError: they are too large.
    """
    count = _size(space)
    if count > _MOST_NUMBERS:
        raise UserError(
            f"An observation of {shown(name)} has {count:,} numbers, which are no words to act on; pass describe=, a "
            "function from an observation to a text."
        )


def _size(space: Any) -> int:
    kind = kind_of(space)
    if kind == "Tuple":
        return sum(_size(inner) for inner in space.spaces)
    if kind == "Dict":
        return sum(_size(inner) for inner in space.spaces.values())
    return int(np.prod(space.shape)) if kind in ("Box", "MultiDiscrete", "MultiBinary") else 1


def spelled(value: Any, space: Any) -> str:
    """An observation in words: whole numbers as they are, others digit by digit with three of them that count."""
    return " ".join(_words(value, space))


def _words(value: Any, space: Any) -> Iterator[str]:
    kind = kind_of(space)
    if kind == "Dict":
        for key in sorted(space.spaces, key=str):
            yield from (str(key), ":", *_words(value[key], space.spaces[key]), ".")
    elif kind == "Tuple":
        for inner, part in zip(space.spaces, value, strict=True):
            yield from (*_words(part, inner), ",")
    elif kind in ("Text", "Discrete"):
        yield from number_words(value) if kind == "Discrete" else str(value).split()
    else:
        for number in np.asarray(value).ravel().tolist():
            yield from (*number_words(number), ",")


def number_words(number: float) -> Iterator[str]:
    """A number as words of a closed vocabulary."""
    if float(number).is_integer() and abs(number) < _MOST_WORDS:
        yield str(int(number))
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
        return 0, int(np.max(np.asarray(space.nvec) + np.asarray(space.start)))
    if kind == "MultiBinary":
        return 0, 1
    low, high = float(np.min(space.low)), float(np.max(space.high))
    is_whole = np.issubdtype(space.dtype, np.integer)
    return (int(low), int(high)) if is_whole else (math.ceil(max(-9.0, low)), math.floor(min(9.0, high)))


@dataclass(frozen=True)
class ActionNames:
    """The actions of an environment: their names, and what each is to the environment.

    Attributes:
      names: in the order of the environment; None where an action is any text.
      raw: what the environment is given for each.
    """

    names: tuple[str, ...] | None
    raw: Mapping[str, Any]

    def of(self, action: str) -> Any:
        """What the environment is given for an action."""
        return action if self.names is None else self.raw[action]

    def allowed(self, mask: Any) -> tuple[str, ...]:
        """The names whose entry in a mask is not 0; all of them if it forbids everything."""
        names = self.names or ()
        return tuple(name for name, is_allowed in zip(names, mask, strict=True) if is_allowed) or names


def action_names(space: Any, given: Sequence[str] | Mapping[str, Any] | None, name: str) -> ActionNames:
    """Name the actions of a space.

    Args:
      space: of the actions.
      given: names in the order of the space's actions, or what each name stands for; None for numbers as text.
      name: of the environment.

    Raises:
      UserError: the names do not fit, or the space has no list of actions.
    """
    if isinstance(given, Mapping):
        return _named(dict(given), space, name)
    kind = kind_of(space)
    if kind == "Text" and given is None:
        return ActionNames(None, {})
    choices = _choices(space, kind)
    if choices is None:
        raise UserError(
            f"The actions of {shown(name)} are a {kind} of shape {space.shape}, which no list holds; pass actions=, a "
            "table from names to actions, as in {left = [-1.0], right = [1.0]}."
        )
    names = [text for text, _ in choices] if given is None else [str(text) for text in given]
    if len(names) != len(choices):
        raise UserError(
            f"{shown(name)} has {len(choices)} actions, and game.actions names {len(names)}; name each once."
        )
    return _named(dict(zip(names, [raw for _, raw in choices], strict=True)), space, name, len(names))


def _named(raw: dict[str, Any], space: Any, name: str, count: int | None = None) -> ActionNames:
    if not raw or (count is not None and len(raw) < count):
        raise UserError(f"Two actions of {shown(name)} have one name; each name in game.actions is another.")
    for text, value in raw.items():
        if not text or text != " ".join(text.split()):
            raise UserError(f"An action is named {shown(text)}; a name is not empty and has no blanks around it.")
        raw[text] = _fitted(value, space)
        if not space.contains(raw[text]):
            raise UserError(
                f"game.actions has {shown(text)} = {shown(value)}, which is no action of {shown(name)}: {space}."
            )
    return ActionNames(tuple(raw), raw)


def _fitted(value: Any, space: Any) -> Any:
    """A number or list of a recipe as the space has its actions."""
    kind = kind_of(space)
    if kind in ("Box", "MultiDiscrete", "MultiBinary") and not isinstance(value, (str, Mapping)):
        return np.asarray(value, dtype=space.dtype)
    if kind == "Tuple" and isinstance(value, (tuple, list)):
        return tuple(_fitted(part, inner) for part, inner in zip(value, space.spaces, strict=False))
    if kind == "Dict" and isinstance(value, Mapping):
        return {key: _fitted(part, space.spaces[key]) if key in space.spaces else part for key, part in value.items()}
    return value


def _choices(space: Any, kind: str) -> list[tuple[str, Any]] | None:
    """All actions of a space with their numbers as text, None if they are too many."""
    if kind == "Discrete":
        return [(str(number), int(number)) for number in range(int(space.start), int(space.start + space.n))]
    if kind == "MultiBinary":
        sizes, start = np.full(space.shape, 2), np.zeros(space.shape, dtype=int)
    elif kind == "MultiDiscrete":
        sizes, start = np.asarray(space.nvec), np.asarray(space.start)
    else:
        return None
    if math.prod(sizes.ravel().tolist()) > _MOST_ACTIONS:
        return None
    each = [range(low, low + count) for low, count in zip(start.ravel().tolist(), sizes.ravel().tolist(), strict=True)]
    arrays = [np.array(numbers, dtype=space.dtype).reshape(sizes.shape) for numbers in itertools.product(*each)]
    return [(" ".join(map(str, array.ravel().tolist())), array) for array in arrays]

"""Actions of Gymnasium's spaces, by name."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from lapwing.core.errors import UserError, shown
from lapwing.games.adapters._spaces import kind_of, plain

# Of more actions than this a list would be of no use.
_MOST_ACTIONS = 4096
_ARRAYS = ("Box", "MultiDiscrete", "MultiBinary")


@dataclass(frozen=True)
class ActionNames:
    """The actions of an environment: their names, and what each is to the environment.

    Attributes:
      names: in the order of the environment, or of the table that was given; None where an action is any text.
      raw: what the environment is given for each.
      count: how many actions the environment has; None where they are no list.
      place: of each name, the number of its action among all of them, by which masks are read.
      space: of the texts, where an action is any text.
    """

    names: tuple[str, ...] | None
    raw: Mapping[str, Any]
    count: int | None = None
    place: Mapping[str, int] | None = None
    space: Any = None

    def of(self, action: str) -> Any:
        """What the environment is given for an action."""
        return self.raw[action] if self.names is not None else _fitting_text(action, self.space)

    def allowed(self, mask: Any) -> tuple[str, ...]:
        """The names whose entry in a mask is not 0; all of them if it allows none of these.

        Args:
          mask: an entry for each action, or, of several choices at once, an array for each of them.

        Raises:
          UserError: it has another length.
        """
        names, place = self.names or (), self.place or {}
        arrays = [np.asarray(part) for part in mask] if isinstance(mask, (tuple, list)) else [np.asarray(mask)]
        is_joint = bool(arrays) and all(part.ndim for part in arrays)
        entries = reduce(np.logical_and.outer, arrays) if is_joint else np.asarray(mask)
        if entries.size != self.count:
            raise UserError(
                f"An action mask has {entries.size} entries, and there are {self.count or 'no list of'} actions; leave "
                "game.legal_actions out."
            )
        flat = entries.ravel().tolist()
        return tuple(name for name in names if flat[place[name]]) or names

    def drawn(self, rng: np.random.Generator) -> str:
        """Any text that the environment takes."""
        letters = sorted(self.space.character_set)
        length = int(rng.integers(self.space.min_length, self.space.max_length + 1))
        return "".join(letters[int(number)] for number in rng.integers(len(letters), size=length))


def _fitting_text(text: str, space: Any) -> str:
    """A text of the space: without letters that it does not know, no longer and no shorter than its texts are."""
    letters = space.character_set
    kept = "".join(letter for letter in text if letter in letters)[: space.max_length]
    return kept.ljust(space.min_length, " " if " " in letters else min(letters))


def action_names(space: Any, given: Sequence[str] | Mapping[str, Any] | None, name: str) -> ActionNames:
    """Name the actions of a space.

    Args:
      space: of the actions.
      given: names in the order of the space's actions, or what each name stands for; None for numbers as text.
      name: of the environment.

    Raises:
      UserError: the names do not fit, or the space has no list of actions.
    """
    choices = _choices(space)
    if isinstance(given, Mapping):
        return _named({str(text): _fitted(value, space) for text, value in given.items()}, space, name, choices)
    if kind_of(space) == "Text" and given is None:
        return ActionNames(None, {}, space=space)
    if choices is None:
        raise UserError(
            f"The actions of {shown(name)} are {_short(space)}, which no list holds; pass actions=, a table from names "
            "to actions, as in {left = [-1.0], right = [1.0]}."
        )
    names = [text for text, _ in choices] if given is None else [str(text) for text in given]
    if len(names) != len(choices):
        raise UserError(
            f"{shown(name)} has {len(choices)} actions, and game.actions names {len(names)}; name each once."
        )
    if len(set(names)) < len(names):
        raise UserError(f"Two actions of {shown(name)} have one name; each name in game.actions is another.")
    return _named(dict(zip(names, [raw for _, raw in choices], strict=True)), space, name, choices)


def _given(value: Any) -> str:
    return shown(value.tolist() if isinstance(value, np.ndarray) else value)


def _short(space: Any) -> str:
    said = " ".join(str(space).split())
    return said if len(said) < 80 else f"a {kind_of(space)}"


def _named(raw: dict[str, Any], space: Any, name: str, choices: list[tuple[str, Any]] | None) -> ActionNames:
    if not raw:
        raise UserError(f"game.actions names no action of {shown(name)}; leave it out, or name some.")
    for text, value in raw.items():
        if not text or text != " ".join(text.split()):
            raise UserError(
                f"An action is named {shown(text)}; a name is not empty, and its words stand one blank apart."
            )
        # A list that is no array stayed one because it does not fit.
        is_torn = kind_of(space) in _ARRAYS and not isinstance(value, np.ndarray)
        if is_torn or not space.contains(value):
            raise UserError(
                f"game.actions has {shown(text)} = {_given(value)}, which is no action of {shown(name)}: {space}."
            )
    if choices is None:
        return ActionNames(tuple(raw), raw)
    number = {plain(choice): number for number, (_, choice) in enumerate(choices)}
    return ActionNames(tuple(raw), raw, len(choices), {text: number[plain(value)] for text, value in raw.items()})


def _fitted(value: Any, space: Any) -> Any:
    """A number or list of a recipe as the space has its actions; what does not fit stays as it is."""
    kind = kind_of(space)
    if kind in _ARRAYS and not isinstance(value, (str, Mapping)):
        try:
            found = np.asarray(value)
        except ValueError:  # rows of several lengths
            return value
        # Half a step of a whole number is no action.
        return found.astype(space.dtype) if np.can_cast(found.dtype, space.dtype, "same_kind") else value
    if kind == "Tuple" and isinstance(value, (tuple, list)):
        if len(value) != len(space.spaces):
            return value
        return tuple(_fitted(part, inner) for part, inner in zip(value, space.spaces, strict=True))
    if kind == "Dict" and isinstance(value, Mapping):
        return {key: _fitted(part, space.spaces[key]) if key in space.spaces else part for key, part in value.items()}
    return value


def _choices(space: Any) -> list[tuple[str, Any]] | None:
    """All actions of a space with their numbers as text, None if they are no list or too many."""
    kind = kind_of(space)
    if kind == "Discrete":
        if space.n > _MOST_ACTIONS:
            return None
        return [(str(number), number) for number in range(int(space.start), int(space.start + space.n))]
    if kind in ("Tuple", "Dict"):
        return _joint(space, kind)
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


def _joint(space: Any, kind: str) -> list[tuple[str, Any]] | None:
    """All choices of several at once; in a table each stands behind its key."""
    keys = list(space.spaces) if kind == "Dict" else [""] * len(space.spaces)
    parts = [_choices(space.spaces[key] if kind == "Dict" else space.spaces[n]) for n, key in enumerate(keys)]
    listed = [part for part in parts if part is not None]
    if len(listed) < len(parts) or math.prod(len(part) for part in listed) > _MOST_ACTIONS:
        return None
    found = []
    for chosen in itertools.product(*listed):
        text = " ".join(f"{key} {said}".strip() for key, (said, _) in zip(keys, chosen, strict=True))
        raw = tuple(value for _, value in chosen)
        found.append((text, dict(zip(keys, raw, strict=True)) if kind == "Dict" else raw))
    return found

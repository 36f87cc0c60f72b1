"""Which field of a row holds what: a table for each format, changed by `--map`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lapwing.core.errors import UserError, nearest
from lapwing.evaluation.transcripts.lines import Row, shown

# For each field the places in a row where it may stand, the first that is there counts. Dots lead into objects; a +
# joins several places: to a name for group, game, episode and id, to a sum for reward.
FIELDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "lapwing": {
        "group": ("group",),
        "game": ("game", "task"),
        "id": ("id",),
        "steps": ("steps",),
        "outcome": ("outcome",),
        "return": ("return",),
        "terminated": ("terminated",),
        "truncated": ("truncated",),
        "final_view": ("final_view",),
        "step.view": ("view",),
        "step.next_view": ("next_view",),
        "step.action": ("action",),
        "step.reply": ("reply",),
        "step.valid": ("valid",),
        "step.reward": ("reward",),
        "step.tokens": ("token", "tokens"),
        "step.logprobs": ("sampler_logprob", "logprobs"),
    },
    "trl": {
        "group": ("step+prompt", "prompt"),
        "game": (),
        "id": (),
        "episode": (),
        "turn": (),
        "prompt": ("prompt",),
        "completion": ("completion", "completions"),
        "messages": (),
        "reward": ("reward",),
        "step_reward": (),
        "message_reward": ("reward",),
        "turn_rewards": ("turn_rewards",),
        "logprobs": ("logprobs",),
        "truncated": ("truncated",),
        "success": ("success",),
    },
    "verl": {
        "group": ("step+uid", "uid", "step+input", "input"),
        "game": ("data_source",),
        "id": (),
        "episode": ("traj_uid",),
        "turn": (),
        "prompt": ("input",),
        "completion": ("output",),
        "messages": ("messages.messages", "messages"),
        "reward": ("score", "reward"),
        "step_reward": (),
        "message_reward": ("reward",),
        "turn_rewards": ("turn_rewards",),
        "logprobs": ("logprobs",),
        "truncated": ("truncated",),
        "success": ("success",),
    },
    "verifiers": {
        "group": ("example_id", "id"),
        "game": ("task",),
        "id": (),
        "episode": (),
        "turn": (),
        "prompt": ("prompt",),
        "completion": ("completion",),
        "messages": (),
        "reward": ("reward",),
        "step_reward": (),
        "message_reward": ("reward",),
        "turn_rewards": ("turn_rewards",),
        "logprobs": ("logprobs",),
        "truncated": ("is_truncated", "truncated"),
        "success": ("success",),
    },
}
FORMATS = tuple(FIELDS)
_NAMES = ("group", "game", "episode", "id")
_SUMS = ("reward",)
# Sums of squares of larger numbers overflow.
_LARGEST = 1e100


class Fields:
    """The table of one format with the user's changes."""

    def __init__(self, form: str, mapping: Sequence[str] = ()) -> None:
        """Make the table.

        Args:
          form: one of FORMATS.
          mapping: `field=place` as `--map` takes them.

        Raises:
          UserError: there is no such field, or a change is no `field=place`.
        """
        self.form = form
        self._places = dict(FIELDS[form])
        self._changed: dict[str, str] = {}
        for text in mapping:
            field, separator, place = (part.strip() for part in text.partition("="))
            if not separator or not field or not all(part.strip() for part in place.split("+")):
                raise UserError(f"--map takes field=place, as in group=uid, not '{text}'.")
            if field not in self._places:
                raise UserError(f"--map {text}: {form} has no field '{field}'; {nearest(field, self._places)}")
            if "+" in place and field not in (*_NAMES, *_SUMS):
                raise UserError(f"--map {text}: only {', '.join((*_NAMES, *_SUMS))} can be put together with a +.")
            self._places[field] = (place,)
            self._changed[field] = place
        self._plain = {
            field
            for field, places in self._places.items()
            if field not in self._changed and not any("." in place or "+" in place for place in places)
        }

    def places(self, field: str) -> tuple[str, ...]:
        """Where a field is looked for."""
        return self._places[field]

    def find(self, field: str, row: Row) -> tuple[str, list[Any]]:
        """The place of a field in a row and the values there; an empty place where the row has none, or has null.

        Raises:
          UserError: `--map` named a place that the row does not have.
        """
        for place in self._places[field]:
            values = [_at(row.value, part.strip()) for part in place.split("+")]
            if all(value is not None for value in values):
                return place, values
        if field in self._changed and field in ("group", "reward", "episode", "turn", "step_reward"):
            place = self._changed[field]
            raise UserError(f"{row.where} has no '{place}', where --map looks for the {field}; {has(row.value)}.")
        return "", []

    def one(self, field: str, row: Row) -> Any:
        """The single value of a field; None where the row has none."""
        if field not in self._plain:
            return next(iter(self.find(field, row)[1]), None)
        # Most fields are keys of the row, and a file has millions of them.
        for place in self._places[field]:
            value = row.value.get(place)
            if value is not None:
                return value
        return None


def _at(value: Any, place: str) -> Any:
    """The value at a place: a key, or keys joined by dots."""
    if not isinstance(value, dict):
        return None
    if place in value:
        return value[place]
    key, dot, rest = place.partition(".")
    return _at(value.get(key), rest) if dot else None


def has(value: Mapping[str, Any]) -> str:
    """What an object has instead, for messages."""
    return f"it has {shown(', '.join(sorted(value)))}" if value else "it is empty"


def number(value: Any, where: str, field: str) -> float:
    """A finite number of a size that can be reckoned with.

    Raises:
      UserError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{where}: '{field}' is a number, not {shown(value)}.")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not abs(found) <= _LARGEST:
        raise UserError(f"{where}: '{field}' is {shown(value)}; give a finite number, at most 1e100 in size.")
    return found


def flag(value: Any, where: str, field: str) -> bool:
    """True or false.

    Raises:
      UserError: it is neither.
    """
    if isinstance(value, bool):
        return value
    raise UserError(f"{where}: '{field}' is true or false, not {shown(value)}.")


def success(value: Any, where: str, field: str) -> float:
    """Whether an episode counts as won, as 1 or 0; NaN where nothing is said."""
    if value is None:
        return math.nan
    return float(value) if isinstance(value, bool) else number(value, where, field)

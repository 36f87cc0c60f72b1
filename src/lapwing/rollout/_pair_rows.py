"""Preferences as files hold them: one JSON object a line, with a prompt and two answers."""

import math
from typing import Any, NamedTuple

from lapwing.core.errors import UserError
from lapwing.core.json_lines import Row, shown
from lapwing.rollout._dialogues import Dialogue, read_dialogue

_SIDES = ("chosen", "rejected")
_SCORES = ("score_chosen", "score_rejected")


class PairRow(NamedTuple):
    """A pair of dialogues of a file that begin alike.

    Attributes:
      chosen, rejected: the two; the first is preferred.
      weight: how much the pair counts, > 0, no unit.
      scores: what a reward model said of the two; None where the row does not say.
    """

    chosen: Dialogue
    rejected: Dialogue
    weight: float
    scores: tuple[float, float] | None


def read_pair(row: Row) -> PairRow:
    """The pair of a row: `chosen` and `rejected` after a `prompt`, or `messages`, or with the prompt inside of both.

    Raises:
      UserError: it is no pair; the sentence names file and line.
    """
    where, value = row
    for name in _SIDES:
        if value.get(name) is None:
            has = f"it has {shown(', '.join(sorted(value)))}" if value else "it is empty"
            raise UserError(f"{where} has no '{name}'; {has}.")
        if not _is_answer(value[name]):
            raise UserError(f"{where}: '{name}' is a text or a list of messages, not {shown(value[name])}.")
    if value["chosen"] == value["rejected"]:
        raise UserError(f"{where}: 'chosen' and 'rejected' are the same; there is nothing to prefer.")
    prompt = value["prompt"] if value.get("prompt") is not None else value.get("messages")
    answers = {name: value[name] for name in _SIDES}
    if prompt is None:
        prompt, answers = _parted(where, value["chosen"], value["rejected"])
    chosen, rejected = (
        read_dialogue(
            Row(f"{where}, {name}", {"prompt": prompt, "completion": answers[name], "tools": value.get("tools")})
        )
        for name in _SIDES
    )
    return PairRow(chosen, rejected, _weight(where, value.get("weight")), _scores(where, value))


def _is_answer(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _parted(where: str, chosen: Any, rejected: Any) -> tuple[list[Any], dict[str, Any]]:
    """What two dialogues have in common, and how each goes on."""
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise UserError(f"{where} has two texts and nothing that they answer; give it as 'prompt'.")
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    # Each side needs an answer of its own, even where one of them is how the other begins.
    common = min(common, len(chosen) - 1, len(rejected) - 1)
    if common < 1:
        raise UserError(f"{where}: 'chosen' and 'rejected' begin differently; give what both answer as 'prompt'.")
    return chosen[:common], {"chosen": chosen[common:], "rejected": rejected[common:]}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e12
    return float(value) if is_number and math.isfinite(value) else None


def _weight(where: str, value: Any) -> float:
    weight = 1.0 if value is None else _number(value)
    if weight is None or weight <= 0.0:
        raise UserError(f"{where}: 'weight' is a number above 0, not {shown(value)}.")
    return weight


def _scores(where: str, value: dict[str, Any]) -> tuple[float, float] | None:
    given = [value.get(name) for name in _SCORES]
    if given == [None, None]:
        return None
    chosen, rejected = (_number(one) for one in given)
    if chosen is None or rejected is None:
        raise UserError(f"{where}: 'score_chosen' and 'score_rejected' are two numbers, not {shown(given)}.")
    return chosen, rejected

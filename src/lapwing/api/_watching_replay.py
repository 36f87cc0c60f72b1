"""Episodes to watch from `replay.json`: the same test matches with the trained and the untrained weights."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lapwing.api.watching import Watched, WatchedEpisode, WatchedStep
from lapwing.core.errors import LapwingError, UserError, nearest, shown
from lapwing.core.storage import read_json
from lapwing.report.boards import pictured_board
from lapwing.training.run_folder import RunFolder

_INVALID = "(invalid)"


def replayed(folder: RunFolder, *, policy: str, credit: str | None) -> Watched:
    """The episodes that a run's replay holds.

    Args:
      folder: of the run.
      policy: "trained" or "untrained".
      credit: the method whose advantages are shown; the run's own if left out.

    Raises:
      UserError: the replay lacks this policy or method.
      LapwingError: the file holds something else.
    """
    path = folder.path / "replay.json"
    found = read_json(path)
    try:
        if policy not in found["policies"]:
            raise UserError(
                f"The replay of {folder.path} has no {policy} policy; it has {', '.join(found['policies'])}."
            )
        column = _column(found, credit)
        one = found["policies"][policy]
        episodes = [_episode(one, episode, column) for episode in one["episodes"]]
        name = "" if column is None else str(found["methods"][column]["name"])
        where = f"test matches of the {policy} policy ({one['weights']})"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise LapwingError(f"{path} holds no replay as Lapwing writes it: {error!r}.") from error
    if not episodes:
        raise LapwingError(f"{path} holds no episode of the {policy} policy.")
    return Watched(where, f"{name}, on these matches" if name else "", episodes)


def _column(found: Mapping[str, Any], credit: str | None) -> int | None:
    """Where the numbers of a method stand in every step."""
    methods = found["methods"]
    names = [method["name"] for method in methods]
    if credit is None:
        return next((at for at, method in enumerate(methods) if method.get("own")), 0 if methods else None)
    if credit in names:
        return names.index(credit)
    if credit in found.get("left_out", {}):
        raise UserError(f"The replay has no credit of {credit}: {found['left_out'][credit]}.")
    raise UserError(f"The replay has no credit method {shown(credit)}; {nearest(credit, names)}")


def _episode(one: Mapping[str, Any], episode: Mapping[str, Any], column: int | None) -> WatchedEpisode:
    steps = [_step(one, step, column) for step in episode["steps"]]
    if not steps:
        raise ValueError("an episode without steps")
    return WatchedEpisode(
        match=str(episode["match"]),
        steps=steps,
        end=pictured_board(one["pictures"][episode["end"]]),
        episode_return=float(episode["return"]),
        outcome=float(episode["outcome"]),
        success=episode["success"],
        truncated=not episode["terminated"],
    )


def _step(one: Mapping[str, Any], step: Mapping[str, Any], column: int | None) -> WatchedStep:
    choice = None if step["choice"] is None else one["choices"][step["choice"]]
    return WatchedStep(
        board=pictured_board(one["pictures"][step["picture"]]),
        reply=_reply(step["tokens"], step["cut"]),
        action=None if step["action"] is None else str(step["action"]),
        reason="" if step["valid"] else str(step["reason"] or "no reason is known"),
        reward=float(step["reward"]),
        domain_reward=float(step["domain_reward"]),
        parts={str(name): float(value) for name, value in step["parts"].items() if value is not None},
        advantage=None if column is None else _mean(step["credit"][column]),
        exact=_mean(step["exact"]),
        choices={} if choice is None else _choices(choice),
    )


def _reply(tokens: Sequence[str], cut: int) -> str:
    """The tokens as text; those of a word-level tokenizer have no blanks of their own."""
    between = "" if any(token[:1].isspace() or token[-1:].isspace() for token in tokens) else " "
    return between.join(tokens) + (f"… ({cut:,} more tokens)" if cut else "")


def _choices(choice: Mapping[str, Any]) -> dict[str, float]:
    names = [*map(str, choice["actions"]), _INVALID]
    return {name: float(value) for name, value in zip(names, choice["probability"], strict=True) if value is not None}


def _mean(value: Any) -> float | None:
    """A number, or the mean of one for each token."""
    values = [one for one in (value if isinstance(value, list) else [value]) if one is not None]
    return math.fsum(values) / len(values) if values else None

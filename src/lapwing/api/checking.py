"""Look whether a game keeps its promises, by the name that a recipe would give it."""

import math
import shlex
from collections.abc import Sequence
from typing import Any

from lapwing import build
from lapwing.core.errors import UserError
from lapwing.core.storage import to_plain
from lapwing.evaluation.game_check import Finding, GameCheck, check_all, usual_limit

# Of a timer.
_LONGEST = 86_400.0


def check_game(
    name: str,
    overrides: Sequence[str] = (),
    *,
    matches: int = 20,
    seed: int = 0,
    max_steps: int = 100,
    deadline_seconds: float = 1.0,
    limit_seconds: float | None = None,
) -> tuple[dict[str, Any], GameCheck]:
    """Look at every promise of a game.

    Args:
      name: of a shipped game, or `module:Class`; naming it allows its code.
      overrides: `key=value` settings of the game.
      matches: how many random matches are looked at.
      seed: of the first; the others follow.
      max_steps: after how many steps a match is cut off.
      deadline_seconds: what a call of the game may take.
      limit_seconds: what a call takes that is ended, because it may never return; left out, 30 times what it may take,
        and at least 10.

    Returns:
      What was asked for, and what was found.

    Raises:
      UserError: there is no such game or setting, or a number is off.
    """
    for option, value in (("--matches", matches), ("--max-steps", max_steps)):
        if value < 1:
            raise UserError(f"{option} is at least 1, not {value}.")
    if not 0.0 < deadline_seconds < math.inf:
        raise UserError(f"--deadline-seconds is above 0, not {deadline_seconds:g}.")
    limit = usual_limit(deadline_seconds) if limit_seconds is None else limit_seconds
    if not deadline_seconds < limit <= _LONGEST:
        raise UserError(
            f"--limit-seconds is more than a call may take ({deadline_seconds:g}) and at most {_LONGEST:,.0f}, not "
            f"{limit:g}."
        )
    build.checked_seed(seed)
    module, colon, _ = name.partition(":")
    part = build.game_part(name, overrides, allow_code=(module.partition(".")[0],) if colon else ())
    game = build.make_game(part)
    asked = {
        "game": name,
        "settings": to_plain(part.settings),
        "matches": matches,
        "seed": seed,
        "max_steps": max_steps,
        "deadline_seconds": deadline_seconds,
        "limit_seconds": limit,
    }
    found = check_all(
        game,
        matches=matches,
        max_steps=max_steps,
        seed=seed,
        deadline_seconds=deadline_seconds,
        limit_seconds=limit,
    )
    return asked, found


def again(asked: dict[str, Any], overrides: Sequence[str], finding: Finding) -> str:
    """The command that shows a broken promise again; empty where nothing is broken.

    Args:
      asked: as `check_game` returns it.
      overrides: as it was given.
      finding: what was found.
    """
    if finding.kept is not False:
        return ""
    words = ["lapwing", "check-game", asked["game"]]
    words += [word for text in overrides for word in ("--set", text)]
    if finding.first is not None:
        words += ["--matches", str(finding.matches), "--seed", str(finding.first)]
    usual = {"max_steps": 100, "deadline_seconds": 1.0, "limit_seconds": usual_limit(asked["deadline_seconds"])}
    for option, default in usual.items():
        if asked[option] != default:
            words += [f"--{option.replace('_', '-')}", f"{asked[option]:g}"]
    return shlex.join(words)

"""What a score is to be held against: the optimum, or the best that is known, and what those get who never look."""

from collections.abc import Mapping
from typing import Any

from lapwing.core.errors import LapwingError
from lapwing.core.protocols import Game, Policy
from lapwing.games.game import for_split, has_exact_outcomes
from lapwing.policies.opponents import exact_opponents
from lapwing.tabular.enumerate import TabularGame, enumerate_game
from lapwing.tabular.value_iteration import optimal_values

# Solving more takes longer than what it is printed beside.
MAX_STATES = 20_000
# States times steps, as solving goes over all states once a step.
_MOST_VALUES = 4_000_000


def solved(
    game: Game, *, opponents: Mapping[int, Policy] | None = None, max_states: int = MAX_STATES
) -> TabularGame | None:
    """The game as arrays, from the starts that it lists.

    Args:
      game: of one player, or with an opponent in every other seat.
      opponents: by seat; their action distributions must be known exactly.
      max_states: larger games are not solved.

    Returns:
      None where the game cannot be enumerated, or is too large.
    """
    if not has_exact_outcomes(game) or not callable(getattr(game, "initial_outcomes", None)):
        return None
    try:
        return enumerate_game(game, opponents=exact_opponents(opponents or {}), max_states=max_states)
    except LapwingError:
        return None


def references(
    game: Game, *, opponents: Mapping[int, Policy] | None = None, split: str = "test", max_steps: int = 100
) -> dict[str, Any]:
    """What is known of a game's returns without playing it.

    Args:
      game: as a recipe has it.
      opponents: the policies of the other seats.
      split: of the starts.
      max_steps: after how many steps a match is cut off.

    Returns:
      `optimal`, {"return", "source"}, the exact mean return of best play from the listed starts; `best_known`, the
      same where the game says it; `null_ceiling`, {"return"}. Each is absent where it is not known.
    """
    found: dict[str, Any] = {}
    table = solved(for_split(game, split), opponents=opponents)
    if table is not None and table.num_states * max_steps <= _MOST_VALUES:
        value = float(table.start @ optimal_values(table, max_steps)[max_steps])
        against = " against these opponents" if opponents else ""
        source = f"solved exactly: {table.num_states:,} states, at most {max_steps} steps{against}"
        found["optimal"] = {"return": value, "source": source}
    best = getattr(game, "best_known", None)
    if best is not None:
        found["best_known"] = {"return": float(best.score), "source": best.source}
    ceiling = getattr(game, "null_ceiling", None)
    if ceiling is not None:
        found["null_ceiling"] = {"return": float(ceiling)}
    return found

"""What a score is to be held against: the optimum, or the best that is known, and what those get who never look."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lapwing.core.errors import LapwingError
from lapwing.core.protocols import Game, Policy
from lapwing.evaluation.evaluate import evaluation_matches
from lapwing.games.game import for_split, has_exact_outcomes, initial_state
from lapwing.policies.best_response import BestResponse
from lapwing.policies.opponents import exact_opponents
from lapwing.tabular.enumerate import TabularGame, enumerate_game
from lapwing.tabular.value_iteration import optimal_values

# Solving more takes longer than what it is printed beside.
MAX_STATES = 20_000
# States times steps, as solving goes over all states once a step.
_MOST_VALUES = 4_000_000
# Where starts are drawn: so many are solved one by one, each of at most so many states.
STARTS, _MOST_OF_ONE = 40, 2_000
# For which the null ceilings of games hold.
_CEILING_STEPS = 100


def solved(
    game: Game, *, opponents: Mapping[int, Policy] | None = None, max_states: int = MAX_STATES
) -> TabularGame | None:
    """The game as arrays, from the starts that it lists.

    Args:
      game: of one player, or with an opponent in every other seat.
      opponents: by seat; their action distributions must be known exactly.
      max_states: larger games are not solved.

    Returns:
      None where the game cannot be enumerated, is too large, or hides chances that its states hold: who knew them would
      not be a player to compare with.
    """
    if not _is_enumerable(game) or not callable(getattr(game, "initial_outcomes", None)):
        return None
    try:
        return enumerate_game(game, opponents=exact_opponents(opponents or {}), max_states=max_states)
    except LapwingError:
        return None


def solved_starts(game: Game, *, split: str = "test", seed: int = 0, starts: int = STARTS) -> Iterator[TabularGame]:
    """Drawn starts of a game of one player, each as arrays; none where that cannot be.

    Args:
      game: as a recipe has it.
      split: of the starts.
      seed: of the matches that begin there; they are the first ones of an evaluation.
      starts: how many.
    """
    if not _is_enumerable(game) or game.num_players != 1:
        return
    for match in evaluation_matches(game, split=split, seed=seed, episodes=starts, max_steps=1):
        try:
            yield enumerate_game(match.game, [initial_state(match)], max_states=_MOST_OF_ONE)
        except LapwingError:
            return


def best_return(table: TabularGame, max_steps: int) -> float:
    """The mean return of best play, in matches of at most `max_steps` steps."""
    return float(table.start @ optimal_values(table, max_steps)[max_steps])


def _is_enumerable(game: Game) -> bool:
    return has_exact_outcomes(game) and not getattr(game, "oracles", ())


def best_against(
    game: Game, opponents: Mapping[int, Policy], *, max_steps: int, max_states: int = MAX_STATES
) -> tuple[float, int] | None:
    """What the best response of seat 0 to fixed opponents earns, by what seat 0 can see, and the longest match.

    Args:
      game: of several players.
      opponents: by seat.
      max_steps: after how many steps a match is cut off; a game whose matches are longer is not solved.
      max_states: larger games are not solved.

    Returns:
      None where it is not known exactly.
    """
    try:
        value, most_steps = BestResponse(opponents, max_states=max_states).solve(game)
    except LapwingError:
        return None
    return (value, most_steps) if most_steps <= max_steps else None


def references(
    game: Game,
    *,
    opponents: Mapping[int, Policy] | None = None,
    split: str = "test",
    seed: int = 0,
    max_steps: int = 100,
) -> dict[str, Any]:
    """What is known of a game's returns without playing it.

    Args:
      game: as a recipe has it.
      opponents: the policies of the other seats.
      split: of the starts.
      seed: of the evaluation, where starts are drawn.
      max_steps: after how many steps a match is cut off.

    Returns:
      Of `optimal` (the exact mean return of best play), `best_known` and `null_ceiling` those that are known, each
      {"return", "source"}.
    """
    found: dict[str, Any] = {}
    optimum = _optimum(game, opponents, split, seed, max_steps)
    if optimum is not None:
        found["optimal"] = optimum
    best = getattr(game, "best_known", None)
    if best is not None:
        found["best_known"] = {"return": float(best.score), "source": best.source}
    ceiling = getattr(game, "null_ceiling", None)
    if ceiling is not None:
        against = " against random play" if game.num_players > 1 else ""
        said = f"no-op, random, echo and spam, in at most {_CEILING_STEPS} steps{against}"
        found["null_ceiling"] = {"return": float(ceiling), "source": said}
    return found


def _optimum(
    game: Game, opponents: Mapping[int, Policy] | None, split: str, seed: int, max_steps: int
) -> dict[str, Any] | None:
    if opponents:
        best = best_against(for_split(game, split), opponents, max_steps=max_steps)
        return best and {"return": best[0], "source": "solved, the best response to these opponents"}
    table = solved(for_split(game, split))
    if table is not None:
        if table.num_states * max_steps > _MOST_VALUES:
            return None
        source = f"solved, {table.num_states:,} states, at most {max_steps} steps"
        return {"return": best_return(table, max_steps), "source": source}
    values = [best_return(one, max_steps) for one in solved_starts(game, split=split, seed=seed)]
    if not values:
        return None
    source = f"solved, mean of the first {len(values)} starts, at most {max_steps} steps"
    return {"return": float(np.mean(values)), "source": source}

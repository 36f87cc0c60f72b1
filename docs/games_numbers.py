"""The numbers of docs/games.md, as docs/games.json keeps them.

    python docs/games_numbers.py [GAME …]

measures all games, or those that are named; `docs/build.py` measures what is new. A game whose package is not
installed keeps the numbers that it has.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lapwing.core import registry, rng
from lapwing.core.errors import UserError
from lapwing.core.types import Match
from lapwing.evaluation.null_agents import MAX_STEPS
from lapwing.evaluation.references import best_against, best_return, solved, solved_starts
from lapwing.games.contract import transcript
from lapwing.games.game import for_split
from lapwing.policies.baselines import Heuristic, Random
from lapwing.rollout.play import play
from lapwing.stats.summarise import summarise
from lapwing.tabular.enumerate import TabularGame
from lapwing.tabular.policy_evaluation import policy_values, uniform_policy

NUMBERS = Path(__file__).parent / "games.json"
# Besides the defaults: settings that recipes and other pages use.
FURTHER: dict[str, list[dict[str, Any]]] = {
    "chain": [{"length": 12, "delay": 11}],
    "expert_advice": [{"process": "leader_set"}],
    "frozen_lake": [{"map_name": "4x4"}, {"map_name": "4x4", "slippery": True}, {"map_name": "8x8"}],
    "snake": [{"width": 10, "height": 10}, {"num_snakes": 2}],
}
MATCHES = 500


def read() -> dict[str, list[dict[str, Any]]]:
    """The numbers by game: one entry for each set of settings."""
    return json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}


def missing() -> list[str]:
    """The games that docs/games.json knows nothing of."""
    return [name for name in registry.names("games") if name not in read()]


def measure(names: Sequence[str]) -> None:
    """Measure games and write their numbers; those of games that are gone are dropped."""
    found = {name: entries for name, entries in read().items() if name in registry.names("games")}
    for name in names:
        entries = _measured(name)
        if entries or name not in found:
            found[name] = entries
    # A line for each set of settings, so that two people who add a game seldom touch the same one.
    blocks = [json.dumps(name) + ": [\n" + ",\n".join(map(json.dumps, found[name])) + "\n]" for name in sorted(found)]
    NUMBERS.write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")


def digest(game: Any) -> str:
    """What tells that a game plays otherwise than when it was measured."""
    lines = [line for seed in range(2) for line in transcript(game, seed, max_steps=10)]
    return hashlib.blake2b("\n".join(lines).encode("utf-8", errors="replace"), digest_size=8).hexdigest()


def _measured(name: str) -> list[dict[str, Any]]:
    entries = []
    for settings in [{}, *FURTHER.get(name, [])]:
        try:
            entries.append(_entry(name, settings))
        except (UserError, ImportError) as error:
            sys.stderr.write(f"{name} was not measured: {error}\n")
    return entries


def _entry(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    game: Any = registry.resolve("games", name)(**settings)
    start = game.initial(rng.generator("games page"))
    legal = game.legal(start, game.players(start)[0])
    table = solved(game, opponents={seat: Random() for seat in range(1, game.num_players)})
    best = getattr(game, "best_known", None)
    is_solved = table is not None
    return {
        "settings": settings,
        "players": game.num_players,
        "actions": None if legal is None else len(legal),
        **_sizes(game, table),
        "optimum": _optimum(game, table),
        "best_known": None if best is None else list(best),
        "heuristic": None if is_solved or not callable(getattr(game, "heuristic", None)) else _mean(game, Heuristic()),
        "random": None if legal is None else _random(game, table),
        "null_ceiling": getattr(game, "null_ceiling", None),
        "digest": digest(game),
    }


def _sizes(game: Any, table: TabularGame | None) -> dict[str, Any]:
    """How many states there are, and how many steps a match takes at most."""
    if table is not None:
        return {"states": table.num_states, "longest": _longest(table)}
    one = next(solved_starts(game, starts=1), None)
    if one is None:
        return {"states": None, "longest": None}
    return {"states": one.num_states, "longest": _longest(one), "of_a_start": True}


def _longest(table: TabularGame) -> int | None:
    """Steps of the longest match; None where a match may go on for ever."""
    going_on = np.flatnonzero(table.start > 0)
    for steps in range(1, table.num_states + 1):
        rows = (going_on[:, None] * table.num_actions + np.arange(table.num_actions)).ravel()
        going_on = np.unique(table.continuation[rows].nonzero()[1])
        if not len(going_on):
            return steps
    return None


def _optimum(game: Any, table: TabularGame | None) -> dict[str, Any] | None:
    if game.num_players > 1:
        # A player who knew the other's cards would get more.
        best = best_against(game, {seat: Random() for seat in range(1, game.num_players)}, max_steps=MAX_STEPS)
        return None if best is None else {"return": best[0], "exact": True}
    if table is not None:
        return {"return": best_return(table, MAX_STEPS), "exact": True}
    values = [best_return(one, MAX_STEPS) for one in solved_starts(game)]
    return {"return": float(np.mean(values)), "exact": True, "starts": len(values)} if values else None


def _random(game: Any, table: TabularGame | None) -> dict[str, Any]:
    if table is None:
        return _mean(game, Random())
    value = policy_values(table, uniform_policy(table), MAX_STEPS)[MAX_STEPS]
    return {"return": float(table.start @ value), "exact": True}


def _mean(game: Any, policy: Any) -> dict[str, Any]:
    seats = {0: policy, **{seat: Random() for seat in range(1, game.num_players)}}
    matches = [Match(for_split(game, "test"), seed, "test", 0, 0, 0, MAX_STEPS) for seed in range(MATCHES)]
    interval = summarise(np.array([episode.domain_return for episode in play(matches, seats)]))
    return {"return": interval.mean, "low": interval.low, "high": interval.high, "exact": False}


if __name__ == "__main__":
    measure(sys.argv[1:] or registry.names("games"))

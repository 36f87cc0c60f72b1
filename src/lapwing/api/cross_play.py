"""Cross-play of runs, checkpoints and players without a model."""

from collections.abc import Sequence
from typing import Any

from lapwing import build
from lapwing.api.loading import plan_and_shop
from lapwing.core.errors import UserError, nearest
from lapwing.core.paths import checked_path
from lapwing.core.protocols import Game, Policy

_SEED = 1_000_003
_PLAYERS = ("random", "heuristic", "scripted", "optimal")


def cross_play(
    players: Sequence[str],
    *,
    game: str,
    matches: int = 100,
    overrides: Sequence[str] = (),
    seed: int = _SEED,
    max_steps: int = 100,
    anchor: str | None = None,
    greedy: bool = False,
    allow_code: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Let every two players meet in every seating, and rate them.

    Args:
      players: each the folder of a run, one of its checkpoints (`RUN/checkpoints/50`), the weights of a seat there
        (`RUN/checkpoints/50/seat_1`), or random, heuristic, scripted or optimal.
      game: of two players.
      matches: of each pair in each seating.
      overrides: settings of the game, `key=value`.
      seed: of the matches.
      max_steps: step cap of a match.
      anchor: whose Elo rating is 1000; random if it plays, else the first player.
      greedy: models reply with their most probable tokens.
      allow_code: packages outside Lapwing that a run's recipe, or the game, may name.
      trust_remote_code: run code that comes with a pretrained model.

    Returns:
      The object of `lapwing cross-play --json`.

    Raises:
      UserError: there is no such player or game, or a number is impossible.
    """
    from lapwing.evaluation.cross_play import cross_play as play_all

    build.checked_seed(seed)
    if len(set(players)) < len(players):
        twice = next(name for name in players if list(players).count(name) > 1)
        raise UserError(f"{twice} is named twice; everybody plays everybody else once.")
    plan = build.game_plan(game, list(overrides), allow_code=tuple(allow_code))
    played = build.make_game(plan.game)
    given = {"allow_code": allow_code, "trust_remote_code": trust_remote_code}
    policies = {name: _policy(name, played, greedy=greedy, **given) for name in players}
    anchor = "random" if anchor is None and "random" in policies else anchor
    return play_all(policies, played, name=game, matches=matches, seed=seed, max_steps=max_steps, anchor=anchor)


def _policy(name: str, game: Game, *, greedy: bool, **given: Any) -> Policy:
    if name in _PLAYERS:
        return _plain(name, game)
    path = checked_path(name, "the player")
    if not path.exists():
        raise UserError(f"There is no player '{name}': no folder of that name, and {nearest(name, _PLAYERS)}")
    plan, shop = plan_and_shop(str(path), None, (), **given)
    agent = build.make_agent(plan, shop)
    return build.greedy(agent) if greedy else agent


def _plain(name: str, game: Game) -> Policy:
    """A player without a model, who has what it needs of the game."""
    from lapwing.policies import baselines
    from lapwing.policies.equilibrium import Equilibrium

    if name == "random":
        return baselines.Random()
    if name == "optimal":
        return Equilibrium()
    if not callable(getattr(game, name, None)):
        raise UserError(f"{type(game).__name__} has no {name} player; choose another.")
    return baselines.Heuristic() if name == "heuristic" else baselines.Scripted()

"""The policies that a game is measured with besides the one that learns."""

from typing import Any

from lapwing.build.make import make_game
from lapwing.build.options import baselines
from lapwing.build.seats import against_fixed, make_opponents
from lapwing.build.stage_plan import StagePlan
from lapwing.core import rng
from lapwing.core.errors import LapwingError
from lapwing.core.protocols import Game, Policy

# So many counts of a bandit are solved in seconds.
_QUICK_TALLIES = 20_000


def _is_enumerable(game: Game) -> bool:
    from lapwing.tabular.enumerate import enumerate_game

    try:
        enumerate_game(game, [game.initial(rng.generator("enumerable"))])
    except LapwingError:  # too large, or open-ended
        return False
    return True


def _has_bayes(game: Any) -> bool:
    """Whether Bayes-optimal play of a game is quickly computed."""
    from lapwing.tabular.bandit_value import BanditValue

    if not callable(getattr(game, "prior", None)):
        return False
    try:
        BanditValue(game, max_states=_QUICK_TALLIES)
    except LapwingError:
        return False
    return True


def make_baselines(stage: StagePlan) -> dict[str, Policy]:
    """The baselines that the stage's game supports: random, guess, heuristic, its oracles, or optimal.

    A game that hides its chances names oracles; there, optimal play would know what no player does.
    """
    from lapwing.games.game import has_exact_outcomes
    from lapwing.policies import baselines as found

    game = make_game(stage.game)
    policies: dict[str, Policy] = {}
    if game.legal(game.initial(rng.generator("legal")), 0) is not None:
        policies["random"] = found.Random()
    if callable(getattr(game, "guess", None)):
        policies["guess"] = found.Guess()
    if callable(getattr(game, "heuristic", None)):
        policies["heuristic"] = found.Heuristic()
    policies |= {name: baselines()[name]() for name in getattr(game, "oracles", ())}
    if _has_bayes(game):
        policies["bayes"] = baselines()["bayes"]()
    has_oracles = bool(getattr(game, "oracles", ()))
    if has_exact_outcomes(game) and game.num_players == 1 and not has_oracles and _is_enumerable(game):
        policies["optimal"] = found.Optimal()
    if game.num_players > 1 and (best := _best_response(stage, game)) is not None:
        policies["optimal"] = best
    return policies


def _best_response(stage: StagePlan, game: Game) -> Policy | None:
    """The best response to the opponents that a stage is measured against; None where it is not known exactly."""
    from lapwing.policies.best_response import BestResponse

    steps = stage.evaluation.settings["max_steps"] or stage.sampler.settings["max_steps"]
    try:
        best = BestResponse(make_opponents(against_fixed(stage)))
        _, most_steps = best.solve(game)
    except LapwingError:  # too large, open-ended, without listed chance, or against who knows whom
        return None
    # It knows of no step cap.
    return best if most_steps <= steps else None

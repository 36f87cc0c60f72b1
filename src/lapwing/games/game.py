"""The game protocol and the few functions that work on any game."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from lapwing.core import rng
from lapwing.core.protocols import Game
from lapwing.core.types import Action, Match, State, Transition

__all__ = ["Game", "Transition", "drawn", "for_split", "has_exact_outcomes", "initial_state", "outcomes"]

SPLITS = ("train", "development", "test")


def for_split(game: Game, split: str) -> Game:
    """The same game with its starts restricted to one split; games without splits are told apart by their seeds."""
    restrict = getattr(game, "for_split", None)
    return game if restrict is None else restrict(split)


def has_exact_outcomes(game: Game) -> bool:
    """Whether the chance of the game's steps can be enumerated."""
    return callable(getattr(game, "outcomes", None))


def outcomes(game: Any, state: State, actions: Mapping[int, Action]) -> list[tuple[float, Transition]]:
    """All outcomes of a step with their probabilities, for games that can enumerate them."""
    return game.outcomes(state, actions)


def drawn(possible: Sequence[tuple[float, Transition]], u: float) -> Transition:
    """The outcome at height u of the running sum of the probabilities.

    Args:
      possible: all outcomes of a step.
      u: in [0, 1).
    """
    if len(possible) == 1:
        return possible[0][1]
    heights = np.cumsum([probability for probability, _ in possible])
    at = int(heights.searchsorted(u * heights[-1], side="right"))
    return possible[min(at, len(possible) - 1)][1]


def initial_state(match: Match) -> State:
    """The state that a match begins in; members of a group begin in the same one, whatever they share later."""
    if match.start_state is not None:
        return match.start_state
    address = (match.seed, match.split, *match.start_address)
    if match.game.restorable:
        return _shared_start(match.game, address)
    # The state may be a handle on something that only one match can use.
    return _start(match.game, address)


def _start(game: Game, address: tuple[int, str, int, int]) -> State:
    return game.initial(rng.generator("chance", *address, "initial"))


_shared_start = lru_cache(maxsize=4096)(_start)

"""What a solver of the game does from the start of a match, and the first part of it."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from lapwing.core import rng
from lapwing.core.errors import UserError, nearest
from lapwing.core.protocols import Game
from lapwing.core.types import Action, Ask, Match, State
from lapwing.games.game import initial_state

_METHODS = {"optimal": "outcomes", "heuristic": "heuristic", "game": "solution"}
EXPERTS = tuple(_METHODS)
_CACHE_SIZE = 4096

Parts = TypeVar("Parts", bound=Sequence[Any])


class Solution(NamedTuple):
    """A way to succeed.

    Attributes:
      actions: in their order; none where the solution is a text.
      states: before each action.
      text: the solution as its game words it; empty where it is actions.
    """

    actions: tuple[Action, ...] = ()
    states: tuple[State, ...] = ()
    text: str = ""

    def wording(self, ratio: float) -> str:
        """The first share of the solution as a text: characters of a text, or the names of actions."""
        return prefix(self.text, ratio) if self.text else " ".join(map(str, prefix(self.actions, ratio)))


class Solutions:
    """The solutions of a game's starts, by an expert that plays from there; the same address has the same solution.

    The expert is "optimal" (solved exactly), "heuristic" (the game's own), or "game": the game's method
    `solution(state)` gives a text, or a list of actions. Where a game has chance, actions are those of one play, whose
    chance is keyed by the start. Play that does not succeed within the steps is no solution.
    """

    def __init__(self, game: Game, *, expert: str, max_steps: int) -> None:
        """Choose the expert.

        Args:
          game: of one player; its states can be played on from.
          expert: who plays.
          max_steps: of a match.

        Raises:
          UserError: there is no such expert, or the game does not support it.
        """
        name = type(game).__name__
        if expert not in EXPERTS:
            raise UserError(f"There is no sampler.expert '{expert}'; {nearest(expert, EXPERTS)}")
        if game.num_players != 1 or not game.restorable:
            raise UserError(
                f"{name} has no solutions to give away: it takes a game of one player whose states can be played on "
                "from; choose the sampler 'grouped'."
            )
        needed = _METHODS[expert]
        if not callable(getattr(game, needed, None)):
            others = [one for one, method in _METHODS.items() if callable(getattr(game, method, None))]
            advice = f"choose one of {', '.join(others)}" if others else "choose another sampler"
            raise UserError(f"{name} has no method {needed}, which sampler.expert = '{expert}' needs; {advice}.")
        self.game: Any = game
        self.expert = expert
        self.max_steps = max_steps
        self._policy: Any = None
        self._known: dict[tuple[State, int, tuple[int, int]], Solution | None] = {}

    def of(self, match: Match) -> Solution | None:
        """The solution of the start of a match; None if the expert does not succeed."""
        state = initial_state(match)
        # The play's chance is that of the address, so that equal states elsewhere are another play.
        key = (state, match.seed, match.start_address)
        if key not in self._known:
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            self._known[key] = self._solve(match, state)
        return self._known[key]

    def _solve(self, match: Match, state: State) -> Solution | None:
        given = self.game.solution(state) if self.expert == "game" else None
        if isinstance(given, str):
            return Solution(text=given) if given else None
        address = ("solution", match.seed, *match.start_address)
        actions: list[Action] = []
        states: list[State] = []
        total, success = 0.0, None
        for step in range(self.max_steps):
            if given is not None and step == len(given):
                break
            states.append(state)
            actions.append(self._action(state, self.max_steps - step) if given is None else given[step])
            transition = self.game.step(state, {0: actions[-1]}, rng.generator(*address, step))
            state = transition.state
            total += transition.reward.get(0, 0.0) + (transition.outcome or {}).get(0, 0.0)
            success = (transition.success or {}).get(0, success)
            if transition.terminated:
                break
        has_success = success is not None or getattr(self.game, "has_success", False)
        return Solution(tuple(actions), tuple(states)) if (success if has_success else total > 0.0) else None

    def _action(self, state: State, steps_left: int) -> Action:
        if self._policy is None:
            from lapwing.policies.baselines import Heuristic, Optimal

            self._policy = Optimal() if self.expert == "optimal" else Heuristic()
        view, legal = self.game.view(state, 0), self.game.legal(state, 0)
        key = rng.fold(0, "solution", steps_left)
        ask = Ask(
            view=view, legal=legal, memory=None, key=key, game=self.game, state=state, player=0, steps_left=steps_left
        )
        return self._policy.choose(ask)


def prefix(parts: Parts, ratio: float) -> Parts:
    """The first ⌊ratio · length⌋ parts of a solution; rounding of the product takes none away."""
    return parts[: math.floor(ratio * len(parts) + 1e-9)]  # pyright: ignore[reportReturnType]

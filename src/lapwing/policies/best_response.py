"""The best play against fixed opponents, solved exactly over what seat 0 can see."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.protocols import Policy
from lapwing.core.types import Action, Ask, Decision, Memory, View
from lapwing.policies.baselines import plain_decision
from lapwing.policies.opponents import exact_opponents
from lapwing.tabular.best_response import best_response
from lapwing.tabular.extensive import extensive_game


class BestResponse:
    """What earns most against opponents that do not learn, for games of several players that can be enumerated.

    It knows the opponents' policies and not their cards: it decides by its view, as every player does.
    """

    version = 0

    def __init__(self, opponents: Mapping[int, Policy], *, max_states: int = 20_000) -> None:
        """Make the policy.

        Args:
          opponents: the policies of the other seats, whose action distributions are known exactly.
          max_states: refuse larger games.

        Raises:
          UserError: the distribution of one of them is not known.
        """
        self._opponents = exact_opponents(opponents)
        self.max_states = max_states
        self._solved: dict[Any, tuple[float, int, dict[View, Action]]] = {}

    def solve(self, game: Any) -> tuple[float, int]:
        """What the best response earns in a match, and how many steps the longest match has.

        Raises:
          UserError: the game cannot be enumerated, or its views forget too much.
        """
        return self._answer(game)[:2]

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Memory]]:
        """Decide every ask."""
        return [(plain_decision(self._choose(ask)), None) for ask in asks]

    def _choose(self, ask: Ask) -> Action:
        found = self._answer(ask.game)[2].get(ask.view)
        if found is None:
            raise UserError(
                f"The best response of {type(ask.game).__name__} was asked in a state that cannot be reached from its "
                "starts against these opponents."
            )
        return found

    def _answer(self, game: Any) -> tuple[float, int, dict[View, Action]]:
        if game not in self._solved:
            table = extensive_game(game, opponents=self._opponents, max_states=self.max_states)
            if set(table.seat.tolist()) - {0}:
                raise UserError(f"{table.name} has seats besides seat 0 for which no opponent is given.")
            response = best_response(table, table.uniform_profile(), 0)
            splits = table.choice_splits
            actions = {
                view: legal[int(np.argmax(response.profile[low:high]))]
                for view, legal, low, high in zip(table.views, table.legal, splits[:-1], splits[1:], strict=True)
            }
            self._solved[game] = (response.value, table.most_steps, actions)
        return self._solved[game]

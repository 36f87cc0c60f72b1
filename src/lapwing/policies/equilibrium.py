"""The equilibrium player: exact play of two-player games that are small enough to be solved."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.types import Action, Ask, Decision, Memory, View
from lapwing.policies.baselines import plain_decision
from lapwing.tabular.backward_induction import backward_induction
from lapwing.tabular.extensive import extensive_game
from lapwing.tabular.sequence_form import sequence_form


class Equilibrium:
    """Plays an exact equilibrium: by backward induction where all is seen, else by the sequence form.

    It is drawn from the profile by the key of the decision. In a zero-sum game nobody does better against it than the
    value of the game; it does not try to win more from those who err.

    Reference: Zermelo 1913, "Über eine Anwendung der Mengenlehre auf die Theorie des Schachspiels"; Koller, Megiddo and
      von Stengel 1996, "Efficient Computation of Equilibria for Extensive Two-Person Games".
      https://doi.org/10.1006/game.1996.0051
    """

    version = 0

    def __init__(self, *, max_states: int = 100_000) -> None:
        """Make the policy; a game is solved when it is met.

        Args:
          max_states: refuse larger games.
        """
        self.max_states = max_states
        self._plans: dict[Any, dict[tuple[int, View], tuple[Sequence[Action], np.ndarray]]] = {}

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Memory]]:
        """Decide every ask."""
        return [(plain_decision(self.choose(ask)), None) for ask in asks]

    def choose(self, ask: Ask) -> Action:
        """An action of the equilibrium.

        Raises:
          UserError: the game cannot be solved.
        """
        plan = self._plans.get(ask.game)
        if plan is None:
            plan = self._plans[ask.game] = self._solve(ask.game)
        found = plan.get((ask.player, ask.view))
        if found is None:
            raise UserError(f"{type(ask.game).__name__} came to a view that cannot be reached from its listed starts.")
        legal, height = found
        return legal[int(height.searchsorted(rng.generator("equilibrium", ask.key).random() * height[-1], "right"))]

    def _solve(self, game: Any) -> dict[tuple[int, View], tuple[Sequence[Action], np.ndarray]]:
        table = extensive_game(game, max_states=self.max_states)
        profile = backward_induction(table)[1] if table.is_observed else sequence_form(table)[1]
        splits = table.choice_splits
        return {
            (int(seat), view): (legal, np.cumsum(profile[splits[n] : splits[n + 1]]))
            for n, (seat, view, legal) in enumerate(zip(table.seat, table.views, table.legal, strict=True))
        }

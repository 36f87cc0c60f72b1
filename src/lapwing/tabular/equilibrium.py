"""The optimum of a game of several players, where it has one: the value under best play of all, and such play."""

import numpy as np

from lapwing.tabular.backward_induction import backward_induction
from lapwing.tabular.extensive import ExtensiveGame
from lapwing.tabular.sequence_form import sequence_form


def equilibrium(game: ExtensiveGame) -> tuple[np.ndarray, np.ndarray]:
    """The value of a match to each player in equilibrium, and a profile that is one.

    Games in which every player who decides knows the state are solved by `backward_induction`, others by
    `sequence_form`. In a zero-sum game of two players the value is that of every equilibrium.

    Args:
      game: the enumerated game.

    Returns:
      float64 [P], and the profile, float64 [Q].

    Raises:
      UserError: neither can be used, or the game may have equilibria with different values.
    """
    if game.is_observed:
        value, profile = backward_induction(game)
        return game.start @ value, profile
    first, profile = sequence_form(game)
    return np.array([first, -first]), profile

"""Policies that are no language models, as exact probabilities in every information set."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.protocols import Policy
from lapwing.policies.opponents import exact_opponents
from lapwing.tabular.extensive import ExtensiveGame


def exact_profile(game: Any, table: ExtensiveGame, policies: Mapping[int, Policy]) -> np.ndarray:
    """The probability of each choice, where each seat is played by a policy whose distribution is known exactly.

    Args:
      game: what is played.
      table: the same, enumerated.
      policies: by seat: random, heuristic, or scripted with whole numbers as its only chance. Other seats are uniform.

    Returns:
      float64 [Q].

    Raises:
      UserError: the distribution of a policy is not known, or it is not the same in two states that look the same.
    """
    profile = table.uniform_profile()
    for seat, opponent in exact_opponents(policies).items():
        seen: dict[int, np.ndarray] = {}
        for state in np.flatnonzero(table.set_of[:, seat] >= 0).tolist():
            number = int(table.set_of[state, seat])
            low, high = table.choice_splits[number : number + 2]
            here = np.zeros(high - low)
            for probability, action in opponent(game, table.states[state], seat):
                here[table.legal[number].index(action)] += probability
            if not np.allclose(seen.setdefault(number, here), here):
                raise UserError(
                    f"The {type(policies[seat]).__name__} policy of {table.name} looks at what seat {seat} cannot see: "
                    f"it plays differently in two states that are both seen as {table.views[number]}."
                )
            profile[low:high] = here
    return profile

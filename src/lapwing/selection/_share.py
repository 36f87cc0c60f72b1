"""How many episodes a share stands for."""

import math

from lapwing.core.errors import UserError


def number_to_keep(keep: float, episodes: int) -> int:
    """The number of episodes in a share of them: rounded half up, at least one, 0 of none.

    Raises:
      UserError: `keep` lies outside (0, 1].
    """
    if not 0.0 < keep <= 1.0:
        raise UserError(f"keep must be in (0, 1], the share of episodes to train on, but it is {keep}.")
    return min(episodes, max(1, math.floor(keep * episodes + 0.5)))

"""MiniGrid's and BabyAI's environments as games."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.storage import canonical_json
from lapwing.core.types import BestKnown, State, Transition
from lapwing.games.adapters._environments import GymnasiumView
from lapwing.games.adapters._gymnasium_package import made_environment
from lapwing.games.adapters._minigrid_words import Words
from lapwing.games.adapters.gymnasium import Gymnasium

ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")

# Mean returns of a match that those stay below who never look. In the empty room random play got 0.306 in 500 matches.
_NULL_CEILINGS = {"MiniGrid-Dynamic-Obstacles-5x5-v0": 0.05, "MiniGrid-Empty-Random-5x5-v0": 0.4}


@dataclass(frozen=True)
class Minigrid:
    """Follow a mission in MiniGrid's or BabyAI's rooms, seeing what lies ahead, in words.

    | action | meaning |
    | --- | --- |
    | left, right | turn on the spot |
    | forward | one step, if the cell ahead is free |
    | pickup, drop | take up what lies ahead, or put it there |
    | toggle | open or close a door or a box ahead; a locked door needs its key |
    | done | say that the mission is done, where a mission asks for it |

    View: the mission, the direction faced, what is carried, what stands in front, the walls ahead and beside, and all
    things that are seen with their places in steps from the player.

    Reward: 1 − 0.9 · steps / limit when the mission is done, else 0; in a few environments −1 for a collision. The
    limit is the environment's own and one of its rules: it ends the match, without success. Set `options.max_steps` to
    change it.

    Reference: Chevalier-Boisvert et al., Minigrid & Miniworld. https://arxiv.org/abs/2306.13831

    Attributes:
      env: the id of an environment, such as "MiniGrid-DoorKey-5x5-v0" or "BabyAI-GoToObj-v0". In the one
        that is here by default balls move by chance.
      options: keyword arguments of `gymnasium.make`.
      restore: how states are stepped again: by "copy", by "replay", "never"; "auto" finds out.
    """

    env: str = "MiniGrid-Dynamic-Obstacles-5x5-v0"
    options: dict[str, Any] | None = field(default=None, compare=False)
    restore: str = "auto"
    key: str = field(init=False, repr=False)

    num_players: ClassVar[int] = 1
    reward_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    has_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", dict(self.options or {}))
        object.__setattr__(self, "key", canonical_json(self.options))
        _played(self)  # what does not fit is said now

    @property
    def null_ceiling(self) -> float | None:
        """What those get at most who never look, where that was measured."""
        return _NULL_CEILINGS.get(self.env) if not self.options else None

    @property
    def best_known(self) -> BestKnown:
        """The optimum of the smallest room, else the bound of what MiniGrid pays."""
        if self.env == "MiniGrid-Empty-Random-5x5-v0" and not self.options:
            return BestKnown(0.9685, "shortest ways from all 32 starts, exact: 3.5 moves on average, of a limit of 100")
        return BestKnown(1.0, "a bound that nobody reaches: success pays 1 − 0.9 · steps / limit")

    @property
    def restorable(self) -> bool:
        """Whether a state can be stepped again."""
        return _played(self).restorable

    def initial(self, rng: np.random.Generator) -> State:
        """Draw a room and a mission."""
        return _played(self).initial(rng)

    def players(self, state: State) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: State, player: int) -> GymnasiumView:
        """Mission and surroundings in words."""
        return _played(self).view(state, player)

    def legal(self, state: State, player: int) -> Sequence[str] | None:
        """All seven actions, everywhere."""
        return _played(self).legal(state, player)

    def step(self, state: State, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Act in the rooms."""
        return _played(self).step(state, actions, rng)

    def words(self) -> list[str]:
        """The words of missions and of all that can be seen, and those of missions that were drawn to see."""
        return _played(self).words()


@lru_cache(maxsize=64)
def _played(game: Minigrid) -> Gymnasium:
    say = _words()
    # The name of the module lets Gymnasium import it, which makes the environments known.
    name = game.env if ":" in game.env else f"minigrid:{game.env}"
    count = int(made_environment(name, game.options or {}).action_space.n)
    return Gymnasium(
        env=name,
        options=game.options,
        # Some environments have the first three only.
        actions=ACTIONS[:count],
        describe=say,
        success="reward",
        restore=game.restore,
        rewards=game.reward_range,
    )


@lru_cache(maxsize=1)
def _words() -> Words:
    try:
        from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT
    except ImportError as error:
        raise UserError('The game minigrid needs the package minigrid: pip install "lapwing[minigrid]".') from error
    return Words(IDX_TO_COLOR, IDX_TO_OBJECT)

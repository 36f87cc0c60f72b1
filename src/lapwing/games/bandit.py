"""The bandit: one decision between arms that pay at random."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import ClassVar

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import Transition


@dataclass(frozen=True, slots=True)
class BanditState:
    """Whether an arm was pulled."""

    pulled: bool


@dataclass(frozen=True, slots=True)
class BanditView:
    """The names of the arms, and whether one was pulled; what they pay is hidden."""

    arms: tuple[str, ...]
    pulled: bool


@dataclass(frozen=True)
class Bandit:
    """Pull one arm, once; each arm pays 1 with a probability of its own, which nobody is told.

    | action | meaning |
    | --- | --- |
    | a, b, c, … | pull the first, second, third, … arm |

    View: the names of the arms, and whether one was pulled.

    Start: always the same. Reward: 1 if the arm pays, else 0. End: after one decision; it is a success if the arm
    paid. The smallest game there is, where the truth is known by hand.

    Reference: Sutton and Barto 2018, "Reinforcement Learning: An Introduction", chapter 2.
      http://incompleteideas.net/book/the-book-2nd.html

    Attributes:
      arms: probability that each arm pays, in [0, 1]; 1 to 26 arms.
    """

    arms: tuple[float, ...] = (0.1, 0.9)

    num_players: ClassVar[int] = 1
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        arms = tuple(float(probability) for probability in self.arms)
        if not 1 <= len(arms) <= len(ascii_lowercase):
            raise UserError(f"A bandit has 1 to {len(ascii_lowercase)} arms, not {len(arms)}; set game.arms.")
        for probability in arms:
            if not 0.0 <= probability <= 1.0:
                raise UserError(f"An arm pays with a probability in [0, 1], not {probability}; set game.arms.")
        object.__setattr__(self, "arms", arms)

    @property
    def null_ceiling(self) -> float:
        """What is paid on average to who draws an arm, or always pulls the first."""
        return max(sum(self.arms) / len(self.arms), self.arms[0])

    def initial(self, rng: np.random.Generator) -> BanditState:
        """No arm was pulled yet."""
        return BanditState(pulled=False)

    def initial_outcomes(self) -> list[tuple[float, BanditState]]:
        """The one start."""
        return [(1.0, BanditState(pulled=False))]

    def players(self, state: BanditState) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: BanditState, player: int) -> BanditView:
        """The names of the arms, not what they pay."""
        return BanditView(self._actions, state.pulled)

    def legal(self, state: BanditState, player: int) -> tuple[str, ...]:
        """One letter per arm."""
        return self._actions

    def step(self, state: BanditState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Pull an arm."""
        return _pulled(pays=bool(rng.random() < self._probability(actions[0])))

    def outcomes(self, state: BanditState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """The arm pays or it does not; what cannot happen is left out."""
        probability = self._probability(actions[0])
        both = [(probability, _pulled(pays=True)), (1.0 - probability, _pulled(pays=False))]
        return [(weight, transition) for weight, transition in both if weight > 0.0]

    def heuristic(self, state: BanditState, player: int) -> str:
        """The arm that pays most often, the first of several; it knows what players do not."""
        return self._actions[self.arms.index(max(self.arms))]

    def words(self) -> list[str]:
        """The names of the arms."""
        return list(self._actions)

    @property
    def _actions(self) -> tuple[str, ...]:
        return tuple(ascii_lowercase[: len(self.arms)])

    def _probability(self, action: str) -> float:
        return self.arms[self._actions.index(action)]


def _pulled(*, pays: bool) -> Transition:
    return Transition(BanditState(pulled=True), {0: float(pays)}, terminated=True, success={0: pays})

"""Recall: a sign at the start says which door at the end of a corridor is the right one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import Transition

FORWARD = "forward"
SIGNS = ("red", "green", "blue", "white", "black", "yellow")


@dataclass(frozen=True, slots=True)
class RecallState:
    """What the sign said, and the cell of the corridor."""

    sign: str
    cell: int


@dataclass(frozen=True, slots=True)
class RecallView:
    """The cell, how long the corridor is, and the sign, which is empty everywhere but in cell 0."""

    cell: int
    length: int
    sign: str


@dataclass(frozen=True)
class Recall:
    """Read a sign, walk a corridor, and take the door that the sign named: a game that only memory wins.

    | action | meaning |
    | --- | --- |
    | forward | one cell on; at the doors, in the last cell, there is no further cell and the match is lost |
    | red, green, … | take the door of this colour; before the last cell there is none and the match is lost |

    View: the cell, the length of the corridor, and the sign in cell 0; later the sign is not shown.

    Start: in cell 0; the sign is one of `signs` colours, each with the same probability. A match that is not lost
    before takes `length` steps forward and a door. It is a success if the door is the one of the sign.

    Reward: 1 for the right door, else 0.

    Known answers. With the sign in mind the optimum is 1. A policy that reads the current view alone cannot do better
    than 1 / `signs`, and neither can one that reads the last k steps with k < `length`: no move but forward goes on,
    so that nothing that it reads at the doors depends on the sign. With k ≥ `length`, the whole transcript, or a text
    that is carried along, the optimum is 1 again.

    Reference: Bakker 2001, "Reinforcement Learning with Long Short-Term Memory" (the T-maze).
      https://papers.nips.cc/paper/1953-reinforcement-learning-with-long-short-term-memory

    Attributes:
      length: of the corridor, in steps from the sign to the doors, 1 to 64.
      signs: number of colours, 2 to 6.
    """

    length: int = 4
    signs: int = 2

    num_players: ClassVar[int] = 1
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 1 <= self.length <= 64:
            raise UserError(f"The corridor has 1 to 64 steps, not {self.length}; set game.length.")
        if not 2 <= self.signs <= len(SIGNS):
            raise UserError(f"There are 2 to {len(SIGNS)} signs, not {self.signs}; set game.signs.")

    @property
    def null_ceiling(self) -> float:
        """The best of those who draw every decision alike: forward with probability length / (length + 1)."""
        forward = self.length / (self.length + 1)
        return forward**self.length * (1.0 - forward) / self.signs

    def initial(self, rng: np.random.Generator) -> RecallState:
        """Draw the sign."""
        return RecallState(SIGNS[int(rng.integers(self.signs))], 0)

    def initial_outcomes(self) -> list[tuple[float, RecallState]]:
        """Every sign."""
        return [(1.0 / self.signs, RecallState(sign, 0)) for sign in SIGNS[: self.signs]]

    def players(self, state: RecallState) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: RecallState, player: int) -> RecallView:
        """The sign is seen where it hangs, in cell 0."""
        return RecallView(state.cell, self.length, "" if state.cell else state.sign)

    def legal(self, state: RecallState, player: int) -> tuple[str, ...]:
        """All actions, everywhere."""
        return (FORWARD, *SIGNS[: self.signs])

    def step(self, state: RecallState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Walk on, or try a door."""
        return self._moved(state, actions[0])

    def outcomes(self, state: RecallState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """The one outcome: after the sign nothing is left to chance."""
        return [(1.0, self._moved(state, actions[0]))]

    def heuristic(self, state: RecallState, player: int) -> str:
        """Walk to the doors and take the first one, which forgets the sign."""
        return FORWARD if state.cell < self.length else SIGNS[0]

    def scripted(self, state: RecallState, player: int, rng: np.random.Generator) -> str:
        """Walk to the doors and take any of them."""
        return FORWARD if state.cell < self.length else SIGNS[int(rng.integers(self.signs))]

    def words(self) -> list[str]:
        """The colours, and the numbers of the cells."""
        return [*SIGNS[: self.signs], *(str(cell) for cell in range(self.length + 1))]

    def _moved(self, state: RecallState, action: str) -> Transition:
        if action == FORWARD and state.cell < self.length:
            return Transition(RecallState(state.sign, state.cell + 1), {0: 0.0})
        won = state.cell == self.length and action == state.sign
        return Transition(state, {0: float(won)}, terminated=True, success={0: won})

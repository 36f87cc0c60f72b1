"""The chain: credit that comes late, through noise, for a walk that one wrong step undoes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import Transition

ACTIONS = ("left", "right")


@dataclass(frozen=True, slots=True)
class ChainState:
    """The cell, the decisions made, and what is owed.

    Attributes:
      step: decisions made.
      cell: where the walker stands.
      paid: the cell that was paid for: what was paid so far, in units of 1 / length.
      waiting: the cells after the latest decisions, oldest first, that are still to be paid one by one; what is
        earned later than that is paid at the end.
    """

    step: int
    cell: int
    paid: int
    waiting: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChainView:
    """The walker's cell, the decisions made, and the length; what is owed is not shown."""

    length: int
    cell: int
    step: int


@dataclass(frozen=True)
class Chain:
    """Walk a chain from cell 0 to its last cell, `length`, in exactly `length` decisions.

    | action | meaning |
    | --- | --- |
    | right | one cell on |
    | left | back to cell 0 |

    View: the cell, the number of decisions made, and the length.

    Start: in cell 0. With probability `slip` the other action happens. The game ends after `length` decisions; it is
    a success if the walker then stands in the last cell.

    Reward: a decision that leads from cell c to cell c' earns (c' − c) / length, so that what a walk earns in all is
    its last cell / length, in [0, 1]. It is paid `delay` decisions later, with the reward of that decision; what
    is still owed when the game ends is paid with the last one. `delay=0` pays at once, `delay >= length - 1` pays
    everything at the end. Besides, with probability `noise` a decision's reward gets +1 or −1, each half the
    time, whatever was done: its mean is 0. The parts `earned` and `noise` tell what the decision earned and what
    was noise.

    Exact values: neither delay nor noise changes the best policy or what it is worth, only how hard it is to see.
    For `slip` s up to ½ it is best to go right always. The last cell is then the number of decisions since the
    last slip, so with n = `length` the optimal value of the start is

        V* = (1 / n) · Σ_{k=1..n} (1 − s)^k        = 1 for s = 0, and (1 − s) · (1 − (1 − s)^n) / (n · s) else

    Payment does not depend on what is done after the decision that earned it, so that the advantage of an action
    is a function of the view. The number of states is least, (n + 1)(n + 2)/2, for payment at once and at the end; it
    is largest, 108 for n = 8 and 514 for n = 12, for delays of about half the length.

    Reference: a game of Lapwing's own, in the manner of the memory and noise experiments of Osband et al. 2020,
      "Behaviour Suite for Reinforcement Learning". https://arxiv.org/abs/1908.03568

    Attributes:
      length: of the chain, in decisions, 1 to 64.
      delay: decisions between earning and payment, at least 0.
      noise: probability that a reward gets ±1, in [0, 1].
      slip: probability that the other action happens, in [0, 0.5].
    """

    length: int = 8
    delay: int = 0
    noise: float = 0.0
    slip: float = 0.0

    num_players: ClassVar[int] = 1
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 1 <= self.length <= 64:
            raise UserError(f"A chain has a length of 1 to 64, not {self.length}; set game.length.")
        if self.delay < 0:
            raise UserError(f"The delay is a number of decisions of at least 0, not {self.delay}; set game.delay.")
        for name, most in (("noise", 1.0), ("slip", 0.5)):
            probability = float(getattr(self, name))
            if not 0.0 <= probability <= most:
                raise UserError(f"{name} is a probability in [0, {most:g}], not {probability}; set game.{name}.")
            object.__setattr__(self, name, probability)

    @property
    def reward_range(self) -> tuple[float, float]:
        """At worst a whole chain is taken back and at best one is paid, each with its noise."""
        most = 2.0 if self.noise else 1.0
        return -most, most

    @property
    def null_ceiling(self) -> float:
        """What left and right in turn earn on an endless chain; random walks, right half of the time, earn less.

        The last cell is the number of decisions since the last way back. Of (1 − s), s, (1 − s), … that is on average
        (1 − s + p) / (1 − p) with p = s · (1 − s).
        """
        kept, both = 1.0 - self.slip, self.slip * (1.0 - self.slip)
        return (kept + both) / (1.0 - both) / self.length

    def optimal_value(self) -> float:
        """V* of the start, by the formula above."""
        return math.fsum((1.0 - self.slip) ** k for k in range(1, self.length + 1)) / self.length

    def initial(self, rng: np.random.Generator) -> ChainState:
        """In cell 0, with nothing owed."""
        return ChainState(0, 0, 0, ())

    def initial_outcomes(self) -> list[tuple[float, ChainState]]:
        """The one start."""
        return [(1.0, ChainState(0, 0, 0, ()))]

    def players(self, state: ChainState) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: ChainState, player: int) -> ChainView:
        """Where the walker stands and when, not what is owed."""
        return ChainView(self.length, state.cell, state.step)

    def legal(self, state: ChainState, player: int) -> tuple[str, ...]:
        """Both ways, everywhere."""
        return ACTIONS

    def step(self, state: ChainState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Walk, slip, pay, and add the noise."""
        goes_on = actions[0] == "right"
        if self.slip and rng.random() < self.slip:
            goes_on = not goes_on
        disturbance = 0
        if self.noise and rng.random() < self.noise:
            disturbance = 1 if rng.random() < 0.5 else -1
        return self._walked(state, goes_on=goes_on, disturbance=disturbance)

    def outcomes(self, state: ChainState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """Up to six: slipped or not, by three kinds of noise; what cannot happen is left out."""
        intended = actions[0] == "right"
        found = []
        for goes_on, likely in ((intended, 1.0 - self.slip), (not intended, self.slip)):
            for disturbance, share in ((0, 1.0 - self.noise), (1, self.noise / 2), (-1, self.noise / 2)):
                if likely * share > 0.0:
                    found.append((likely * share, self._walked(state, goes_on=goes_on, disturbance=disturbance)))
        return found

    def heuristic(self, state: ChainState, player: int) -> str:
        """Right, which is best."""
        return "right"

    def _walked(self, state: ChainState, *, goes_on: bool, disturbance: int) -> Transition:
        cell = state.cell + 1 if goes_on else 0
        is_last = state.step == self.length - 1
        # What is due after the last decision but one, or later, is paid with the last.
        is_paid_alone = state.step + self.delay < self.length - 1
        waiting = (*state.waiting, cell) if is_paid_alone else state.waiting
        paid = state.paid
        if is_last:
            paid = cell
        elif state.step >= self.delay:
            paid, waiting = waiting[0], waiting[1:]
        after = ChainState(state.step + 1, cell, paid, waiting)
        parts = {"earned": (cell - state.cell) / self.length, "noise": float(disturbance)}
        return Transition(
            after,
            {0: (paid - state.paid) / self.length + disturbance},
            terminated=is_last,
            success={0: cell == self.length} if is_last else None,
            parts=parts,
        )

"""A game of your own in one file: the river crossing.

Run it, from the folder that holds this file:

    lapwing train my_game.toml --allow-code my_game
    lapwing audit my_game.toml --allow-code my_game --episodes 1024
    lapwing play my_game:RiverCrossing --allow-code my_game
    python my_game.py

The last line checks that the game keeps every promise that Lapwing builds on. A game has rules and nothing else: no
prompt, no parser, no memory. What a model reads is made of the view, field by field, or by a renderer of yours (`Prose`
below; in a recipe: `renderer = { name = "my_game:Prose" }`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import Message, Transition
from lapwing.games.contract import check_game

PASSENGERS = ("wolf", "goat", "cabbage")
ALONE = "alone"
ACTIONS = (*PASSENGERS, ALONE)
OTHER = {"near": "far", "far": "near"}


# 1. What is true. States are compared, remembered and sent to other processes: a frozen dataclass of plain values.
@dataclass(frozen=True, slots=True)
class River:
    """The bank, "near" or "far", that each of the four is on."""

    farmer: str = "near"
    wolf: str = "near"
    goat: str = "near"
    cabbage: str = "near"


# 2. What a player may know of it, again plain values. Here that is everything, so that the state is its own view.
View = River


# 3. The rules. The fields are the settings, which a recipe states under [stage.game]; their defaults stand here alone.
@dataclass(frozen=True)
class RiverCrossing:
    """Take a wolf, a goat and a cabbage across a river, one at a time.

    | action | meaning |
    | --- | --- |
    | wolf, goat, cabbage | cross with this one |
    | alone | cross without any |

    The farmer stays where he is, and the step is lost, if the one that he calls is on the other bank, or if he would
    leave the wolf with the goat, or the goat with the cabbage. Chance: with probability `current` the boat is driven
    back, and the step is lost too.

    View: the bank of each. Start: all four on the near bank. Reward: 1 when all are on the far bank, else 0. End: that.
    It takes 7 crossings.

    Attributes:
      current: probability that the boat is driven back, in [0, 1).
    """

    current: float = 0.1

    num_players: ClassVar[int] = 1
    # Lowest and highest reward of one step.
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    # Any state can be played on from: true of every game whose state is data.
    restorable: ClassVar[bool] = True
    # Every match ends with a word on whether it was won.
    has_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.current < 1.0:
            raise UserError(f"current is a probability in [0, 1), not {self.current}; set game.current.")

    def initial(self, rng: np.random.Generator) -> River:
        """All on the near bank."""
        return River()

    def players(self, state: River) -> tuple[int, ...]:
        """The seats that decide now: always the one player."""
        return (0,)

    def view(self, state: River, player: int) -> View:
        """Nothing is hidden."""
        return state

    def legal(self, state: River, player: int) -> tuple[str, ...]:
        """All four, everywhere; None would say that any text is an action."""
        return ACTIONS

    def step(self, state: River, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Cross, unless the current drives the boat back; all chance comes from `rng`, and `state` stays as it is."""
        return _moved(state, state if rng.random() < self.current else _crossed(state, actions[0]))

    # The rest is optional. With these two all chance can be listed: the game can be solved, and `lapwing audit` works.
    def initial_outcomes(self) -> list[tuple[float, River]]:
        """Every start with its probability."""
        return [(1.0, River())]

    def outcomes(self, state: River, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """Every result of `step` with its probability; what cannot happen is left out."""
        both = [(1.0 - self.current, _crossed(state, actions[0])), (self.current, state)]
        return [(probability, _moved(state, after)) for probability, after in both if probability > 0.0]

    # A simple strategy to compare with.
    def heuristic(self, state: River, player: int) -> str:
        """Take over the first who can safely come, and come back alone; it gets stuck when the goat is to come back."""
        wanted = PASSENGERS if state.farmer == "near" else (ALONE,)
        return next((who for who in wanted if _crossed(state, who) != state), ALONE)

    # A tiny model knows the words that it is told of, and no others: all that views and actions may hold.
    def words(self) -> tuple[str, ...]:
        """The banks and the actions; the names of the view's fields are known from the start's view."""
        return ("near", "far", *ACTIONS)


def _crossed(state: River, action: str) -> River:
    """Where everybody is after a crossing that the current does not hinder."""
    there = OTHER[state.farmer]
    if action != ALONE and getattr(state, action) != state.farmer:
        return state
    after = replace(state, farmer=there, **({} if action == ALONE else {action: there}))
    is_unsafe = after.goat != after.farmer and after.goat in (after.wolf, after.cabbage)
    return state if is_unsafe else after


def _across(state: River) -> int:
    return sum(getattr(state, who) == "far" for who in PASSENGERS)


def _moved(before: River, after: River) -> Transition:
    won = after == River("far", "far", "far", "far")
    return Transition(
        after,
        {0: float(won)},
        terminated=won,
        success={0: True} if won else None,
        # Named numbers for the log; a reward of your own can be made of them (my_reward.py).
        parts={"across": float(_across(after) - _across(before))},
    )


# 4. Optional: words of your own, for a model that reads English. The game does not know of them.
class Prose:
    """Says where everybody is in a sentence per bank."""

    def messages(self, view: View) -> list[Message]:
        """What the model reads: the chat messages that show a view."""
        banks = [f"On the {bank} bank : {self._there(view, bank)} ." for bank in ("near", "far")]
        return [Message(role="user", content=" ".join(banks))]

    def words(self, view: View) -> set[str]:
        """The words that it may use, for a tiny model; every word stands alone between blanks."""
        return {*("On", "the", "near", "far", "bank", ":", ".", "and", "nobody", "farmer"), *PASSENGERS}

    def _there(self, view: View, bank: str) -> str:
        found = [who for who in ("farmer", *PASSENGERS) if getattr(view, who) == bank]
        return " and ".join(found) or "nobody"


if __name__ == "__main__":
    check_game(RiverCrossing())
    print("The river crossing keeps every promise of a game.")

"""A game of several players in which it is drawn which seat the learner sits on."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from lapwing.core import registry
from lapwing.core.errors import UserError
from lapwing.core.types import Action, State, Transition, View
from lapwing.games.game import for_split, outcomes

_DEFAULT = {"name": "tic_tac_toe", "first": 0}
# Parts of the reward that belong to a seat end in its number, as `apples_1` on Snake.
_OF_SEAT = re.compile(r"(.*_)(\d+)")
_ASKED_BY_SEAT = ("heuristic", "scripted", "guess", "gold", "allowed", "demonstrate")
# What the wrapper has if the game has it.
_OPTIONAL = ("outcomes", "initial_outcomes", *_ASKED_BY_SEAT, "malformed", "is_out", "score_part", "words", "PRODUCES")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RotatedState:
    """By how many seats the match is rotated, and the state of the game."""

    shift: int
    state: State


@dataclass(frozen=True)
class Rotated:
    """Play a game from each of its seats: which of them seat 0 is, is drawn for each start.

    | action | meaning |
    | --- | --- |
    | … | those of the game that is played |

    View: that of the game that is played, from the seat that one sits on there.

    Start: with n players a shift s is drawn uniformly from 0 … n − 1, then a start of the game; seat i sits on the
    game's seat (i + s) mod n throughout the match. All episodes of a group share it. So a policy that learns in seat 0
    alone learns every seat of the game, and is measured in every seat, in equal shares. With `opening` above 0 a number
    from 0 to that is drawn, and as many moves of the start are drawn among the legal ones, while the game goes on: who
    only ever meets itself sees few positions, and forgets what to do in all others. Only the split of training begins
    so; all else begins at the game's own starts.

    Reward: that of the game, of the seat that one sits on. A named part of the reward that ends in a seat's number, as
    `apples_1` on Snake, is told under the number of who sits there.

    Reference: Silver et al. 2018, "A general reinforcement learning algorithm that masters chess, shogi, and Go through
      self-play", where a match is played in equal shares with either colour. https://doi.org/10.1126/science.aar6404

    Attributes:
      game: a table of the name and settings of a game of at least two players; left out, tic-tac-toe whose first seat
        begins.
      opening: how many moves may be drawn at random before a match of training begins, 0 to 1000.
      split: "all", "train", "development" or "test"; set by the engine.
    """

    game: dict[str, Any] | None = field(default=None, compare=False)
    opening: int = 0
    split: str = "all"
    inner: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.opening <= 1000:
            raise UserError(f"opening is a number of moves from 0 to 1,000, not {self.opening}; set game.opening.")
        object.__setattr__(self, "inner", for_split(_made(_DEFAULT if self.game is None else self.game), self.split))

    @property
    def num_players(self) -> int:
        """As many as the game has."""
        return self.inner.num_players

    @property
    def reward_range(self) -> tuple[float, float]:
        """That of the game."""
        return self.inner.reward_range

    @property
    def restorable(self) -> bool:
        """Whether the game's states can be stepped again."""
        return self.inner.restorable

    @property
    def has_success(self) -> bool:
        """Whether the game knows success."""
        return getattr(self.inner, "has_success", False)

    @property
    def null_ceiling(self) -> float | None:
        """That of the game in which who begins is drawn, or what the game says of it."""
        if hasattr(self.inner, "first"):
            return getattr(dataclasses.replace(self.inner, first=None), "null_ceiling", None)
        return getattr(self.inner, "rotated_null_ceiling", None)

    def for_split(self, split: str) -> "Rotated":
        """The game restricted to one split."""
        return dataclasses.replace(self, split=split)

    def initial(self, rng: np.random.Generator) -> RotatedState:
        """Draw who sits where, and a start of the game."""
        shift = int(rng.integers(self.num_players))
        start = self.inner.initial(rng)
        return RotatedState(shift, self._opened(start, rng) if self._opens else start)

    def players(self, state: RotatedState) -> tuple[int, ...]:
        """Who sits on the seats that decide."""
        return tuple(sorted(self._sitting(state, seat) for seat in self.inner.players(state.state)))

    def view(self, state: RotatedState, player: int) -> View:
        """What is seen from the seat that the player sits on."""
        return self.inner.view(state.state, self._seat(state, player))

    def legal(self, state: RotatedState, player: int) -> Sequence[Action] | None:
        """What is legal on the seat that the player sits on."""
        return self.inner.legal(state.state, self._seat(state, player))

    def step(self, state: RotatedState, actions: Mapping[int, Action], rng: np.random.Generator) -> Transition:
        """A step of the game."""
        return self._told(state, self.inner.step(state.state, self._seated(state, actions), rng))

    def __getattr__(self, name: str) -> Any:
        """What the game has besides, the rotated one has too: exact outcomes, a heuristic, a scripted opponent."""
        if name.startswith("_") or name not in _OPTIONAL or (name == "initial_outcomes" and self._opens):
            raise AttributeError(name)
        found = getattr(self.inner, name)
        if name in _ASKED_BY_SEAT:
            return self._asked(found)
        return {"outcomes": self._outcomes, "initial_outcomes": self._starts}.get(name, found)

    @property
    def _opens(self) -> bool:
        return self.opening > 0 and self.split == "train"

    def _opened(self, state: State, rng: np.random.Generator) -> State:
        """The state after a few moves at random, none of which ends the game."""
        for _ in range(int(rng.integers(self.opening + 1))):
            listed = {seat: self.inner.legal(state, seat) for seat in self.inner.players(state)}
            if not all(listed.values()):
                raise UserError("game.opening draws among legal actions, and this game lists none; leave it out.")
            actions = {seat: legal[int(rng.integers(len(legal)))] for seat, legal in listed.items()}
            transition = self.inner.step(state, actions, rng)
            if transition.terminated:
                break
            state = transition.state
        return state

    def _asked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The game's own method of a state and a seat, for a state and a player here."""

        def asked(state: RotatedState, player: int, *rest: Any, **settings: Any) -> Any:
            return call(state.state, self._seat(state, player), *rest, **settings)

        return asked

    def _outcomes(self, state: RotatedState, actions: Mapping[int, Action]) -> list[tuple[float, Transition]]:
        found = outcomes(self.inner, state.state, self._seated(state, actions))
        return [(p, self._told(state, transition)) for p, transition in found]

    def _starts(self) -> list[tuple[float, RotatedState]]:
        n = self.num_players
        return [(p / n, RotatedState(shift, state)) for shift in range(n) for p, state in self.inner.initial_outcomes()]

    def _seat(self, state: RotatedState, player: int) -> int:
        return (player + state.shift) % self.num_players

    def _sitting(self, state: RotatedState, seat: int) -> int:
        return (seat - state.shift) % self.num_players

    def _seated(self, state: RotatedState, actions: Mapping[int, Action]) -> dict[int, Action]:
        return dict(sorted((self._seat(state, player), action) for player, action in actions.items()))

    def _of_players(self, state: RotatedState, values: Mapping[int, T] | None) -> dict[int, T] | None:
        return None if values is None else {self._sitting(state, seat): value for seat, value in values.items()}

    def _told(self, state: RotatedState, transition: Transition) -> Transition:
        return Transition(
            RotatedState(state.shift, transition.state),
            self._of_players(state, transition.reward) or {},
            transition.terminated,
            self._of_players(state, transition.success),
            self._of_players(state, transition.outcome),
            {self._part(state, name): value for name, value in transition.parts.items()},
        )

    def _part(self, state: RotatedState, name: str) -> str:
        found = _OF_SEAT.fullmatch(name)
        if found is None or int(found[2]) >= self.num_players:
            return name
        return f"{found[1]}{self._sitting(state, int(found[2]))}"


def _made(entry: Mapping[str, Any]) -> Any:
    """The game that a table names.

    Raises:
      UserError: there is none, its settings are wrong, or one player plays it alone.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise UserError("game.game needs a name, as in { name = 'tic_tac_toe', first = 0 }.")
    make = registry.resolve("games", entry["name"])
    try:
        game = make(**{key: value for key, value in entry.items() if key != "name"})
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"game.game: {entry['name']} does not take these settings: {error}.") from None
    if game.num_players < 2:
        raise UserError(f"Seats rotate among several players, and {entry['name']} has one; name it without 'rotated'.")
    return game

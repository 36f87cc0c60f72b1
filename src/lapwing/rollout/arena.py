"""The arena: where the games of many matches are stepped, and where a fault in one of them is kept from the others.

`play` asks policies and an arena answers for the games: `Here` in this process, `lapwing.rollout.workers` in others.
This module is all that a worker process imports of Lapwing: it needs NumPy and the game.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from lapwing.core import rng
from lapwing.core.errors import GameError, LapwingError, UserError
from lapwing.core.storage import key_of
from lapwing.core.types import Action, Match, State, Transition, View
from lapwing.games.game import drawn, has_exact_outcomes, initial_state, outcomes
from lapwing.rollout._faults import CAUGHT, Fault, fault_of
from lapwing.rollout._known_steps import KnownSteps
from lapwing.rollout._transitions import bounds_of, check_players, check_transition

_ALONE = (0,)
_OVER = "The match is over and cannot be stepped."


class Position(NamedTuple):
    """Where a match stands, and all that players are asked or told there.

    Attributes:
      state: of the game; None where it stays in another process.
      players: who decides; nobody if the match is over.
      views: of every seat.
      keys: the 64-bit keys of these views.
      legal: for each of `players` the legal actions, or None.
    """

    state: State
    players: tuple[int, ...]
    views: Sequence[View]
    keys: Sequence[int]
    legal: Sequence[Sequence[Action] | None]


# The same at a third of the time, which every step of every match pays.
_position = tuple.__new__

# A step of a game, and where the match stands after it.
Moved = tuple[Transition, Position]


class GameFault(Exception):
    """A game failed where nobody knows yet in which matches that matters."""


@contextlib.contextmanager
def from_game() -> Iterator[None]:
    """Turn what a game raises into a `GameFault`; a UserError stays what it is."""
    try:
        yield
    except UserError:
        raise
    except CAUGHT as error:
        raise GameFault from error


class Arena(Protocol):
    """Steps the games of the matches that were begun last.

    Attributes:
      reissued: matches that had to be given out again since the arena was made.
      now: the match whose game is at work, if any; other threads may read it.
    """

    reissued: int
    now: Match | None

    def begin(self, matches: Sequence[Match]) -> Sequence[Position | Fault]:
        """Where each match begins; from now on a match is known by its place in this list."""
        ...

    def advance(self, moves: Sequence[tuple[int, Mapping[int, Action]]]) -> Iterable[Moved | Fault]:
        """Step the games of some matches.

        Args:
          moves: numbers of matches, and what their players do.

        Returns:
          What came of each, in their order; to be gone through once, and to its end.
        """
        ...


class Standing:
    """The game's side of a match that is being played."""

    __slots__ = (
        *("bounds", "chance", "chance_key", "enumerable", "game", "is_over"),
        *("keys", "known", "match", "max_steps", "past", "state", "steps"),
    )

    def __init__(self, match: Match) -> None:
        """Nothing is drawn yet."""
        self.match = match
        self.game = match.game
        self.enumerable = has_exact_outcomes(match.game)
        others = "shared" if match.share_chance else match.member
        self.chance = ("chance", match.seed, match.split, match.iteration, match.group, others)
        self.chance_key = 0
        self.bounds = bounds_of(match.game)
        self.max_steps = match.max_steps
        self.steps = 0
        self.is_over = False
        # Where a state cannot be stepped twice, the match is played again from its start.
        self.past: list[Mapping[int, Action]] | None = None if match.game.restorable else []
        self.state: State = None
        self.keys: Sequence[int] = ()
        # Where steps may be shared; None where each is made for itself.
        self.known: KnownSteps | None = None

    def start(self) -> Position:
        """Draw the initial state."""
        return self._stand(initial_state(self.match))

    def advance(self, actions: Mapping[int, Action]) -> Moved:
        """Step the game; nothing is changed here if that fails.

        Raises:
          GameError: what the game returned is no transition that can be learnt from.
          LapwingError: the match is over.
        """
        if self.is_over:
            raise LapwingError(_OVER)
        is_last = self.steps + 1 >= self.max_steps
        moved = self._known(actions, is_last)
        transition, position = moved
        self.steps += 1
        self.is_over = is_last or transition.terminated
        self.state = transition.state
        if self.past is not None:
            self.past.append(actions)
            self.keys = position[3]
        return moved

    def _known(self, actions: Mapping[int, Action], is_last: bool) -> Moved:
        """What a step of the game does, made only if no equal one is known."""
        if self.known is None:
            return self._made(actions, is_last)[0]
        step, chance = (self.state, is_last, *actions.items()), (*self.chance, self.steps)
        try:
            moved = self.known.get(step, chance)
        except CAUGHT:  # states that cannot be compared
            self.known = None
            return self._made(actions, is_last)[0]
        if moved is None:
            moved, has_drawn = self._made(actions, is_last)
            self.known.add(step, chance if has_drawn else None, moved)
        return moved

    def _made(self, actions: Mapping[int, Action], is_last: bool) -> tuple[Moved, bool]:
        """What a step of the game does, and whether it depends on the match's chance."""
        if not self.enumerable:
            chance = rng.lazy_generator(*self.chance, self.steps)
            transition = self.game.step(self.state, actions, chance)
            has_drawn = rng.has_drawn(chance)
        else:
            # One number decides among the listed outcomes, so that play on a table draws the same ones.
            possible = outcomes(self.game, self.state, actions)
            has_drawn = len(possible) != 1
            transition = drawn(possible, self._height()) if has_drawn else possible[0][1]
        check_transition(self.game, transition, self.bounds)
        position = look(self.game, transition.state, is_last or transition.terminated)
        return (transition, position), has_drawn

    def _height(self) -> float:
        self.chance_key = self.chance_key or rng.fold(0, *self.chance)
        return rng.unit(rng.fold(self.chance_key, self.steps))

    def again(self) -> "Standing":
        """The same match at the same point, where its last step failed.

        Raises:
          GameError: the match goes another way now.
        """
        return self if self.past is None else replayed(self.match, self.past, self.keys)

    def _stand(self, state: State) -> Position:
        position = look(self.game, state, False)
        self.state, self.keys = state, position.keys
        return position


def restored(match: Match, state: State, steps: int) -> Standing:
    """A match as it stands in the state of a game that is restorable."""
    standing = Standing(match)
    standing.state, standing.steps = state, steps
    return standing


def replayed(match: Match, past: Sequence[Mapping[int, Action]], keys: Sequence[int]) -> Standing:
    """A match that is played again from its start; its chance is keyed, so that it is the same play.

    Args:
      match: which.
      past: what was done so far.
      keys: of the views that this led to.

    Raises:
      GameError: the game shows other views now.
    """
    standing = Standing(match)
    standing.start()
    for actions in past:
        standing.advance(actions)
    if tuple(standing.keys) != tuple(keys):
        raise GameError(
            f"{type(match.game).__name__} went another way when the match was played again with the same actions; "
            "all chance comes from the rng argument."
        )
    return standing


def look(game: Any, state: State, is_over: bool) -> Position:
    """Ask a game for all that players are asked or told in a state.

    Raises:
      GameError: nobody decides, or a player has an empty list of actions.
    """
    if game.num_players == 1:
        view = game.view(state, 0)
        views, keys = (view,), (key_of_view(view),)
    else:
        views = tuple([game.view(state, seat) for seat in range(game.num_players)])
        keys = tuple([key_of_view(view) for view in views])
    if is_over:
        return _position(Position, (state, (), views, keys, ()))
    players = game.players(state)
    if players == _ALONE:
        actions = game.legal(state, 0)
        legal = (actions,)
        is_stuck = not actions and actions is not None
    else:
        check_players(game, players)
        legal = tuple([game.legal(state, player) for player in players])
        is_stuck = any([not actions and actions is not None for actions in legal])
    if is_stuck:
        raise GameError(f"{type(game).__name__} lists no legal actions, though the match goes on.")
    return _position(Position, (state, players, views, keys, legal))


class Here:
    """Steps games in this process; a match whose game fails is played once more and then given up."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.reissued = 0
        self.now: Match | None = None
        self._standing: dict[int, Standing] = {}

    def begin(self, matches: Sequence[Match]) -> list[Position | Fault]:
        """Where each match begins.

        Raises:
          UserError: a game says that the user's input was wrong.
        """
        self._standing = {}
        found = [self.begin_one(number, match) for number, match in enumerate(matches)]
        self.now = None
        known: dict[int, KnownSteps] = {}
        for standing in self._standing.values():
            if standing.past is None:
                standing.known = known.setdefault(id(standing.game), KnownSteps())
        return found

    def advance(self, moves: Sequence[tuple[int, Mapping[int, Action]]]) -> Iterator[Moved | Fault]:
        """Step some matches, one after the other.

        Raises:
          UserError: a game says that the user's input was wrong.
          LapwingError: a match is over.
        """
        standings = self._standing
        for number, actions in moves:
            standing = standings.get(number)
            if standing is None:
                raise LapwingError(_OVER)
            self.now = standing.match
            try:
                moved = standing.advance(actions)
            except UserError:
                raise
            except CAUGHT:
                moved = self._once_more(number, standing, actions)
                standing = standings.get(number)
            if standing is None or standing.is_over:
                self.drop(number)
            yield moved
        self.now = None

    def begin_one(self, number: int, match: Match) -> Position | Fault:
        """As `begin`, for one match that gets this number."""
        self.now = match
        try:
            standing = Standing(match)
            position = standing.start()
        except UserError:
            raise
        except CAUGHT:
            self.reissued += 1
            try:
                standing = Standing(match)
                position = standing.start()
            except UserError:
                raise
            except CAUGHT as error:
                return fault_of(match, None, error)
        self._standing[number] = standing
        return position

    def match(self, number: int) -> Match:
        """The match of this number.

        Raises:
          LapwingError: it is over, or was never begun.
        """
        standing = self._standing.get(number)
        if standing is None:
            raise LapwingError(_OVER)
        return standing.match

    def take_up(self, number: int, standing: Standing) -> None:
        """Go on with a match that was played elsewhere."""
        self._standing[number] = standing

    def drop(self, number: int) -> None:
        """Nobody goes on with this match."""
        self._standing.pop(number, None)

    def _once_more(self, number: int, standing: Standing, actions: Mapping[int, Action]) -> Moved | Fault:
        self.reissued += 1
        try:
            standing = self._standing[number] = standing.again()
            return standing.advance(actions)
        except UserError:
            raise
        except CAUGHT as error:
            self.drop(number)
            return fault_of(standing.match, standing.steps, error)


@lru_cache(maxsize=1 << 17)
def key_of_view(view: View) -> int:
    """The key of a view, remembered."""
    return key_of(view)


@lru_cache(maxsize=1 << 12)
def key_of_action(action: Action) -> int:
    """The key of an action, remembered."""
    return key_of(action)

"""Enumerate a finite game into arrays, as the player in seat 0 sees it."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from lapwing.core.errors import UserError
from lapwing.core.types import Action, State, Transition

# A fixed opponent: the actions that it may take in a state, with their probabilities.
Opponent = Callable[[Any, State, int], Sequence[tuple[float, Action]]]
# The only action of a state in which seat 0 does not decide.
WAIT = "wait"


@dataclass(frozen=True, eq=False)
class TabularGame:
    """A game as arrays, seen from seat 0: S states, A actions at most, M possible transitions.

    The moves of fixed opponents are part of the transition probabilities. A state in which only opponents move has one
    action, `WAIT`, so that a transition is always one step of the game and a step cap means the same as in play.

    Attributes:
      states: the states in the order in which they were found from the starts.
      legal: the legal actions of each state; none where the game is always over.
      start: [S] probability of starting in each state.
      row: [M] the pair `state · A + action` that a transition belongs to, ascending.
      probability: [M] of the transition, given its pair; 1 in sum.
      next_state: [M] index of the state after it.
      reward: [M] its reward plus its outcome.
      terminated: [M] whether it ends the game.
      waits: [S] states in which only opponents move; none in a game of one player.
    """

    states: tuple[State, ...]
    legal: tuple[tuple[Action, ...], ...]
    start: np.ndarray
    row: np.ndarray
    probability: np.ndarray
    next_state: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    waits: np.ndarray

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.states)

    @cached_property
    def num_actions(self) -> int:
        """A, the largest number of legal actions in a state; at least 1."""
        return max(1, *(len(actions) for actions in self.legal))

    @cached_property
    def index(self) -> dict[State, int]:
        """The index of each state."""
        return {state: index for index, state in enumerate(self.states)}

    @cached_property
    def is_legal(self) -> np.ndarray:
        """[S, A] which actions exist."""
        lengths = np.array([len(actions) for actions in self.legal])
        return np.arange(self.num_actions) < lengths[:, None]

    @cached_property
    def decides(self) -> np.ndarray:
        """[S] in which states seat 0 decides: the game goes on and it is its turn."""
        return self.is_legal[:, 0] & ~self.waits

    @cached_property
    def expected_reward(self) -> np.ndarray:
        """[S, A] mean reward of each action, 0 where it does not exist."""
        shape = (self.num_states, self.num_actions)
        return np.bincount(self.row, self.probability * self.reward, minlength=shape[0] * shape[1]).reshape(shape)

    @cached_property
    def continuation(self) -> sparse.csr_array:
        """[S · A, S] probability of going on in each state; a transition that ends the game is left out."""
        shape = (self.num_states * self.num_actions, self.num_states)
        weight = np.where(self.terminated, 0.0, self.probability)
        return sparse.coo_array((weight, (self.row, self.next_state)), shape=shape).tocsr()

    def transitions(self, state: int, action: int) -> list[tuple[float, int, float, bool]]:
        """The (probability, next state, reward, terminated) of one action.

        Args:
          state: index of the state.
          action: index among its legal actions.
        """
        low, high = np.searchsorted(self.row, state * self.num_actions + action + np.arange(2))
        columns = (self.probability, self.next_state, self.reward, self.terminated)
        return list(zip(*(column[low:high].tolist() for column in columns), strict=True))

    def action_values(self, value: np.ndarray, *, discount: float = 1.0) -> np.ndarray:
        """Look one step ahead.

            q(s, a) = Σ p · (r + γ · v(s'))      with v = 0 after a transition that ends the game

        Args:
          value: [S] what each state is worth after the step.
          discount: γ, per decision of seat 0, in [0, 1]; what happens before its next decision is not discounted.

        Returns:
          [S, A] in units of reward; 0 where the action does not exist.
        """
        onward = self.continuation @ np.where(self.waits, value, discount * value)
        return self.expected_reward + onward.reshape(self.num_states, self.num_actions)


def enumerate_game(
    game: Any,
    start_states: Sequence[State] | None = None,
    *,
    opponents: Mapping[int, Opponent] | None = None,
    max_states: int = 100_000,
) -> TabularGame:
    """Follow every action and every outcome from the starts until nothing new is found.

    Args:
      game: has `outcomes` and a finite list of legal actions in every state.
      start_states: the starts, all equally likely (one given twice counts twice); left out, those of the game's
        `initial_outcomes`.
      opponents: the fixed opponents of a game of several players, by seat; seat 0 is the one that is solved for.
      max_states: more states than this are refused.

    Returns:
      The game as arrays.

    Raises:
      UserError: the game cannot be enumerated; the message says why.
    """
    name = type(game).__name__
    missing = set(range(1, game.num_players)) - set(opponents or {})
    if missing:
        raise UserError(
            f"{name} has {game.num_players} players; it can be enumerated only against fixed opponents, and there is "
            f"none for seat {min(missing)}."
        )
    if not hasattr(game, "outcomes"):
        raise UserError(
            f"{name} cannot be enumerated, because its chance is not listed (there is no method outcomes); choose "
            "another game."
        )
    starts = _starts(game, name, start_states)
    index: dict[State, int] = {}
    for _, state in starts:
        index.setdefault(state, len(index))
    seats = _Seats(game, name, opponents or {})
    legal, rows = _explore(seats, index, max_states)
    start = np.zeros(len(index))
    for probability, state in starts:
        start[index[state]] += probability
    waits = np.array([bool(actions) and not seats.decides(state) for state, actions in zip(index, legal, strict=True)])
    return _to_table(tuple(index), legal, rows, start, waits)


def _starts(game: Any, name: str, start_states: Sequence[State] | None) -> list[tuple[float, State]]:
    if start_states is None:
        if not hasattr(game, "initial_outcomes"):
            raise UserError(f"{name} does not list its starts; pass start_states to enumerate it.")
        return game.initial_outcomes()
    if not start_states:
        raise UserError(f"There is no state to start {name} from; pass at least one in start_states.")
    return [(1.0 / len(start_states), state) for state in start_states]


_Row = tuple[int, int, float, int, float, bool]  # state, action, probability, next state, reward, terminated


@dataclass(frozen=True)
class _Seats:
    """A game with its opponents as part of its chance."""

    game: Any
    name: str
    opponents: Mapping[int, Opponent]

    def decides(self, state: State) -> bool:
        return not self.opponents or 0 in self.game.players(state)

    def legal(self, state: State) -> tuple[Action, ...]:
        if not self.decides(state):
            return (WAIT,)
        legal = self.game.legal(state, 0)
        if legal is None:
            raise UserError(
                f"{self.name} cannot be enumerated, because it takes any text as an action; choose another game."
            )
        if not legal:
            raise UserError(
                f"{self.name} has no legal action in a state where the game goes on; it cannot be enumerated."
            )
        return tuple(legal)

    def outcomes(self, state: State, action: Action) -> list[tuple[float, Transition]]:
        if not self.opponents:
            return self.game.outcomes(state, {0: action})
        players = self.game.players(state)
        own = {0: action} if 0 in players else {}
        others = [player for player in players if player != 0]
        possible = [self.opponents[player](self.game, state, player) for player in others]
        found = []
        for choice in itertools.product(*possible):
            weight = float(np.prod([probability for probability, _ in choice]))
            actions = {**own, **{player: chosen for player, (_, chosen) in zip(others, choice, strict=True)}}
            found += [(weight * p, transition) for p, transition in self.game.outcomes(state, actions) if weight > 0.0]
        return found


def _explore(
    seats: _Seats, index: dict[State, int], max_states: int
) -> tuple[tuple[tuple[Action, ...], ...], list[_Row]]:
    """Breadth first; `index` grows by what is found."""
    pending = list(index)
    is_pending = set(pending)
    legal: dict[int, tuple[Action, ...]] = {}
    rows: list[_Row] = []
    for state in pending:  # grows while it is walked
        here = index[state]
        legal[here] = seats.legal(state)
        for action_index, action in enumerate(legal[here]):
            for probability, transition in seats.outcomes(state, action):
                after = transition.state
                there = index.setdefault(after, len(index))
                rows.append((here, action_index, probability, there, _reward(transition), transition.terminated))
                if not transition.terminated and after not in is_pending:
                    is_pending.add(after)
                    pending.append(after)
        if len(index) > max_states:
            raise UserError(
                f"{seats.name} has more than {max_states} states; choose a smaller game or raise max_states."
            )
    return tuple(legal.get(number, ()) for number in range(len(index))), rows


def _reward(transition: Transition) -> float:
    outcome = 0.0 if transition.outcome is None else transition.outcome.get(0, 0.0)
    return transition.reward.get(0, 0.0) + outcome


def _to_table(
    states: tuple[State, ...],
    legal: tuple[tuple[Action, ...], ...],
    rows: list[_Row],
    start: np.ndarray,
    waits: np.ndarray,
) -> TabularGame:
    state, action, probability, next_state, reward, terminated = (
        np.array(column, dtype=kind)
        for column, kind in zip(
            zip(*rows, strict=True), (np.int64, np.int64, np.float64, np.int64, np.float64, np.bool_), strict=True
        )
    )
    row = state * max(len(actions) for actions in legal) + action
    order = np.argsort(row, kind="stable")
    return TabularGame(
        states=states,
        legal=legal,
        start=start,
        row=row[order],
        probability=probability[order],
        next_state=next_state[order],
        reward=reward[order],
        terminated=terminated[order],
        waits=waits,
    )

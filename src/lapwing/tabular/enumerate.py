"""Enumerate a finite one-player game into arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from lapwing.core.errors import UserError
from lapwing.core.types import Action, State, Transition


@dataclass(frozen=True, eq=False)
class TabularGame:
    """A one-player game as arrays: S states, A actions at most, M possible transitions.

    Attributes:
      states: the states in the order in which they were found from the starts.
      legal: the legal actions of each state; none where the game is always over.
      start: [S] probability of starting in each state.
      row: [M] the pair `state · A + action` that a transition belongs to, ascending.
      probability: [M] of the transition, given its pair; 1 in sum.
      next_state: [M] index of the state after it.
      reward: [M] its reward plus its outcome.
      terminated: [M] whether it ends the game.
    """

    states: tuple[State, ...]
    legal: tuple[tuple[Action, ...], ...]
    start: np.ndarray
    row: np.ndarray
    probability: np.ndarray
    next_state: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray

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
          discount: γ, per step, in [0, 1].

        Returns:
          [S, A] in units of reward; 0 where the action does not exist.
        """
        onward = self.continuation @ value
        return self.expected_reward + discount * onward.reshape(self.num_states, self.num_actions)


def enumerate_game(game: Any, start_states: Sequence[State] | None = None, *, max_states: int = 100_000) -> TabularGame:
    """Follow every action and every outcome from the starts until nothing new is found.

    Args:
      game: a game of one player with `outcomes` and a finite list of legal actions in every state.
      start_states: the starts, all equally likely (one given twice counts twice); left out, those of the game's
        `initial_outcomes`.
      max_states: more states than this are refused.

    Returns:
      The game as arrays.

    Raises:
      UserError: the game cannot be enumerated; the message says why.
    """
    name = type(game).__name__
    if game.num_players != 1:
        raise UserError(f"{name} has {game.num_players} players; only games of one player can be enumerated.")
    if not hasattr(game, "outcomes"):
        raise UserError(f"{name} cannot be enumerated, because it has no method outcomes; add one, or choose another.")
    starts = _starts(game, name, start_states)
    index: dict[State, int] = {}
    for _, state in starts:
        index.setdefault(state, len(index))
    legal, rows = _explore(game, name, index, max_states)
    start = np.zeros(len(index))
    for probability, state in starts:
        start[index[state]] += probability
    return _to_table(tuple(index), legal, rows, start)


def _starts(game: Any, name: str, start_states: Sequence[State] | None) -> list[tuple[float, State]]:
    if start_states is None:
        if not hasattr(game, "initial_outcomes"):
            raise UserError(f"{name} does not list its starts; pass start_states to enumerate it.")
        return game.initial_outcomes()
    if not start_states:
        raise UserError(f"There is no state to start {name} from; pass at least one in start_states.")
    return [(1.0 / len(start_states), state) for state in start_states]


_Row = tuple[int, int, float, int, float, bool]  # state, action, probability, next state, reward, terminated


def _explore(
    game: Any, name: str, index: dict[State, int], max_states: int
) -> tuple[tuple[tuple[Action, ...], ...], list[_Row]]:
    """Breadth first; `index` grows by what is found."""
    pending = list(index)
    is_pending = set(pending)
    legal: dict[int, tuple[Action, ...]] = {}
    rows: list[_Row] = []
    for state in pending:  # grows while it is walked
        here = index[state]
        legal[here] = _legal(game, name, state)
        for action_index, action in enumerate(legal[here]):
            for probability, transition in game.outcomes(state, {0: action}):
                after = transition.state
                there = index.setdefault(after, len(index))
                rows.append((here, action_index, probability, there, _reward(transition), transition.terminated))
                if not transition.terminated and after not in is_pending:
                    is_pending.add(after)
                    pending.append(after)
        if len(index) > max_states:
            raise UserError(f"{name} has more than {max_states} states; choose a smaller game or raise max_states.")
    return tuple(legal.get(number, ()) for number in range(len(index))), rows


def _legal(game: Any, name: str, state: State) -> tuple[Action, ...]:
    legal = game.legal(state, 0)
    if legal is None:
        raise UserError(f"{name} cannot be enumerated, because it takes any text as an action; choose another game.")
    if not legal:
        raise UserError(f"{name} has no legal action in a state where the game goes on; it cannot be enumerated.")
    return tuple(legal)


def _reward(transition: Transition) -> float:
    return transition.reward[0] + (0.0 if transition.outcome is None else transition.outcome[0])


def _to_table(
    states: tuple[State, ...], legal: tuple[tuple[Action, ...], ...], rows: list[_Row], start: np.ndarray
) -> TabularGame:
    state, action, probability, next_state, reward, terminated = (
        np.array(column, dtype=kind)
        for column, kind in zip(
            zip(*rows, strict=True), (np.int64, np.int64, np.float64, np.int64, np.float64, np.bool_), strict=True
        )
    )
    row = state * max(len(actions) for actions in legal) + action
    order = np.argsort(row, kind="stable")
    columns = (row, probability, next_state, reward, terminated)
    return TabularGame(states, legal, start, *(column[order] for column in columns))

"""Enumerate a finite game of several players into arrays: its states, and what each player can tell apart."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import Action, State, Transition, View
from lapwing.tabular.enumerate import Opponent


@dataclass(frozen=True, eq=False)
class ExtensiveGame:
    """A game in extensive form whose histories are merged by state: P players, S states, V sets, Q choices, M moves.

    An information set is what a player can tell apart: the pair (seat, view). A choice is a legal action in one of
    them; the choices of all sets lie end to end. A profile, the policies of all players together, is one probability
    for each choice, [Q]. Several players may decide at once: a move belongs to one choice of each.

    Attributes:
      name: of the game, for messages.
      num_players: P.
      states: in the order in which they were found from the starts.
      start: [S] probability of starting in each state.
      seat: [V] whose set it is.
      views: what is seen in each set.
      legal: the legal actions of each set.
      choice_splits: [V+1] where the choices of each set begin and end.
      set_of: [S, P] the set of each player who decides in a state; −1 where a player does not.
      source, target: [M] the states before and after a move.
      choice: [M, P] what each player chose; −1 where a player does not decide.
      chance: [M] probability of the move, given the choices; fixed opponents are part of it.
      reward: [M, P] reward plus outcome.
      terminated: [M] whether it ends the game.
    """

    name: str
    num_players: int
    states: tuple[State, ...]
    start: np.ndarray
    seat: np.ndarray
    views: tuple[View, ...]
    legal: tuple[tuple[Action, ...], ...]
    choice_splits: np.ndarray
    set_of: np.ndarray
    source: np.ndarray
    target: np.ndarray
    choice: np.ndarray
    chance: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray

    @property
    def num_sets(self) -> int:
        """V."""
        return len(self.seat)

    @property
    def num_choices(self) -> int:
        """Q."""
        return int(self.choice_splits[-1])

    @cached_property
    def set_of_choice(self) -> np.ndarray:
        """[Q] the set that each choice belongs to."""
        return np.repeat(np.arange(self.num_sets), np.diff(self.choice_splits))

    @cached_property
    def states_in_set(self) -> np.ndarray:
        """[V] how many states look the same to the player."""
        found = self.set_of[self.set_of >= 0]
        return np.bincount(found, minlength=self.num_sets)

    @property
    def is_observed(self) -> bool:
        """Whether every player who decides knows the state."""
        return bool((self.states_in_set == 1).all())

    @cached_property
    def is_zero_sum(self) -> bool:
        """Whether there are two players and what one gets the other loses."""
        return self.num_players == 2 and bool(np.allclose(self.reward.sum(axis=1), 0.0, atol=1e-12))

    @cached_property
    def layers(self) -> tuple[np.ndarray, ...]:
        """The moves, in groups whose source is ever further from the end: values are worked out group by group.

        Raises:
          UserError: a state can come back.
        """
        found = _layers(np.arange(len(self.states)), len(self.states), self)
        if found is None:
            raise UserError(
                f"{self.name} can come back to a state that it was in before, so that a match has no longest course; "
                "the exact answer for several players needs one. Choose another game."
            )
        return found

    @property
    def most_steps(self) -> int:
        """How many steps the longest match has."""
        return len(self.layers)

    def layers_of(self, player: int) -> tuple[np.ndarray, ...]:
        """The same as `layers`, with all states of each set of a player in one group.

        Args:
          player: who remembers what its sets must tell; see `check_recall`.
        """
        size = len(self.states)
        own = self.set_of[:, player]
        node = np.where(own >= 0, size + own, np.arange(size))
        found = _layers(node, size + self.num_sets, self)
        assert found is not None, "sets that remember the own choices lie one after the other"
        return found

    def last_choices(self, player: int) -> tuple[np.ndarray, np.ndarray]:
        """The last choice of a player on the way to each state, or −1 before its first.

        Returns:
          The least and the greatest number of such a choice over all ways, int64 [S] each; equal where there is one.
        """
        least = np.where(self.start > 0.0, -1, np.iinfo(np.int64).max)
        most = np.where(self.start > 0.0, -1, -2)
        for every in reversed(self.layers):
            layer = every[~self.terminated[every]]
            own = self.choice[layer, player]
            source, target = self.source[layer], self.target[layer]
            np.minimum.at(least, target, np.where(own >= 0, own, least[source]))
            np.maximum.at(most, target, np.where(own >= 0, own, most[source]))
        return least, most

    def check_recall(self, player: int, *, everywhere: bool = False) -> np.ndarray:
        """Refuse a game in which a player cannot tell apart states that it came to by different own choices.

        Where a set holds a single state this is needed only for what averages over own histories, as CFR does.

        Args:
          player: of the game.
          everywhere: check the sets with a single state too.

        Returns:
          The player's last choice before each of its sets, −1 for none, int64 [V]; −1 in other players' sets too.

        Raises:
          UserError: a view forgets what the player did.
        """
        least, most = self.last_choices(player)
        own = self.set_of[:, player]
        at = np.flatnonzero(own >= 0)
        low = np.full(self.num_sets, np.iinfo(np.int64).max)
        high = np.full(self.num_sets, -1)
        np.minimum.at(low, own[at], least[at])
        np.maximum.at(high, own[at], most[at])
        is_own = self.seat == player
        wrong = is_own & (low != high) & ((self.states_in_set > 1) | everywhere)
        if wrong.any():
            view = self.views[int(np.flatnonzero(wrong)[0])]
            raise UserError(
                f"In {self.name} a view forgets what its player did before: {view} is seen after different own "
                "choices. This exact answer needs perfect recall, views that tell the own choices so far; choose a "
                "setting of the game that shows them, or another game."
            )
        return np.where(is_own & (low == high), high, -1)

    def uniform_profile(self) -> np.ndarray:
        """All legal actions of each set equally likely, [Q]."""
        return 1.0 / np.diff(self.choice_splits)[self.set_of_choice]


def extensive_game(
    game: Any, *, opponents: Mapping[int, Opponent] | None = None, max_states: int = 100_000
) -> ExtensiveGame:
    """Follow every action of every player and every outcome from the starts.

    Args:
      game: has `initial_outcomes`, `outcomes`, and finite lists of legal actions.
      opponents: seats that are fixed: their moves become a part of chance, and they have no information sets.
      max_states: more states than this are refused.

    Returns:
      The game as arrays.

    Raises:
      UserError: the game cannot be enumerated; the message says why.
    """
    name = type(game).__name__
    for method, what in (("outcomes", "its chance"), ("initial_outcomes", "its starts")):
        if not callable(getattr(game, method, None)):
            raise UserError(
                f"{name} cannot be enumerated, because it does not list {what} (there is no method {method}); choose "
                "another game."
            )
    return _Enumeration(game, name, dict(opponents or {}), max_states).run()


class _Enumeration:
    """What is found while the states are walked through."""

    def __init__(self, game: Any, name: str, opponents: dict[int, Opponent], max_states: int) -> None:
        self.game = game
        self.name = name
        self.opponents = opponents
        self.max_states = max_states
        self.index: dict[State, int] = {}
        self.set_index: dict[tuple[int, View], int] = {}
        self.legal: list[tuple[Action, ...]] = []
        self.first_choice = [0]
        self.deciding: dict[int, dict[int, int]] = {}
        self.rows: list[tuple[int, int, list[int], float, list[float], bool]] = []

    def run(self) -> ExtensiveGame:
        starts = self.game.initial_outcomes()
        for _, state in starts:
            self.index.setdefault(state, len(self.index))
        pending = list(self.index)
        is_pending = set(pending)
        for state in pending:  # grows while it is walked
            for _, transition in self.moves(state):
                if not transition.terminated and transition.state not in is_pending:
                    is_pending.add(transition.state)
                    pending.append(transition.state)
            if len(self.index) > self.max_states:
                raise UserError(
                    f"{self.name} has more than {self.max_states} states, too many for an exact answer; choose a "
                    "smaller game."
                )
        start = np.zeros(len(self.index))
        for probability, state in starts:
            start[self.index[state]] += probability
        return self.arrays(start)

    def moves(self, state: State) -> list[tuple[float, Transition]]:
        """Note every move from a state."""
        here, game = self.index[state], self.game
        players = game.players(state)
        sets = {player: self.information_set(state, player) for player in players if player not in self.opponents}
        self.deciding[here] = sets
        options: list[list[tuple[int, float, Action]]] = []
        for player in players:
            if player in sets:
                first = self.first_choice[sets[player]]
                options.append([(first + n, 1.0, action) for n, action in enumerate(self.legal[sets[player]])])
            else:
                options.append([(-1, p, action) for p, action in self.opponents[player](game, state, player) if p > 0])
        found = []
        for joint in itertools.product(*options):
            weight = math.prod(probability for _, probability, _ in joint)
            actions = {player: action for player, (_, _, action) in zip(players, joint, strict=True)}
            choice = [-1] * game.num_players
            for player, (number, _, _) in zip(players, joint, strict=True):
                choice[player] = number
            for probability, transition in game.outcomes(state, actions):
                if probability <= 0.0:
                    continue
                there = self.index.setdefault(transition.state, len(self.index))
                self.rows.append((here, there, choice, weight * probability, *_paid(transition, game.num_players)))
                found.append((probability, transition))
        return found

    def information_set(self, state: State, player: int) -> int:
        legal = self.game.legal(state, player)
        if not legal:
            why = "takes any text as an action" if legal is None else "has a state without a legal action"
            raise UserError(f"{self.name} cannot be enumerated, because it {why}; choose another game.")
        legal = tuple(legal)
        view = self.game.view(state, player)
        number = self.set_index.setdefault((player, view), len(self.legal))
        if number == len(self.legal):
            self.legal.append(legal)
            self.first_choice.append(self.first_choice[-1] + len(legal))
        if self.legal[number] != legal:
            raise UserError(
                f"{self.name} shows the same view {view} in two states with different legal actions; the exact answer "
                "needs views that tell such states apart."
            )
        return number

    def arrays(self, start: np.ndarray) -> ExtensiveGame:
        players = self.game.num_players
        set_of = np.full((len(self.index), players), -1, dtype=np.int64)
        for state, sets in self.deciding.items():
            for player, number in sets.items():
                set_of[state, player] = number
        source, target, choice, chance, reward, terminated = zip(*self.rows, strict=True)
        return ExtensiveGame(
            name=self.name,
            num_players=players,
            states=tuple(self.index),
            start=start,
            seat=np.array([player for player, _ in self.set_index], dtype=np.int64),
            views=tuple(view for _, view in self.set_index),
            legal=tuple(self.legal),
            choice_splits=np.array(self.first_choice, dtype=np.int64),
            set_of=set_of,
            source=np.array(source, dtype=np.int64),
            target=np.array(target, dtype=np.int64),
            choice=np.array(choice, dtype=np.int64).reshape(-1, players),
            chance=np.array(chance),
            reward=np.array(reward).reshape(-1, players),
            terminated=np.array(terminated, dtype=bool),
        )


def _paid(transition: Transition, players: int) -> tuple[list[float], bool]:
    outcome = transition.outcome or {}
    reward = [transition.reward.get(seat, 0.0) + outcome.get(seat, 0.0) for seat in range(players)]
    return reward, transition.terminated


def _layers(node: np.ndarray, num_nodes: int, game: ExtensiveGame) -> tuple[np.ndarray, ...] | None:
    """Moves by the longest way from their source's node to the end; None where a node can come back."""
    source, target = node[game.source], node[game.target]
    goes_on = ~game.terminated
    # A state in which the game is over has no moves, whatever leads there.
    pairs = np.unique(np.stack([target[goes_on], source[goes_on]]), axis=1)
    begins = np.searchsorted(pairs[0], np.arange(num_nodes + 1))
    waits_for = np.bincount(pairs[1], minlength=num_nodes)
    height = np.zeros(num_nodes, dtype=np.int64)
    frontier = np.flatnonzero(waits_for == 0)
    settled = 0
    while len(frontier):
        settled += len(frontier)
        parts: Sequence[np.ndarray] = [np.arange(begins[n], begins[n + 1]) for n in frontier.tolist()]
        into = np.concatenate(parts)
        before = pairs[1, into]
        np.maximum.at(height, before, height[pairs[0, into]] + 1)
        np.subtract.at(waits_for, before, 1)
        touched = np.unique(before)
        frontier = touched[waits_for[touched] == 0]
    if settled < num_nodes:
        return None
    of_move = height[source]
    order = np.argsort(of_move, kind="stable")
    cuts = np.flatnonzero(np.diff(of_move[order])) + 1
    return tuple(np.split(order, cuts))

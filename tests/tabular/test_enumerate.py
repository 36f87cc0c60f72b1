from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.core.types import Transition
from lapwing.games.bandit import Bandit, BanditState
from lapwing.games.frozen_lake import MAPS, FrozenLake, FrozenLakeState
from lapwing.games.snake import Snake
from lapwing.tabular.enumerate import enumerate_game


@dataclass(frozen=True)
class Fork:
    """State 0: "stop" ends with reward 1 and outcome 2; "go" leads to state 1 or, rarely, ends. State 1: "on" to 0."""

    num_players: ClassVar[int] = 1

    def initial_outcomes(self):
        return [(0.75, 0), (0.25, 1)]

    def legal(self, state, player):
        return ("stop", "go") if state == 0 else ("on",)

    def outcomes(self, state, actions):
        if actions[0] == "stop":
            return [(1.0, Transition(2, {0: 1.0}, terminated=True, outcome={0: 2.0}))]
        if actions[0] == "go":
            return [(0.9, Transition(1, {0: 0.5})), (0.1, Transition(0, {0: 0.0}, terminated=True))]
        return [(1.0, Transition(0, {0: 0.0}))]


def test_a_small_game_by_hand():
    table = enumerate_game(Fork())
    assert table.states == (0, 1, 2)
    assert table.index == {0: 0, 1: 1, 2: 2}
    assert table.legal == (("stop", "go"), ("on",), ())
    assert (table.num_states, table.num_actions) == (3, 2)
    np.testing.assert_array_equal(table.start, [0.75, 0.25, 0.0])
    np.testing.assert_array_equal(table.is_legal, [[True, True], [True, False], [False, False]])
    # The outcome counts as reward; a transition that ends in state 0 ends all the same.
    assert table.transitions(0, 0) == [(1.0, 2, 3.0, True)]
    assert table.transitions(0, 1) == [(0.9, 1, 0.5, False), (0.1, 0, 0.0, True)]
    assert table.transitions(1, 0) == [(1.0, 0, 0.0, False)]
    assert table.transitions(2, 0) == []


def test_one_step_ahead_by_hand():
    table = enumerate_game(Fork())
    # q(0, stop) = 3;  q(0, go) = 0.9 · (0.5 + ½ · 20) = 9.45;  q(1, on) = ½ · 10 = 5;  the 99 is never reached
    expected = [[3.0, 9.45], [5.0, 0.0], [0.0, 0.0]]
    np.testing.assert_allclose(table.action_values(np.array([10.0, 20.0, 99.0]), discount=0.5), expected)


def test_the_4x4_lake_has_its_sixteen_cells():
    table = enumerate_game(FrozenLake(map_name="4x4", slippery=True))
    cells = "".join(MAPS["4x4"])
    assert table.num_states == 16
    for state, legal in zip(table.states, table.legal, strict=True):
        assert bool(legal) == (cells[state.position] not in "GH")
    assert table.start[table.index[FrozenLakeState(MAPS["4x4"], 0)]] == 1.0
    # Probabilities of every existing action sum to 1.
    total = np.bincount(table.row, table.probability, minlength=table.is_legal.size)
    np.testing.assert_allclose(total, table.is_legal.ravel())


def test_given_starts_are_equally_likely_and_may_repeat():
    game = FrozenLake()
    one, two = (game.initial(generator("start", number)) for number in range(2))
    table = enumerate_game(game, [one, two, one])
    np.testing.assert_allclose(table.start[[table.index[one], table.index[two]]], [2 / 3, 1 / 3])


def test_a_state_that_is_reached_only_by_an_end_has_no_actions():
    table = enumerate_game(Bandit(arms=(0.25, 0.5)))
    assert table.legal == (("a", "b"), ())
    assert table.transitions(0, 0) == [(0.25, 1, 1.0, True), (0.75, 1, 0.0, True)]


@dataclass(frozen=True)
class Counter:
    """Counts up without end."""

    num_players: ClassVar[int] = 1

    def legal(self, state, player) -> Any:
        return ("up",)

    def outcomes(self, state, actions):
        return [(1.0, Transition(state + 1, {0: 0.0}))]


@dataclass(frozen=True)
class OpenEnded(Counter):
    def legal(self, state, player):
        return None


@dataclass(frozen=True)
class Stuck(Counter):
    def legal(self, state, player):
        return ()


@pytest.mark.parametrize(
    ("game", "starts", "found"),
    [
        (Snake(num_snakes=2), None, "2 players"),
        (Snake(), None, "no method outcomes"),
        (Counter(), None, "pass start_states"),
        (Counter(), [], "no state to start Counter from"),
        (Counter(), [0], "more than 50 states"),
        (OpenEnded(), [0], "any text"),
        (Stuck(), [0], "no legal action"),
    ],
)
def test_games_that_cannot_be_enumerated_say_why(game, starts, found):
    with pytest.raises(UserError, match=found):
        enumerate_game(game, starts, max_states=50)


def test_as_many_states_as_allowed_are_allowed():
    assert enumerate_game(Bandit(), [BanditState(pulled=False)], max_states=2).num_states == 2

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.core.types import Match, Transition
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.baselines import Heuristic, Human, Random, Scripted
from lapwing.policies.opponents import exact_opponents
from lapwing.rollout.play import play
from lapwing.tabular.clock import steps_between_decisions
from lapwing.tabular.enumerate import WAIT, enumerate_game
from lapwing.tabular.policy_evaluation import uniform_policy
from lapwing.tabular.solve import solve
from lapwing.tabular.value_iteration import optimal_values


@dataclass(frozen=True)
class Pennies:
    """Both show a side at once, twice: seat 0 earns 1 where they agree, or 3 where both show tails."""

    num_players: ClassVar[int] = 2
    restorable: ClassVar[bool] = True

    def initial(self, rng):
        return 0

    def initial_outcomes(self):
        return [(1.0, 0)]

    def players(self, state):
        return (0, 1)

    def view(self, state, player):
        return state

    def legal(self, state, player):
        return ("heads", "tails")

    def step(self, state, actions, rng):
        return self.outcomes(state, actions)[0][1]

    def outcomes(self, state, actions):
        won = (3.0 if actions[0] == "tails" else 1.0) * (actions[0] == actions[1])
        return [(1.0, Transition(state + 1, {0: won, 1: -won}, terminated=state == 1))]

    def heuristic(self, state, player):
        return "tails"


def opponents(policy):
    return exact_opponents({1: policy})


def test_simultaneous_moves_by_hand():
    table = enumerate_game(Pennies(), opponents=opponents(Random()))
    assert table.states == (0, 1, 2)
    assert not table.waits.any()
    # Against a coin heads is worth ½ and tails 3/2; the second round is worth 1 to one who throws a coin too.
    solution = solve(table, uniform_policy(table), 2)
    np.testing.assert_array_equal(solution.action_values[0, 2, 0], [1.5, 2.5])
    assert solution.expected_return == 2.0
    assert optimal_values(enumerate_game(Pennies(), opponents=opponents(Heuristic())), 2)[2, 0] == 6.0


def expectimax(game, state, opponent):
    """The best that seat 0 can do, looked for move by move."""
    player = game.players(state)[0]
    worth = []
    for action in game.legal(state, player):
        transition = game.outcomes(state, {player: action})[0][1]
        after = 0.0 if transition.terminated else expectimax(game, transition.state, opponent)
        worth.append((action, transition.reward[0] + after))
    if player == 0:
        return max(value for _, value in worth)
    chance = dict(worth)
    return sum(p * chance[action] for p, action in opponent(game, state, player))


@pytest.mark.parametrize("policy", [Random(), Heuristic(), Scripted()])
def test_tic_tac_toe_agrees_with_a_search_move_by_move(policy):
    game, opponent = TicTacToe(first=0), opponents(policy)
    start = game.initial_outcomes()[0][1]
    for action in ("a1", "c3", "b2"):
        start = game.outcomes(start, {start.mover: action})[0][1].state
    table = enumerate_game(game, [start], opponents=opponent)
    assert optimal_values(table, 6)[6, 0] == pytest.approx(expectimax(game, start, opponent[1]), abs=1e-12)


def test_whole_matches_agree_with_the_solution():
    game, matches = TicTacToe(first=0), 3000
    table = enumerate_game(game, opponents=opponents(Scripted()))
    solution = solve(table, uniform_policy(table), 9)
    every = [
        Match(game=game, seed=0, split="train", iteration=0, group=0, member=n, max_steps=9, share_chance=False)
        for n in range(matches)
    ]
    returns = np.array([episode.episode_return for episode in play(every, {0: Random(), 1: Scripted()})])
    assert abs(returns.mean() - solution.expected_return) < 4 * returns.std() / np.sqrt(matches)


def test_a_state_in_which_only_others_move_waits():
    table = enumerate_game(TicTacToe(first=1), opponents=opponents(Heuristic()))
    assert table.legal[0] == (WAIT,)
    assert table.waits[0]
    assert not table.decides[0]
    # Nothing that happens before the next decision is discounted.
    value = np.where(table.waits, 0.0, 1.0)
    assert table.action_values(value, discount=0.5)[0, 0] == 0.5
    assert table.action_values(np.where(table.waits, 1.0, 0.0), discount=0.5)[table.decides].max() == 1.0


def test_the_steps_before_and_between_decisions_are_counted():
    # Who begins is drawn: seat 0 decides first on the empty board, or on one with a single mark.
    table = enumerate_game(TicTacToe(first=None), opponents=opponents(Random()))
    before, between = steps_between_decisions(table)
    marks = np.array([9 - state.cells.count("_") for state in table.states])
    assert set(before[table.decides & (marks == 0)].tolist()) == {0}
    assert set(before[table.decides & (marks == 1)].tolist()) == {1}
    assert set(between[table.decides & (marks < 4)].tolist()) == {2}


@dataclass(frozen=True)
class Dawdler(Pennies):
    """Seat 1 moves alone once or twice after each decision of seat 0, as it likes."""

    def players(self, state):
        return (0,) if state in (0, 3) else (1,)

    def outcomes(self, state, actions):
        if state == 0:
            return [(1.0, Transition(1, {0: 0.0}))]
        if state == 3:
            return [(1.0, Transition(4, {0: 1.0}, terminated=True))]
        return [(1.0, Transition(3 if actions[1] == "tails" else 2, {0: 0.0}))]


def test_where_that_number_varies_it_is_refused():
    with pytest.raises(UserError, match="not always the same"):
        steps_between_decisions(enumerate_game(Dawdler(), opponents=opponents(Random())))
    before, between = steps_between_decisions(enumerate_game(Dawdler(), opponents=opponents(Heuristic())))
    assert (before.max(), between.max()) == (0, 2)


def test_without_an_opponent_it_is_refused():
    with pytest.raises(UserError, match="none for seat 1"):
        enumerate_game(TicTacToe())


def test_the_numbers_that_a_script_draws_are_all_followed():
    game = TicTacToe(first=0)
    state = game.initial(generator("start"))
    state = game.step(state, {0: "b2"}, generator("step")).state
    found = opponents(Scripted())[1](game, state, 1)
    assert sorted(action for _, action in found) == sorted(game.legal(state, 1))
    np.testing.assert_allclose([p for p, _ in found], 1 / 8)


@dataclass(frozen=True)
class Gambler(Pennies):
    def scripted(self, state, player, rng):
        # Two draws, the second only after a 0: heads with ½ · ⅓.
        if rng.integers(2) == 0 and rng.integers(1, 4) == 1:
            return "heads"
        return "tails"


@dataclass(frozen=True)
class Secret(Pennies):
    def scripted(self, state, player, rng):
        return "heads" if rng.random() < 0.5 else "tails"


def test_a_script_may_draw_again_after_what_it_drew():
    found = opponents(Scripted())[1](Gambler(), 0, 1)
    assert sum(p for p, _ in found) == pytest.approx(1.0)
    assert sum(p for p, action in found if action == "heads") == pytest.approx(1 / 6)


def test_opponents_whose_distribution_is_not_known_are_refused():
    with pytest.raises(UserError, match="Human, whose action distribution is not known"):
        opponents(Human(lambda ask, refused: ""))
    with pytest.raises(UserError, match="draws with 'random'"):
        enumerate_game(Secret(), opponents=opponents(Scripted()))

"""CFR, the sequence form and backward induction: three ways to an equilibrium, held against each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.games.connect_four import ConnectFour
from lapwing.games.kuhn_poker import KuhnPoker
from lapwing.games.matrix_game import MatrixGame
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.tabular.backward_induction import backward_induction
from lapwing.tabular.cfr import cfr, cfr_plus, regret_matching
from lapwing.tabular.exploitability import exploitability
from lapwing.tabular.extensive import extensive_game
from lapwing.tabular.profile_values import expected_values
from lapwing.tabular.sequence_form import sequence_form

KUHN = extensive_game(KuhnPoker(first=0))
# Value 1/5, with 2/5 on the first row and 2/5 on the first column.
UNEVEN = MatrixGame(game="custom", payoffs=((2.0, -1.0), (-1.0, 1.0)))


def kuhn_equilibrium(alpha, call=1 / 3):
    """Kuhn's family: how often each set bets."""
    bets = {
        ("J", ()): alpha, ("Q", ()): 0.0, ("K", ()): 3 * alpha,
        ("J", ("pass", "bet")): 0.0, ("Q", ("pass", "bet")): alpha + 1 / 3, ("K", ("pass", "bet")): 1.0,
        ("J", ("pass",)): 1 / 3, ("Q", ("pass",)): 0.0, ("K", ("pass",)): 1.0,
        ("J", ("bet",)): 0.0, ("Q", ("bet",)): call, ("K", ("bet",)): 1.0,
    }  # fmt: skip
    found = [bets[view.card, view.moves] for view in KUHN.views]
    return np.array([share for bet in found for share in (1.0 - bet, bet)])


@given(st.floats(0.0, 1 / 3))
def test_every_member_of_kuhns_family_is_an_equilibrium_worth_minus_an_eighteenth(alpha):
    profile = kuhn_equilibrium(alpha)
    np.testing.assert_allclose(expected_values(KUHN, profile), [-1 / 18, 1 / 18], atol=1e-12)
    assert exploitability(KUHN, profile) == pytest.approx(0.0, abs=1e-12)


def test_next_to_the_family_there_is_something_to_gain():
    # Who calls with every queen is bluffed less and paid more by kings.
    assert exploitability(KUHN, kuhn_equilibrium(1 / 3, call=1.0)) > 0.05


def test_the_sequence_form_solves_kuhn_poker():
    value, profile = sequence_form(KUHN)
    assert value == pytest.approx(-1 / 18, abs=1e-9)
    assert exploitability(KUHN, profile) == pytest.approx(0.0, abs=1e-9)
    # With the first seat drawn the game is fair.
    value, _ = sequence_form(extensive_game(KuhnPoker()))
    assert value == pytest.approx(0.0, abs=1e-9)


def test_cfr_comes_to_the_value_of_kuhn_poker():
    courses = {method: [exploitability(KUHN, method(KUHN, n)) for n in (10, 100, 1000)] for method in (cfr, cfr_plus)}
    for method, course in courses.items():
        assert course == sorted(course, reverse=True)
        assert expected_values(KUHN, method(KUHN, 1000))[0] == pytest.approx(-1 / 18, abs=1e-3)
    assert courses[cfr][-1] < 0.01
    assert courses[cfr_plus][-1] < 2e-4
    assert courses[cfr_plus][-1] < courses[cfr][-1] / 10


def test_the_first_iterations_of_cfr_by_hand():
    # Uniform play against uniform play: the rows earn ½ and 0, the columns −½ and 0. The regrets of the rows are ¼ and
    # −¼, of the columns −¼ and ¼: then row 1 and column 2 are played, and the average of two is 3/4 and 1/4.
    game = extensive_game(UNEVEN)
    np.testing.assert_allclose(cfr(game, 1), [0.5, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(cfr(game, 2), [0.75, 0.25, 0.25, 0.75])
    np.testing.assert_allclose(regret_matching(game, np.array([3.0, 1.0, -1.0, -2.0])), [0.75, 0.25, 0.5, 0.5])


@pytest.mark.parametrize("method", [cfr, cfr_plus])
def test_cfr_solves_simultaneous_moves_over_several_rounds(method):
    game = extensive_game(MatrixGame(game="custom", payoffs=((2.0, -1.0), (-1.0, 1.0)), rounds=2, seen="all"))
    profile = method(game, 2000)
    assert expected_values(game, profile)[0] == pytest.approx(2 / 5, abs=0.01)
    assert exploitability(game, profile) < 0.1


def test_cfr_refuses_views_that_forget_the_order_of_moves():
    with pytest.raises(UserError, match="perfect recall"):
        cfr(extensive_game(TicTacToe(first=0)), 1)
    with pytest.raises(UserError, match="at least one iteration"):
        cfr(KUHN, 0)


def test_best_play_at_tic_tac_toe_is_a_draw():
    game = extensive_game(TicTacToe())
    value, profile = backward_induction(game)
    np.testing.assert_array_equal(game.start @ value, [0.0, 0.0])
    assert exploitability(game, profile) == 0.0
    np.testing.assert_array_equal(expected_values(game, profile), [0.0, 0.0])


def negamax(game, state, memo):
    """The value to who moves, searched move by move."""
    if state not in memo:
        found = []
        for action in game.legal(state, state.mover):
            transition = game.outcomes(state, {state.mover: action})[0][1]
            own = transition.reward[state.mover]
            found.append(own if transition.terminated else own - negamax(game, transition.state, memo))
        memo[state] = max(found)
    return memo[state]


@pytest.mark.parametrize("sizes", [(3, 3, 3), (3, 4, 3), (4, 3, 3)])
def test_small_boards_of_connect_four_agree_with_a_search(sizes):
    rows, columns, connect = sizes
    game = ConnectFour(rows=rows, columns=columns, connect=connect, first=0)
    table = extensive_game(game)
    value, _ = backward_induction(table)
    memo = {}
    negamax(game, game.initial_outcomes()[0][1], memo)
    for number, state in enumerate(table.states):
        if state in memo:
            assert value[number, state.mover] == memo[state]


def test_rounds_with_simultaneous_moves_are_solved_one_by_one():
    game = extensive_game(MatrixGame(game="custom", payoffs=UNEVEN.payoffs, rounds=3, seen="counts"))
    value, profile = backward_induction(game)
    np.testing.assert_allclose(game.start @ value, [3 / 5, -3 / 5], atol=1e-9)
    assert exploitability(game, profile) == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(profile[:4], [2 / 5, 3 / 5, 2 / 5, 3 / 5], atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_the_three_ways_agree_on_random_payoffs(seed):
    payoffs = tuple(map(tuple, np.random.default_rng(seed).integers(-3, 4, size=(3, 3)).tolist()))
    game = extensive_game(MatrixGame(game="custom", payoffs=payoffs))
    by_induction = float((game.start @ backward_induction(game)[0])[0])
    by_sequences, profile = sequence_form(game)
    assert by_sequences == pytest.approx(by_induction, abs=1e-7)
    assert exploitability(game, profile) == pytest.approx(0.0, abs=1e-7)
    assert expected_values(game, cfr_plus(game, 1000))[0] == pytest.approx(by_induction, abs=0.05)


def test_games_without_a_single_answer_are_refused():
    dilemma = extensive_game(MatrixGame(game="prisoners_dilemma"))
    for method in (backward_induction, sequence_form):
        with pytest.raises(UserError, match="none is the optimum"):
            method(dilemma)
    with pytest.raises(UserError, match="hides a part of its state"):
        backward_induction(KUHN)

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.games.kuhn_poker import KuhnPoker
from lapwing.games.matrix_game import MatrixGame
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.baselines import Heuristic, Random, Scripted
from lapwing.policies.opponents import exact_opponents
from lapwing.tabular.best_response import best_response
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.exploitability import deviation_gains, exploitability, nash_conv
from lapwing.tabular.extensive import extensive_game
from lapwing.tabular.profile_values import expected_values
from lapwing.tabular.value_iteration import optimal_values

KUHN = extensive_game(KuhnPoker(first=0))
TIC_TAC_TOE = extensive_game(TicTacToe(first=0))


def random_profile(game, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.dirichlet(np.ones(size)) for size in np.diff(game.choice_splits)]
    return np.concatenate(parts)


def pure_profiles(game, player):
    """Every way in which a player may choose one action in each of its sets."""
    sets = np.flatnonzero(game.seat == player)
    for choice in itertools.product(*(range(len(game.legal[number])) for number in sets)):
        profile = np.zeros(game.num_choices)
        profile[game.choice_splits[sets] + np.array(choice)] = 1.0
        yield profile


def test_the_best_responses_to_uniform_play_in_kuhn_poker_by_hand():
    uniform = KUHN.uniform_profile()
    # The first seat: J bets: ½·1 + ½·(−2) = −½ (passing is worth −1). Q bets: ½·1 + ½·0 = ½ (passing 0). K either way
    # ½·1 + ½·2 = 3/2. On average ½.
    assert best_response(KUHN, uniform, 0).value == pytest.approx(1 / 2)
    # The second: J bets after a pass −½, gives way to a bet −1; Q bets ½, calls 0; K bets 3/2, calls 2.
    # On average (−½ − 1 + ½ + 0 + 3/2 + 2) / 6 = 5/12.
    assert best_response(KUHN, uniform, 1).value == pytest.approx(5 / 12)
    # The values of uniform play are ±⅛: (½ − ⅛ + 5/12 + ⅛) / 2.
    assert exploitability(KUHN, uniform) == pytest.approx(11 / 24)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_no_pure_strategy_is_better_in_kuhn_poker(seed):
    profile = random_profile(KUHN, seed)
    for player in (0, 1):
        own = KUHN.seat[KUHN.set_of_choice] == player
        tried = [np.where(own, pure, profile) for pure in pure_profiles(KUHN, player)]
        best = max(expected_values(KUHN, one)[player] for one in tried)
        response = best_response(KUHN, profile, player)
        assert response.value == pytest.approx(best, abs=1e-12)
        assert expected_values(KUHN, response.profile)[player] == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("policy", [Random(), Heuristic(), Scripted()])
def test_it_is_value_iteration_where_the_opponents_are_fixed(policy):
    opponent = exact_opponents({1: policy})[1]
    profile = np.zeros(TIC_TAC_TOE.num_choices)
    keys = zip(TIC_TAC_TOE.seat, TIC_TAC_TOE.views, strict=True)
    at = {key: number for number, key in enumerate(keys)}
    game = TicTacToe(first=0)
    for state, sets in zip(TIC_TAC_TOE.states, TIC_TAC_TOE.set_of, strict=True):
        if sets[1] >= 0:
            number = at[1, game.view(state, 1)]
            for probability, action in opponent(game, state, 1):
                profile[TIC_TAC_TOE.choice_splits[number] + TIC_TAC_TOE.legal[number].index(action)] += probability
        elif sets[0] >= 0:
            profile[TIC_TAC_TOE.choice_splits[sets[0]]] = 1.0
    response = best_response(TIC_TAC_TOE, profile, 0)
    table = enumerate_game(game, opponents={1: opponent})
    value = optimal_values(table, 9)[9]
    assert response.value == pytest.approx(value[0], abs=1e-12)
    # State by state, wherever a match against this opponent can come to.
    places = [TIC_TAC_TOE.states.index(state) for state in table.states[:300]]
    np.testing.assert_allclose(response.state_value[places], value[:300], atol=1e-12)
    # And with the opponent inside of chance there is one player left.
    alone = extensive_game(game, opponents={1: opponent})
    assert best_response(alone, alone.uniform_profile(), 0).value == pytest.approx(value[0], abs=1e-12)


def test_a_lean_in_rock_paper_scissors_costs_its_size():
    game = extensive_game(MatrixGame())
    # Rock ½, paper ¼, scissors ¼: paper earns ½ − ¼ against it; the other seat is uniform and costs nothing.
    profile = np.array([0.5, 0.25, 0.25, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(deviation_gains(game, profile), [0.0, 0.25], atol=1e-12)
    assert nash_conv(game, profile) == pytest.approx(0.25)
    assert exploitability(game, profile) == pytest.approx(0.125)


def test_a_response_to_tit_for_tat_defects_at_the_end_only():
    # Cooperating earns 3 a round; defecting in the last of four rounds earns 5 there: 14. Defecting from the start on
    # earns 5 + 1 + 1 + 1, and in the last two rounds 3 + 3 + 5 + 1.
    opponents = exact_opponents({1: Scripted()})
    game = extensive_game(
        MatrixGame(game="prisoners_dilemma", rounds=4, seen="last", script="tit_for_tat"), opponents=opponents
    )
    response = best_response(game, game.uniform_profile(), 0)
    assert response.value == 14.0
    chosen = {
        (view.round, view.other): legal[int(np.argmax(response.profile[low : low + 2]))]
        for view, legal, low in zip(game.views, game.legal, game.choice_splits, strict=False)
    }
    assert [chosen[0, ()], *(chosen[n, ("cooperate",)] for n in (1, 2, 3))] == ["cooperate"] * 3 + ["defect"]


def test_fictitious_play_is_beaten_round_by_round():
    # Its next action is known: paper, scissors, … always win, four times.
    opponents = exact_opponents({1: Scripted()})
    game = extensive_game(MatrixGame(rounds=4, seen="counts", script="fictitious_play"), opponents=opponents)
    assert best_response(game, game.uniform_profile(), 0).value == 4.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["kuhn", "dilemma", "rps"]))
def test_nobody_loses_by_a_best_response(seed, name):
    game = {"kuhn": KUHN, "dilemma": DILEMMA, "rps": RPS}[name]
    profile = random_profile(game, seed)
    assert (deviation_gains(game, profile) >= -1e-12).all()


DILEMMA = extensive_game(MatrixGame(game="prisoners_dilemma", rounds=2, seen="last"))
RPS = extensive_game(MatrixGame(rounds=2, seen="all"))


def test_a_player_who_forgets_is_refused():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Forgetful(KuhnPoker):
        def view(self, state, player):
            return state.cards[player]

    game = extensive_game(Forgetful(first=0))
    with pytest.raises(UserError, match="forgets"):
        best_response(game, game.uniform_profile(), 0)

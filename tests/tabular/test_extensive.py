from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.types import Transition
from lapwing.games.bandit import Bandit
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.kuhn_poker import KuhnPoker, KuhnPokerView
from lapwing.games.matrix_game import MatrixGame
from lapwing.games.snake import Snake
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.baselines import Heuristic, Random, Scripted
from lapwing.policies.opponents import exact_opponents
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.extensive import extensive_game
from lapwing.tabular.policy_evaluation import uniform_policy
from lapwing.tabular.profile_values import expected_values, move_weights, profile_values, reach
from lapwing.tabular.solve import solve


@dataclass(frozen=True)
class Twice:
    """One player moves left or right twice; the second view tells the first move, the round, or nothing."""

    told: str = "round"

    num_players: ClassVar[int] = 1
    restorable: ClassVar[bool] = True

    def initial_outcomes(self):
        return [(1.0, ())]

    def players(self, state):
        return (0,)

    def view(self, state, player):
        return {"move": state, "round": (len(state),), "nothing": ()}[self.told]

    def legal(self, state, player):
        return ("left", "right")

    def outcomes(self, state, actions):
        after = (*state, actions[0])
        return [(1.0, Transition(after, {0: float(after == ("left", "right"))}, terminated=len(after) == 2))]


def test_kuhn_poker_has_six_sets_for_each_player():
    game = extensive_game(KuhnPoker(first=0))
    # Six deals, and after each the empty history, pass, bet, pass-bet go on; five histories end the match.
    assert len(game.states) == 6 * 9
    assert game.num_sets == 12
    assert np.bincount(game.seat).tolist() == [6, 6]
    assert set(game.states_in_set.tolist()) == {2}
    assert (game.most_steps, game.is_zero_sum, game.is_observed) == (3, True, False)
    # With the first seat drawn every player has twelve.
    assert np.bincount(extensive_game(KuhnPoker()).seat).tolist() == [12, 12]


def test_tic_tac_toe_has_its_positions_and_not_its_histories():
    game = extensive_game(TicTacToe(first=0))
    assert len(game.states) == 5478
    # In 958 of them the game is over.
    assert game.num_sets == 5478 - 958
    assert (game.most_steps, game.is_zero_sum, game.is_observed) == (9, True, True)


def test_simultaneous_moves_belong_to_a_choice_of_each():
    game = extensive_game(MatrixGame(rounds=2, seen="last"))
    # A start, and in round 1 nine pairs that were played; after it the nine pairs again, where the match is over.
    assert len(game.states) == 1 + 9 + 9
    assert len(game.source) == 9 + 81
    assert game.num_sets == 2 * 10
    assert (game.choice >= 0).all()
    assert game.is_observed


def test_the_values_agree_with_those_of_one_player_against_fixed_opponents():
    for policy in (Random(), Heuristic(), Scripted()):
        opponents = exact_opponents({1: policy})
        table = enumerate_game(TicTacToe(first=1), opponents=opponents)
        game = extensive_game(TicTacToe(first=1), opponents=opponents)
        assert set(game.seat.tolist()) == {0}
        value = expected_values(game, game.uniform_profile())
        assert value[0] == pytest.approx(solve(table, uniform_policy(table), 9).expected_return, abs=1e-12)
        assert value[1] == pytest.approx(-value[0], abs=1e-12)


def test_uniform_play_of_kuhn_poker_by_hand():
    # The first seat, over equally likely deals: pass-pass ¼·(±1), bet-pass ¼·1, bet-bet ¼·(±2), pass-bet-pass ⅛·(−1),
    # pass-bet-bet ⅛·(±2): what depends on the cards is 0 on average, so that ¼ − ⅛ is left.
    game = extensive_game(KuhnPoker(first=0))
    np.testing.assert_allclose(expected_values(game, game.uniform_profile()), [1 / 8, -1 / 8])


def test_reach_is_a_distribution_over_the_states_of_each_step():
    game = extensive_game(KuhnPoker(first=0))
    found = reach(game, move_weights(game, game.uniform_profile()))
    steps = np.array([len(state.moves) for state in game.states])
    assert found[steps == 0].sum() == pytest.approx(1.0)
    # States in which the match is over are not gone on from, and not counted.
    going_on = np.array([state.moves in ((), ("pass",), ("bet",), ("pass", "bet")) for state in game.states])
    np.testing.assert_allclose(found[(steps == 1) & going_on], 1 / 12)
    np.testing.assert_allclose(found[(steps == 2) & going_on], 1 / 24)


def test_rewards_on_the_way_count():
    game = extensive_game(MatrixGame(game="prisoners_dilemma", rounds=3, seen="counts"))
    always_defect = np.tile([0.0, 1.0], game.num_sets)
    np.testing.assert_allclose(expected_values(game, always_defect), [3.0, 3.0])
    np.testing.assert_allclose(profile_values(game, game.uniform_profile())[0], [6.75, 6.75])


def test_who_remembers_what_it_did():
    kuhn = extensive_game(KuhnPoker(first=0))
    before = kuhn.check_recall(0, everywhere=True)
    at = [n for n in range(kuhn.num_sets) if kuhn.views[n] == KuhnPokerView("Q", ("pass", "bet"))]
    ahead = [n for n in range(kuhn.num_sets) if kuhn.seat[n] == 0 and kuhn.views[n] == KuhnPokerView("Q", ())]
    # Its last choice was the first of the two there: pass.
    assert before[at[0]] == kuhn.choice_splits[ahead[0]]
    assert before[ahead[0]] == -1
    extensive_game(Twice("move")).check_recall(0)


@pytest.mark.parametrize("told", ["round", "nothing"])
def test_a_view_that_forgets_is_named(told):
    with pytest.raises(UserError, match="a view forgets what its player did before: ") as raised:
        extensive_game(Twice(told)).check_recall(0)
    assert ("(1,)" if told == "round" else "()") in str(raised.value)


def test_histories_that_differ_in_order_alone_are_forgotten_where_it_matters():
    game = extensive_game(TicTacToe(first=0))
    game.check_recall(0)
    with pytest.raises(UserError, match="perfect recall"):
        game.check_recall(0, everywhere=True)


def test_games_that_cannot_be_enumerated_say_why():
    with pytest.raises(UserError, match="Snake cannot be enumerated, because it does not list its chance"):
        extensive_game(Snake())
    with pytest.raises(UserError, match="more than 100 states"):
        extensive_game(TicTacToe(), max_states=100)
    with pytest.raises(UserError, match="can come back to a state"):
        extensive_game(FrozenLake(map_name="4x4")).layers  # noqa: B018
    assert extensive_game(Bandit()).most_steps == 1


@dataclass(frozen=True)
class Blind(Twice):
    def legal(self, state, player):
        return ("left", "right") if not state else ("left", "right", "up")


def test_one_view_with_different_legal_actions_is_refused():
    with pytest.raises(UserError, match="different legal actions"):
        extensive_game(Blind("nothing"))


@pytest.mark.parametrize("profile", [np.ones(3), np.full(24, 0.4), np.tile([1.5, -0.5], 12)])
def test_a_profile_that_is_none_is_refused(profile):
    with pytest.raises(LapwingError, match="profile"):
        expected_values(extensive_game(KuhnPoker(first=0)), profile)

import numpy as np
import pytest

from lapwing import build
from lapwing.core.errors import UserError
from lapwing.core.types import Match
from lapwing.evaluation.references import references
from lapwing.games.connect_four import ConnectFour
from lapwing.games.kuhn_poker import KuhnPoker
from lapwing.games.matrix_game import MatrixGame
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.baselines import Heuristic, Random, Scripted
from lapwing.policies.best_response import BestResponse
from lapwing.policies.exact_profile import exact_profile
from lapwing.rollout.play import play
from lapwing.tabular.extensive import extensive_game


def mean_return(game, policies, matches, max_steps=9):
    every = [Match(game, 0, "test", 0, number, 0, max_steps) for number in range(matches)]
    returns = np.array([episode.domain_return for episode in play(every, policies)])
    return returns.mean(), returns.std() / np.sqrt(matches)


@pytest.mark.parametrize(
    ("game", "opponent"),
    [
        (KuhnPoker(), Random()),
        (KuhnPoker(), Heuristic()),
        (TicTacToe(), Scripted()),
        (MatrixGame(game="chicken", rounds=3, seen="counts", script="hedge"), Scripted()),
    ],
)
def test_it_earns_in_play_what_it_was_solved_for(game, opponent):
    best = BestResponse({1: opponent})
    value, most_steps = best.solve(game)
    mean, error = mean_return(game, {0: best, 1: opponent}, 600)
    assert most_steps <= 9
    assert abs(mean - value) <= 4 * error + 1e-9
    # And nobody does better who is at hand.
    for other in (Random(), Heuristic()):
        mean, error = mean_return(game, {0: other, 1: opponent}, 200)
        assert mean <= value + 4 * error + 1e-9


def test_it_does_not_look_at_the_other_card():
    # Against honest play, which bets and calls with the king alone, by hand: J bets, (1 − 2) / 2, since passing always
    # loses 1. Q bets for (1 − 2) / 2 or passes for (1 − 1) / 2, giving way to the king. K gets 1 either way.
    best = BestResponse({1: Heuristic()})
    value, _ = best.solve(KuhnPoker(first=0))
    assert value == pytest.approx((-0.5 + 0.0 + 1.0) / 3)


def test_large_or_unknown_opponents_are_refused():
    with pytest.raises(UserError, match="not known exactly"):
        BestResponse({1: BestResponse({})})
    with pytest.raises(UserError, match="more than 50 states"):
        BestResponse({1: Random()}, max_states=50).solve(TicTacToe())
    with pytest.raises(UserError, match="no opponent is given"):
        BestResponse({}).solve(TicTacToe())


def names_of(game, *overrides):
    return set(build.make_baselines(build.game_plan(game, overrides)))


def test_the_optimum_is_a_baseline_where_opponents_can_be_solved():
    assert {"random", "heuristic", "optimal"} <= names_of("kuhn_poker")
    assert "optimal" in names_of("tic_tac_toe", "opponents.1.name=heuristic")
    assert "optimal" in names_of("matrix_game", "game.rounds=2")
    # Chance that is not listed, and too many states.
    assert "optimal" not in names_of("snake", "game.num_snakes=2")
    assert "optimal" not in names_of("connect_four")


def test_a_profile_says_what_a_policy_does_in_every_set():
    game = KuhnPoker(first=0)
    table = extensive_game(game)
    profile = exact_profile(game, table, {0: Scripted(), 1: Heuristic()})
    at = {(seat, view): low for seat, view, low in zip(table.seat, table.views, table.choice_splits, strict=False)}
    for (seat, view), low in at.items():
        expected = {"K": 1.0}.get(view.card, 0.0)
        if seat == 0:
            thirds = {("J", ()): 1, ("K", ()): 3, ("Q", ("pass", "bet")): 2, ("K", ("pass", "bet")): 3}
            expected = thirds.get((view.card, view.moves), 0) / 3
        np.testing.assert_allclose(profile[low : low + 2], [1 - expected, expected])


def test_a_policy_that_looks_at_what_is_hidden_has_no_profile():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Cheated(KuhnPoker):
        def heuristic(self, state, player):
            return "bet" if state.cards[player] > state.cards[1 - player] else "pass"

    game = Cheated(first=0)
    with pytest.raises(UserError, match="looks at what seat 1 cannot see"):
        exact_profile(game, extensive_game(game), {1: Heuristic()})


def test_the_optimum_of_the_games_page_knows_no_hidden_card():
    # By hand in tests/tabular/test_best_response.py: ½ for who begins, 5/12 for the other. Who saw both cards got ½.
    found = references(KuhnPoker(), opponents={1: Random()}, max_steps=3)
    assert found["optimal"]["return"] == pytest.approx((1 / 2 + 5 / 12) / 2)
    assert "optimal" not in references(KuhnPoker(), opponents={1: Random()}, max_steps=2)
    assert "optimal" not in references(ConnectFour(), opponents={1: Random()}, max_steps=42)

import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.core.types import Ask, Match
from lapwing.games.kuhn_poker import KuhnPoker
from lapwing.games.snake import Snake
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.baselines import Random, Scripted
from lapwing.policies.equilibrium import Equilibrium
from lapwing.rollout.play import play


def earned(game, policies, matches):
    """The mean return of seat 0, and its standard error."""
    episodes = play([Match(game, 0, "test", 0, group, 0, 20) for group in range(matches)], policies)
    found = [episode.domain_return for episode in episodes]
    return float(np.mean(found)), float(np.std(found) / matches**0.5)


@pytest.mark.parametrize("other", [Random(), Scripted()])
@pytest.mark.parametrize("seat", [0, 1])
def test_nobody_beats_it_at_tic_tac_toe(other, seat):
    best = Equilibrium()
    game = TicTacToe()
    episodes = play(
        [Match(game, 0, "test", 0, group, 0, 9) for group in range(60)], {seat: best, 1 - seat: other}, learners=(seat,)
    )
    assert min(episode.domain_return for episode in episodes) >= 0.0
    assert max(episode.domain_return for episode in episodes) == 1.0


def test_two_of_them_draw_at_tic_tac_toe_and_share_the_value_of_kuhn_poker():
    best = Equilibrium()
    assert earned(TicTacToe(), {0: best, 1: best}, 4) == (0.0, 0.0)
    mean, error = earned(KuhnPoker(first=0), {0: best, 1: best}, 3000)
    assert mean == pytest.approx(-1 / 18, abs=4 * error)


def test_it_mixes_by_the_key_of_the_decision():
    # Fails when the likeliest action is always taken: nobody's equilibrium of Kuhn poker is pure.
    game, best = KuhnPoker(), Equilibrium()
    chosen = {}
    for number in range(200):
        state = game.initial(generator("deal", number))
        for step in range(4):
            (player,) = game.players(state)
            ask = Ask(game.view(state, player), game.legal(state, player), None, number, game, state, player, 5)
            action = best.choose(ask)
            assert action == best.choose(ask)
            chosen.setdefault((player, ask.view), set()).add(action)
            transition = game.step(state, {player: action}, generator("step", number, step))
            if transition.terminated:
                break
            state = transition.state
    assert {len(actions) for actions in chosen.values()} == {1, 2}


def test_games_that_are_too_large_are_refused():
    game = Snake(num_snakes=2)
    state = game.initial(generator("large"))
    with pytest.raises(UserError):
        Equilibrium(max_states=1000).choose(Ask(game.view(state, 0), game.legal(state, 0), None, 0, game, state, 0, 5))

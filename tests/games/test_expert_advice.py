import itertools

import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.expert_advice import ExpertAdvice, ExpertAdviceState, ExpertAdviceView
from lapwing.tabular.enumerate import enumerate_game


def played(game, choose, seed=0):
    """All transitions of a match in which `choose(view)` decides."""
    rng = generator("expert advice", seed)
    state, found = game.initial(rng), []
    while not found or not found[-1].terminated:
        found.append(game.step(state, {0: choose(game.view(state, 0))}, rng))
        state = found[-1].state
    return found


def test_a_round_by_hand():
    game = ExpertAdvice(means=(0.0, 1.0), rounds=2)
    start = ExpertAdviceState(0, (0, 0), 0, (0.0, 1.0))
    first = game.step(start, {0: "b"}, generator("x"))
    assert (first.reward, first.terminated, first.outcome, first.success) == ({0: -1.0}, False, None, None)
    assert first.state == ExpertAdviceState(1, (0, 1), 1, (0.0, 1.0))
    assert game.view(first.state, 0) == ExpertAdviceView(1, 2, (0, 1))
    last = game.step(first.state, {0: "a"}, generator("x"))
    assert (last.reward, last.outcome, last.success) == ({0: 0.0}, {0: 0.0}, {0: False})
    assert last.parts == {"loss": 0.0, "regret": 1.0}


@pytest.mark.parametrize("seed", range(5))
def test_the_return_is_minus_the_regret(seed):
    game = ExpertAdvice(means=(0.3, 0.5, 0.8), rounds=12)
    rng = np.random.default_rng(seed)
    match = played(game, lambda view: "abc"[rng.integers(3)], seed)
    returns = sum(t.reward[0] for t in match) + match[-1].outcome[0]
    own = sum(t.parts["loss"] for t in match)
    assert returns == min(match[-1].state.losses) - own == -match[-1].parts["regret"]


# Fails when the leader is not the one who loses: then whoever follows it would have no regret.
def test_losses_set_against_the_leader_give_whoever_follows_it_regret_that_grows_with_the_rounds():
    game = ExpertAdvice(means=(0.5, 0.5), rounds=16, process="leader_set")
    follow = played(game, lambda view: "ab"[view.losses.index(min(view.losses))])
    assert follow[-1].parts["regret"] == 8.0
    assert played(game, lambda view: "a")[-1].parts["regret"] == 0.0


def test_chances_are_dealt_anew():
    game = ExpertAdvice(means=(0.1, 0.9))
    dealt = {game.initial(generator("deal", number)).means for number in range(30)}
    assert dealt == {(0.1, 0.9), (0.9, 0.1)}


def test_outcomes_are_every_vector_of_losses():
    game = ExpertAdvice(means=(0.25, 1.0), rounds=3)
    found = game.outcomes(ExpertAdviceState(0, (0, 0), 0, (0.25, 1.0)), {0: "a"})
    assert {(p, t.state.losses) for p, t in found} == {(0.75, (0, 1)), (0.25, (1, 1))}
    assert [p for p, _ in game.initial_outcomes()] == [0.5, 0.5]
    assert [p for p, _ in ExpertAdvice(means=(0.5, 0.5)).initial_outcomes()] == [1.0]


def test_it_can_be_enumerated():
    game = ExpertAdvice(means=(0.2, 0.6), rounds=3)
    starts = [state for _, state in game.initial_outcomes()]
    assert len(enumerate_game(game, starts).states) > len(starts)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"means": (0.5,)}, "2 to 6 experts"),
        ({"means": (0.5, 1.5)}, "a chance in"),
        ({"rounds": 0}, "1 to 64 rounds"),
        ({"process": "cruel"}, "'random' or 'leader_set'"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        ExpertAdvice(**settings)


def test_the_words_cover_what_views_can_say():
    game = ExpertAdvice(means=(0.5, 0.5), rounds=4)
    words = set(game.words())
    assert {str(n) for n in range(5)} | {"a", "b"} == words
    assert list(itertools.islice(game.legal(None, 0), 3)) == ["a", "b"]

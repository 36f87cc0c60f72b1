import itertools
from dataclasses import replace

import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.contextual_bandit import ContextualBandit, ContextualBanditState, regression, split_of
from lapwing.games.contract import check_game

# The first arm likes the first feature, the second one dislikes it.
WEIGHTS = ((20, 0), (-10, 5))


def start(context=(1, -1)):
    return ContextualBanditState(WEIGHTS, context, 0, ((0,) * 9,) * 2, ((0,) * 3,) * 2, (-1, 0))


def test_payoffs_and_regret_are_linear_in_the_features():
    #   a: 0.5 + 0.2 = 0.7;  b: 0.5 − 0.1 − 0.05 = 0.35
    game = ContextualBandit(arms=2, features=2, horizon=3)
    for arm, chance, regret in (("a", 0.7, 0.0), ("b", 0.35, 0.35)):
        outcomes = game.outcomes(start(), {0: arm})
        assert sum(p * t.reward[0] for p, t in outcomes) == pytest.approx(chance)
        assert [t.parts["regret"] for _, t in outcomes] == pytest.approx([regret] * 8)
        assert {t.parts["best"] for _, t in outcomes} == {float(arm == "a")}
        assert {t.state.context for _, t in outcomes} == set(itertools.product((-1, 1), repeat=2))


def test_what_was_seen_is_summed_for_the_arm_that_was_pulled():
    game = ContextualBandit(arms=2, features=2, horizon=9)
    state, rows = start(), []
    for n in range(6):
        transition = game.step(state, {0: "a"}, generator("seen", n))
        rows.append(([1, *state.context], transition.reward[0]))
        state = transition.state
    gram, moment, context = regression(game.view(state, 0))
    x, paid = np.array([row for row, _ in rows]), np.array([reward for _, reward in rows])
    np.testing.assert_array_equal(gram[0], x.T @ x)
    np.testing.assert_array_equal(moment[0], paid @ x)
    assert not gram[1].any()
    assert context.tolist() == [1, *state.context]


def test_the_view_does_not_hold_the_weights():
    game = ContextualBandit(arms=2, features=2)
    other = replace(start(), weights=((0, 0), (1, 1)))
    assert game.view(other, 0) == game.view(start(), 0)


def test_chances_stay_within_their_bounds_and_splits_apart():
    drawn = {}
    for split in ("train", "development", "test"):
        game = ContextualBandit(features=5, split=split)
        drawn[split] = {game.initial(generator("weights", n)).weights for n in range(60)}
        assert all(split_of(weights) == split for weights in drawn[split])
        assert all(sum(map(abs, row)) <= 45 for weights in drawn[split] for row in weights)


def test_there_is_no_success_and_the_end_is_the_horizon():
    game = ContextualBandit(horizon=3)
    state, transitions = game.initial(generator("end")), []
    while not transitions or not transitions[-1].terminated:
        transitions.append(game.step(state, {0: "a"}, generator("end", len(transitions))))
        state = transitions[-1].state
    assert len(transitions) == 3
    assert transitions[-1].success is None


def test_the_best_known_is_what_the_clairvoyant_gets():
    game = ContextualBandit(arms=4, features=3, horizon=10)
    states = [game.initial(generator("clairvoyant", n)) for n in range(4000)]
    best = [max(50 + np.dot(row, state.context) for row in state.weights) / 10 for state in states]
    assert game.best_known.score == pytest.approx(np.mean(best), rel=0.02)
    assert 5.0 < game.null_ceiling < game.best_known.score


@pytest.mark.parametrize("settings", [{"arms": 1}, {"features": 0}, {"features": 6}, {"horizon": 0}, {"split": "no"}])
def test_impossible_bandits_are_refused(settings):
    with pytest.raises(UserError):
        ContextualBandit(**settings)


def test_the_contract():
    check_game(ContextualBandit(horizon=3, features=1), matches=4, max_steps=5)

import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import fold, generator
from lapwing.core.types import Ask, Match
from lapwing.games.bandit_suite import BanditSuite, BanditSuiteState
from lapwing.games.chain import Chain
from lapwing.games.contextual_bandit import ContextualBandit
from lapwing.policies.bandit_players import Bayes, Greedy, LinUcb, Thompson, Ucb1
from lapwing.policies.baselines import Heuristic, Random
from lapwing.rollout.play import play


def ask(counts, totals, key=0, **settings):
    game = BanditSuite(arms=len(counts), horizon=50, **settings)
    state = BanditSuiteState((50,) * len(counts), counts, tuple(100 * t for t in totals), (0, 0), found_late=False)
    return Ask(game.view(state, 0), game.legal(state, 0), None, key, game, state, 0, 9)


def test_greedy_stays_where_ucb1_explores():
    question = ask((10, 1), (6, 0))
    assert Greedy().choose(question) == "a"
    assert Ucb1().choose(question) == "b"
    assert {policy.choose(ask((3, 0), (3, 0))) for policy in (Greedy(), Ucb1())} == {"b"}


def test_thompson_draws_by_the_posterior_and_by_the_key_of_the_decision():
    #   Beta(6, 2) against Beta(2, 6): P(first larger) = 0.9755 (by 10⁷ draws)
    keys = [fold(0, "thompson", n) for n in range(2000)]
    policy = Thompson()
    chosen = [policy.choose(ask((6, 6), (5, 1), key)) for key in keys]
    assert chosen == [policy.choose(ask((6, 6), (5, 1), key)) for key in keys]
    draws = generator("posterior")
    expected = np.mean(draws.beta(6, 2, 100_000) > draws.beta(2, 6, 100_000))
    assert chosen.count("a") / 2000 == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 2000) ** 0.5)


def test_thompson_of_gaussian_payoffs_pulls_every_arm_once():
    for key in range(20):
        assert Thompson().choose(ask((4, 0), (4, 0), key, kind="gaussian")) == "b"
    wide = [Thompson().choose(ask((1, 1), (0.6, 0.5), key, kind="gaussian", sigma=3.0)) for key in range(200)]
    narrow = [Thompson().choose(ask((1, 1), (0.6, 0.5), key, kind="gaussian", sigma=0.02)) for key in range(200)]
    assert 60 < wide.count("b") < 140
    assert narrow.count("b") == 0


def regret(game, policy, matches):
    played = play([Match(game, 0, "test", 0, group, 0, 99) for group in range(matches)], {0: policy})
    return float(np.mean([sum(step.parts["regret"] for step in episode.steps) for episode in played]))


def test_in_contexts_those_who_regress_beat_chance():
    game = ContextualBandit(arms=3, features=2, horizon=40)
    by_chance = regret(game, Random(), 60)
    for policy in (LinUcb(), LinUcb(alpha=0.3), Thompson(), Greedy()):
        assert regret(game, policy, 60) < 0.9 * by_chance


def test_the_oracles_have_less_regret_than_chance_on_the_suite():
    game = BanditSuite(arms=4, horizon=60, gap=0.5, instances="fixed")
    by_chance = regret(game, Random(), 100)
    assert by_chance == pytest.approx(60 * 0.5 * 3 / 4, rel=0.05)
    for policy in (Ucb1(), Thompson()):
        assert regret(game, policy, 100) < 0.7 * by_chance


def test_the_heuristic_is_the_oracle():
    for game, policy in ((BanditSuite(horizon=12), Ucb1()), (ContextualBandit(horizon=12), LinUcb())):
        matches = [Match(game, 0, "test", 0, group, 0, 99) for group in range(5)]
        first, second = play(matches, {0: policy}), play(matches, {0: Heuristic()})
        assert [[s.action for s in e.steps] for e in first] == [[s.action for s in e.steps] for e in second]


@pytest.mark.parametrize("policy", [Ucb1(), LinUcb(), Greedy(), Thompson(), Bayes()])
def test_other_games_are_refused(policy):
    game = Chain()
    state = game.initial(generator("other"))
    with pytest.raises(UserError, match="choose another policy"):
        policy.choose(Ask(game.view(state, 0), game.legal(state, 0), None, 0, game, state, 0, 9))


def test_a_weight_below_zero_is_refused():
    with pytest.raises(UserError, match="alpha is at least 0"):
        LinUcb(alpha=-1.0)

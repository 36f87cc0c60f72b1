import itertools

import pytest

from lapwing.core.errors import GameError, UserError
from lapwing.core.rng import generator
from lapwing.core.types import Match
from lapwing.games.bandit_suite import BanditSuite
from lapwing.policies.bandit_players import Bayes, Greedy, Thompson, Ucb1
from lapwing.policies.baselines import Random
from lapwing.rollout.play import play
from lapwing.tabular.bandit_value import BanditValue, num_tallies


def test_one_pull_and_two_pulls_by_hand():
    #   Two arms, 0.75 and 0.25, dealt by chance. One pull: 0.5. Two pulls: the first pays ½; it paid with probability
    #   ½, and then it is the good one with probability 0.75: stay, 0.75² + 0.25² = 0.625; else leave, 0.625 as well.
    assert BanditValue(BanditSuite(arms=2, horizon=1, gap=0.5, instances="fixed")).value() == pytest.approx(0.5)
    solved = BanditValue(BanditSuite(arms=2, horizon=2, gap=0.5, instances="fixed"))
    assert solved.value() == pytest.approx(0.5 + 0.625)
    assert solved.belief((1, 0), (1, 0)) == pytest.approx([0.625, 0.375])
    assert (solved.best_arm((1, 0), (1, 0)), solved.best_arm((1, 0), (0, 0))) == (0, 1)


def expected_return(game, policy):
    """Of a deterministic policy of counts and payoffs, over all instances and payoffs."""

    def worth(means, counts, payoffs):
        if sum(counts) == game.horizon:
            return 0.0
        arm = policy(counts, payoffs)
        pulled = tuple(n + (a == arm) for a, n in enumerate(counts))
        paid = tuple(s + (a == arm) for a, s in enumerate(payoffs))
        chance = means[arm] / 100
        return chance * (1 + worth(means, pulled, paid)) + (1 - chance) * worth(means, pulled, payoffs)

    start = (0,) * game.arms
    return sum(weight * worth(means, start, start) for weight, means in game.prior())


def test_nobody_does_better_and_the_value_is_what_its_play_earns():
    # Fails when the belief is wrong, or the best arm is not the one of the value. All 2^4 policies of two pulls, which
    # choose at the start and after each of what may follow, were tried.
    game = BanditSuite(arms=2, horizon=3, gap=0.4, split="test")
    solved = BanditValue(game)
    assert expected_return(game, solved.best_arm) == pytest.approx(solved.value())
    tallies = [
        ((n, m), (s, t))
        for n, m in itertools.product(range(3), repeat=2)
        if n + m < 3
        for s, t in itertools.product(range(n + 1), range(m + 1))
    ]
    for number in range(60):
        drawn = generator("policies", number).integers(2, size=len(tallies))
        table = dict(zip(tallies, drawn.tolist(), strict=True))
        assert expected_return(game, lambda n, s, table=table: table[n, s]) <= solved.value() + 1e-12
    assert len(tallies) == num_tallies(2, 3)


def test_the_players_come_in_the_order_of_what_they_know():
    game = BanditSuite(arms=3, horizon=10, gap=0.5, instances="fixed")
    matches = [Match(game, 0, "test", 0, group, 0, 10) for group in range(600)]
    earned = {
        type(policy).__name__: sum(e.domain_return for e in play(matches, {0: policy})) / 600
        for policy in (Random(), Ucb1(), Thompson(), Greedy(), Bayes())
    }
    assert earned["Bayes"] == pytest.approx(BanditValue(game).value(), abs=0.35)
    assert earned["Random"] == pytest.approx(10 * (0.75 + 2 * 0.25) / 3, abs=0.35)
    assert earned["Random"] + 0.5 < min(earned[name] for name in ("Ucb1", "Thompson", "Greedy"))
    assert max(earned.values()) == earned["Bayes"]


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(UserError, match="more than 1,000"):
        BanditValue(BanditSuite(arms=3, horizon=10), max_states=1000)
    with pytest.raises(UserError, match="kind = 'bernoulli'"):
        BanditValue(BanditSuite(arms=2, horizon=3, kind="gaussian"))
    with pytest.raises(GameError, match="too many instances"):
        BanditValue(BanditSuite(arms=5, horizon=4))

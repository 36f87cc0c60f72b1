import numpy as np
import pytest

from lapwing.core.errors import GameError, UserError
from lapwing.core.rng import generator
from lapwing.games.bandit_suite import SPLITS, BanditSuite, BanditSuiteState
from lapwing.games.contract import check_game


def pulled(game, means, arms):
    """The transitions of one match on known means."""
    state, found = BanditSuiteState(means, (0,) * len(means), (0,) * len(means), (-1, 0), found_late=False), []
    for n, arm in enumerate(arms):
        found.append(game.step(state, {0: arm}, generator("pulls", n)))
        state = found[-1].state
    return found


def test_regret_is_expected_and_counts_every_worse_arm():
    # Fails when the regret is of the payoffs, which are chance, or of the arm that paid best.
    found = pulled(BanditSuite(arms=3, horizon=4), (20, 70, 10), ["a", "b", "c", "b"])
    assert [t.parts["regret"] for t in found] == pytest.approx([0.5, 0.0, 0.6, 0.0])
    assert [t.parts["best"] for t in found] == [0.0, 1.0, 0.0, 1.0]
    assert {t.reward[0] for t in found} <= {0.0, 1.0}
    assert found[-1].state.counts == (1, 2, 1)
    assert sum(found[-1].state.totals) == round(100 * sum(t.reward[0] for t in found))


@pytest.mark.parametrize(
    ("arms", "leads", "failed"),
    [
        (["b", "b", "b", "a"], 1.0, 0.0),
        (["b", "b", "a", "a"], 0.0, 1.0),  # as often as another, and not in the second half
        (["b", "a", "a", "b"], 0.0, 0.0),
        (["a", "c", "a", "c"], 0.0, 1.0),
        (["b", "b", "c", "a"], 1.0, 1.0),
    ],
)
def test_the_best_arm_is_found_by_who_pulls_it_most(arms, leads, failed):
    last = pulled(BanditSuite(arms=3, horizon=4), (20, 70, 10), arms)[-1]
    assert (last.terminated, last.success) == (True, None)
    assert (last.parts["identified"], last.parts["suffix_failure"]) == (leads, failed)


def test_the_view_holds_counts_and_payoffs_and_not_the_means():
    game = BanditSuite(arms=2, horizon=9)
    state = pulled(game, (30, 80), ["b", "b"])[-1].state
    view = game.view(state, 0)
    assert (view.pull, view.horizon, view.counts, view.last_arm) == (2, 9, (0, 2), 1)
    assert view.totals == (0.0, state.totals[1] / 100)
    swapped = BanditSuiteState((1, 99), state.counts, state.totals, state.last, state.found_late)
    assert game.view(swapped, 0) == view


@pytest.mark.parametrize("game", [BanditSuite(arms=4, gap=0.2), BanditSuite(arms=4, gap=0.2, instances="fixed")])
def test_the_gap_is_between_the_best_and_the_second_best(game):
    places = set()
    for n in range(200):
        means = game.initial(generator("instances", n)).means
        best, second = sorted(means)[-1], sorted(means)[-2]
        assert best - second == 20
        assert 1 <= min(means) <= best <= 99
        places.add(means.index(best))
        if game.instances == "fixed":
            assert sorted(means) == [40, 40, 40, 60]
    assert places == {0, 1, 2, 3}


def test_no_instance_is_in_two_splits():
    bests = {
        split: {max(BanditSuite(split=split).initial(generator("split", n)).means) for n in range(300)}
        for split in SPLITS[1:]
    }
    assert all(bests.values())
    assert not bests["train"] & bests["test"]
    assert not bests["train"] & bests["development"]
    assert not bests["test"] & bests["development"]


@pytest.mark.parametrize(
    "game",
    [
        BanditSuite(arms=2, gap=0.9),
        BanditSuite(arms=3, gap=0.9),
        BanditSuite(arms=4, gap=0.4, instances="fixed"),
        BanditSuite(arms=2, gap=0.2, split="test"),
    ],
)
def test_the_prior_is_what_is_drawn(game):
    # Fails when two ways to the same instance are counted once.
    prior = {means: weight for weight, means in game.prior()}
    assert sum(prior.values()) == pytest.approx(1.0)
    drawn = [game.initial(generator("prior", n)).means for n in range(4000)]
    assert set(drawn) <= set(prior)
    for means, weight in prior.items():
        assert drawn.count(means) / 4000 == pytest.approx(weight, abs=5 * (weight / 4000) ** 0.5)


def test_a_prior_that_is_too_long_is_refused():
    with pytest.raises(GameError, match="too many instances"):
        BanditSuite().prior()


def test_gaussian_payoffs_keep_the_mean_and_nearly_the_deviation():
    game = BanditSuite(kind="gaussian", sigma=0.4, arms=2, horizon=9)
    state = BanditSuiteState((30, 80), (0, 0), (0, 0), (-1, 0), found_late=False)
    outcomes = game.outcomes(state, {0: "b"})
    chance = np.array([p for p, _ in outcomes])
    paid = np.array([t.reward[0] for _, t in outcomes])
    assert chance.sum() == pytest.approx(1.0)
    assert chance @ paid == pytest.approx(0.8)
    # Rounding adds (σ/2)²/12 to the variance, and the cut takes some away.
    assert (chance @ (paid - 0.8) ** 2) ** 0.5 == pytest.approx(0.4, rel=0.02)
    low, high = game.reward_range
    assert low <= paid.min() <= paid.max() <= high


def test_ucb1_tries_every_arm_and_then_weighs_mean_and_count():
    game = BanditSuite(arms=3, horizon=50)
    start = BanditSuiteState((10, 20, 70), (0, 0, 0), (0, 0, 0), (-1, 0), found_late=False)
    assert game.heuristic(start, 0) == "a"
    assert game.heuristic(BanditSuiteState(start.means, (1, 1, 0), (100, 0, 0), (1, 0), False), 0) == "c"
    #   t = 12: bonus √(2 ln 12 / n) = 2.229/√n: 0.5 + 0.705, 0.0 + 2.229, 0 + 2.229 · 1 … the arm with one pull
    assert game.heuristic(BanditSuiteState(start.means, (10, 1, 1), (500, 0, 0), (1, 0), False), 0) == "b"


def test_who_is_blind_earns_the_mean_of_all_arms_and_stays_below_the_ceiling():
    for game in (BanditSuite(arms=4, horizon=10), BanditSuite(arms=4, horizon=10, instances="fixed", gap=0.2)):
        instances = [game.initial(generator("blind", n)).means for n in range(3000)]
        blind = 10 * np.mean(instances) / 100
        best = 10 * np.mean([max(means) for means in instances]) / 100
        assert game.best_known.score == pytest.approx(best, rel=0.03)
        assert game.null_ceiling == pytest.approx((blind + best) / 2, rel=0.03)


@pytest.mark.parametrize(
    "settings",
    [
        {"arms": 1},
        {"arms": 21},
        {"horizon": 0},
        {"gap": 0.0},
        {"gap": 0.125},
        {"gap": float("nan")},
        {"sigma": 0.05},
        {"kind": "poisson"},
        {"instances": "some"},
        {"instances": "fixed", "gap": 0.21},
        {"gap": 0.98, "split": "test", "arms": 2, "horizon": 3, "sigma": 5.0},
    ],
)
def test_impossible_bandits_are_refused(settings):
    with pytest.raises(UserError):
        BanditSuite(**settings)


@pytest.mark.parametrize(
    "game",
    [
        BanditSuite(horizon=6),
        BanditSuite(arms=2, horizon=4, kind="gaussian"),
        BanditSuite(arms=3, horizon=4, instances="fixed", gap=0.2),
    ],
)
def test_the_contract(game):
    check_game(game, matches=4, max_steps=10, other_process=False)


def test_the_contract_in_another_process():
    check_game(BanditSuite(), matches=2)

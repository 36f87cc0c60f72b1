import numpy as np
import pytest

from lapwing.core.errors import LapwingError
from lapwing.core.rng import generator
from lapwing.games.bandit import Bandit
from lapwing.games.frozen_lake import FrozenLake
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.policy_evaluation import policy_values, uniform_policy
from lapwing.tabular.value_iteration import optimal_values


def test_a_mixture_of_arms_is_worth_the_mixture():
    table = enumerate_game(Bandit(arms=(0.25, 0.75)))
    policy = np.array([[0.5, 0.5], [0.0, 0.0]])
    # ½ · ¼ + ½ · ¾ = ½
    np.testing.assert_array_equal(policy_values(table, policy, 2), [[0.0, 0.0], [0.5, 0.0], [0.5, 0.0]])
    np.testing.assert_array_equal(uniform_policy(table), policy)


def test_two_steps_by_hand():
    # S F   uniform over four moves: with two steps left, down or right (½) and then the one move to the goal (¼),
    # F G   1/8 in all; with discount ½ the reward of the second step counts half, 1/16
    game = FrozenLake(size=2, frozen_probability=1.0)
    table = enumerate_game(game, [game.initial(generator("square"))])
    assert policy_values(table, uniform_policy(table), 2)[2, 0] == 1 / 8
    assert policy_values(table, uniform_policy(table), 2, 0.5)[2, 0] == 1 / 16


def test_a_deterministic_policy_on_a_dry_lake():
    # "right" for ever never leaves the top row of the 4x4 map.
    table = enumerate_game(FrozenLake(map_name="4x4"))
    policy = table.is_legal * np.array([0.0, 0.0, 1.0, 0.0])
    assert policy_values(table, policy, 50)[50, 0] == 0.0


def test_no_policy_beats_the_optimum():
    table = enumerate_game(FrozenLake(map_name="8x8", slippery=True))
    best = optimal_values(table, 40)
    for number in range(5):
        weight = generator("policy", number).random(table.is_legal.shape) * table.is_legal
        policy = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
        assert (policy_values(table, policy, 40) <= best + 1e-12).all()


@pytest.mark.parametrize(
    ("settings", "horizon", "expected"),
    [
        ({"frozen_probability": 0.9, "slippery": True}, 15, 0.066),
        ({"frozen_probability": 0.8, "slippery": True}, 15, 0.039),
        ({"frozen_probability": 0.8}, 8, 0.008),
    ],
    ids=["p=.9 slippery", "p=.8 slippery", "p=.8 dry"],
)
def test_uniform_play_on_random_lakes(settings, horizon, expected):
    # Measured by others on 100 to 2,000 maps; one map spreads by at most 0.04, so 300 maps are good to 0.0023.
    game = FrozenLake(**settings)
    tables = [enumerate_game(game, [game.initial(generator("lakes", n))]) for n in range(300)]
    values = [policy_values(table, uniform_policy(table), horizon)[horizon, 0] for table in tables]
    assert np.mean(values) == pytest.approx(expected, abs=0.012 if expected > 0.01 else 0.002)


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        (np.ones((1, 2)), r"shape \(1, 2\)"),
        (np.array([[0.5, 0.4], [0.0, 0.0]]), "state 0"),
        (np.array([[1.5, -0.5], [0.0, 0.0]]), "sum to 1"),
    ],
)
def test_what_is_no_policy_is_refused(policy, found):
    with pytest.raises(LapwingError, match=found):
        policy_values(enumerate_game(Bandit()), policy, 1)


def test_probability_on_an_action_that_does_not_exist_is_refused():
    table = enumerate_game(Bandit(arms=(0.5,)))
    with pytest.raises(LapwingError, match="state 0"):
        policy_values(table, np.array([[0.0], [1.0]]), 1)

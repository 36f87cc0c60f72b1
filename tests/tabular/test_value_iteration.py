import numpy as np
import pytest

from lapwing.core.rng import generator
from lapwing.games.bandit import Bandit
from lapwing.games.frozen_lake import FrozenLake
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.value_iteration import optimal_policy, optimal_values


def test_a_corridor_by_hand():
    # S F
    # F G   the goal is two moves away: nothing with one step left, 1 with two
    game = FrozenLake(size=2, frozen_probability=1.0)
    table = enumerate_game(game, [game.initial(generator("corridor"))])
    values = optimal_values(table, 3)
    assert values.shape == (4, 4)
    np.testing.assert_array_equal(values[:, 0], [0.0, 0.0, 1.0, 1.0])
    goal = next(index for index, state in enumerate(table.states) if state.position == 3)
    np.testing.assert_array_equal(values[:, goal], 0.0)
    # Discounted by one half: the reward comes with the second step.
    np.testing.assert_array_equal(optimal_values(table, 3, 0.5)[:, 0], [0.0, 0.0, 0.5, 0.5])


def test_the_first_of_equally_good_actions_is_chosen():
    game = FrozenLake(size=2, frozen_probability=1.0)
    table = enumerate_game(game, [game.initial(generator("corridor"))])
    policy = optimal_policy(table, 2)
    # Two steps left: down and right both lead to the goal, and down (1) comes before right (2); one step left:
    # nothing helps, so the first of all, left (0).
    np.testing.assert_array_equal(policy[:, 0], [-1, 0, 1])
    goal = next(index for index, state in enumerate(table.states) if state.position == 3)
    np.testing.assert_array_equal(policy[:, goal], -1)


def test_the_best_arm_is_worth_its_probability():
    table = enumerate_game(Bandit(arms=(0.1, 0.9, 0.5)))
    assert optimal_values(table, 1)[1, 0] == 0.9
    assert optimal_policy(table, 1)[1, 0] == 1


@pytest.mark.parametrize(
    ("slippery", "horizon", "success"),
    [(True, 30, 0.3479), (True, 100, 0.744), (False, 30, 1.0), (False, 5, 0.0), (False, 6, 1.0)],
)
def test_known_optima_of_gymnasiums_4x4_lake(slippery, horizon, success):
    table = enumerate_game(FrozenLake(map_name="4x4", slippery=slippery))
    assert optimal_values(table, horizon)[horizon, 0] == pytest.approx(success, abs=1e-3)


def test_more_steps_are_never_worse():
    values = optimal_values(enumerate_game(FrozenLake(map_name="8x8", slippery=True)), 60)
    assert (np.diff(values, axis=0) >= -1e-12).all()
    assert values.max() <= 1.0


def test_playing_the_optimal_policy_reaches_the_optimal_value():
    game, horizon, matches = FrozenLake(map_name="4x4", slippery=True), 30, 1500
    table = enumerate_game(game)
    policy, expected = optimal_policy(table, horizon), optimal_values(table, horizon)[horizon, 0]
    reached = 0.0
    for number in range(matches):
        rng = generator("match", number)
        state = game.initial(rng)
        for left in range(horizon, 0, -1):
            here = table.index[state]
            transition = game.step(state, {0: table.legal[here][policy[left, here]]}, rng)
            state = transition.state
            reached += transition.reward[0]
            if transition.terminated:
                break
    assert abs(reached / matches - expected) < 4 * np.sqrt(expected * (1 - expected) / matches)


@pytest.mark.parametrize(
    ("settings", "horizon", "expected"),
    [
        ({"frozen_probability": 0.9, "slippery": True}, 15, 0.39),
        ({"frozen_probability": 0.8, "slippery": True}, 15, 0.28),
        ({"frozen_probability": 0.8}, 8, 1.0),
    ],
    ids=["p=.9 slippery", "p=.8 slippery", "p=.8 dry"],
)
def test_optima_over_random_lakes(settings, horizon, expected):
    # Measured by others on 100 to 2,000 maps; one map spreads by about 0.13, so 300 maps are good to 0.008.
    game = FrozenLake(**settings)
    values = [
        optimal_values(enumerate_game(game, [game.initial(generator("lakes", n))]), horizon)[horizon, 0]
        for n in range(300)
    ]
    assert np.mean(values) == pytest.approx(expected, abs=0.03)

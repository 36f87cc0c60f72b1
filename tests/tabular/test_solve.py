import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from lapwing.core.errors import LapwingError
from lapwing.core.rng import generator
from lapwing.core.types import Transition
from lapwing.games.frozen_lake import FrozenLake
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.policy_evaluation import policy_values, uniform_policy
from lapwing.tabular.solve import RULES, InvalidReplies, simulate, solve
from lapwing.tabular.value_iteration import optimal_policy, optimal_values


@dataclass(frozen=True)
class Walk:
    """State 0: "go" leads to state 1, "stop" ends with 1. State 1: "go" ends with 4, "stop" ends with nothing."""

    num_players: ClassVar[int] = 1

    def initial_outcomes(self):
        # Never begins in state 1; naming it gives the states their numbers.
        return [(1.0, 0), (0.0, 1)]

    def legal(self, state, player):
        return ("stop", "go")

    def outcomes(self, state, actions):
        if (state, actions[0]) == (0, "go"):
            return [(1.0, Transition(1, {0: 0.0}))]
        reward = {(0, "stop"): 1.0, (1, "go"): 4.0, (1, "stop"): 0.0}[state, actions[0]]
        return [(1.0, Transition(2, {0: reward}, terminated=True))]


def random_policy(table, seed, *, columns=0):
    weight = generator("policy", seed).random((table.num_states, table.num_actions + columns))
    weight[:, : table.num_actions] *= table.is_legal
    return weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)


def test_values_and_advantages_by_hand():
    solution = solve(enumerate_game(Walk()), np.array([[0.5, 0.5], [0.75, 0.25], [0, 0]]), 2)
    # V_1 = (½·1 + ½·0, ¼·4) = (½, 1);  Q_2(0) = (1, V_1(1)) = (1, 1), so that V_2(0) = 1 and both advantages are 0
    np.testing.assert_array_equal(solution.values[0, 1], [0.5, 1.0, 0.0])
    np.testing.assert_array_equal(solution.advantages[0, 2, 0], [0.0, 0.0])
    np.testing.assert_array_equal(solution.advantages[0, 1, :2], [[0.5, -0.5], [-1.0, 3.0]])
    np.testing.assert_array_equal(solution.visits[0], [[1, 0, 0], [0, 0.5, 0]])
    assert solution.expected_return == 1.0
    # State 1 is reached with ½ and then has one step left: ½ · π · A = ½ · (¾ · −1, ¼ · 3)
    np.testing.assert_allclose(solution.gradient_weights, [[0, 0], [-0.375, 0.375], [0, 0]])


@pytest.mark.parametrize(
    ("rule", "value", "invalid_value"),
    [
        # One step left in state 1, π = (stop ¼, go ¼, invalid ½), penalty 1; Q(stop) = 0, Q(go) = 4.
        ("default", 0.25 * 4 + 0.5 * -1, [-1.0]),
        ("random_legal", 0.25 * 4 + 0.5 * (2 - 1), [1.0]),
        ("forfeit", 0.25 * 4 + 0.5 * -1, [-1.0]),
        # Asked once more: V after the retry = 1 + ½ · (−1 + 0) = ½, so that the first invalid reply is worth −1 + ½.
        ("retry", 0.25 * 4 + 0.5 * -0.5, [-0.5, -1.0]),
    ],
)
def test_invalid_replies_by_hand(rule, value, invalid_value):
    policy = np.array([[0.25, 0.25, 0.5], [0.25, 0.25, 0.5], [0, 0, 0]])
    solution = solve(enumerate_game(Walk()), policy, 1, invalid=InvalidReplies(rule=rule, penalty=1.0))
    assert solution.values[0, 1, 1] == value
    np.testing.assert_array_equal(solution.action_values[:, 1, 1, 2], invalid_value)
    np.testing.assert_allclose((solution.policy * solution.advantages[:, 1]).sum(axis=-1), 0.0, atol=1e-15)


def test_a_default_action_is_the_one_that_is_played():
    policy = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0, 0, 0]])
    rule = InvalidReplies(penalty=0.25, default=np.array([1, 1, 0]))
    assert solve(enumerate_game(Walk()), policy, 2, invalid=rule).expected_return == 4.0 - 0.5


def test_without_invalid_replies_it_is_policy_evaluation():
    table = enumerate_game(FrozenLake(map_name="8x8", slippery=True))
    policy = random_policy(table, 1)
    solution = solve(table, policy, 60, discount=0.9)
    np.testing.assert_allclose(solution.values[0], policy_values(table, policy, 60, 0.9), atol=1e-14)
    np.testing.assert_allclose((policy * solution.advantages[0]).sum(axis=-1), 0.0, atol=1e-14)


def test_the_best_policy_has_the_values_of_value_iteration():
    # With a discount and a dry lake the best action no longer changes with the steps left, once there are enough.
    table = enumerate_game(FrozenLake(map_name="4x4"))
    best = optimal_policy(table, 60, 0.9)[60]
    policy = np.zeros(table.is_legal.shape)
    policy[best >= 0, best[best >= 0]] = 1.0
    solution = solve(table, policy, 60, discount=0.9)
    np.testing.assert_allclose(solution.values[0, 60], optimal_values(table, 60, 0.9)[60], atol=1e-12)
    assert solution.advantages[0, 60].max() <= 1e-12


def test_visits_are_probabilities_and_add_up_to_the_return():
    table = enumerate_game(FrozenLake(map_name="4x4", slippery=True))
    solution = solve(table, uniform_policy(table), 30)
    assert solution.visits[0, 0].sum() == 1.0
    assert (np.diff(solution.visits[0].sum(axis=1)) <= 1e-12).all()
    earned = (solution.visits[0].sum(axis=0)[:, None] * solution.policy * table.expected_reward).sum()
    assert earned == pytest.approx(solution.expected_return, abs=1e-14)


@pytest.mark.parametrize("rule", RULES)
def test_simulated_matches_agree_with_the_solution(rule):
    table = enumerate_game(FrozenLake(map_name="4x4", slippery=True))
    policy = random_policy(table, 3, columns=1)
    invalid = InvalidReplies(rule=rule, penalty=0.3, default=np.full(table.num_states, 2), retries=2)
    solution = solve(table, policy, 12, invalid=invalid)
    matches = 40_000
    for state in (0, table.num_states // 2):
        if table.is_legal[state, 0]:
            start, left = np.full(matches, state), np.full(matches, 12)
            returns = simulate(table, solution, start, left, generator("simulate", rule), invalid=invalid)
            error = returns.std() / np.sqrt(matches)
            assert abs(returns.mean() - solution.values[0, 12, state]) < 4 * error


@pytest.mark.parametrize("rule", RULES)
def test_the_gradient_weights_agree_with_finite_differences_in_the_logits(rule):
    table = enumerate_game(FrozenLake(map_name="4x4", slippery=True))
    invalid = InvalidReplies(rule=rule, penalty=0.3, retries=1)
    exists = np.concatenate([table.is_legal, table.is_legal[:, :1]], axis=1)
    logits = generator("logits").normal(size=exists.shape)

    def policy(logits):
        weight = np.exp(logits) * exists
        return weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)

    weights = solve(table, policy(logits), 10, invalid=invalid).gradient_weights
    # ∇ log π in a state's own logits is e_a − π.
    gradient = weights - policy(logits) * weights.sum(axis=1, keepdims=True)
    for state, action in ((0, 0), (0, 4), (1, 2), (4, 3)):
        shift = np.zeros_like(logits)
        shift[state, action] = 1e-5
        up, down = (
            solve(table, policy(logits + sign * shift), 10, invalid=invalid).expected_return for sign in (1, -1)
        )
        assert gradient[state, action] == pytest.approx((up - down) / 2e-5, abs=1e-8)


def test_the_slippery_8x8_lake_is_solved_within_two_seconds():
    seconds = []
    for _ in range(3):
        started = time.process_time()
        table = enumerate_game(FrozenLake(map_name="8x8", slippery=True))
        solution = solve(table, uniform_policy(table), 100)
        solution.advantages, solution.gradient_weights, optimal_values(table, 100)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 2.0


@pytest.mark.parametrize(
    ("policy", "found"),
    [(np.ones((3, 2)), r"\(3, 3\)"), (np.full((3, 3), 0.5), "sum to 1"), (np.array([[-1, 1, 1.0]] * 3), "sum to 1")],
)
def test_what_is_no_policy_is_refused(policy, found):
    with pytest.raises(LapwingError, match=found):
        solve(enumerate_game(Walk()), policy, 1, invalid=InvalidReplies())


def test_an_unknown_rule_is_refused():
    with pytest.raises(LapwingError, match="no rule 'shrug'"):
        InvalidReplies(rule="shrug")

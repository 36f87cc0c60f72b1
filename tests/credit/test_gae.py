import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.credit.gae import gae
from lapwing.credit.return_to_go import return_to_go
from lapwing.testing import episodes

scored = st.lists(
    st.lists(st.tuples(st.integers(-3, 3), st.floats(-2, 2)), min_size=1, max_size=5), min_size=1, max_size=5
)


def test_two_turns_by_hand():
    #   δ_1 = 1 − 0.4 = 0.6,   δ_0 = 0.3 + 0.4 − 0.5 = 0.2,   A_0 = 0.2 + ½·0.6 = 0.5
    np.testing.assert_allclose(gae(episodes([[0.3, 1]], value=[[0.5, 0.4]]), lambda_=0.5), [0.5, 0.6])


def test_the_final_value_counts_after_a_cut_and_not_after_an_end():
    # Fails when an episode that the rules ended is bootstrapped, or one that was cut is not.
    #   δ_1 = 1 + ½·0 − ½ = 0.5 (ended: the 9 is ignored)     δ_0 = 0 + ½·½ − ½ = −0.25,   A_0 = −0.25 + ¼·0.5 = −0.125
    #   δ_1 = 1 + ½·9 − ½ = 5   (cut)                         δ_0 = −0.25,                  A_0 = −0.25 + ¼·5 = 1
    batch = episodes([[0, 1], [0, 1]], value=[[0.5, 0.5]] * 2, final_value=[9, 9], truncated=[False, True])
    np.testing.assert_allclose(gae(batch, discount=0.5, lambda_=0.5), [-0.125, 0.5, 1, 5])


def test_an_end_by_the_rules_at_the_limit_is_an_end():
    batch = episodes([[0, 1]], value=[[0.5, 0.5]], terminated=[True], truncated=[True])
    np.testing.assert_allclose(gae(batch, lambda_=1.0), [0.5, 0.5])


@pytest.mark.parametrize(
    ("lambda_", "expected"),
    [(0.0, [0.0, 0.0, 0.5]), (1.0, [0.5, 0.5, 0.5])],
    ids=["lambda 0 is the TD error", "lambda 1 is return minus value"],
)
def test_limits_of_lambda(lambda_, expected):
    np.testing.assert_allclose(gae(episodes([[0, 0, 1]], value=[[0.5] * 3]), lambda_=lambda_), expected)


def test_the_outcome_is_a_reward_of_the_last_step():
    batch = episodes([[1, 0]], outcome=[8], value=[[0, 0]])
    np.testing.assert_allclose(gae(batch, discount=0.5, lambda_=1.0), [5, 8])


@given(scored, st.sampled_from([0.0, 0.5, 1.0]))
def test_with_lambda_one_it_is_the_return_to_go_minus_the_value(steps, discount):
    batch = episodes([[r for r, _ in e] for e in steps], value=[[v for _, v in e] for e in steps])
    expected = return_to_go(batch, discount=discount) - batch.column("value")
    np.testing.assert_allclose(gae(batch, discount=discount, lambda_=1.0), expected, atol=1e-12)


@given(scored, st.floats(0, 1))
def test_an_exact_critic_leaves_nothing_to_credit(steps, lambda_):
    #   V = return to go: every TD error is 0
    plain = episodes([[r for r, _ in e] for e in steps])
    batch = plain.with_columns(value=return_to_go(plain, discount=0.9))
    np.testing.assert_allclose(gae(batch, discount=0.9, lambda_=lambda_), 0, atol=1e-12)


@pytest.mark.parametrize("seed", range(200))
def test_it_is_what_a_loop_finds(seed, make_critic_batch):
    batch = make_critic_batch(seed)
    discount, lambda_ = np.random.default_rng(seed).random(2)
    value, expected = batch.column("value"), np.zeros(batch.num_steps)
    for e in range(batch.num_episodes):
        steps = range(batch.step_splits[e], batch.step_splits[e + 1])
        following, advantage = (0.0 if batch.terminated[e] else batch.column("final_value")[e]), 0.0
        for n in reversed(steps):
            reward = batch.reward[n] + (batch.outcome[e] if n == steps[-1] else 0)
            advantage = reward + discount * following - value[n] + discount * lambda_ * advantage
            following, expected[n] = value[n], advantage
    np.testing.assert_allclose(gae(batch, discount=discount, lambda_=lambda_), expected, atol=1e-12)


def test_a_final_value_is_asked_for_only_where_an_episode_was_cut():
    gae(episodes([[1]], value=[[0]]))
    with pytest.raises(MissingColumnError, match=r"gae needs the column 'final_value'.*annotate/value supplies it"):
        gae(episodes([[1], [1]], value=[[0], [0]], truncated=[False, True]))


def test_a_final_value_must_be_a_number_where_it_counts():
    def cut(*final_value):
        return episodes([[1], [1]], value=[[0], [0]], truncated=[False, True], final_value=final_value)

    np.testing.assert_allclose(gae(cut(np.nan, 1)), [1, 2])
    with pytest.raises(UserError, match=r"gae needs finite numbers in the column 'final_value', but episode 1 has nan"):
        gae(cut(1, np.nan))


def test_a_critic_is_needed():
    with pytest.raises(MissingColumnError, match=r"gae needs the column 'value'.*annotate/value supplies it"):
        gae(episodes([[1]]))


@pytest.mark.parametrize("name", ["discount", "lambda_"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_settings_outside_zero_to_one_are_refused(name, value):
    with pytest.raises(UserError, match=rf"{name} must be in \[0, 1\]"):
        gae(episodes([[1]], value=[[0]]), **{name: value})

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.credit.gae import gae
from lapwing.credit.return_to_go import return_to_go
from lapwing.credit.token_gae import token_gae
from lapwing.testing import episodes

scored = st.lists(
    st.lists(st.tuples(st.integers(-3, 3), st.floats(-2, 2)), min_size=1, max_size=5), min_size=1, max_size=5
)


@pytest.mark.parametrize(
    ("lambda_", "expected"),
    [
        #   return to go 1.3, 1.3, 1, 1 minus the values
        (1.0, [0.8, 0.7, 0.6, 0.8]),
        #   δ = 0.6 − 0.5, 0.3 + 0.4 − 0.6, 0.2 − 0.4, 1 − 0.2 = 0.1, 0.1, −0.2, 0.8
        #   A_3 = 0.8,  A_2 = −0.2 + 0.4 = 0.2,  A_1 = 0.1 + 0.1 = 0.2,  A_0 = 0.1 + 0.1 = 0.2
        (0.5, [0.2, 0.2, 0.2, 0.8]),
    ],
)
def test_published_numbers(lambda_, expected):
    # Fails when the recursion starts anew at a turn, or the reward of a turn stands on its first token.
    batch = episodes([[0.3, 1]], tokens_per_step=2, token_value=[[[0.5, 0.6], [0.4, 0.2]]])
    np.testing.assert_allclose(token_gae(batch, lambda_=lambda_), expected)


def test_the_final_value_counts_after_a_cut_and_not_after_an_end():
    #   ended: 1 − ½;     cut: 1 + ½·9 − ½ = 5 and ½·½ − ½ + ½·5 = 2.25
    batch = episodes(
        [[1], [1]],
        tokens_per_step=[[1], [2]],
        token_value=[[[0.5]], [[0.5, 0.5]]],
        final_value=[9, 9],
        truncated=[False, True],
    )
    np.testing.assert_allclose(token_gae(batch, discount=0.5), [0.5, 2.25, 5])


def test_a_step_without_tokens_is_passed_over_and_its_reward_kept():
    # Fails when the reward of a step without tokens is lost, or put on another episode.
    batch = episodes(
        [[1, 2, 4], [8, 16]], tokens_per_step=[[1, 0, 1], [0, 1]], token_value=[[[0.0], [], [0.0]], [[], [0.0]]]
    )
    np.testing.assert_allclose(token_gae(batch), [7, 4, 24])


def test_an_episode_without_tokens_has_no_advantage():
    batch = episodes([[1], [2]], tokens_per_step=[[0], [1]], token_value=[[[]], [[0.5]]])
    np.testing.assert_allclose(token_gae(batch), [1.5])
    nothing = episodes([[1]], tokens_per_step=[[0]], token_value=[[[]]])
    assert token_gae(nothing).shape == (0,)


@given(scored, st.floats(0, 1), st.floats(0, 1))
def test_one_token_per_turn_is_gae_over_turns(steps, discount, lambda_):
    rewards, values = [[r for r, _ in e] for e in steps], [[v for _, v in e] for e in steps]
    truncated = [number % 2 == 0 for number in range(len(steps))]
    batch = episodes(
        rewards,
        truncated=truncated,
        final_value=[0.5] * len(steps),
        value=values,
        token_value=[[[v] for v in e] for e in values],
    )
    settings = {"discount": discount, "lambda_": lambda_}
    np.testing.assert_array_equal(token_gae(batch, **settings), gae(batch, **settings))


@given(scored, st.integers(1, 3))
def test_by_default_it_is_the_return_to_go_minus_the_value(steps, tokens):
    batch = episodes(
        [[r for r, _ in e] for e in steps],
        outcome=[1.0] * len(steps),
        tokens_per_step=tokens,
        token_value=[[[v] * tokens for _, v in e] for e in steps],
    )
    expected = batch.spread(return_to_go(batch)) - batch.column("token_value")
    np.testing.assert_allclose(token_gae(batch), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(200))
def test_it_is_what_a_loop_finds(seed, make_critic_batch, turns_of):
    batch = make_critic_batch(seed)
    discount, lambda_ = np.random.default_rng(seed).random(2)
    value, expected = batch.column("token_value"), np.zeros(batch.num_tokens)
    for e, turns in enumerate(turns_of(batch)):
        following, advantage = (0.0 if batch.terminated[e] else batch.column("final_value")[e]), 0.0
        for token, reward in reversed([pair for turn in turns for pair in turn]):
            advantage = reward + discount * following - value[token] + discount * lambda_ * advantage
            following, expected[token] = value[token], advantage
    np.testing.assert_allclose(token_gae(batch, discount=discount, lambda_=lambda_), expected, atol=1e-12)


def test_missing_columns_are_named():
    with pytest.raises(MissingColumnError, match=r"token_gae needs the column 'token_value'"):
        token_gae(episodes([[1]]))
    with pytest.raises(MissingColumnError, match=r"token_gae needs the column 'final_value'"):
        token_gae(episodes([[1]], token_value=[[[0]]], truncated=[True]))


@pytest.mark.parametrize("name", ["discount", "lambda_"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_settings_outside_zero_to_one_are_refused(name, value):
    with pytest.raises(UserError, match=rf"{name} must be in \[0, 1\]"):
        token_gae(episodes([[1]], token_value=[[[0]]]), **{name: value})

from itertools import pairwise

import numpy as np
import pytest

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.credit.bilevel_gae import bilevel_gae
from lapwing.credit.gae import gae
from lapwing.credit.token_gae import token_gae
from lapwing.testing import episodes


def test_two_turns_by_hand():
    # Fails when the second pass does not start anew at the end of a turn.
    #   turns:  A_2 = 1 − 0.2 = 0.8,   A_1 = 0.3 + 0.95·0.2 − 0.6 + 0.95·0.8 = 0.65
    #   tokens: A = 0.6 − 0.5 + 0.65 = 0.75 and 0.2 − 0.4 + 0.8 = 0.6 on the first tokens
    batch = episodes([[0.3, 1]], tokens_per_step=2, token_value=[[[0.5, 0.6], [0.4, 0.2]]])
    np.testing.assert_allclose(bilevel_gae(batch), [0.75, 0.65, 0.6, 0.8])


def test_a_turn_without_reward_is_a_turn():
    # Fails when the ends of turns are found by their rewards.
    #   turns:  A_3 = 1,   A_2 = 0 + ½·1 = 0.5,   A_1 = ½·0.5 = 0.25 (0.5 if turn 2 were merged with turn 3)
    batch = episodes([[0, 0, 1]], tokens_per_step=2, token_value=[[[0.0, 0.0]] * 3])
    np.testing.assert_allclose(bilevel_gae(batch, turn_discount=0.5), [0.25, 0.25, 0.5, 0.5, 1, 1])
    without = episodes([[0, 0]], tokens_per_step=2, token_value=[[[0.5, 0.5]] * 2])
    np.testing.assert_allclose(bilevel_gae(without, turn_discount=1.0), [-0.5] * 4)


def test_a_cut_lies_one_turn_before_the_final_value():
    #   last token: 0 + ½·8 − 1 = 3;  before it 1 − 1 + 3 = 3
    batch = episodes([[0]], tokens_per_step=2, token_value=[[[1, 1]]], final_value=[8], truncated=[True])
    np.testing.assert_allclose(bilevel_gae(batch, turn_discount=0.5), [3, 3])


def test_a_step_without_tokens_is_no_turn():
    batch = episodes([[1, 2, 4]], tokens_per_step=[[1, 0, 1]], token_value=[[[0.0], [], [0.0]]])
    np.testing.assert_allclose(bilevel_gae(batch, turn_discount=0.5), [5, 4])
    #   a reward before the first token counts for that token only
    first = episodes([[1, 2]], tokens_per_step=[[0, 2]], token_value=[[[], [0.0, 0.0]]])
    np.testing.assert_allclose(bilevel_gae(first), [3, 2])


@pytest.mark.parametrize("seed", range(50))
def test_one_finished_turn_is_token_gae(seed):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 6, 4)
    batch = episodes(
        [[r] for r in rng.normal(size=4)],
        tokens_per_step=[[int(k)] for k in tokens],
        token_value=[[rng.normal(size=k).tolist()] for k in tokens],
    )
    settings = {"discount": 0.9, "lambda_": 0.8}
    np.testing.assert_allclose(bilevel_gae(batch, **settings), token_gae(batch, **settings), atol=1e-12)


def test_one_token_per_turn_is_gae_over_turns():
    values = [[0.5, 0.1, 0.3], [0.2, 0.7]]
    batch = episodes(
        [[0, 1, 2], [3, 0]],
        value=values,
        token_value=[[[v] for v in e] for e in values],
        truncated=[False, True],
        final_value=[0, 0.4],
    )
    expected = gae(batch, discount=0.9, lambda_=0.8)
    np.testing.assert_allclose(bilevel_gae(batch, turn_discount=0.9, lambda_=0.8, discount=0.3), expected, atol=1e-12)


def test_without_discounts_it_is_the_return_to_go_minus_the_value():
    batch = episodes([[0, 1, 2]], tokens_per_step=2, token_value=[[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]])
    np.testing.assert_allclose(bilevel_gae(batch, turn_discount=1.0), token_gae(batch), atol=1e-12)


@pytest.mark.parametrize("seed", range(200))
def test_it_is_what_a_loop_finds(seed, make_critic_batch, turns_of):
    batch = make_critic_batch(seed)
    discount, lambda_, turn_discount = np.random.default_rng(seed).random(3)
    value, expected = batch.column("token_value"), np.zeros(batch.num_tokens)
    for e, turns in enumerate(turns_of(batch)):
        following, of_turn = (0.0 if batch.terminated[e] else batch.column("final_value")[e]), 0.0
        for turn in reversed(turns):
            end, reward = turn[-1]
            of_turn = reward + turn_discount * following - value[end] + turn_discount * lambda_ * of_turn
            following = value[end]
            advantage = expected[end] = of_turn
            for (token, reward), (later, _) in reversed(list(pairwise(turn))):
                advantage = reward + discount * value[later] - value[token] + discount * lambda_ * advantage
                expected[token] = advantage
    found = bilevel_gae(batch, discount=discount, lambda_=lambda_, turn_discount=turn_discount)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_missing_columns_are_named():
    with pytest.raises(MissingColumnError, match=r"bilevel_gae needs the column 'token_value'"):
        bilevel_gae(episodes([[1]]))
    with pytest.raises(MissingColumnError, match=r"bilevel_gae needs the column 'final_value'"):
        bilevel_gae(episodes([[1]], token_value=[[[0]]], truncated=[True]))


@pytest.mark.parametrize("name", ["discount", "lambda_", "turn_discount"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_settings_outside_zero_to_one_are_refused(name, value):
    with pytest.raises(UserError, match=rf"{name} must be in \[0, 1\]"):
        bilevel_gae(episodes([[1]], token_value=[[[0]]]), **{name: value})

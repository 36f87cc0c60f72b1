import numpy as np
import pytest

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.credit.dual_gae import dual_gae
from lapwing.credit.gae import gae
from lapwing.credit.token_gae import token_gae
from lapwing.testing import episodes

SETTINGS = ("turn_discount", "turn_lambda", "token_discount", "token_lambda")


def test_two_turns_by_hand():
    # Fails when the discount of turns falls on the first token of a turn instead of the last of the one before.
    #   A_3 = 1 − 0.2 = 0.8,   A_2 = 0.2 − 0.4 + 0.8 = 0.6
    #   δ_1 = 0.3 + ½·0.4 − 0.6 = −0.1, A_1 = −0.1 + ¼·0.6 = 0.05,   A_0 = 0.6 − 0.5 + 0.05 = 0.15
    batch = episodes([[0.3, 1]], tokens_per_step=2, token_value=[[[0.5, 0.6], [0.4, 0.2]]])
    found = dual_gae(batch, turn_discount=0.5, turn_lambda=0.5)
    np.testing.assert_allclose(found, [0.15, 0.05, 0.6, 0.8])


def test_the_closed_form_for_a_reward_at_the_end():
    #   in the last turn but one A = γ_s [λ_s r + (1 − λ_s) V_first] − V, V_first of the last turn
    value = [0.5, 0.6, 0.1, 0.4, 0.2, 0.3]
    batch = episodes([[0, 2]], tokens_per_step=3, token_value=[[value[:3], value[3:]]])
    expected = 0.99 * (0.95 * 2 + 0.05 * 0.4) - np.array(value[:3])
    np.testing.assert_allclose(dual_gae(batch)[:3], expected)


def test_a_cut_lies_one_turn_before_the_final_value():
    #   0 + ½·8 − 1 = 3 on the last token, 1 − 1 + 3 before it
    batch = episodes([[0]], tokens_per_step=2, token_value=[[[1, 1]]], final_value=[8], truncated=[True])
    np.testing.assert_allclose(dual_gae(batch, turn_discount=0.5, turn_lambda=0.5), [3, 3])


def test_the_length_of_replies_does_not_discount():
    #   turns of 1, 5 and 9 tokens, reward 1 at the end: ½·½ in the first, ½ in the second, 1 in the third
    lengths = [1, 5, 9]
    batch = episodes([[0, 0, 1]], tokens_per_step=[lengths], token_value=[[[0.0] * k for k in lengths]])
    expected = np.repeat([0.25, 0.5, 1.0], lengths)
    np.testing.assert_allclose(dual_gae(batch, turn_discount=0.5, turn_lambda=1.0), expected)


def test_a_step_without_tokens_is_no_turn():
    #   the reward 2 of the empty step is the last reward of the first turn, not discounted; 4 is one turn away
    batch = episodes([[1, 2, 4]], tokens_per_step=[[1, 0, 1]], token_value=[[[0.0], [], [0.0]]])
    np.testing.assert_allclose(dual_gae(batch, turn_discount=0.5, turn_lambda=1.0), [5, 4])


@pytest.mark.parametrize("seed", range(50))
def test_equal_pairs_are_token_gae(seed, make_critic_batch):
    batch = make_critic_batch(seed)
    found = dual_gae(batch, turn_discount=0.9, turn_lambda=0.8, token_discount=0.9, token_lambda=0.8)
    np.testing.assert_array_equal(found, token_gae(batch, discount=0.9, lambda_=0.8))


def test_one_token_per_turn_is_gae_over_turns():
    values = [[0.5, 0.1, 0.3], [0.2]]
    batch = episodes([[0, 1, 2], [3]], value=values, token_value=[[[v] for v in e] for e in values])
    np.testing.assert_array_equal(dual_gae(batch), gae(batch, discount=0.99, lambda_=0.95))


@pytest.mark.parametrize("seed", range(200))
def test_it_is_what_a_loop_finds(seed, make_critic_batch, turns_of):
    batch = make_critic_batch(seed)
    settings = dict(zip(SETTINGS, np.random.default_rng(seed).random(4), strict=True))
    value, expected = batch.column("token_value"), np.zeros(batch.num_tokens)
    for e, turns in enumerate(turns_of(batch)):
        following, advantage = (0.0 if batch.terminated[e] else batch.column("final_value")[e]), 0.0
        for turn in reversed(turns):
            for token, reward in reversed(turn):
                level = "turn" if token == turn[-1][0] else "token"
                discount, lambda_ = settings[f"{level}_discount"], settings[f"{level}_lambda"]
                advantage = reward + discount * following - value[token] + discount * lambda_ * advantage
                following, expected[token] = value[token], advantage
    np.testing.assert_allclose(dual_gae(batch, **settings), expected, atol=1e-12)


def test_missing_columns_are_named():
    with pytest.raises(MissingColumnError, match=r"dual_gae needs the column 'token_value'"):
        dual_gae(episodes([[1]]))
    with pytest.raises(MissingColumnError, match=r"dual_gae needs the column 'final_value'"):
        dual_gae(episodes([[1]], token_value=[[[0]]], truncated=[True]))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_settings_outside_zero_to_one_are_refused(name, value):
    with pytest.raises(UserError, match=rf"{name} must be in \[0, 1\]"):
        dual_gae(episodes([[1]], token_value=[[[0]]]), **{name: value})

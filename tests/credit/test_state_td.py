import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.state_td import state_td
from lapwing.testing import episodes

keyed_steps = st.lists(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=5), min_size=1, max_size=6
)
S0, S1, S2 = 11, 12, 13


def keyed(steps, **others):
    """A batch from lists of (reward, view key), one list per episode."""
    rewards = [[reward for reward, _ in episode] for episode in steps]
    return episodes(rewards, view_key=[[key for _, key in episode] for episode in steps], **others)


def loop(batch, discount, lambda_):
    """The definition, one step after the other."""
    to_go, value = np.zeros(batch.num_steps), np.zeros(batch.num_steps)
    group, key = batch.group[batch.episode_of_step], batch.view_key
    for first, end, outcome in zip(batch.step_splits[:-1], batch.step_splits[1:], batch.outcome, strict=True):
        running = outcome
        for n in reversed(range(first, end)):
            running = to_go[n] = batch.reward[n] + (running if n == end - 1 else discount * running)
    for n in range(batch.num_steps):
        alike = [m for m in range(batch.num_steps) if group[m] == group[n] and key[m] == key[n]]
        value[n] = np.mean(to_go[alike]) if key[n] else to_go[n]
    advantage = np.zeros(batch.num_steps)
    for first, end, outcome in zip(batch.step_splits[:-1], batch.step_splits[1:], batch.outcome, strict=True):
        for n in range(first, end):
            for m in range(n, end):
                last = m == end - 1
                error = batch.reward[m] + (outcome if last else discount * value[m + 1]) - value[m]
                advantage[n] += (discount * lambda_) ** (m - n) * error
    return advantage


def test_two_episodes_through_the_same_states_by_hand():
    # Fails when the end is not worth 0, when λ or γ is left out, or when a second visit does not count.
    batch = keyed([[(0, S0), (1, S1)], [(0, S0), (0, S0), (0, S1)]])
    #   γ = ½: to go ½, 1 and 0, 0, 0;  V(s0) = (½ + 0 + 0)/3 = 1/6,  V(s1) = ½
    #   δ of the first:  ½·½ − 1/6 = 1/12,  1 − ½ = ½;           A_0 = 1/12 + ¼·½ = 5/24
    #   δ of the second: ½·1/6 − 1/6 = −1/12,  ½·½ − 1/6 = 1/12,  0 − ½ = −½
    #                    A_1 = 1/12 − ¼·½ = −1/24,  A_0 = −1/12 − ¼·1/24 = −3/32
    expected = [5 / 24, 1 / 2, -3 / 32, -1 / 24, -1 / 2]
    np.testing.assert_allclose(state_td(batch, discount=0.5, lambda_=0.5), expected, atol=1e-12)


def test_lambda_zero_credits_a_step_only_with_the_state_it_led_to():
    #   V(s0) = ½, V(s1) = ½, V(s2) = ½: both ways out of s0 are worth the same, whatever came later
    batch = keyed([[(0, S0), (1, S1)], [(0, S0), (0, S1)], [(0, S0), (1, S2)], [(0, S0), (0, S2)]])
    expected = [0, 0.5, 0, -0.5, 0, 0.5, 0, -0.5]
    np.testing.assert_allclose(state_td(batch, lambda_=0.0), expected, atol=1e-12)


def test_the_defaults_are_no_discount_and_lambda_nine_tenths():
    #   V = ½ in s0 and in s1; δ = 0, ±½; A_0 = 0.9 · ±½
    batch = keyed([[(0, S0), (1, S1)], [(0, S0), (0, S1)]])
    np.testing.assert_allclose(state_td(batch), [0.45, 0.5, -0.45, -0.5])


@pytest.mark.parametrize("seed", range(200))
def test_it_agrees_with_a_loop(seed, make_keyed_batch):
    batch = make_keyed_batch(seed)
    rng = np.random.default_rng(seed)
    discount, lambda_ = rng.choice([0.0, 0.5, 0.9, 1.0]), rng.choice([0.0, 0.5, 0.9, 1.0])
    advantage = state_td(batch, discount=discount, lambda_=lambda_)
    np.testing.assert_allclose(advantage, loop(batch, discount, lambda_), atol=1e-12)


@given(keyed_steps, st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_lambda_one_is_the_return_to_go_minus_its_mean_in_the_state(steps, discount):
    batch = keyed(steps)
    to_go, key = loop_to_go(batch, discount), batch.view_key
    value = [np.mean(to_go[key == key[n]]) if key[n] else to_go[n] for n in range(batch.num_steps)]
    np.testing.assert_allclose(state_td(batch, discount=discount, lambda_=1.0), to_go - value, atol=1e-12)


def loop_to_go(batch, discount):
    to_go = batch.reward.copy()
    for n in reversed(range(batch.num_steps - 1)):
        if batch.episode_of_step[n] == batch.episode_of_step[n + 1]:
            to_go[n] += discount * to_go[n + 1]
    return to_go


@given(st.lists(st.lists(st.floats(-3, 3), min_size=1, max_size=5), min_size=1, max_size=5), st.floats(0, 1))
def test_without_repeated_views_every_step_gets_exactly_zero(rewards, lambda_):
    # V(s_t) = G_t, so δ_t = r_t + γ G_{t+1} − G_t = 0 whatever λ is.
    distinct = iter(range(1, 100))
    batch = episodes(rewards, view_key=[[next(distinct) for _ in episode] for episode in rewards])
    np.testing.assert_array_equal(state_td(batch, discount=0.9, lambda_=lambda_), np.zeros(batch.num_steps))
    unknown = episodes(rewards)  # keys are 0, which never match
    np.testing.assert_array_equal(state_td(unknown, discount=0.9, lambda_=lambda_), np.zeros(batch.num_steps))


def test_equal_returns_in_a_state_give_exactly_zero_whatever_the_rounding_of_the_mean():
    # The float mean of three times 0.1 is not 0.1.
    np.testing.assert_array_equal(state_td(keyed([[(0, S0), (0.1, S1)]] * 3)), np.zeros(6))


def test_a_group_of_one_has_only_its_own_repeated_states_to_compare():
    np.testing.assert_array_equal(state_td(keyed([[(1, S0), (2, S1)]])), [0, 0])
    #   s0 twice: to go 1 and 1, then again 1: no spread
    np.testing.assert_array_equal(state_td(keyed([[(0, S0), (1, S0)]])), [0, 0])
    #   to go 1 and 0: V = ½; δ = 1 + ½ − ½, 0 − ½; A_0 = 1 − 0.9·½
    np.testing.assert_allclose(state_td(keyed([[(1, S0), (0, S0)]])), [0.55, -0.5])


def test_the_same_view_in_another_group_is_another_state():
    batch = keyed([[(0, S0)], [(9, S0)], [(1, S0)], [(9, S0)]], group=[3, 5, 3, 5])
    np.testing.assert_array_equal(state_td(batch), [-0.5, 0, 0.5, 0])


def test_keys_are_compared_in_all_their_64_bits():
    high = 2**64 - 1
    batch = keyed([[(0, high)], [(1, high)], [(5, high - 1)]])
    np.testing.assert_array_equal(state_td(batch), [-0.5, 0.5, 0])


def test_a_truncated_episode_is_worth_nothing_past_its_end():
    steps = [[(0, S0), (0, S1)], [(0, S0), (1, S1)]]
    ended, cut = keyed(steps), keyed(steps, truncated=[True, False])
    np.testing.assert_array_equal(state_td(cut), state_td(ended))


def test_the_outcome_counts_as_reward_of_the_last_step():
    batch = keyed([[(0, S0), (0, S1)], [(0, S0), (0, S1)]], outcome=[1, 0])
    np.testing.assert_allclose(state_td(batch), [0.45, 0.5, -0.45, -0.5])


@given(keyed_steps, st.integers(-9, 9))
def test_a_constant_added_to_every_outcome_changes_nothing_without_discount(steps, shift):
    plain = keyed(steps, outcome=[0] * len(steps))
    shifted = keyed(steps, outcome=[shift] * len(steps))
    np.testing.assert_allclose(state_td(shifted), state_td(plain), atol=1e-12)


@given(keyed_steps)
def test_with_lambda_one_the_steps_of_a_state_sum_to_zero(steps):
    batch = keyed(steps)
    np.testing.assert_allclose(np.bincount(batch.view_key.astype(int), state_td(batch, lambda_=1.0)), 0, atol=1e-12)


def test_steps_without_tokens_count_like_any_other():
    steps = [[(0, S0), (1, S1)], [(0, S0), (0, S1)]]
    few = keyed(steps, tokens_per_step=[[0, 1], [2, 0]])
    np.testing.assert_array_equal(state_td(few), state_td(keyed(steps)))


@pytest.mark.parametrize("setting", ["discount", "lambda_"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_settings_outside_zero_to_one_are_refused(setting, value):
    with pytest.raises(UserError, match=rf"{setting} must be in \[0, 1\]"):
        state_td(keyed([[(1, S0)]]), **{setting: value})


def test_a_reward_that_is_not_a_number_is_refused():
    with pytest.raises(UserError, match="state_td needs finite numbers in the column 'reward'"):
        state_td(keyed([[(float("nan"), S0)]]))

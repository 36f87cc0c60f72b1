import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.rtmc import rtmc
from lapwing.credit.state_td import state_td
from lapwing.testing import episodes

keyed_steps = st.lists(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=5),
    min_size=1,
    max_size=6,
)
S0, S1 = 11, 12
LEFT, RIGHT, INVALID = 1, 2, 0


def keyed(steps, **others):
    """A batch from lists of (reward, view key, action key), one list per episode."""
    reward, view, action = ([[step[k] for step in episode] for episode in steps] for k in range(3))
    return episodes(reward, view_key=view, action_key=action, **others)


def loop(batch):
    """The definition, one step after the other."""
    size, of_step = batch.num_steps, batch.episode_of_step
    to_go = np.zeros(size)
    for n in range(size):
        later = [m for m in range(n, size) if of_step[m] == of_step[n]]
        to_go[n] = batch.reward[later].sum() + batch.outcome[of_step[n]]
    advantage = np.zeros(size)
    group = batch.group[of_step]
    for n in range(size):
        state = [m for m in range(size) if group[m] == group[n] and batch.view_key[m] == batch.view_key[n]]
        choice = [m for m in state if batch.action_key[m] == batch.action_key[n]]
        if batch.view_key[n]:
            q = np.mean(to_go[choice]) if batch.action_key[n] else to_go[n]
            advantage[n] = q - np.mean(to_go[state])
    return advantage


def test_three_episodes_by_hand():
    # Fails when Q is the step's own return, or V the mean over actions instead of visits.
    #   s0: left 1, left 0, right 1:  V = 2/3, Q(left) = ½, Q(right) = 1
    #   s1: right 1, right 0:         one action, so 0
    batch = keyed([[(0, S0, LEFT), (1, S1, RIGHT)], [(0, S0, LEFT), (0, S1, RIGHT)], [(1, S0, RIGHT)]])
    np.testing.assert_allclose(rtmc(batch), [-1 / 6, 0, -1 / 6, 0, 1 / 3])


def test_an_invalid_reply_has_its_own_return_as_its_value():
    #   s0: invalid 3, invalid 0, left 0:  V = 1
    batch = keyed([[(3, S0, INVALID)], [(0, S0, INVALID)], [(0, S0, LEFT)]])
    np.testing.assert_allclose(rtmc(batch), [2, -1, -1])


def test_a_view_without_a_key_matches_nothing():
    np.testing.assert_array_equal(rtmc(keyed([[(3, 0, LEFT)], [(0, 0, RIGHT)]])), [0, 0])


@pytest.mark.parametrize("seed", range(200))
def test_it_agrees_with_a_loop(seed, make_keyed_batch):
    batch = make_keyed_batch(seed)
    np.testing.assert_allclose(rtmc(batch), loop(batch), atol=1e-12)


@given(keyed_steps)
def test_with_every_action_different_it_is_the_return_minus_the_value(steps):
    different = iter(range(1, 100))
    batch = keyed([[(r, v, next(different)) for r, v, _ in episode] for episode in steps])
    expected = state_td(batch, discount=1.0, lambda_=1.0)
    np.testing.assert_allclose(rtmc(batch), expected, atol=1e-12)
    unknown = keyed([[(r, v, 0) for r, v, _ in episode] for episode in steps])
    np.testing.assert_allclose(rtmc(unknown), expected, atol=1e-12)


@given(st.lists(st.lists(st.tuples(st.floats(-3, 3), st.integers(0, 3)), min_size=1, max_size=5), min_size=1))
def test_a_state_with_one_action_gets_exactly_zero(steps):
    batch = keyed([[(reward, view, 5) for reward, view in episode] for episode in steps])
    np.testing.assert_array_equal(rtmc(batch), np.zeros(batch.num_steps))


@given(keyed_steps)
def test_the_steps_of_a_state_sum_to_zero(steps):
    batch = keyed(steps)
    np.testing.assert_allclose(np.bincount(batch.view_key.astype(int), rtmc(batch)), 0, atol=1e-12)


@given(keyed_steps, st.integers(-9, 9))
def test_a_constant_added_to_every_outcome_changes_nothing(steps, shift):
    plain = keyed(steps, outcome=[0] * len(steps))
    shifted = keyed(steps, outcome=[shift] * len(steps))
    np.testing.assert_allclose(rtmc(shifted), rtmc(plain), atol=1e-12)


def test_equal_returns_give_exactly_zero_whatever_the_rounding_of_the_means():
    # The float mean of three times 0.1 is not 0.1.
    steps = [[(0.1, S0, LEFT)]] * 3 + [[(0.1, S0, RIGHT)]]
    np.testing.assert_array_equal(rtmc(keyed(steps)), np.zeros(4))


def test_the_same_view_and_action_in_another_group_is_another_choice():
    steps = [[(0, S0, LEFT)], [(9, S0, LEFT)], [(1, S0, RIGHT)], [(9, S0, RIGHT)]]
    np.testing.assert_array_equal(rtmc(keyed(steps, group=[3, 5, 3, 5])), [-0.5, 0, 0.5, 0])


def test_the_same_action_in_another_view_is_another_choice():
    steps = [[(0, S0, LEFT)], [(1, S0, RIGHT)], [(9, S1, LEFT)]]
    np.testing.assert_array_equal(rtmc(keyed(steps)), [-0.5, 0.5, 0])


def test_a_truncated_episode_is_worth_nothing_past_its_end_and_tokens_play_no_part():
    steps = [[(0, S0, LEFT), (1, S1, LEFT)], [(0, S0, RIGHT)]]
    cut = keyed(steps, truncated=[True, False], tokens_per_step=[[0, 2], [1]])
    np.testing.assert_array_equal(rtmc(cut), rtmc(keyed(steps)))


def test_an_outcome_that_is_not_a_number_is_refused():
    with pytest.raises(UserError, match="rtmc needs finite numbers in the column 'outcome'"):
        rtmc(keyed([[(0, S0, LEFT)]], outcome=[float("nan")]))

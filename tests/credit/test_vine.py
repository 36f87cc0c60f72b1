import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.ragged import reverse_discounted_sum
from lapwing.credit.return_to_go import return_to_go
from lapwing.credit.vine import vine
from lapwing.testing import episodes

number = st.integers(-3, 3)
valued_steps = st.lists(st.lists(st.tuples(number, number, number), min_size=1, max_size=5), min_size=1, max_size=5)


def valued(steps, **others):
    """A batch from lists of (reward, branch value, next branch value), one list per episode."""
    reward, value, next_value = ([[step[k] for step in episode] for episode in steps] for k in range(3))
    return episodes(reward, branch_value=value, next_branch_value=next_value, **others)


def test_two_steps_by_hand():
    #   A_0 = 0 + ½·0.8 − 0.5 = −0.1,  A_1 = 1 + 0 − 0.8 = 0.2: the 9 stands behind the end
    batch = valued([[(0, 0.5, 0.8), (1, 0.8, 9)]])
    np.testing.assert_allclose(vine(batch, discount=0.5), [-0.1, 0.2])
    np.testing.assert_allclose(vine(batch), [0.3, 0.2])


def test_the_value_after_a_step_is_its_own_column_and_not_the_next_steps_value():
    # A step may be a retry, and its branches are other ones: two measurements of one state differ.
    np.testing.assert_allclose(vine(valued([[(0, 0.5, 0.75), (0, 0.25, 0)]])), [0.25, -0.25])


@pytest.mark.parametrize("truncated", [True, False])
def test_every_end_is_worth_nothing(truncated):
    batch = valued([[(0, 0.5, 7)], [(0, 0.5, 0.5), (1, 0.5, 7)]], truncated=[truncated, truncated])
    np.testing.assert_allclose(vine(batch), [-0.5, 0, 0.5])


def test_the_outcome_counts_as_reward_of_the_last_step():
    np.testing.assert_allclose(vine(valued([[(0, 0.5, 0.5), (0, 0.5, 0)]], outcome=[1])), [0, 0.5])


@given(valued_steps, st.sampled_from([0.0, 0.5, 1.0]))
def test_it_agrees_with_a_loop(steps, discount):
    expected = [
        reward + (discount * after if n < len(episode) - 1 else 0) - value
        for episode in steps
        for n, (reward, value, after) in enumerate(episode)
    ]
    np.testing.assert_allclose(vine(valued(steps), discount=discount), expected, atol=1e-12)


@given(valued_steps, st.sampled_from([0.5, 1.0]))
def test_with_one_value_per_state_the_sum_to_the_end_is_return_minus_value(steps, discount):
    joined = [
        [(r, v, episode[n + 1][1] if n + 1 < len(episode) else 0) for n, (r, v, _) in enumerate(episode)]
        for episode in steps
    ]
    batch = valued(joined)
    summed = reverse_discounted_sum(vine(batch, discount=discount), discount, batch.step_splits)
    expected = return_to_go(batch, discount=discount) - batch.column("branch_value")
    np.testing.assert_allclose(summed, expected, atol=1e-9)


@given(valued_steps)
def test_without_values_it_is_the_reward(steps):
    batch = valued([[(reward, 0, 0) for reward, _, _ in episode] for episode in steps])
    np.testing.assert_array_equal(vine(batch), batch.reward)


def test_the_columns_stay_as_they_are_and_steps_without_tokens_count():
    batch = valued([[(0, 0.5, 0.8), (1, 0.8, 9)]], tokens_per_step=[[0, 2]])
    np.testing.assert_allclose(vine(batch), [0.3, 0.2])
    np.testing.assert_array_equal(batch.column("next_branch_value"), [0.8, 9])


@pytest.mark.parametrize("missing", ["branch_value", "next_branch_value"])
def test_a_missing_column_is_refused_with_who_supplies_it(missing):
    (there,) = {"branch_value", "next_branch_value"} - {missing}
    batch = episodes([[1]]).with_columns(**{there: np.array([0.5])})
    with pytest.raises(LapwingError, match=f"vine needs the column '{missing}'.*samplers/branching"):
        vine(batch)


def test_a_discount_outside_zero_to_one_is_refused():
    with pytest.raises(UserError, match="discount"):
        vine(valued([[(0, 0, 0)]]), discount=1.5)

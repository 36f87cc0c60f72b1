import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.grpo import grpo
from lapwing.credit.gtpo import gtpo
from lapwing.testing import episodes

s = np.sqrt(0.5)  # 0.7071068: ±½ over the sample standard deviation √½ of a pair
reward_lists = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=2, max_size=6)


def test_two_turns_by_hand():
    #   γ = 0.9:  G = 1 + 0.9·0 + 0.81·1 = 1.81 and 0 + 0.9·1 = 0.9;  0 + 0.9·1 = 0.9 and 1 (+ 0.9·0)
    #   each pair normalises to ±s, and the outcomes 1 and 0 to ±s:  s + 0.3 s = 0.9192,  −s + 0.3 s = −0.4950
    batch = episodes([[1, 0], [0, 1]], outcome=[1, 0])
    np.testing.assert_allclose(gtpo(batch, eps=0.0), [0.9192388, -0.4949747, -0.9192388, 0.4949747], atol=1e-6)
    np.testing.assert_allclose(gtpo(batch, eps=0.0, outcome_weight=0.0), [s, -s, -s, s], atol=1e-6)


def test_three_returns_by_hand():
    # Fails when the outcome is not discounted at the last step, or the last reward is left out.
    #   γ = ½:  G = 1 + ½·2 = 2, 0, 4 + ½·0 = 4: mean 2, std 2
    batch = episodes([[1], [0], [4]], outcome=[2, 0, 0])
    np.testing.assert_allclose(gtpo(batch, discount=0.5, outcome_weight=0.0, eps=0.0), [0, -1, 1], atol=1e-12)


def test_only_the_outcome_is_in_the_outcome_term():
    # Fails when the reward of the last step counts with the outcome: without outcomes its weight has no effect.
    batch = episodes([[0, 1], [0, 0]])
    np.testing.assert_array_equal(gtpo(batch, outcome_weight=5.0), gtpo(batch, outcome_weight=0.0))


def test_a_turn_is_compared_only_with_episodes_that_reach_it():
    # Fails when an absent turn counts as a return of 0.
    #   turn 1: returns 4 and 2;  the third episode ended before, and its first turn has the middle return 3
    batch = episodes([[0, 4], [0, 2], [3]])
    np.testing.assert_allclose(gtpo(batch, discount=1.0, eps=0.0), [1, s, -1, -s, 0], atol=1e-12)


def test_groups_are_kept_apart_and_a_group_of_one_is_zero():
    batch = episodes([[1], [50], [0]], group=[4, 2, 4], outcome=[0, 7, 0])
    np.testing.assert_allclose(gtpo(batch, eps=0.0), [s, 0, -s], atol=1e-12)
    assert gtpo(batch, eps=0.0)[1] == 0


def test_equal_numbers_give_exactly_zero_whatever_the_rounding_of_the_mean():
    np.testing.assert_array_equal(gtpo(episodes([[0.1, 0.1]] * 3, outcome=[0.7] * 3), eps=0.0), np.zeros(6))


@given(reward_lists, st.lists(st.integers(-3, 3), min_size=6, max_size=6))
def test_discount_zero_has_the_reward_of_the_turn_alone(rewards, outcome):
    with_outcome = episodes(rewards, outcome=outcome[: len(rewards)])
    np.testing.assert_array_equal(
        gtpo(with_outcome, discount=0.0, outcome_weight=0.0),
        gtpo(episodes(rewards), discount=0.0, outcome_weight=0.0),
    )
    later = [[r[0], *(9 * i for i in range(1, len(r)))] for r in rewards]
    first = episodes(later).step_splits[:-1]
    np.testing.assert_array_equal(
        gtpo(episodes(later), discount=0.0)[first], gtpo(episodes([[r[0]] for r in rewards]), discount=0.0)
    )


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=6), st.sampled_from([0.5, 0.9, 1.0]))
def test_with_one_turn_without_reward_it_is_grpo_on_the_discounted_outcome(outcome, discount):
    batch = episodes([[0]] * len(outcome), outcome=outcome)
    expected = grpo(batch.with_columns(outcome=discount * batch.outcome))
    np.testing.assert_allclose(gtpo(batch, discount=discount, outcome_weight=0.0), expected, atol=1e-12)


@given(reward_lists, st.integers(-9, 9))
def test_a_constant_added_to_every_outcome_changes_nothing_for_equal_lengths(rewards, shift):
    even = [(r * 4)[:3] for r in rewards]
    shifted = gtpo(episodes(even, outcome=[shift] * len(even)))
    np.testing.assert_allclose(shifted, gtpo(episodes(even)), atol=1e-9)


@given(reward_lists, st.sampled_from([0.5, 2.0, 100.0]))
def test_the_scale_of_the_reward_does_not_matter_without_eps(rewards, scale):
    scaled = [[scale * r for r in episode] for episode in rewards]
    np.testing.assert_allclose(gtpo(episodes(scaled), eps=0.0), gtpo(episodes(rewards), eps=0.0), atol=1e-9)


@given(reward_lists)
def test_each_turn_sums_to_zero_over_those_that_reach_it(rewards):
    turn = np.concatenate([np.arange(len(r)) for r in rewards])
    np.testing.assert_allclose(np.bincount(turn, gtpo(episodes(rewards))), 0, atol=1e-9)


def loop(batch, discount=0.9, outcome_weight=0.3, ddof=1, eps=1e-6):
    """The same, written out episode by episode."""

    def normal(own, others):
        if len(others) <= ddof or max(others) - min(others) < 1e-9:
            return 0.0
        return (own - np.mean(others)) / (np.std(others, ddof=ddof) + eps)

    raw = []
    for i in range(batch.num_episodes):
        reward = batch.reward[batch.step_splits[i] : batch.step_splits[i + 1]]
        stream = [*reward, batch.outcome[i]]  # the outcome at the virtual turn after the last
        raw.append([sum(discount ** (u - k) * stream[u] for u in range(k, len(stream))) for k in range(len(reward))])
    answer = []
    for i, mine in enumerate(raw):
        group = [j for j in range(len(raw)) if batch.group[j] == batch.group[i]]
        of_outcome = normal(batch.outcome[i], [batch.outcome[j] for j in group])
        for k, own in enumerate(mine):
            of_turn = normal(own, [raw[j][k] for j in group if k < len(raw[j])])
            answer.append(of_turn + outcome_weight * of_outcome)
    return answer


@pytest.mark.parametrize("settings", [{}, {"discount": 1.0, "outcome_weight": 2.0, "ddof": 0, "eps": 0.1}])
def test_it_agrees_with_loops_on_random_ragged_batches(make_keyed_batch, settings):
    for seed in range(200):
        batch = make_keyed_batch(seed)
        np.testing.assert_allclose(gtpo(batch, **settings), loop(batch, **settings), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discount": 1.1}, "discount must be in"),
        ({"outcome_weight": -1.0}, "outcome_weight must be finite and at least 0"),
        ({"outcome_weight": float("inf")}, "outcome_weight must be finite and at least 0"),
        ({"ddof": -1}, "ddof must be at least 0"),
        ({"eps": -1e-9}, "eps must be at least 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        gtpo(episodes([[1]]), **settings)

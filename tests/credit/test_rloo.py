import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.rloo import rloo
from lapwing.testing import episodes

reward_lists = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=2, max_size=6)


returns_of_a_group = st.lists(st.integers(-5, 5), min_size=2, max_size=6)


def test_three_episodes_by_hand():
    # Fails when the baseline contains the episode's own return.
    #   returns 3, 0, 3:  3 − (0 + 3)/2 = 1.5,  0 − (3 + 3)/2 = −3,  3 − (3 + 0)/2 = 1.5
    np.testing.assert_allclose(rloo(episodes([[1, 2], [0], [3]])), [1.5, 1.5, -3, 1.5])


def test_published_numbers():
    np.testing.assert_allclose(rloo(episodes([[1], [0], [0], [0]])), [1, -1 / 3, -1 / 3, -1 / 3])
    np.testing.assert_allclose(rloo(episodes([[1], [0], [0], [1]])), [2 / 3, -2 / 3, -2 / 3, 2 / 3])


def test_groups_of_different_size_are_kept_apart():
    #   group 0: 4 and 0, each against the other;  group 1: alone, so 0
    np.testing.assert_allclose(rloo(episodes([[4], [9], [0]], group=[0, 1, 0])), [4, 0, -4])


def test_equal_returns_give_exactly_zero_whatever_the_rounding_of_the_mean():
    np.testing.assert_array_equal(rloo(episodes([[0.1]] * 3)), [0, 0, 0])


@given(returns_of_a_group)
def test_it_is_dr_grpo_times_g_over_g_minus_one(returns):
    batch = episodes([[r] for r in returns])
    size = len(returns)
    np.testing.assert_allclose(rloo(batch), dr_grpo(batch) * size / (size - 1), atol=1e-9)


@given(returns_of_a_group)
def test_it_agrees_with_the_definition(returns):
    others = [np.mean(returns[:i] + returns[i + 1 :]) for i in range(len(returns))]
    np.testing.assert_allclose(rloo(episodes([[r] for r in returns])), np.array(returns) - others, atol=1e-9)


@given(reward_lists, st.integers(-20, 20))
def test_each_group_sums_to_zero_and_ignores_a_constant_of_its_own(rewards, shift):
    # Fails when the baseline is that of the batch.
    group = [i % 2 for i in range(len(rewards))]
    batch = episodes(rewards, group=group)
    shifted = episodes(rewards, group=group, outcome=[shift * g for g in group])
    of_episode = rloo(batch)[batch.step_splits[:-1]]
    np.testing.assert_allclose(np.bincount(group, of_episode), 0, atol=1e-9)
    np.testing.assert_allclose(rloo(shifted), rloo(batch), atol=1e-9)


@given(reward_lists, st.sampled_from([0.5, 2.0, 100.0]))
def test_the_advantage_has_the_scale_of_the_reward(rewards, scale):
    # Fails when it is divided by a standard deviation.
    scaled = [[scale * r for r in episode] for episode in rewards]
    np.testing.assert_allclose(rloo(episodes(scaled)), scale * rloo(episodes(rewards)), atol=1e-9)


@given(reward_lists, st.randoms(use_true_random=False))
def test_permuting_episodes_permutes_the_advantages(rewards, random):
    batch = episodes(rewards, group=[i % 2 for i in range(len(rewards))])
    order = list(range(len(rewards)))
    random.shuffle(order)
    of_episode = rloo(batch)[batch.step_splits[:-1]]
    permuted = batch.select(np.array(order))
    np.testing.assert_allclose(rloo(permuted)[permuted.step_splits[:-1]], of_episode[order], atol=1e-9)


def test_it_agrees_with_loops_on_random_ragged_batches(make_keyed_batch):
    for seed in range(200):
        batch = make_keyed_batch(seed)
        returns = [
            batch.reward[batch.step_splits[i] : batch.step_splits[i + 1]].sum() + batch.outcome[i]
            for i in range(batch.num_episodes)
        ]
        expected = []
        for i, own in enumerate(returns):
            others = [returns[j] for j in np.flatnonzero(batch.group == batch.group[i]) if j != i]
            expected += [own - np.mean(others) if others else 0.0] * int(batch.episode_length[i])
        np.testing.assert_allclose(rloo(batch), expected, atol=1e-6)

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lapwing.credit.dr_grpo import dr_grpo
from lapwing.testing import episodes

reward_lists = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=2, max_size=6)


def test_two_groups_by_hand():
    # Fails when the group baseline is removed, or when the advantage is divided by the standard deviation.
    batch = episodes([[0, 1], [0], [5]], group=[7, 7, 8])
    #   group 7: returns 1 and 0, mean ½;  group 8: alone, so 0
    np.testing.assert_allclose(dr_grpo(batch), [0.5, 0.5, -0.5, 0.0])


def test_published_numbers():
    np.testing.assert_allclose(dr_grpo(episodes([[1], [0], [0], [0]])), [0.75, -0.25, -0.25, -0.25])
    np.testing.assert_allclose(dr_grpo(episodes([[1], [0], [0], [1]])), [0.5, -0.5, -0.5, 0.5])


def test_equal_returns_give_exactly_zero_whatever_the_rounding_of_the_mean():
    np.testing.assert_array_equal(dr_grpo(episodes([[0.1]] * 3)), [0, 0, 0])


@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=1, max_size=6), st.integers(-9, 9))
def test_the_advantages_of_a_group_sum_to_zero_and_ignore_a_shift(rewards, shift):
    batch = episodes(rewards, outcome=[shift] * len(rewards))
    advantage = dr_grpo(batch)
    np.testing.assert_allclose(advantage[batch.step_splits[:-1]].sum(), 0, atol=1e-9)
    np.testing.assert_allclose(advantage, dr_grpo(episodes(rewards)), atol=1e-9)


@given(reward_lists, st.integers(-20, 20))
def test_each_group_sums_to_zero_and_ignores_a_constant_of_its_own(rewards, shift):
    # Fails when the baseline is that of the batch.
    group = [i % 2 for i in range(len(rewards))]
    batch = episodes(rewards, group=group)
    shifted = episodes(rewards, group=group, outcome=[shift * g for g in group])
    of_episode = dr_grpo(batch)[batch.step_splits[:-1]]
    np.testing.assert_allclose(np.bincount(group, of_episode), 0, atol=1e-9)
    np.testing.assert_allclose(dr_grpo(shifted), dr_grpo(batch), atol=1e-9)


@given(reward_lists, st.sampled_from([0.5, 2.0, 100.0]))
def test_the_advantage_has_the_scale_of_the_reward(rewards, scale):
    # Fails when it is divided by a standard deviation.
    scaled = [[scale * r for r in episode] for episode in rewards]
    np.testing.assert_allclose(dr_grpo(episodes(scaled)), scale * dr_grpo(episodes(rewards)), atol=1e-9)


@given(reward_lists, st.randoms(use_true_random=False))
def test_permuting_episodes_permutes_the_advantages(rewards, random):
    batch = episodes(rewards, group=[i % 2 for i in range(len(rewards))])
    order = list(range(len(rewards)))
    random.shuffle(order)
    of_episode = dr_grpo(batch)[batch.step_splits[:-1]]
    permuted = batch.select(np.array(order))
    np.testing.assert_allclose(dr_grpo(permuted)[permuted.step_splits[:-1]], of_episode[order], atol=1e-9)


def test_it_agrees_with_loops_on_random_ragged_batches(make_keyed_batch):
    for seed in range(200):
        batch = make_keyed_batch(seed)
        returns = [
            batch.reward[batch.step_splits[i] : batch.step_splits[i + 1]].sum() + batch.outcome[i]
            for i in range(batch.num_episodes)
        ]
        expected = []
        for i, own in enumerate(returns):
            group = [r for r, g in zip(returns, batch.group, strict=True) if g == batch.group[i]]
            expected += [own - np.mean(group)] * int(batch.episode_length[i])
        np.testing.assert_allclose(dr_grpo(batch), expected, atol=1e-6)

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lapwing.credit.reinforce import reinforce
from lapwing.credit.return_to_go import return_to_go
from lapwing.testing import episodes

reward_lists = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=2, max_size=6)


def test_every_step_has_the_whole_return_by_hand():
    #   episode 0: 1 + 2 + outcome 4 = 7 on both of its steps;  episode 1: 5 + 0
    np.testing.assert_array_equal(reinforce(episodes([[1, 2], [5]], outcome=[4, 0])), [7, 7, 5])


def test_there_is_no_baseline():
    # Fails when a group mean is subtracted.
    np.testing.assert_array_equal(reinforce(episodes([[1], [1]])), [1, 1])


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6))
def test_with_one_step_per_episode_it_is_the_return_to_go(returns):
    batch = episodes([[r] for r in returns])
    np.testing.assert_array_equal(reinforce(batch), return_to_go(batch))


@given(reward_lists, st.sampled_from([0.5, 2.0, 100.0]))
def test_the_advantage_has_the_scale_of_the_reward(rewards, scale):
    # Fails when it is divided by a standard deviation.
    scaled = [[scale * r for r in episode] for episode in rewards]
    np.testing.assert_allclose(reinforce(episodes(scaled)), scale * reinforce(episodes(rewards)), atol=1e-9)


@given(reward_lists, st.randoms(use_true_random=False))
def test_permuting_episodes_permutes_the_advantages(rewards, random):
    batch = episodes(rewards, group=[i % 2 for i in range(len(rewards))])
    order = list(range(len(rewards)))
    random.shuffle(order)
    of_episode = reinforce(batch)[batch.step_splits[:-1]]
    permuted = batch.select(np.array(order))
    np.testing.assert_allclose(reinforce(permuted)[permuted.step_splits[:-1]], of_episode[order], atol=1e-9)


@given(reward_lists, st.integers(-20, 20))
def test_a_constant_added_to_every_outcome_is_added_to_every_advantage(rewards, shift):
    # Fails when a baseline is subtracted.
    shifted = reinforce(episodes(rewards, outcome=[shift] * len(rewards)))
    np.testing.assert_allclose(shifted, reinforce(episodes(rewards)) + shift)


def test_it_agrees_with_loops_on_random_ragged_batches(make_keyed_batch):
    for seed in range(200):
        batch = make_keyed_batch(seed)
        expected = []
        for i, (start, end) in enumerate(zip(batch.step_splits[:-1], batch.step_splits[1:], strict=True)):
            expected += [sum(batch.reward[start:end]) + batch.outcome[i]] * int(end - start)
        np.testing.assert_allclose(reinforce(batch), expected, atol=1e-9)

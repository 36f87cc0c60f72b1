import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.grpo import grpo
from lapwing.testing import episodes

reward_lists = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=2, max_size=6)


def test_two_groups_of_three_by_hand():
    # Fails when the group baseline is removed, or the standard deviation.
    batch = episodes([[1, 2], [0], [0], [1], [0, 1], [1]], group=[0, 0, 0, 1, 1, 1])
    #   group 0: returns 3, 0, 0: mean 1, deviations 2, −1, −1, sample variance (4 + 1 + 1)/2 = 3
    #   group 1: returns 1, 1, 1: no spread, exactly 0
    root = np.sqrt(3)
    np.testing.assert_allclose(grpo(batch, eps=0.0), [2 / root, 2 / root, -1 / root, -1 / root, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("returns", "settings", "expected"),
    [
        #   mean ½, deviations ±½, sample std √(4·¼/3) = 0.57735: ½ / 0.57735 = 0.8660254
        ([1, 0, 0, 1], {"eps": 0.0}, [0.8660254, -0.8660254, -0.8660254, 0.8660254]),
        #   population std ½
        ([1, 0, 0, 1], {"eps": 0.0, "ddof": 0}, [1, -1, -1, 1]),
        #   ½ / (0.57735 + 0.0001)
        ([1, 0, 0, 1], {"eps": 1e-4}, [0.8658754, -0.8658754, -0.8658754, 0.8658754]),
        #   merged rewards: mean 1, deviations 1, 0, −1, 0, sample std √(2/3) = 0.8164966
        ([2, 1, 0, 1], {"eps": 0.0}, [1.2247449, 0, -1.2247449, 0]),
        ([1, 0, 0, 0], {"eps": 0.0}, [1.5, -0.5, -0.5, -0.5]),
    ],
    ids=["sample std", "population std", "eps 1e-4", "merged rewards", "one success"],
)
def test_published_numbers(returns, settings, expected):
    np.testing.assert_allclose(grpo(episodes([[r] for r in returns]), **settings), expected, atol=1e-6)


def test_published_numbers_of_two_turns():
    # A search worth 1, 1, 0, 0, then an answer worth 1, 0, 0, 1: all steps of an episode have the same advantage.
    outcome = [1, 0, 0, 1]
    only_outcome = grpo(episodes([[0, 0]] * 4, outcome=outcome), eps=0.0)
    merged = grpo(episodes([[1, 0], [1, 0], [0, 0], [0, 0]], outcome=outcome), eps=0.0)
    np.testing.assert_allclose(only_outcome, np.repeat([0.8660254, -0.8660254, -0.8660254, 0.8660254], 2), atol=1e-6)
    np.testing.assert_allclose(merged, np.repeat([1.2247449, 0, -1.2247449, 0], 2), atol=1e-6)


def test_a_long_episode_counts_once_in_the_statistics():
    # Fails when mean or std run over steps instead of episodes.
    #   returns 1 and 0, mean ½ (over steps it would be ¾), population std ½
    np.testing.assert_allclose(grpo(episodes([[0, 0, 1], [0]]), ddof=0, eps=0.0), [1, 1, 1, -1])


def test_the_outcome_is_part_of_the_return():
    np.testing.assert_allclose(grpo(episodes([[0], [0]], outcome=[1, 0]), ddof=0, eps=0.0), [1, -1])


def test_groups_are_told_by_number_and_not_by_position():
    batch = episodes([[1], [30], [0], [10]], group=[4, 2, 4, 2])
    np.testing.assert_allclose(grpo(batch, ddof=0, eps=0.0), [1, 1, -1, -1])


@pytest.mark.parametrize("settings", [{}, {"eps": 0.0}, {"scale_by_std": False}, {"ddof": 0, "eps": 0.0}])
def test_groups_of_one_and_groups_without_spread_give_exactly_zero(settings):
    # The float mean of three times 0.1 is not 0.1, and with eps = 0 the difference would become an advantage.
    batch = episodes([[0.1], [0.1], [0.1], [7.3]], group=[0, 0, 0, 1])
    np.testing.assert_array_equal(grpo(batch, **settings), [0, 0, 0, 0])


def test_a_group_too_small_for_its_ddof_gives_zero():
    np.testing.assert_array_equal(grpo(episodes([[1], [0]]), ddof=2), [0, 0])


@given(reward_lists)
def test_without_scaling_it_is_dr_grpo(rewards):
    batch = episodes(rewards)
    np.testing.assert_array_equal(grpo(batch, scale_by_std=False), dr_grpo(batch))


@given(reward_lists, st.integers(-20, 20))
def test_a_constant_added_to_every_return_changes_nothing(rewards, shift):
    # Fails when the group baseline is removed.
    plain = grpo(episodes(rewards))
    shifted = grpo(episodes(rewards, outcome=[shift] * len(rewards)))
    np.testing.assert_allclose(shifted, plain, atol=1e-9)


@given(reward_lists, st.sampled_from([0.5, 2.0, 100.0]))
def test_the_scale_of_the_reward_does_not_matter_without_eps(rewards, scale):
    # Fails when the standard deviation is removed.
    scaled = [[scale * r for r in episode] for episode in rewards]
    np.testing.assert_allclose(grpo(episodes(scaled), eps=0.0), grpo(episodes(rewards), eps=0.0), atol=1e-9)


@given(reward_lists)
def test_all_steps_of_an_episode_have_the_same_advantage(rewards):
    batch = episodes(rewards)
    advantage = grpo(batch)
    np.testing.assert_array_equal(advantage, advantage[batch.step_splits[:-1]][batch.episode_of_step])


@given(reward_lists, st.randoms(use_true_random=False))
def test_permuting_episodes_permutes_the_advantages(rewards, random):
    batch = episodes(rewards, group=[i % 2 for i in range(len(rewards))])
    order = list(range(len(rewards)))
    random.shuffle(order)
    of_episode = grpo(batch)[batch.step_splits[:-1]]
    permuted = batch.select(np.array(order))
    np.testing.assert_allclose(grpo(permuted)[permuted.step_splits[:-1]], of_episode[order], atol=1e-9)


@pytest.mark.parametrize(("setting", "value"), [("ddof", -1), ("eps", -1e-9), ("eps", float("nan"))])
def test_negative_settings_are_refused(setting, value):
    with pytest.raises(UserError, match=f"{setting} must be at least 0"):
        grpo(episodes([[1]]), **{setting: value})


@given(reward_lists, st.integers(-20, 20))
def test_each_group_sums_to_zero_and_ignores_a_constant_of_its_own(rewards, shift):
    # Fails when the baseline is that of the batch.
    group = [i % 2 for i in range(len(rewards))]
    batch = episodes(rewards, group=group)
    shifted = episodes(rewards, group=group, outcome=[shift * g for g in group])
    of_episode = grpo(batch)[batch.step_splits[:-1]]
    np.testing.assert_allclose(np.bincount(group, of_episode), 0, atol=1e-9)
    np.testing.assert_allclose(grpo(shifted), grpo(batch), atol=1e-9)


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
            spread = len(group) > 1 and max(group) - min(group) > 1e-9
            advantage = (own - np.mean(group)) / (np.std(group, ddof=1) + 1e-6) if spread else 0.0
            expected += [advantage] * int(batch.episode_length[i])
        np.testing.assert_allclose(grpo(batch), expected, atol=1e-6)

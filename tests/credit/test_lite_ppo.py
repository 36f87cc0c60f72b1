import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.grpo import grpo
from lapwing.credit.lite_ppo import lite_ppo
from lapwing.testing import episodes

reward_lists = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=2, max_size=6)


def two_groups(first, second):
    return episodes([[r] for r in [*first, *second]], group=[3] * len(first) + [1] * len(second))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        #   three of eight returns are 1: mean ⅜, sample variance 8·(⅜·⅝)/7 = 0.267857, std 0.51755
        #   ¾ and −¼ over it, ½ and −½ over it
        ([1, 1, 0, 0], [1.4491377, -0.4830459, -0.4830459, -0.4830459, 0.9660918, 0.9660918, -0.9660918, -0.9660918]),
        #   five of eight: the same std;  a group of equal returns has exactly 0
        ([1, 1, 1, 1], [1.4491377, -0.4830459, -0.4830459, -0.4830459, 0, 0, 0, 0]),
    ],
    ids=["both groups have spread", "one group is uniform"],
)
def test_published_numbers(second, expected):
    np.testing.assert_allclose(lite_ppo(two_groups([1, 0, 0, 0], second), eps=0.0), expected, atol=1e-6)


def test_the_spread_of_centred_returns_by_hand():
    # Fails when the standard deviation is that of the returns: 10 and 8, 0 and −2 have √(104 / 3) instead.
    #   deviations 1, −1, 1, −1: sample std √(4/3)
    batch = two_groups([10, 8], [0, -2])
    expected = np.array([1, -1, 1, -1]) / np.sqrt(4 / 3)
    np.testing.assert_allclose(lite_ppo(batch, std_of="centred", eps=0.0), expected)
    np.testing.assert_allclose(lite_ppo(batch, eps=0.0), np.array([1, -1, 1, -1]) / np.sqrt(104 / 3))


def test_population_std_and_eps_by_hand():
    #   returns 1 and 0: population std ½;  ½ / (½ + ½)
    np.testing.assert_allclose(lite_ppo(episodes([[1], [0]]), ddof=0, eps=0.5), [0.5, -0.5])


def test_a_long_episode_counts_once_in_the_statistics():
    #   returns 1 and 0, population std ½ (over steps it would be √3/4)
    np.testing.assert_allclose(lite_ppo(episodes([[0, 0, 1], [0]]), ddof=0, eps=0.0), [1, 1, 1, -1])


def test_the_outcome_is_part_of_the_return():
    np.testing.assert_array_equal(lite_ppo(episodes([[0], [0]], outcome=[1, 0])), lite_ppo(episodes([[1], [0]])))


@pytest.mark.parametrize("std_of", ["return", "centred"])
def test_groups_without_spread_give_exactly_zero(std_of):
    # The float mean of three times 0.1 is not 0.1.
    batch = episodes([[0.1], [0.1], [0.1], [7.3], [1.0], [0.0]], group=[0, 0, 0, 1, 2, 2])
    np.testing.assert_array_equal(lite_ppo(batch, std_of=std_of, eps=0.0)[:4], [0, 0, 0, 0])
    assert lite_ppo(batch, std_of=std_of)[4] > 0
    np.testing.assert_array_equal(lite_ppo(batch.select(np.arange(3)), std_of=std_of, eps=0.0), [0, 0, 0])


@given(reward_lists, st.sampled_from(["return", "centred"]))
def test_with_one_group_it_is_grpo(rewards, std_of):
    batch = episodes(rewards)
    np.testing.assert_allclose(lite_ppo(batch, std_of=std_of), grpo(batch), atol=1e-9)


@given(reward_lists)
def test_it_is_dr_grpo_on_one_scale(rewards):
    batch = episodes(rewards, group=[i % 2 for i in range(len(rewards))])
    std = batch.episode_return.std(ddof=1)
    np.testing.assert_allclose(lite_ppo(batch) * (std + 1e-6), dr_grpo(batch) * (std > 0), atol=1e-9)


@given(reward_lists, st.integers(-9, 9), st.sampled_from([0.5, 2.0, 100.0]))
def test_neither_a_constant_on_every_return_nor_the_scale_matters(rewards, shift, scale):
    group = [i % 2 for i in range(len(rewards))]
    moved = episodes([[scale * r for r in e] for e in rewards], outcome=[scale * shift] * len(rewards), group=group)
    np.testing.assert_allclose(lite_ppo(moved, eps=0.0), lite_ppo(episodes(rewards, group=group), eps=0.0), atol=1e-9)


@given(reward_lists, st.integers(1, 9))
def test_a_constant_for_one_group_moves_only_the_scale_of_returns(rewards, shift):
    group = [i % 2 for i in range(len(rewards))]
    outcome = [float(shift * g) for g in group]
    moved, plain = episodes(rewards, outcome=outcome, group=group), episodes(rewards, group=group)
    np.testing.assert_allclose(
        lite_ppo(moved, std_of="centred", eps=0.0), lite_ppo(plain, std_of="centred", eps=0.0), atol=1e-9
    )
    np.testing.assert_array_equal(np.sign(lite_ppo(moved)), np.sign(dr_grpo(plain)))


def loop(batch, std_of, ddof, eps):
    """The same, written out episode by episode."""
    returns = [
        batch.reward[batch.step_splits[i] : batch.step_splits[i + 1]].sum() + batch.outcome[i]
        for i in range(batch.num_episodes)
    ]
    mean = [np.mean([r for r, g in zip(returns, batch.group, strict=True) if g == own]) for own in batch.group]
    centred = np.array(returns) - mean
    spread = returns if std_of == "return" else centred
    if len(returns) <= ddof or np.ptp(spread) < 1e-9:
        return np.zeros(batch.num_steps)
    return np.repeat(centred / (np.std(spread, ddof=ddof) + eps), batch.episode_length)


@pytest.mark.parametrize("settings", [("return", 1, 1e-6), ("centred", 0, 0.1)])
def test_it_agrees_with_loops_on_random_ragged_batches(make_keyed_batch, settings):
    for seed in range(200):
        batch = make_keyed_batch(seed)
        named = dict(zip(("std_of", "ddof", "eps"), settings, strict=True))
        np.testing.assert_allclose(lite_ppo(batch, **named), loop(batch, *settings), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"std_of": "returns"}, "no std_of 'returns'; did you mean return"),
        ({"ddof": -1}, "ddof must be at least 0"),
        ({"eps": float("nan")}, "eps must be at least 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        lite_ppo(episodes([[1]]), **settings)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.mt_grpo import mt_grpo
from lapwing.credit.mt_grpo_prefix import mt_grpo_prefix
from lapwing.testing import episodes

s = np.sqrt(0.5)  # 0.7071068: ±½ over the sample standard deviation √½ of a pair
reward_lists = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=2, max_size=6)
settings_of_both = [
    {},
    {"coefficient": 0.3, "weight_on": "turn"},
    {"horizon": "immediate", "ddof": 0, "eps": 0.1},
]


def test_two_views_at_the_second_turn_by_hand():
    # Fails when statistics run over the turn index alone.
    #   turn 1 in view 8: rewards 3 and 2;  in view 9: rewards 1 and 0;  outcomes and turn 0 are equal
    batch = episodes(
        [[0, 3, 0], [0, 2, 0], [0, 1, 0], [0, 0, 0]], view_key=[[7, 8, 1], [7, 8, 2], [7, 9, 3], [7, 9, 4]]
    )
    expected = [s, s, 0, -s, -s, 0, s, s, 0, -s, -s, 0]
    np.testing.assert_allclose(mt_grpo_prefix(batch, eps=0.0), expected, atol=1e-6)


def test_a_turn_is_not_praised_for_where_earlier_turns_had_led():
    # In view 8 every second turn earns 1, in view 9 every one earns 0: no turn 1 did better than it could.
    batch = episodes(
        [[0, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]], view_key=[[7, 8, 1], [7, 8, 1], [7, 9, 1], [7, 9, 1]]
    )
    np.testing.assert_array_equal(mt_grpo_prefix(batch), np.zeros(12))
    assert (np.abs(mt_grpo(batch).reshape(4, 3)[:, 1]) > 0.8).all()


def test_the_same_view_at_another_turn_is_no_match():
    batch = episodes([[1, 0, 0], [0, 5, 0]], view_key=[[7, 3, 0], [3, 7, 0]])
    np.testing.assert_array_equal(mt_grpo_prefix(batch), np.zeros(6))


def test_the_key_zero_never_matches():
    batch = episodes([[1, 0], [0, 0]], view_key=[[0, 0], [0, 0]])
    np.testing.assert_array_equal(mt_grpo_prefix(batch), np.zeros(4))


def test_other_groups_never_match():
    batch = episodes([[1, 0], [0, 0]], view_key=[[7, 1], [7, 1]], group=[0, 1])
    np.testing.assert_array_equal(mt_grpo_prefix(batch), np.zeros(4))


def test_the_last_step_is_no_turn_to_compare_with():
    #   turn 1 of episode 0 shares its view with the last step of episode 1 only
    batch = episodes([[0, 5, 0], [0, 0]], view_key=[[7, 8, 1], [7, 8]])
    np.testing.assert_array_equal(mt_grpo_prefix(batch), np.zeros(5))


def test_outcomes_are_compared_whatever_the_views():
    batch = episodes([[1, 0], [5, 0]], outcome=[1, 0], view_key=[[7, 0], [8, 0]])
    np.testing.assert_allclose(mt_grpo_prefix(batch, eps=0.0), [s, s, -s, -s], atol=1e-6)


def test_an_episode_without_intermediate_turn_has_its_merged_return():
    batch = episodes([[1, 0], [1, 0], [0]], outcome=[1, 1, 1], view_key=[[7, 1], [7, 2], [7]])
    np.testing.assert_allclose(mt_grpo_prefix(batch, eps=0.0), [0, 0, 0, 0, -2 / np.sqrt(3)], atol=1e-6)


@pytest.mark.parametrize("settings", settings_of_both)
@given(rewards=reward_lists)
def test_where_all_share_the_view_it_is_mt_grpo(settings, rewards):
    batch = episodes(rewards, view_key=[[7] * len(r) for r in rewards], group=[i % 2 for i in range(len(rewards))])
    np.testing.assert_array_equal(mt_grpo_prefix(batch, **settings), mt_grpo(batch, **settings))


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=6))
def test_two_turns_with_a_common_start_are_mt_grpo(members):
    # The last view does not matter: what is earned there counts with the outcome.
    batch = episodes([[a, b] for a, b, _ in members], view_key=[[7, view] for _, _, view in members])
    np.testing.assert_array_equal(mt_grpo_prefix(batch), mt_grpo(batch))


def loop(batch, ddof=1, eps=1e-6):
    """The turn term alone, step by step: without spread in the outcomes and with the immediate horizon."""
    first = batch.step_splits[batch.episode_of_step]
    turn = np.arange(batch.num_steps) - first
    last = batch.step_splits[1:][batch.episode_of_step] - 1
    answer = np.zeros(batch.num_steps)
    for n in range(batch.num_steps):
        peers = [
            m
            for m in range(batch.num_steps)
            if m != last[m]
            and turn[m] == turn[n]
            and batch.group[batch.episode_of_step[m]] == batch.group[batch.episode_of_step[n]]
            and (m == n or batch.view_key[m] == batch.view_key[n] != 0)
        ]
        values = batch.reward[peers]
        if n != last[n] and len(values) > ddof and np.ptp(values) > 1e-9:
            answer[n] = (batch.reward[n] - values.mean()) / (values.std(ddof=ddof) + eps)
    return answer


def with_a_last_step(batch):
    """A last step of reward 0 for every episode, so that none has a single step and all outcomes are equal."""
    bounds = list(zip(batch.step_splits[:-1], batch.step_splits[1:], strict=True))
    rewards = [[*batch.reward[a:b], 0] for a, b in bounds]
    return episodes(rewards, group=batch.group, view_key=[[*batch.view_key[a:b], 1] for a, b in bounds])


@pytest.mark.parametrize("ddof", [0, 1])
def test_the_turn_term_agrees_with_loops_on_random_ragged_batches(make_keyed_batch, ddof):
    for seed in range(200):
        batch = with_a_last_step(make_keyed_batch(seed))
        advantage = mt_grpo_prefix(batch, horizon="immediate", ddof=ddof)
        np.testing.assert_allclose(advantage, loop(batch, ddof), atol=1e-6)


def test_the_rest_is_mt_grpo_on_random_ragged_batches(make_keyed_batch):
    for seed in range(200):
        batch = with_a_last_step(make_keyed_batch(seed))
        outcome = np.arange(batch.num_episodes, dtype=np.float64)
        of_outcome = mt_grpo(batch.with_columns(reward=np.zeros(batch.num_steps), outcome=outcome))
        advantage = mt_grpo_prefix(batch.with_columns(outcome=outcome), horizon="immediate")
        np.testing.assert_allclose(advantage, loop(batch) + of_outcome, atol=1e-6)


def test_bad_settings_are_refused():
    with pytest.raises(UserError, match="no horizon 'all'"):
        mt_grpo_prefix(episodes([[1]]), horizon="all")

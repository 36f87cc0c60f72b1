import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.credit._tokens import episode_token_splits, token_reward, turn_end, turn_splits
from lapwing.testing import episodes

written = st.lists(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=5), min_size=1)


def test_a_reward_stands_on_the_last_token_of_its_step_and_the_outcome_on_the_last_of_all():
    batch = episodes([[1, 2], [3]], outcome=[10, 20], tokens_per_step=[[2, 3], [1]])
    np.testing.assert_array_equal(token_reward(batch), [0, 1, 0, 0, 12, 23])


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        #   in the middle: to the token before it
        ([2, 0, 1], [0, 3, 4]),
        #   at the end: to the token before it, with the outcome
        ([1, 2, 0], [1, 0, 6]),
        #   at the start: to the first token after it, which need not be the last of its step
        ([0, 2, 1], [1, 2, 4]),
        ([0, 0, 1], [7]),
        ([0, 0, 0], []),
    ],
)
def test_the_reward_of_a_step_without_tokens_goes_to_its_neighbour(tokens, expected):
    # Fails when the reward is put on the last token before the step in the batch, whoever's it is.
    batch = episodes([[9], [1, 2, 4]], tokens_per_step=[[1], tokens])
    np.testing.assert_array_equal(token_reward(batch), [9, *expected])


@given(written)
def test_no_reward_is_lost(steps):
    batch = episodes([[r for r, _ in e] for e in steps], tokens_per_step=[[k for _, k in e] for e in steps])
    splits = episode_token_splits(batch)
    for e in range(batch.num_episodes):
        if splits[e] < splits[e + 1]:
            assert token_reward(batch)[splits[e] : splits[e + 1]].sum() == pytest.approx(batch.episode_return[e])


@pytest.mark.parametrize("seed", range(30))
def test_it_is_what_a_loop_finds(seed, make_critic_batch, turns_of):
    batch = make_critic_batch(seed)
    expected = np.zeros(batch.num_tokens)
    turns = turns_of(batch)
    for token, reward in (pair for episode in turns for turn in episode for pair in turn):
        expected[token] = reward
    np.testing.assert_allclose(token_reward(batch), expected, atol=1e-12)
    assert turn_end(batch).tolist() == [turn[-1][0] for episode in turns for turn in episode]
    assert np.diff(turn_splits(batch)).tolist() == [len(episode) for episode in turns]

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.grpo import grpo
from lapwing.modulation.salt import salt
from lapwing.testing import episodes

S0, S1, S2, S3, S4, S5 = range(1, 7)
A, B, C, D, F = range(1, 6)


def walks(*paths, group=None):
    """Episodes from lists of (view, action, next view)."""
    columns = [[[step[i] for step in path] for path in paths] for i in range(3)]
    return episodes(
        [[0.0] * len(path) for path in paths],
        group=group,
        view_key=columns[0],
        action_key=columns[1],
        next_view_key=columns[2],
    )


def base(batch, per_episode):
    return np.array(per_episode, dtype=float)[batch.episode_of_step]


def test_the_published_case_by_hand():
    # Fails when the next view is left out of the edge, or unmatched edges lose their advantage.
    batch = walks([(S0, A, S1), (S1, B, S2)], [(S0, A, S1), (S1, C, S3)], [(S0, A, S1), (S1, D, S4)], [(S0, F, S5)])
    #   the edge (s0, a, s1) is shared by three: (0.5 + 0.5 − 0.5)/3 = 1/6; all others keep their own
    expected = [1 / 6, 0.5, 1 / 6, 0.5, 1 / 6, -0.5, -0.5]
    np.testing.assert_allclose(salt(batch, base(batch, [0.5, 0.5, -0.5, -0.5])), expected, atol=1e-12)


def test_another_next_view_is_another_edge():
    batch = walks([(S0, A, S1)], [(S0, A, S2)])
    np.testing.assert_array_equal(salt(batch, [1.0, -1.0]), [1.0, -1.0])


def test_groups_are_kept_apart():
    batch = walks([(S0, A, S1)], [(S0, A, S1)], [(S0, A, S1)], group=[4, 9, 4])
    np.testing.assert_array_equal(salt(batch, [1.0, 7.0, 0.0]), [0.5, 7.0, 0.5])


@pytest.mark.parametrize("step", [(0, A, S1), (S0, 0, S1), (S0, A, 0)])
def test_a_key_of_0_matches_nothing(step):
    np.testing.assert_array_equal(salt(walks([step], [step]), [1.0, -1.0]), [1.0, -1.0])


def test_a_balanced_edge_is_exactly_0_whatever_the_rounding():
    batch = walks(*[[(S0, A, S1)]] * 3)
    assert (0.1 + 0.2) - 0.3 != 0.0
    np.testing.assert_array_equal(salt(batch, [0.1, 0.2, -0.3]), [0, 0, 0])


# Two steps with the same transition (s1, b, s2), reached by other actions; the second episode begins there.
PAST = [
    [(S0, A, S1), (S1, B, S2)],
    [(S1, B, S2)],
    [(S0, C, S1), (S1, B, S2)],
    [(S0, A, S1), (S1, B, S2)],
]


def test_the_history_separates_steps_with_another_past():
    # Fails when the history is ignored, or the start of an episode matches a step further on.
    batch = walks(*PAST)
    values = base(batch, [4.0, 8.0, 0.0, -4.0])
    #   h = 0: (s1, b, s2) four times, mean 2; (s0, a, s1) twice, mean 0; (s0, c, s1) once
    np.testing.assert_array_equal(salt(batch, values), [0, 2, 2, 0, 2, 0, 2])
    #   h = 1: (s1, b, s2) after (s0, a) twice, mean 0; at the start, once; after (s0, c), once
    np.testing.assert_array_equal(salt(batch, values, history=1), [0, 0, 8, 0, 0, 0, 0])
    np.testing.assert_array_equal(salt(batch, values, history=-1), salt(batch, values, history=1))


def test_only_the_history_that_is_asked_for_counts():
    #   (s2, d, s3) after (s1, b) after a or c: the same with h = 1, apart with h = 2
    batch = walks([(S0, A, S1), (S1, B, S2), (S2, D, S3)], [(S0, C, S1), (S1, B, S2), (S2, D, S3)])
    values = base(batch, [1.0, -1.0])
    np.testing.assert_array_equal(salt(batch, values, history=1), [1, 1, 0, -1, -1, 0])
    np.testing.assert_array_equal(salt(batch, values, history=2), [1, 1, 1, -1, -1, -1])


def test_an_episode_with_a_loop_may_be_counted_once():
    #   the edge (s0, a, s0) is made twice by the first episode: (3 + 3 + 0)/3 = 2, or (3 + 0)/2 = 1.5
    batch = walks([(S0, A, S0), (S0, A, S0)], [(S0, A, S0)])
    np.testing.assert_allclose(salt(batch, [3.0, 3.0, 0.0]), [2, 2, 2])
    np.testing.assert_allclose(salt(batch, [3.0, 3.0, 0.0], dedupe_per_episode=True), [1.5, 1.5, 1.5])
    #   an episode whose occurrences differ counts with their mean: ((4 + 2)/2 + 0)/2
    np.testing.assert_allclose(salt(batch, [4.0, 2.0, 0.0], dedupe_per_episode=True), [1.5, 1.5, 1.5])


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6))
def test_without_a_repeated_edge_nothing_changes(values):
    batch = walks(*[[(i + 1, A, i + 2)] for i in range(len(values))])
    np.testing.assert_array_equal(salt(batch, values), values)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6))
def test_identical_episodes_all_get_the_mean_of_the_group(values):
    batch = walks(*[[(S0, A, S1), (S1, B, S2)]] * len(values))
    np.testing.assert_allclose(salt(batch, base(batch, values)), np.mean(values), atol=1e-12)


def test_a_group_without_spread_stays_exactly_0():
    batch = walks(*PAST)
    np.testing.assert_array_equal(salt(batch, grpo(batch)), np.zeros(7))


def brute_force(batch, advantage, history, dedupe):
    """The definition, in loops."""
    keys = []
    for i in range(batch.num_episodes):
        steps = range(batch.step_splits[i], batch.step_splits[i + 1])
        pairs = [(int(batch.view_key[n]), int(batch.action_key[n])) for n in steps]
        for t, n in enumerate(steps):
            past = pairs[:t] if history == -1 else pairs[max(0, t - history) : t]
            begins = history == -1 or t < history
            key = (int(batch.group[i]), *pairs[t], int(batch.next_view_key[n]), begins, tuple(past))
            alone = 0 in key[1:4] or any(0 in pair for pair in past)
            keys.append(("alone", n) if alone else key)
    episode = batch.episode_of_step
    answer = []
    for key in keys:
        found = [n for n in range(len(keys)) if keys[n] == key]
        if dedupe:
            by_episode = [[advantage[n] for n in found if episode[n] == i] for i in sorted({episode[n] for n in found})]
            answer.append(np.mean([np.mean(each) for each in by_episode]))
        else:
            answer.append(np.mean([advantage[n] for n in found]))
    return answer


@pytest.mark.parametrize("history", [0, 1, 2, -1])
@pytest.mark.parametrize("dedupe", [False, True])
def test_it_agrees_with_the_definition_on_random_batches(random_batch, history, dedupe):
    for seed in range(50):
        batch = random_batch(seed)
        advantage = np.random.default_rng(seed).normal(size=batch.num_steps)
        found = salt(batch, advantage, history=history, dedupe_per_episode=dedupe)
        np.testing.assert_allclose(found, brute_force(batch, advantage, history, dedupe), atol=1e-12)


def test_a_history_below_minus_1_is_refused():
    with pytest.raises(UserError, match="history"):
        salt(walks(*PAST), np.zeros(7), history=-2)


def test_an_advantage_per_token_is_refused():
    batch = episodes([[1.0, 0.0]], tokens_per_step=2)
    with pytest.raises(UserError, match=r"salt takes one advantage per step.*2 steps.*\(4,\)"):
        salt(batch, np.zeros(4))


def test_an_advantage_that_is_not_finite_is_refused():
    # A NaN would vanish in the comparison that takes rounding for 0.
    with pytest.raises(UserError, match="salt needs finite advantages, but number 1 is nan"):
        salt(walks(*PAST), [0, np.nan, 0, 0, 0, 0, 0])

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.rebn import rebn
from lapwing.credit.return_to_go import return_to_go
from lapwing.testing import episodes

reward_lists = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=1, max_size=6)


def test_published_numbers():
    #   γ = ½:  to go ½·1, 1 and three times 0: mean 0.3, deviations 0.2, 0.7, −0.3, sample variance 0.8/4 = 0.2
    batch = episodes([[0, 1], [0], [0, 0]], group=[0, 1, 2])
    expected = [0.4472136, 1.5652476, -0.6708204, -0.6708204, -0.6708204]
    np.testing.assert_allclose(rebn(batch, discount=0.5, eps=0.0), expected, atol=1e-6)
    np.testing.assert_allclose(rebn(batch, discount=0.5), expected, atol=1e-6)


def test_population_std_and_eps_by_hand():
    #   to go 1 and 0: population std ½;  ½ / (½ + ½)
    np.testing.assert_allclose(rebn(episodes([[1], [0]]), ddof=0, eps=0.5), [0.5, -0.5])


def test_the_outcome_counts():
    np.testing.assert_allclose(rebn(episodes([[0, 0], [0]], outcome=[1, 0])), rebn(episodes([[0, 1], [0]])))


def test_the_statistics_run_over_steps_of_the_whole_batch():
    # Fails when they run over episodes or inside groups.
    #   to go 1, 1, 1, 0: mean ¾, sample std ½
    batch = episodes([[0, 0, 1], [0]], group=[0, 1])
    np.testing.assert_allclose(rebn(batch, eps=0.0), [0.5, 0.5, 0.5, -1.5])


@pytest.mark.parametrize("rewards", [[[3.0]], [[0.1]] * 3], ids=["one step", "equal returns"])
def test_without_spread_it_is_exactly_zero(rewards):
    np.testing.assert_array_equal(rebn(episodes(rewards), eps=0.0), np.zeros(len(rewards)))


@given(reward_lists, st.integers(-9, 9), st.sampled_from([0.5, 2.0, 100.0]))
def test_neither_a_constant_on_every_return_to_go_nor_the_scale_matters(rewards, shift, scale):
    # With γ = 1 a constant on the outcome is one on every return to go.
    moved = episodes([[scale * r for r in e] for e in rewards], outcome=[scale * shift] * len(rewards))
    np.testing.assert_allclose(rebn(moved, eps=0.0), rebn(episodes(rewards), eps=0.0), atol=1e-9)


@given(reward_lists, st.sampled_from([0.0, 0.5, 1.0]))
def test_it_is_the_return_to_go_with_mean_zero_and_variance_one(rewards, discount):
    batch = episodes(rewards)
    advantage, to_go = rebn(batch, discount=discount, eps=0.0), return_to_go(batch, discount=discount)
    np.testing.assert_allclose(advantage.mean(), 0, atol=1e-9)
    if np.ptp(to_go) > 0:
        np.testing.assert_allclose(advantage.std(ddof=1), 1)
        np.testing.assert_allclose(advantage * to_go.std(ddof=1), to_go - to_go.mean(), atol=1e-9)


def loop(batch, discount, ddof, eps):
    """The same, written out step by step."""
    to_go = []
    for i in range(batch.num_episodes):
        total, mine = batch.outcome[i], []
        for reward in batch.reward[batch.step_splits[i] : batch.step_splits[i + 1]][::-1]:
            total = reward + (discount * total if mine else total)
            mine.insert(0, total)
        to_go += mine
    if len(to_go) <= ddof or max(to_go) - min(to_go) < 1e-9:
        return np.zeros(len(to_go))
    return (np.array(to_go) - np.mean(to_go)) / (np.std(to_go, ddof=ddof) + eps)


@pytest.mark.parametrize("settings", [(1.0, 1, 1e-9), (0.7, 0, 0.1)])
def test_it_agrees_with_loops_on_random_ragged_batches(make_keyed_batch, settings):
    for seed in range(200):
        batch = make_keyed_batch(seed)
        named = dict(zip(("discount", "ddof", "eps"), settings, strict=True))
        np.testing.assert_allclose(rebn(batch, **named), loop(batch, *settings), atol=1e-6)


@pytest.mark.parametrize(("setting", "value"), [("discount", 1.1), ("ddof", -1), ("eps", float("nan"))])
def test_bad_settings_are_refused(setting, value):
    with pytest.raises(UserError, match=f"{setting} must be"):
        rebn(episodes([[1]]), **{setting: value})

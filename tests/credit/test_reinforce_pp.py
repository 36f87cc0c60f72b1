import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.rebn import rebn
from lapwing.credit.reinforce_pp import reinforce_pp
from lapwing.testing import episodes

reward_lists = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=1, max_size=6)


def whitened(returns):
    return (np.array(returns) - np.mean(returns)) / np.std(returns, ddof=1)


def test_published_numbers():
    #   to go 1, 1, 0, 0, 0: mean 0.4, sample std √0.3 = 0.5477226;  0.6 and −0.4 over it
    batch = episodes([[1], [0]], tokens_per_step=[[2], [3]])
    expected = [1.0954451, 1.0954451, -0.7302967, -0.7302967, -0.7302967]
    np.testing.assert_allclose(reinforce_pp(batch, eps=0.0), expected, atol=1e-6)


def test_the_discount_counts_tokens():
    # Fails when it counts steps, or when the reward stands on the first token of its step.
    #   γ = ½, rewards 4 and 8 on the last tokens of steps of one and two tokens: 4 + ½·½·8 = 6,  ½·8 = 4,  8
    batch = episodes([[4, 8]], tokens_per_step=[[1, 2]])
    np.testing.assert_allclose(reinforce_pp(batch, discount=0.5, eps=0.0), whitened([6, 4, 8]))


def test_the_sum_stops_at_the_end_of_the_episode():
    batch = episodes([[1, 2], [4]], tokens_per_step=[[1, 2], [1]])
    np.testing.assert_allclose(reinforce_pp(batch, eps=0.0), whitened([3, 2, 2, 4]))


def test_the_sum_of_a_step_alone():
    # verl's form for transcripts of several turns.
    batch = episodes([[1, 2], [4]], tokens_per_step=[[1, 2], [1]])
    np.testing.assert_allclose(reinforce_pp(batch, across_steps=False, eps=0.0), whitened([1, 2, 2, 4]))


def test_the_outcome_stands_with_the_last_reward():
    batch = episodes([[1, 0], [0]], outcome=[2, 0])
    np.testing.assert_allclose(reinforce_pp(batch, eps=0.0), whitened([3, 2, 0]))


def test_the_reward_of_a_step_without_tokens_is_not_lost():
    # Fails when a reward is lost, or goes to a token of another episode.
    #   episode 0: the 1 of the empty first step goes to the first token, with the 2; the 8 of the empty last step
    #   back to the last token, with the 4.  episode 1 has no token, its 100 nowhere to go.  episode 2: 16
    batch = episodes([[1, 2, 4, 8], [100], [16]], tokens_per_step=[[0, 1, 1, 0], [0], [1]])
    np.testing.assert_allclose(reinforce_pp(batch, discount=0.5, eps=0.0), whitened([3 + 0.5 * 12, 12, 16]))


def test_the_baseline_of_the_group_by_hand():
    # Fails when the rewards are summed to go, or when the mean is that of the batch or of tokens.
    #   returns 3 and 1 in group 5 (mean 2), 10 alone in group 6:  1, 1, 1, −1, 0
    batch = episodes([[1, 2], [1], [10]], tokens_per_step=[[1, 2], [1], [1]], group=[5, 5, 6])
    np.testing.assert_allclose(reinforce_pp(batch, baseline="group", eps=0.0), whitened([1, 1, 1, -1, 0]))


def test_population_std_and_eps_by_hand():
    #   to go 1 and 0: population std ½;  ½ / (½ + ½)
    np.testing.assert_allclose(reinforce_pp(episodes([[1], [0]]), ddof=0, eps=0.5), [0.5, -0.5])


@pytest.mark.parametrize("baseline", ["none", "group"])
@pytest.mark.parametrize("rewards", [[[3.0]], [[0.1]] * 3], ids=["one token", "equal returns"])
def test_without_spread_it_is_exactly_zero(rewards, baseline):
    np.testing.assert_array_equal(reinforce_pp(episodes(rewards), baseline=baseline, eps=0.0), np.zeros(len(rewards)))


def test_a_batch_without_tokens_has_no_advantages():
    assert reinforce_pp(episodes([[1, 2]], tokens_per_step=[[0, 0]])).shape == (0,)


@given(reward_lists, st.sampled_from([0.0, 0.5, 1.0]))
def test_with_one_token_per_step_it_is_rebn(rewards, discount):
    batch = episodes(rewards)
    np.testing.assert_allclose(reinforce_pp(batch, discount=discount, eps=1e-9), rebn(batch, discount=discount))


@given(reward_lists, st.integers(-9, 9), st.sampled_from([0.5, 2.0, 100.0]))
def test_neither_a_constant_on_every_return_nor_the_scale_matters(rewards, shift, scale):
    moved = episodes([[scale * r for r in e] for e in rewards], outcome=[scale * shift] * len(rewards))
    np.testing.assert_allclose(reinforce_pp(moved, eps=0.0), reinforce_pp(episodes(rewards), eps=0.0), atol=1e-9)


@given(reward_lists, st.integers(-9, 9))
def test_with_the_baseline_a_constant_for_one_group_changes_nothing(rewards, shift):
    group = [i % 2 for i in range(len(rewards))]
    moved = episodes(rewards, group=group, outcome=[float(shift * g) for g in group])
    np.testing.assert_allclose(
        reinforce_pp(moved, baseline="group"), reinforce_pp(episodes(rewards, group=group), baseline="group"), atol=1e-9
    )


def loop(batch, discount=1.0, baseline="none", across_steps=True, ddof=1, eps=1e-6):
    """The same, written out token by token."""
    to_go = np.zeros(batch.num_tokens)
    returns = batch.episode_return
    for i in range(batch.num_episodes):
        steps = range(batch.step_splits[i], batch.step_splits[i + 1])
        tokens = range(batch.token_splits[steps[0]], batch.token_splits[steps[-1] + 1])
        if not tokens:
            continue
        reward = dict.fromkeys(tokens, 0.0)
        for n in steps:
            before = [k for k in tokens if k < batch.token_splits[n + 1]]
            reward[before[-1] if before else tokens[0]] += batch.reward[n]
        reward[tokens[-1]] += batch.outcome[i]
        for k in tokens:
            later = [u for u in tokens if u >= k and (across_steps or batch.step_of_token[u] == batch.step_of_token[k])]
            to_go[k] = sum(discount ** (u - k) * reward[u] for u in later)
            if baseline == "group":
                to_go[k] = returns[i] - returns[batch.group == batch.group[i]].mean()
    if len(to_go) <= ddof or np.ptp(to_go) < 1e-9:
        return np.zeros(len(to_go))
    return (to_go - to_go.mean()) / (to_go.std(ddof=ddof) + eps)


@pytest.mark.parametrize(
    "settings",
    [{}, {"discount": 0.7, "ddof": 0, "eps": 0.1}, {"across_steps": False}, {"baseline": "group"}],
    ids=["defaults", "discount", "steps alone", "baseline"],
)
def test_it_agrees_with_loops_on_random_ragged_batches(make_keyed_batch, settings):
    for seed in range(200):
        batch = make_keyed_batch(seed)
        np.testing.assert_allclose(reinforce_pp(batch, **settings), loop(batch, **settings), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discount": -0.1}, "discount must be in"),
        ({"baseline": "mean"}, "no baseline 'mean'"),
        ({"baseline": "group", "discount": 0.9}, "leave discount at 1"),
        ({"baseline": "group", "across_steps": False}, "across_steps at true"),
        ({"ddof": -1}, "ddof must be at least 0"),
        ({"eps": float("nan")}, "eps must be at least 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        reinforce_pp(episodes([[1]]), **settings)

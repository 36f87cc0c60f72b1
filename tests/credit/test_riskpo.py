import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.riskpo import initial_state, mixed_value_at_risk, moved_quantile, riskpo
from lapwing.testing import episodes

PAPER = {"alpha": 0.2, "beta": 0.8, "omega": 1.5}


def seen(low, high):
    """A state in which the quantiles were tracked to these numbers."""
    return {"quantile": np.array([low, high], dtype=float), "batches": np.array([1])}


def groups_of(*returns):
    """One-step episodes with these returns, a list for each group."""
    flat = [[float(r)] for group in returns for r in group]
    return episodes(flat, group=[g for g, group in enumerate(returns) for _ in group])


def test_the_printed_advantages():
    #   S = 0: rv = (1 − 4)/.6 = −5, cv = −1/.2 = −5;  S = 2: rv = (1 − 3)/.6 = −10/3, cv = 0, over 2.5
    expected = [-5, -2, -4 / 3, -2 / 3, 0, 0]
    np.testing.assert_allclose(mixed_value_at_risk(np.arange(6), 1, 4, **PAPER), expected, atol=1e-12)
    found, _ = riskpo(groups_of(range(6)), state=seen(1, 4), bundle=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_printed_centred_advantages():
    found, _ = riskpo(groups_of([0, 2, 3, 5]), state=seen(1, 4), bundle=1, center=True)
    np.testing.assert_allclose(found, [-3.25, 0.4166667, 1.0833333, 1.75], atol=1e-6)


def test_the_printed_step_of_the_tracker():
    #   a quarter of the scores is below 1: 1 + .1 (.2 − .25);  and below 4 three quarters: 4 + .1 (.8 − .75)
    moved = moved_quantile(np.array([1.0, 4.0]), np.array([0, 2, 3, 5]), np.array([0.2, 0.8]), 0.1)
    np.testing.assert_allclose(moved, [0.995, 4.005], atol=1e-12)
    _, state = riskpo(groups_of([0, 2, 3, 5]), state=seen(1, 4), bundle=1)
    np.testing.assert_allclose(state["quantile"], [0.995, 4.005], atol=1e-12)
    np.testing.assert_array_equal(state["batches"], [2])


def test_the_first_batch_sets_the_quantiles():
    batch = groups_of([0, 1, 2, 3, 4, 5])
    first, state = riskpo(batch, state=initial_state(alpha=0.2), bundle=1)
    np.testing.assert_allclose(state["quantile"], [1, 4])
    np.testing.assert_allclose(first, [-5, -2, -4 / 3, -2 / 3, 0, 0], atol=1e-12)
    #   then those known before the batch are used, and moved by it
    second, _ = riskpo(batch.with_columns(reward=batch.reward + 1), state=state, bundle=1)
    np.testing.assert_allclose(second, [-2, -4 / 3, -2 / 3, 0, 0, 0], atol=1e-12)


def test_the_tracker_converges_to_the_empirical_quantiles():
    rng = np.random.default_rng(0)
    state = seen(0, 0)
    for _ in range(1500):
        _, state = riskpo(groups_of(rng.uniform(0, 1, 20)), state=state, bundle=1, rate=0.02)
    np.testing.assert_allclose(state["quantile"], [0.2, 0.8], atol=0.05)


def test_a_paper_holds_one_member_of_each_group_of_its_bundle():
    # Fails when papers are of one group, or the bundles overlap.
    #   bundles of two groups: papers 1 + 0, 0 + 1, then 5 + 0, 3 + 2;  with q = 1, 4: S = 1, 1, 5, 5
    batch = groups_of([1, 0], [0, 1], [5, 3], [0, 2])
    found, _ = riskpo(batch, state=seen(1, 4), bundle=2)
    np.testing.assert_allclose(found, [-2, -2, -2, -2, 0, 0, 0, 0], atol=1e-12)


def test_a_last_bundle_with_fewer_groups_is_scaled_up():
    #   the third group alone: 2 · returns 2 and 1 → 4 and 2
    batch = groups_of([0, 1], [1, 0], [2, 1])
    found, _ = riskpo(batch, state=seen(1, 4), bundle=2)
    np.testing.assert_allclose(found, [-2, -2, -2, -2, 0, -4 / 3], atol=1e-12)


def test_members_of_a_smaller_group_are_in_several_papers():
    #   papers 0 + 1 = 1, 2 + 0 = 2, 3 + 1 = 4: −2, −4/3, 0;  the member with 1 has the mean of the first and the last
    batch = groups_of([0, 2, 3], [1, 0])
    found, _ = riskpo(batch, state=seen(1, 4), bundle=2)
    np.testing.assert_allclose(found, [-2, -4 / 3, 0, -1, -4 / 3], atol=1e-12)


def test_the_three_sources_of_the_quantiles():
    #   own of the bundles {0 … 5} and {10 … 15}: 1, 4 and 11, 14;  tracked 3, 6;  mean 2, 5 and 7, 10
    batch = groups_of(range(6), range(10, 16))

    def found(source):
        return riskpo(batch, state=seen(3, 6), bundle=1, quantiles=source)[0]

    np.testing.assert_allclose(found("batch")[:6], [-5, -2, -4 / 3, -2 / 3, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found("batch")[6:], [-5, -2, -4 / 3, -2 / 3, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found("track")[6:], np.zeros(6))
    np.testing.assert_allclose(found("mix")[2:6], [-2, -4 / 3, -2 / 3, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("assign", "expected"),
    [
        #   papers 0 + 1 = 1: A = −2,   2 + 1 = 3: A = −2/3;   members in the order of the groups
        ("uniform", [-2, -2 / 3, -2, -2 / 3]),
        #   the first group has the sample std √2, the second none, which counts as 1
        ("std", [-2 / np.sqrt(2), -2 / 3 / np.sqrt(2), -2, -2 / 3]),
        ("score", [-3, -1 / 3, -1, -1 / 3]),
        #   above the group's mean: −1 and 1, 0 and 0: the whole share is the first group's
        ("sum_mean", [-2, -2 / 3, 0, 0]),
    ],
)
def test_how_a_paper_is_shared(assign, expected):
    found, _ = riskpo(groups_of([0, 2], [1, 1]), state=seen(1, 4), bundle=2, assign=assign, eps=0.0)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_shares_by_reward_stay_bounded_where_they_nearly_cancel():
    #   above the means: 1 and −1 (sum 0: equal shares);  then 1 and −.99 (sum .01, share 100 clipped to 1)
    found, _ = riskpo(groups_of([2, 0], [0, 2]), state=seen(3, 6), bundle=2, assign="sum_mean")
    np.testing.assert_allclose(found, np.full(4, mixed_value_at_risk(np.array(2), 3, 6, **PAPER) / 2))
    found, _ = riskpo(groups_of([2, 0], [0, 1.98]), state=seen(3, 6), bundle=2, assign="sum_mean")
    #   A of S = 1.98 is (1.5 · (−5.1) − 5) / 2.5 = −5.06
    np.testing.assert_allclose(np.abs(found), [5, 5.06, 5, 5.06])


def test_scaling_by_the_spread_of_the_bundle():
    found, _ = riskpo(groups_of([1, 3]), state=seen(1, 4), bundle=1, scale_by_std=True, eps=0.0)
    np.testing.assert_allclose(found, np.array([-2, -2 / 3]) / np.sqrt(2))
    found, _ = riskpo(groups_of([1, 1]), state=seen(1, 4), bundle=1, scale_by_std=True)
    np.testing.assert_array_equal(found, [0, 0])


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=8))
def test_without_tails_it_is_the_mean_objective_up_to_a_constant(returns):
    # ω = 0, α → 0, β → 1: A = S − max S, of which centring leaves S − mean S.
    batch = groups_of(returns)
    limit = {"alpha": 0.0, "beta": 1.0, "omega": 0.0, "bundle": 1, "quantiles": "batch"}
    found, _ = riskpo(batch, state=initial_state(), **limit)
    np.testing.assert_allclose(found, np.array(returns) - max(returns), atol=1e-9)
    centred, _ = riskpo(batch, state=initial_state(), center=True, **limit)
    np.testing.assert_allclose(centred, dr_grpo(batch), atol=1e-9)


@given(st.lists(st.lists(st.floats(-3, 3), min_size=1, max_size=4), min_size=1, max_size=7), st.integers(1, 4))
def test_no_advantage_is_above_zero_and_every_one_is_finite(returns, bundle):
    for source in ("track", "batch", "mix"):
        found, state = riskpo(groups_of(*returns), state=seen(-0.5, 0.5), bundle=bundle, quantiles=source)
        assert (found <= 1e-9).all()
        assert np.isfinite(found).all()
        assert np.isfinite(state["quantile"]).all()


def test_the_given_state_stays_as_it_is():
    state = seen(1, 4)
    _, after = riskpo(groups_of([0, 1]), state=state)
    np.testing.assert_array_equal(state["quantile"], [1, 4])
    assert not np.shares_memory(state["quantile"], after["quantile"])


def test_a_batch_without_episodes_moves_nothing():
    empty = groups_of([0]).select(np.zeros(1, dtype=bool))
    found, state = riskpo(empty, state=seen(1, 4))
    assert found.shape == (0,)
    np.testing.assert_array_equal(state["quantile"], [1, 4])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alpha": 0.8, "beta": 0.2}, "alpha and beta must be quantile levels"),
        ({"alpha": float("nan")}, "alpha and beta must be"),
        ({"omega": -1.0}, "omega must be finite"),
        ({"rate": float("inf")}, "rate must be finite"),
        ({"bundle": 0}, "bundle must be at least 1"),
        ({"quantiles": "tracked"}, "no quantiles 'tracked'; did you mean track"),
        ({"assign": "sum-mean"}, "no assign 'sum-mean'; did you mean sum_mean"),
        ({"eps": -1.0}, "eps must be"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        riskpo(groups_of([0, 1]), state=initial_state(), **settings)

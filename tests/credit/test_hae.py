import numpy as np
import pytest

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.credit.egae import egae
from lapwing.credit.gae import gae
from lapwing.credit.hae import hae
from lapwing.testing import episodes

SWITCH, SUBGOAL, ACTION = 2, 3, 4


def planned(rewards, *, switch, v_low, v_high, v_term, span=(SWITCH, SUBGOAL, ACTION), **others):
    """One episode whose steps all have the same spans."""
    return episodes(
        [rewards],
        tokens_per_step=len(span),
        span=[[list(span)] * len(rewards)],
        switch=[switch],
        v_low=[v_low],
        v_high=[v_high],
        v_term=[v_term],
        **others,
    )


def levels(batch, **settings):
    """Low, high and term [N] of a batch whose steps all have a switch, a subgoal and an action token."""
    term, high, low = hae(batch, **settings).reshape(-1, 3).T
    return low, high, term


def worked(**others):
    """The values of V_high at steps that open no segment must play no part."""
    given = {"switch": [True, False, True, False], "v_low": [0.2, 0.4, 0.5, 0.6], "v_high": [0.3, 99, 0.55, 99]}
    return planned([0, 0, 0, 1], **given, v_term=[0.4, 0.4, 0.6, 0.8], **others)


SETTINGS = {"discount": 0.9, "lambda_": 0.5, "segment_lambda": 0.5}


def test_two_segments_by_hand():
    #   low:  A_3 = 1 − 0.6 = 0.4,   A_2 = 0.9·0.6 − 0.5 + 0.45·0.4 = 0.22
    #         A_1 = 0.9·0.55 − 0.4 = 0.095,   A_0 = 0.9·0.4 − 0.2 + 0.45·0.095 = 0.20275
    #   high: A_2 = 0.9 − 0.55 = 0.35,   A_0 = 0.81·0.55 − 0.3 + 0.81·0.5·0.35 = 0.28725
    #   term: Ret = 0.4455, 0.495, 0.9, 1 minus 0.4, 0.4, 0.6, 0.8
    low, high, term = levels(worked(), **SETTINGS)
    np.testing.assert_allclose(low, [0.20275, 0.095, 0.22, 0.4])
    np.testing.assert_allclose(high, [0.28725, 0, 0.35, 0])
    np.testing.assert_allclose(term, [0.0455, 0.095, 0.3, 0.2])
    np.testing.assert_allclose(low + np.array([0.2, 0.4, 0.5, 0.6]), [0.40275, 0.495, 0.72, 1.0])


def test_at_a_cut_each_level_bootstraps_itself():
    #   low:  A_3 = 1 + 0.9·0.6 − 0.6 = 0.94;   high: A_2 = 0.9 + 0.81·0.55 − 0.55 = 0.7955
    #   term: Ret_3 = 1 + 0.9·0.55 = 1.495,  Ret_2 = 1.3455
    low, high, term = levels(worked(truncated=[True]), **SETTINGS)
    np.testing.assert_allclose(low[2:], [0.04 + 0.45 * 0.94, 0.94])
    np.testing.assert_allclose(high, [0.81 * 0.55 - 0.3 + 0.405 * 0.7955, 0, 0.7955, 0])
    np.testing.assert_allclose(term, [0.0455, 0.095, 0.7455, 0.695])


def test_without_the_bootstrap_a_cut_is_an_end():
    cut = hae(worked(truncated=[True]), bootstrap_truncated=False, **SETTINGS)
    np.testing.assert_array_equal(cut, hae(worked(), **SETTINGS))


def test_the_first_step_opens_a_segment_whatever_it_says():
    batch = worked()
    late = batch.with_columns(switch=np.array([False, False, True, False]))
    np.testing.assert_array_equal(hae(late, **SETTINGS), hae(batch, **SETTINGS))


def test_the_outcome_is_a_reward_of_the_last_step():
    moved = worked(outcome=[1.0]).with_columns(reward=np.zeros(4))
    np.testing.assert_allclose(hae(moved, **SETTINGS), hae(worked(), **SETTINGS))


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ([SWITCH, SUBGOAL, ACTION], [3, 2, 1]),
        #   nothing for other, thinking and answer tokens where the step has an action token
        ([0, 1, 5, ACTION, ACTION], [0, 0, 0, 1, 1]),
        #   without an action token the low level has all tokens, on top of what they have
        ([0, SWITCH, SUBGOAL], [1, 4, 3]),
        ([], []),
    ],
)
def test_each_level_has_its_tokens(span, expected):
    #   one step of reward 4: low 4 − 3 = 1, high 4 − 2 = 2, term 4 − 1 = 3
    batch = planned([4], switch=[True], v_low=[3], v_high=[2], v_term=[1], span=span)
    np.testing.assert_allclose(hae(batch), expected)


def test_a_subgoal_that_is_only_copied_has_no_credit():
    # Fails when A_high goes to the subgoal tokens of every step.
    batch = planned([0, 4], switch=[True, False], v_low=[0, 0], v_high=[2, 2], v_term=[0, 0], span=[SUBGOAL, ACTION])
    np.testing.assert_allclose(hae(batch), [2, 4, 0, 4])


def test_the_reward_of_a_step_without_tokens_is_not_lost():
    batch = episodes(
        [[0, 4]],
        tokens_per_step=[[1, 0]],
        span=[[[ACTION], []]],
        switch=[[True, False]],
        v_low=[[1, 1]],
        v_high=[[0, 0]],
        v_term=[[0, 0]],
    )
    np.testing.assert_allclose(hae(batch), [3])


def with_all_spans(batch):
    """The batch with a switch, a subgoal and an action token on every step."""
    steps = batch.num_steps
    return batch.select(np.arange(batch.num_episodes)).with_columns(
        token_splits=np.arange(steps + 1) * 3,
        token=np.zeros(3 * steps, dtype=np.int32),
        token_value=np.zeros(3 * steps),
        sampler_logprob=np.zeros(3 * steps),
        behavior_logprob=np.zeros(3 * steps),
        span=np.tile([SWITCH, SUBGOAL, ACTION], steps),
    )


@pytest.mark.parametrize("seed", range(50))
def test_with_a_single_segment_the_low_level_is_gae_over_turns(seed, make_critic_batch):
    batch = with_all_spans(make_critic_batch(seed))
    batch = batch.with_columns(switch=np.zeros(batch.num_steps, dtype=bool), value=batch.column("v_low"))
    low, _, _ = levels(batch, discount=0.9, lambda_=0.8)
    np.testing.assert_array_equal(low, egae(batch, discount=0.9, lambda_=0.8))
    ended = batch.terminated[batch.episode_of_step]
    np.testing.assert_array_equal(low[ended], gae(batch, discount=0.9, lambda_=0.8)[ended])


@pytest.mark.parametrize("seed", range(50))
def test_with_a_switch_at_every_step_the_high_level_is_gae_over_turns(seed, make_critic_batch):
    batch = with_all_spans(make_critic_batch(seed))
    batch = batch.with_columns(switch=np.ones(batch.num_steps, dtype=bool), value=batch.column("v_high"))
    _, high, _ = levels(batch, discount=0.9, segment_lambda=0.8)
    np.testing.assert_allclose(high, egae(batch, discount=0.9, lambda_=0.8), atol=1e-12)
    ended = batch.terminated[batch.episode_of_step]
    np.testing.assert_allclose(high[ended], gae(batch, discount=0.9, lambda_=0.8)[ended], atol=1e-12)


def loop(batch, discount, lambda_, segment_lambda, bootstrap):
    """Low, high and term of every step, segment by segment from the end."""
    v_low, v_high, v_term = (batch.column(name) for name in ("v_low", "v_high", "v_term"))
    low, high, term = np.zeros((3, batch.num_steps))
    for e in range(batch.num_episodes):
        first, end = batch.step_splits[e], batch.step_splits[e + 1]
        starts = [n for n in range(first, end) if n == first or batch.column("switch")[n]]
        reward = {n: batch.reward[n] + (batch.outcome[e] if n == end - 1 else 0) for n in range(first, end)}
        own = batch.truncated[e] and bootstrap
        high_after, later = (v_high[starts[-1]] if own else 0.0), 0.0
        low_after = v_low[end - 1] if own else 0.0
        for start, stop in reversed(list(zip(starts, [*starts[1:], end], strict=True))):
            advantage, to_go = 0.0, high_after
            for n in reversed(range(start, stop)):
                following = low_after if n == stop - 1 else v_low[n + 1]
                advantage = reward[n] + discount * following - v_low[n] + discount * lambda_ * advantage
                to_go = reward[n] + discount * to_go
                low[n], term[n] = advantage, to_go - v_term[n]
            earned = sum(discount ** (n - start) * reward[n] for n in range(start, stop))
            far = discount ** (stop - start)
            later = high[start] = earned + far * high_after - v_high[start] + far * segment_lambda * later
            low_after = high_after = v_high[start]
    return low, high, term


@pytest.mark.parametrize("seed", range(200))
def test_it_is_what_a_loop_finds(seed, make_critic_batch):
    batch = make_critic_batch(seed)
    rng = np.random.default_rng(seed)
    discount, lambda_, segment_lambda = rng.random(3)
    bootstrap = bool(rng.integers(2))
    low, high, term = loop(batch, discount, lambda_, segment_lambda, bootstrap)
    span, expected = batch.column("span"), np.zeros(batch.num_tokens)
    for n in range(batch.num_steps):
        mine = range(batch.token_splits[n], batch.token_splits[n + 1])
        opens = n in batch.step_splits or batch.column("switch")[n]
        for k in mine:
            expected[k] += low[n] if span[k] == ACTION or ACTION not in span[list(mine)] else 0
            expected[k] += high[n] if span[k] == SUBGOAL and opens else 0
            expected[k] += term[n] if span[k] == SWITCH else 0
    found = hae(batch, discount=discount, lambda_=lambda_, segment_lambda=segment_lambda, bootstrap_truncated=bootstrap)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_normalising_centres_and_scales_each_level_over_the_steps_that_have_it():
    # Fails when the zeros of A_high at steps that open no segment count, or ddof is 1.
    #   low 0.20275, 0.095, 0.22, 0.4;   high 0.28725 and 0.35: ∓1;   term 0.0455, 0.095, 0.3, 0.2
    low, high, term = levels(worked(), normalise=True, **SETTINGS)
    np.testing.assert_allclose(high, [-1, 0, 1, 0], atol=1e-6)
    for found, plain in ((low, [0.20275, 0.095, 0.22, 0.4]), (term, [0.0455, 0.095, 0.3, 0.2])):
        np.testing.assert_allclose(found, (plain - np.mean(plain)) / np.std(plain), atol=1e-6)


def test_a_step_counts_once_in_the_normalisation_whatever_its_tokens():
    #   low 1 on three tokens and 3 on one: mean 2 and not 1.5, deviation 1
    batch = episodes(
        [[1], [3]],
        tokens_per_step=[[3], [1]],
        span=[[[ACTION] * 3], [[ACTION]]],
        switch=[[True]] * 2,
        v_low=[[0]] * 2,
        v_high=[[0]] * 2,
        v_term=[[0]] * 2,
    )
    np.testing.assert_allclose(hae(batch, normalise=True), [-1, -1, -1, 1], atol=1e-6)


def test_a_level_without_spread_becomes_exactly_zero():
    # The float mean of three times 0.1 is not 0.1, and divided by 1e-8 the difference would become an advantage.
    batch = planned([0.1] * 3, switch=[True] * 3, v_low=[0] * 3, v_high=[0] * 3, v_term=[0] * 3)
    low, _, _ = levels(batch, discount=0.0, normalise=True)
    np.testing.assert_array_equal(low, [0, 0, 0])
    alone = planned([4], switch=[True], v_low=[3], v_high=[2], v_term=[1], span=[ACTION])
    np.testing.assert_array_equal(hae(alone, normalise=True), [0])


@pytest.mark.parametrize("name", ["switch", "v_low", "v_high", "v_term", "span"])
def test_missing_columns_are_named(name):
    batch = worked()
    columns = {key: values for key, values in batch.extra.items() if key != name}
    without = episodes([[0, 0, 0, 1]], tokens_per_step=3).with_columns(**columns)
    with pytest.raises(MissingColumnError, match=rf"hae needs the column '{name}'"):
        hae(without)


@pytest.mark.parametrize("name", ["discount", "lambda_", "segment_lambda"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_settings_outside_zero_to_one_are_refused(name, value):
    with pytest.raises(UserError, match=rf"{name} must be in \[0, 1\]"):
        hae(worked(), **{name: value})

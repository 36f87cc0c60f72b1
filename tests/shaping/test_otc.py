import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.shaping.igpo import igpo
from lapwing.shaping.otc import _economy, initial_state
from lapwing.shaping.otc import otc as with_state
from lapwing.shaping.tips import tips
from lapwing.shaping.tspo import tspo
from lapwing.testing import episodes

# (steps, group, tool calls, success, outcome) of an episode; outcomes of failures and of format gates among them.
ragged = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.integers(0, 2),
        st.integers(0, 6),
        st.booleans(),
        st.sampled_from([-1.0, 0.0, 0.2, 0.5, 1.0, 1.9]),
    ),
    min_size=1,
    max_size=8,
)


def otc(batch, **settings):
    """The batch that a method without memory gives."""
    return with_state(batch, state=initial_state(**settings), **settings)[0]


def make(calls, success, outcome=None, group=None):
    """One-step episodes with outcome 1 for a success and 0 for a failure, unless told otherwise."""
    success = [float(won) for won in success]
    return episodes([[0.25]] * len(calls), outcome=outcome or success, group=group, tool_calls=calls, success=success)


def make_ragged(drawn):
    lengths, group, calls, success, outcome = map(list, zip(*drawn, strict=True))
    rewards = [list(np.linspace(-1, 1, length)) for length in lengths]
    won = [float(w) for w in success]
    return episodes(rewards, group=group, outcome=outcome, tool_calls=calls, success=won)


@pytest.mark.parametrize(
    ("fewest", "limit", "expected"),
    [
        (2, 3, {0: 0, 1: 0.8660, 2: 1, 3: 0.9511, 4: 0.8660, 8: 0.5878}),
        (0, 3, {0: 1, 1: 0.8090, 2: 0.6235, 3: 0.5, 4: 0.4154}),
    ],
)
def test_the_printed_coefficients(fewest, limit, expected):
    #   of the objectives, B.34
    calls = np.array(list(expected), dtype=np.float64)
    actual = _economy(calls, np.full(len(calls), float(fewest)), limit)
    np.testing.assert_allclose(actual, list(expected.values()), atol=5e-5)


def test_a_group_by_hand():
    # Fails when the failure with one call sets the fewest, or when another group does.
    #   n = 2: m = 2 → sin(π/2) = 1; m = 4 → sin(2π/3) = √3/2; the failure earns nothing
    #   n = 0: m = 0 → cos 0 = 1; m = 1 → cos(π/(2 + 3)) = 0.8090170
    batch = make([2, 4, 1, 0, 1], [1, 1, 0, 1, 1], group=[7, 7, 7, 3, 3])
    np.testing.assert_allclose(otc(batch, limit=3).outcome, [1, math.sqrt(3) / 2, 0, 1, 0.8090170], atol=1e-7)


def test_without_a_group_only_the_own_calls_count():
    #   cos(2π/(4 + 3)), cos(4π/(8 + 3)), 0, cos 0, cos(π/(2 + 3))
    batch = make([2, 4, 1, 0, 1], [1, 1, 0, 1, 1], group=[7, 7, 7, 3, 3])
    expected = [0.6234898, 0.4154150, 0, 1, 0.8090170]
    np.testing.assert_allclose(otc(batch, limit=3, form="single").outcome, expected, atol=1e-7)


def test_the_limit_says_what_a_call_costs_where_none_was_needed():
    batch = make([0, 1], [1, 1])
    np.testing.assert_allclose(otc(batch, limit=1).outcome, [1, 0.5], atol=1e-9)  # cos(π/3)
    np.testing.assert_allclose(otc(batch, limit=10).outcome, [1, math.cos(math.pi / 12)], atol=1e-9)


def test_a_partly_right_outcome_is_multiplied_and_a_penalty_stays():
    # A penalty that were multiplied too would shrink with every further call; one of a failure would vanish.
    batch = make([2, 4, 4, 2, 2], [1, 1, 1, 0, 0], outcome=[0.5, 0.5, -1.0, -1.0, 0.2])
    half = 0.5 * math.sqrt(3) / 2
    np.testing.assert_allclose(otc(batch, limit=3).outcome, [0.5, half, -1, -1, 0], atol=1e-9)
    np.testing.assert_allclose(otc(batch, limit=3, scale=2.0).outcome, [1, 2 * half, -1, -1, 0], atol=1e-9)


def test_a_success_with_fewer_calls_than_all_others_is_never_punished():
    # With the minimum of an earlier iteration, n = 2, the printed coefficient of m = 0 is 0.
    np.testing.assert_allclose(_economy(np.zeros(1), np.full(1, 2.0), 3), [0])
    np.testing.assert_array_equal(otc(make([0, 2, 5], [1, 1, 1]), limit=3).outcome[0], 1.0)


def test_a_group_without_success_earns_nothing_whatever_it_called():
    np.testing.assert_array_equal(otc(make([0, 3, 0], [0, 0, 0], outcome=[0.5, 1, 0]), limit=3).outcome, [0, 0, 0])


def reference(batch, limit, scale):
    """Episode by episode, with f as the paper has it."""
    result = []
    for i in range(batch.num_episodes):
        group = np.flatnonzero(batch.group == batch.group[i])
        counts = [int(batch.column("tool_calls")[j]) for j in group if batch.column("success")[j] == 1.0]
        m, n, outcome = int(batch.column("tool_calls")[i]), min(counts, default=None), batch.outcome[i]
        if outcome < 0:
            result.append(outcome)
            continue
        if batch.column("success")[i] == 0.0 or n is None:
            result.append(0.0)
            continue
        f = 0 if m == n == 0 else m if n == 0 else 2 * n * m / (m + n)
        if m == n == 0:
            tool = 1.0
        else:
            tool = math.cos(m * math.pi / (2 * m + limit)) if n == 0 else math.sin(f * math.pi / (2 * n))
        result.append(scale * tool * outcome)
    return result


@given(ragged, st.integers(1, 9), st.floats(0, 3))
def test_it_agrees_with_the_definition(drawn, limit, scale):
    batch = make_ragged(drawn)
    np.testing.assert_allclose(otc(batch, limit=limit, scale=scale).outcome, reference(batch, limit, scale), atol=1e-9)


@given(ragged, st.integers(1, 9), st.sampled_from(["group", "single"]))
def test_of_two_equal_successes_the_one_with_more_calls_never_earns_more(drawn, limit, form):
    batch = make_ragged([(steps, group, calls, won, 1.0) for steps, group, calls, won, _ in drawn])
    shaped = otc(batch, limit=limit, form=form).outcome
    calls, won = batch.column("tool_calls"), batch.column("success") == 1.0
    assert (shaped[~won] == 0).all()
    for i in np.flatnonzero(won):
        others = np.flatnonzero(won & (batch.group == batch.group[i]))
        assert 0 < shaped[i] <= 1
        assert (shaped[others[calls[others] > calls[i]]] < shaped[i]).all()
        if form == "group" and calls[i] == calls[others].min():
            assert shaped[i] == 1.0  # The fewest calls keep the whole outcome, so that n = m is the peak.


@given(ragged, st.integers(0, 99))
def test_it_touches_no_reward_so_that_shapings_of_steps_may_come_before_or_after(drawn, seed):
    rng = np.random.default_rng(seed)
    batch = make_ragged(drawn)
    found, probability = rng.integers(0, 2, batch.num_steps), rng.random(batch.num_steps)
    batch = batch.with_columns(gold_probability=probability, **{"part:answer_in_result": found})
    for shape in (igpo, tips, tspo):
        first, last = otc(shape(batch), limit=3), shape(otc(batch, limit=3))
        np.testing.assert_array_equal(first.reward, last.reward)
        np.testing.assert_array_equal(first.outcome, last.outcome)


@pytest.mark.parametrize("missing", ["tool_calls", "success"])
def test_a_missing_column_is_refused(missing):
    columns = {"tool_calls": [1], "success": [1.0]}
    del columns[missing]
    with pytest.raises(MissingColumnError, match=f"otc needs the column '{missing}'.*rollout/play supplies it"):
        otc(episodes([[0]], **columns), limit=3)


def test_a_game_without_a_notion_of_success_is_refused():
    with pytest.raises(UserError, match=r"otc needs finite numbers in the column 'success', but episode 1 has nan"):
        otc(make([0, 0], [1, math.nan], outcome=[1, 0]), limit=3)


def test_a_negative_number_of_calls_is_refused():
    with pytest.raises(UserError, match="otc: tool_calls is a number of at least 0, but episode 1 has -1"):
        otc(make([0, -1], [1, 1]), limit=3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"limit": 0}, "limit is the most turns"),
        ({"scale": -1.0}, "scale must be"),
        ({"scale": math.inf}, "scale must be"),
        ({"form": "ppo"}, "no form 'ppo'; valid names: group, single"),
        ({"memory": -1}, "memory is a number of starts"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        otc(make([1], [1]), **{"limit": 3, **settings})


def start(calls, success, view, group=None):
    """The same episodes, each from its view."""
    return make(calls, success, group=group).with_columns(view_key=np.array(view, dtype=np.uint64))


def test_with_memory_the_fewest_calls_of_earlier_iterations_count():
    # Fails when n is forgotten, taken from another start, or lowered only after the batch was scored.
    state = initial_state()
    first, state = with_state(start([2, 4], [1, 1], [7, 7]), state=state, limit=3, memory=9)
    np.testing.assert_allclose(first.outcome, [1, math.sqrt(3) / 2])
    #   n = 2 again:  m = 4 → sin(2π/3);   another start knows only its own n = 4
    second, state = with_state(start([4, 4], [1, 1], [7, 8], group=[0, 1]), state=state, limit=3, memory=9)
    np.testing.assert_allclose(second.outcome, [math.sqrt(3) / 2, 1])
    #   m = 1 < n = 2: the better episode lowers n first
    third, state = with_state(start([1], [1], [7]), state=state, limit=3, memory=9)
    np.testing.assert_allclose(third.outcome, [1])
    assert dict(zip(state["start"].tolist(), state["fewest"].tolist(), strict=True)) == {8: 4, 7: 1}


def test_the_starts_seen_longest_ago_are_forgotten_first():
    state = initial_state()
    for view in (1, 2, 1, 3):
        _, state = with_state(start([2], [1], [view]), state=state, limit=3, memory=2)
    assert state["start"].tolist() == [1, 3]
    assert state["start"].dtype == np.uint64


def test_a_start_without_a_key_and_a_failure_are_not_remembered():
    _, state = with_state(start([2, 1], [1, 0], [0, 5], group=[0, 1]), state=initial_state(), limit=3, memory=9)
    assert state["start"].tolist() == []


@given(ragged)
def test_the_first_batch_of_distinct_starts_is_scored_as_without_memory(drawn):
    batch = make_ragged(drawn)
    batch = batch.with_columns(view_key=(batch.group[batch.episode_of_step] + 1).astype(np.uint64))
    with_memory, state = with_state(batch, state=initial_state(), limit=3, memory=9)
    np.testing.assert_array_equal(with_memory.outcome, otc(batch, limit=3).outcome)
    assert len(state["start"]) <= 3


def test_the_given_state_stays_as_it_is():
    state = {"start": np.array([7], dtype=np.uint64), "fewest": np.array([3.0])}
    with_state(start([1], [1], [7]), state=state, limit=3, memory=9)
    assert state["fewest"].tolist() == [3.0]

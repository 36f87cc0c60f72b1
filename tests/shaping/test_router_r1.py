import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.shaping import otc as otc_module
from lapwing.shaping.router_r1 import initial_state
from lapwing.shaping.router_r1 import router_r1 as with_state
from lapwing.testing import episodes

# (validity of each reply, outcome, price) of an episode.
ragged = st.lists(
    st.tuples(
        st.lists(st.booleans(), min_size=1, max_size=4) | st.just([True, True]),
        st.sampled_from([-0.5, 0.0, 0.5, 1.0]),
        st.sampled_from([0.0, 0.01, 0.5, 2.0, 300.0]),
    ),
    min_size=1,
    max_size=9,
)
WHOLE = {"low": 0.0, "high": 1.0}  # The window is from the cheapest to the dearest.


def router_r1(batch, **settings):
    """The batch that a method without memory gives."""
    return with_state(batch, state=initial_state(**settings), **settings)[0]


def otc(batch, **settings):
    return otc_module.otc(batch, state=otc_module.initial_state(), **settings)[0]


def make(outcome, price, valid=None):
    valid = [[True]] * len(price) if valid is None else valid
    return episodes([[0.25] * len(v) for v in valid], outcome=outcome, tool_cost=price, valid=valid)


def make_ragged(drawn):
    valid, outcome, price = map(list, zip(*drawn, strict=True))
    return make(outcome, price, valid)


def test_the_printed_totals():
    #   of the objectives, B.36: x = 0, ¾, 0, 0, 1, so that R_cost = 1, ¼, 1, 1, 0
    #   a cheap half: .4 · .5 + .6 · 1; right at R_cost ¼: .4 · 1 + .6 · ¼; cheap but wrong; right but malformed
    batch = make(
        [0.5, 1, 0, 1, 1], [0, 0.5625, 0, 0, 1], [[True, True], [True], [True], [True, False], [True, True, True]]
    )
    np.testing.assert_allclose(router_r1(batch, cost_share=0.6, **WHOLE).outcome, [0.8, 0.55, 0, -1, 0.4], atol=1e-9)


def test_the_window_is_from_the_5th_to_the_95th_percentile():
    #   x = 0, 1, …, 20: the percentiles are 1 and 19, so that R_cost = 1 − (x − 1)/18 between them
    x = np.arange(21)
    expected = 1 - (np.clip(x, 1, 19) - 1) / 18
    shaped = router_r1(make([1] * 21, list(x**2)), cost_share=1.0)
    np.testing.assert_allclose(shaped.outcome, expected, atol=1e-9)


def test_wrong_and_malformed_episodes_are_in_the_window():
    #   x = 0, 1, 4; without the others the second episode would stand alone, with R_cost ½
    batch = make([0, 1, 1], [0, 1, 16], [[True], [True], [False]])
    np.testing.assert_allclose(router_r1(batch, cost_share=1.0, **WHOLE).outcome, [0, 0.75, -1])


@pytest.mark.parametrize("price", [[0, 0, 0], [3, 3, 3], [sum([0.1] * 10), 1.0, 1.0], [7]])
def test_where_all_prices_are_equal_thrift_is_half(price):
    # Episodes without a call among them, and prices that differ by rounding only.
    shaped = router_r1(make([1.0] * len(price), price), cost_share=0.6)
    np.testing.assert_array_equal(shaped.outcome, [0.4 * 1 + 0.6 * 0.5] * len(price))


def test_a_penalty_stays_and_is_not_made_up_for_by_thrift():
    shaped = router_r1(make([-0.5, 1], [0, 1]), cost_share=0.9, **WHOLE)
    np.testing.assert_allclose(shaped.outcome, [-0.5, 0.1])


def reference(batch, cost_share):
    """Episode by episode, with percentiles by linear interpolation between order statistics."""
    x = sorted(math.sqrt(price) for price in batch.column("tool_cost"))

    def percentile(share):
        place = share * (len(x) - 1)
        below = min(int(place), len(x) - 1)
        above = min(below + 1, len(x) - 1)
        return x[below] + (place - below) * (x[above] - x[below])

    low, high = percentile(0.05), percentile(0.95)
    result = []
    for i in range(batch.num_episodes):
        valid = batch.valid[batch.step_splits[i] : batch.step_splits[i + 1]]
        own = math.sqrt(batch.column("tool_cost")[i])
        cost = 0.5 if math.isclose(low, high) else 1 - min(max((own - low) / (high - low), 0), 1)
        if not all(valid):
            result.append(-1.0)
        elif batch.outcome[i] <= 0:
            result.append(batch.outcome[i])
        else:
            result.append((1 - cost_share) * batch.outcome[i] + cost_share * cost)
    return result


@given(ragged, st.floats(0, 1))
def test_it_agrees_with_the_definition(drawn, cost_share):
    batch = make_ragged(drawn)
    np.testing.assert_allclose(router_r1(batch, cost_share=cost_share).outcome, reference(batch, cost_share), atol=1e-9)


@given(ragged)
def test_without_a_share_of_the_cost_only_the_format_counts(drawn):
    batch = make_ragged(drawn)
    malformed = np.array([not all(valid) for valid, _, _ in drawn])
    np.testing.assert_array_equal(router_r1(batch).outcome, np.where(malformed, -1, batch.outcome))


@given(ragged, st.floats(0, 1), st.sampled_from([1e-6, 0.5, 1000.0]))
def test_the_unit_of_the_price_does_not_matter(drawn, cost_share, unit):
    other = make_ragged([(valid, outcome, unit * price) for valid, outcome, price in drawn])
    expected = router_r1(make_ragged(drawn), cost_share=cost_share).outcome
    np.testing.assert_allclose(router_r1(other, cost_share=cost_share).outcome, expected, atol=1e-7)


@given(ragged, st.floats(0.01, 1))
def test_dearer_is_never_better_and_a_right_answer_never_worth_less_than_a_wrong_one(drawn, cost_share):
    batch = make_ragged(drawn)
    shaped, price = router_r1(batch, cost_share=cost_share), batch.column("tool_cost")
    assert (np.abs(shaped.outcome) <= 1).all()
    well_formed = np.array([all(valid) for valid, _, _ in drawn])
    for i in np.flatnonzero(well_formed & (batch.outcome > 0)):
        alike = well_formed & (batch.outcome == batch.outcome[i])
        assert (shaped.outcome[alike & (price > price[i])] <= shaped.outcome[i] + 1e-12).all()
        assert shaped.outcome[i] >= shaped.outcome[well_formed & (batch.outcome <= 0)].max(initial=-1.0)


def test_the_format_gate_comes_before_a_coefficient():
    # The other way round the price share would be added to a coefficient that is 0 already, or a gate's −1 multiplied.
    batch = make([1, 1, 1], [0, 4, 4], [[True], [True], [False]]).with_columns(
        tool_calls=np.array([2, 4, 2]), success=np.array([1.0, 1.0, 1.0])
    )
    shaped = otc(router_r1(batch, cost_share=0.5, **WHOLE), limit=3)
    np.testing.assert_allclose(shaped.outcome, [1, 0.5 * math.sqrt(3) / 2, -1], atol=1e-9)


def test_a_missing_price_is_refused():
    with pytest.raises(MissingColumnError, match=r"router_r1 needs the column 'tool_cost'.*rollout/play supplies it"):
        router_r1(episodes([[1.0]]))


@pytest.mark.parametrize(
    ("price", "words"),
    [([1.0, -2.0], "router_r1: tool_cost is a price of at least 0, but episode 1 has -2"), ([math.nan, 1], "finite")],
)
def test_prices_that_are_none_are_refused(price, words):
    with pytest.raises(UserError, match=words):
        router_r1(make([1, 1], price))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cost_share": 1.5}, "cost_share must be"),
        ({"cost_share": math.nan}, "cost_share must be"),
        ({"low": -0.1}, "low and high"),
        ({"high": 1.1}, "low and high"),
        ({"low": 0.5, "high": 0.5}, "low and high"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        router_r1(make([1], [1]), **settings)


def test_with_a_window_the_quantiles_are_of_the_latest_episodes():
    #   x = 0 … 4, then 2 alone: of the last five, 1, 2, 3, 4, 2, from 1 to 4: R_cost = 1 − (2 − 1)/3
    settings = {"cost_share": 1.0, "window": 5, **WHOLE}
    first, state = with_state(make([1] * 5, [0, 1, 4, 9, 16]), state=initial_state(), **settings)
    np.testing.assert_allclose(first.outcome, [1, 0.75, 0.5, 0.25, 0])
    second, after = with_state(make([1], [4]), state=state, **settings)
    np.testing.assert_allclose(second.outcome, [2 / 3])
    np.testing.assert_array_equal(after["window"], [1, 2, 3, 4, 2])
    np.testing.assert_array_equal(state["window"], [0, 1, 2, 3, 4])


def test_the_window_does_not_depend_on_the_order_of_the_episodes():
    batch = make([1, 1, 1], [9, 0, 4])
    order = np.array([2, 0, 1])
    states = [with_state(b, state=initial_state(), window=2)[1] for b in (batch, batch.select(order))]
    np.testing.assert_array_equal(states[0]["window"], states[1]["window"])


def test_a_negative_window_is_refused():
    with pytest.raises(UserError, match="window is a number of episodes"):
        router_r1(make([1], [0]), window=-1)

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.ragged import (
    concatenate_splits,
    distinct,
    group_index,
    group_mean,
    group_std,
    has_spread,
    lengths_to_splits,
    reverse_discounted_sum,
    reverse_scan,
    segment_mean,
    segment_of,
    segment_sum,
    take_segments,
)

NUMBERS = st.floats(-100, 100)
RAGGED = st.lists(st.lists(NUMBERS, max_size=5), max_size=6)
GROUPED = st.lists(st.tuples(NUMBERS, st.integers(-3, 3)), min_size=1, max_size=12)


def lay_out(ragged):
    splits = lengths_to_splits(np.array([len(part) for part in ragged], dtype=np.int64))
    return np.array([x for part in ragged for x in part], dtype=np.float64), splits


@given(RAGGED)
def test_segments_sum_and_average_like_a_loop(ragged):
    values, splits = lay_out(ragged)
    np.testing.assert_allclose(segment_sum(values, splits), [sum(part) for part in ragged], atol=1e-9)
    means = [sum(part) / len(part) if part else 0.0 for part in ragged]
    np.testing.assert_allclose(segment_mean(values, splits), means, atol=1e-9)
    assert segment_of(splits).tolist() == [i for i, part in enumerate(ragged) for _ in part]


@given(RAGGED, st.floats(0, 1))
def test_discounted_sums_are_those_of_a_loop_from_the_end(ragged, discount):
    # Fails when a segment takes up the sum of the one after it.
    values, splits = lay_out(ragged)
    expected = []
    for part in ragged:
        total, backwards = 0.0, []
        for x in reversed(part):
            total = x + discount * total
            backwards.append(total)
        expected += reversed(backwards)
    np.testing.assert_allclose(reverse_discounted_sum(values, discount, splits), expected, atol=1e-9)


def test_discounted_sums_by_hand():
    #   ½: 4;  1 + ½·4 = 3;  next segment alone: 8
    result = reverse_discounted_sum(np.array([1.0, 4.0, 8.0]), 0.5, np.array([0, 2, 3]))
    np.testing.assert_array_equal(result, [3.0, 4.0, 8.0])


@given(RAGGED, st.data())
def test_taking_segments_is_indexing_a_list_of_lists(ragged, data):
    values, splits = lay_out(ragged)
    chosen = data.draw(st.lists(st.integers(0, len(ragged) - 1), max_size=8)) if ragged else []
    index, new_splits = take_segments(splits, np.array(chosen, dtype=np.int64))
    taken = [values[index][a:b].tolist() for a, b in pairwise(new_splits)]
    assert taken == [ragged[i] for i in chosen]


@given(RAGGED, RAGGED)
def test_boundaries_of_two_arrays_are_those_of_their_concatenation(first, second):
    np.testing.assert_array_equal(
        concatenate_splits(lay_out(first)[1], lay_out(second)[1]), lay_out([*first, *second])[1]
    )


@given(GROUPED, st.sampled_from([0, 1]))
def test_group_statistics_are_those_of_each_group_alone(members, ddof):
    values = np.array([value for value, _ in members])
    group = np.array([number for _, number in members])
    for i, (_, number) in enumerate(members):
        mine = values[group == number]
        assert group_mean(values, group)[i] == pytest.approx(mine.mean(), abs=1e-9)
        spread = mine.max() - mine.min() > 1e-6
        if spread and len(mine) > ddof:
            assert group_std(values, group, ddof=ddof)[i] == pytest.approx(mine.std(ddof=ddof), rel=1e-6, abs=1e-9)
            assert has_spread(values, group)[i]


def test_a_group_of_one_and_a_group_of_equals_have_exactly_no_deviation():
    # Fails without the guard: the mean of three times 0.1 is not 0.1, and a group of one divides by 0.
    values, group = np.array([0.1, 0.1, 0.1, 7.0]), np.array([5, 5, 5, 2])
    assert group_std(values, group).tolist() == [0.0, 0.0, 0.0, 0.0]
    assert has_spread(values, group).tolist() == [False, False, False, False]


def test_groups_are_numbered_in_the_order_of_their_names():
    index, size = group_index(np.array([9, 4, 9, 4, 9]))
    assert index.tolist() == [1, 0, 1, 0, 1]
    assert size.tolist() == [2, 3]


@given(RAGGED, st.data())
def test_a_scan_is_a_loop_from_the_end_with_each_element_its_own_coefficient(ragged, data):
    # Fails when a segment takes up what follows it, or an element takes its neighbour's coefficient.
    values, splits = lay_out(ragged)
    coefficient = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=len(values), max_size=len(values))))
    expected = values.copy()
    for low, high in pairwise(splits):
        for t in reversed(range(low, high - 1)):
            expected[t] += coefficient[t] * expected[t + 1]
    np.testing.assert_array_equal(reverse_scan(values, coefficient, splits), expected)


def test_a_scan_by_hand():
    #   4;  1 + ½·4 = 3;  2 + 2·3 = 8;  next segment alone: 8, whatever its coefficient
    values, coefficient = np.array([2.0, 1.0, 4.0, 8.0]), np.array([2.0, 0.5, 9.0, 9.0])
    np.testing.assert_array_equal(reverse_scan(values, coefficient, np.array([0, 3, 3, 4])), [8, 3, 4, 8])
    np.testing.assert_array_equal(values, [2, 1, 4, 8])


@given(st.lists(st.integers(0, 40), max_size=12), st.booleans())
def test_distinct_values_are_those_of_unique(values, large):
    # Large numbers take the way with a sort.
    given_values = np.array(values, dtype=np.int64) * (10**12 if large else 1)
    different, index = distinct(given_values)
    expected, inverse = np.unique(given_values, return_inverse=True)
    np.testing.assert_array_equal(different, expected)
    np.testing.assert_array_equal(index, inverse.reshape(-1))

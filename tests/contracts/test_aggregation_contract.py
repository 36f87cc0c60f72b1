"""What every method in `aggregation/` promises, found by listing the folder."""

import importlib
import inspect

import numpy as np
import pytest

from lapwing.core.ragged import take_segments
from lapwing.core.registry import names, resolve
from lapwing.core.types import Selection

every_method = pytest.mark.parametrize("name", names("aggregation"))

COUNT = np.array([1, 0, 2, 1, 3, 0, 1, 1])
FACTOR = np.array([1.0, 1.0, 0.5, 2.0, 1.0, 1.0, 0.25, 3.0])


def aggregate(name, batch, count=COUNT, factor=FACTOR):
    """The method's weights; a setting without a default gets 8 of its type."""
    method = resolve("aggregation", name)
    keywords = [p for p in inspect.signature(method).parameters.values() if p.kind is p.KEYWORD_ONLY]
    required = {p.name: p.annotation(8) for p in keywords if p.default is p.empty}
    return method(batch, Selection(np.asarray(count), np.asarray(factor, dtype=np.float64)), **required)


def episode_of_token(batch):
    return batch.episode_of_step[batch.step_of_token]


@every_method
def test_the_module_says_what_the_method_is(name):
    assert isinstance(importlib.import_module(f"lapwing.aggregation.{name}").NEEDS, tuple)


@every_method
def test_there_is_one_finite_weight_per_token_and_none_is_negative(name, make_batch):
    batch = make_batch()
    weight = aggregate(name, batch)
    assert weight.dtype == np.float64
    assert weight.shape == (batch.num_tokens,)
    assert np.isfinite(weight).all()
    assert (weight >= 0).all()


@every_method
def test_exactly_the_tokens_of_selected_episodes_have_weight(name, make_batch):
    batch = make_batch()
    np.testing.assert_array_equal(aggregate(name, batch) > 0, (COUNT > 0)[episode_of_token(batch)])


@every_method
def test_nothing_selected_gives_weights_of_zero(name, make_batch):
    batch = make_batch()
    np.testing.assert_array_equal(aggregate(name, batch, count=np.zeros_like(COUNT)), np.zeros(batch.num_tokens))


@every_method
def test_the_factor_multiplies_the_numerator_only(name, make_batch):
    batch = make_batch()
    plain = aggregate(name, batch, factor=np.ones(8))
    np.testing.assert_allclose(aggregate(name, batch), plain * FACTOR[episode_of_token(batch)], atol=1e-15)


@every_method
def test_doubling_all_counts_changes_nothing(name, make_batch):
    batch = make_batch()
    np.testing.assert_allclose(aggregate(name, batch, count=2 * COUNT), aggregate(name, batch), atol=1e-15)


@every_method
def test_a_count_of_two_is_the_episode_laid_twice_into_the_batch(name, make_batch):
    batch = make_batch()
    laid = np.repeat(np.arange(8), COUNT)
    expected = np.zeros(batch.num_tokens)
    steps, _ = take_segments(batch.step_splits, laid)
    tokens, _ = take_segments(batch.token_splits, steps)
    repeated = batch.select(laid)
    np.add.at(expected, tokens, aggregate(name, repeated, count=np.ones(len(laid), dtype=int), factor=FACTOR[laid]))
    np.testing.assert_allclose(aggregate(name, batch), expected, atol=1e-15)


@every_method
def test_permuting_episodes_permutes_the_answer(name, make_batch):
    batch = make_batch()
    order = np.random.default_rng(1).permutation(8)
    steps, _ = take_segments(batch.step_splits, order)
    tokens, _ = take_segments(batch.token_splits, steps)
    permuted = aggregate(name, batch.select(order), COUNT[order], FACTOR[order])
    np.testing.assert_allclose(permuted, aggregate(name, batch)[tokens], atol=1e-15)


@every_method
def test_the_inputs_stay_as_they_are(name, make_batch):
    count, factor = COUNT.copy(), FACTOR.copy()
    aggregate(name, make_batch(), count, factor)
    np.testing.assert_array_equal(count, COUNT)
    np.testing.assert_array_equal(factor, FACTOR)


@every_method
def test_a_batch_without_tokens_gives_no_weights(name, make_batch):
    batch = make_batch()
    empty = batch.select(np.zeros(8, dtype=bool))
    assert aggregate(name, empty, count=np.zeros(0, dtype=int), factor=np.zeros(0)).shape == (0,)


@every_method
def test_it_is_documented_and_tested(name, assert_documented, assert_tested):
    assert_documented(resolve("aggregation", name))
    assert_tested("aggregation", name)

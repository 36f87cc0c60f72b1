"""What every method in `selection/` promises, found by listing the folder."""

import importlib

import numpy as np
import pytest

from lapwing.core.ragged import take_segments
from lapwing.core.registry import names, resolve

every_method = pytest.mark.parametrize("name", names("selection"))


def advantage_of(batch):
    """One number per step, with two episodes that have none."""
    advantage = np.random.default_rng(5).normal(size=batch.num_steps)
    return np.where(np.isin(batch.episode_of_step, [1, 6]), 0.0, advantage)


@every_method
def test_the_module_says_what_the_method_is(name):
    found = importlib.import_module(f"lapwing.selection.{name}")
    assert found.SCOPE in {"group", "batch"}
    assert isinstance(found.NEEDS, tuple)


@every_method
@pytest.mark.parametrize("level", ["step", "token"])
@pytest.mark.parametrize("seed", range(5))
def test_there_is_one_count_and_one_finite_positive_factor_per_episode(name, level, seed, make_batch):
    batch = make_batch()
    advantage = advantage_of(batch) if level == "step" else batch.spread(advantage_of(batch))
    count, factor = resolve("selection", name)(batch, advantage, np.random.default_rng(seed))
    assert count.shape == factor.shape == (batch.num_episodes,)
    assert np.issubdtype(count.dtype, np.integer)
    assert factor.dtype == np.float64
    assert (count >= 0).all()
    assert count.sum() >= 1
    assert np.isfinite(factor).all()
    assert (factor > 0).all()


@every_method
def test_the_inputs_stay_as_they_are(name, make_batch):
    batch = make_batch()
    advantage = advantage_of(batch)
    before = advantage.copy()
    resolve("selection", name)(batch, advantage, np.random.default_rng(0))
    np.testing.assert_array_equal(advantage, before)


@every_method
def test_the_same_stream_gives_the_same_selection(name, make_batch):
    batch = make_batch()
    method = resolve("selection", name)
    first = method(batch, advantage_of(batch), np.random.default_rng(3))
    second = method(batch, advantage_of(batch), np.random.default_rng(3))
    np.testing.assert_array_equal(first.count, second.count)
    np.testing.assert_array_equal(first.factor, second.factor)


@every_method
def test_permuting_episodes_permutes_how_often_each_is_counted_on_average(name, make_batch):
    batch = make_batch()
    advantage = advantage_of(batch)
    order = np.random.default_rng(1).permutation(batch.num_episodes)
    steps, _ = take_segments(batch.step_splits, order)
    permuted = batch.select(order)
    draws = 600
    rng = np.random.default_rng(2)
    method = resolve("selection", name)
    plain = np.mean([method(batch, advantage, rng).count for _ in range(draws)], axis=0)
    moved = np.mean([method(permuted, advantage[steps], rng).count for _ in range(draws)], axis=0)
    # The difference of two means of 600 zeros and ones has a standard error of at most √(2 · ¼ / 600) = 0.029.
    np.testing.assert_allclose(moved, plain[order], atol=5 * 0.029)


@every_method
def test_a_batch_without_episodes_gives_an_empty_selection(name, make_batch):
    batch = make_batch()
    empty = batch.select(np.zeros(batch.num_episodes, dtype=bool))
    count, factor = resolve("selection", name)(empty, np.zeros(0), np.random.default_rng(0))
    assert count.shape == factor.shape == (0,)


@every_method
def test_unknown_settings_are_refused(name, make_batch):
    batch = make_batch()
    with pytest.raises(TypeError, match="no_such_setting"):
        resolve("selection", name)(batch, advantage_of(batch), np.random.default_rng(0), no_such_setting=1)


@every_method
def test_it_is_documented_and_tested(name, assert_documented, assert_tested):
    assert_documented(resolve("selection", name))
    assert_tested("selection", name)

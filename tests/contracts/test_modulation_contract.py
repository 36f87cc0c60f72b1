"""What every method in `modulation/` promises, found by listing the folder."""

import dataclasses
import importlib

import numpy as np
import pytest

from lapwing.core.columns import COLUMNS
from lapwing.core.errors import LapwingError
from lapwing.core.ragged import take_segments
from lapwing.core.registry import describe, names, resolve


def module(name):
    return importlib.import_module(f"lapwing.modulation.{name}")


def levels(name):
    return ["step", "token"] if module(name).LEVEL == "any" else ["step"]


every_method = pytest.mark.parametrize("name", names("modulation"))
every_level = pytest.mark.parametrize(
    ("name", "level"), [(name, level) for name in names("modulation") for level in levels(name)]
)


def advantage_of(batch, level):
    """What a credit method might give: numbers of either sign, with episodes that have none."""
    advantage = np.random.default_rng(5).normal(size=batch.num_steps)
    advantage = np.where(np.isin(batch.episode_of_step, [1, 6]), 0.0, advantage)
    return advantage if level == "step" else batch.spread(advantage) + np.linspace(0, 0.1, batch.num_tokens)


def axis_index(level, batch, episode):
    """Where an episode, or several, stand in an advantage."""
    steps, _ = take_segments(batch.step_splits, np.atleast_1d(episode))
    return steps if level == "step" else take_segments(batch.token_splits, steps)[0]


def snapshot(batch):
    base = {f.name: np.copy(getattr(batch, f.name)) for f in dataclasses.fields(batch) if f.name != "extra"}
    return {**base, **{name: np.copy(values) for name, values in batch.extra.items()}}


@every_method
def test_the_module_says_what_the_method_is(name):
    assert module(name).LEVEL in {"step", "any"}
    assert module(name).SCOPE in {"group", "batch"}
    assert set(module(name).NEEDS) <= set(COLUMNS)
    entry = describe("modulation", name)
    assert (entry.level, entry.scope, entry.needs) == (module(name).LEVEL, module(name).SCOPE, module(name).NEEDS)
    assert entry.source


@every_level
def test_the_answer_is_finite_float64_of_the_same_shape(name, level, make_batch):
    batch = make_batch()
    assert batch.num_steps != batch.num_tokens  # such a length would be read as one number per step
    advantage = advantage_of(batch, level)
    found = resolve("modulation", name)(batch, advantage)
    assert found.dtype == np.float64
    assert found.shape == advantage.shape
    assert np.isfinite(found).all()


@every_level
def test_the_inputs_stay_as_they_are(name, level, make_batch):
    batch = make_batch()
    advantage = advantage_of(batch, level)
    before, passed = snapshot(batch), advantage.copy()
    found = resolve("modulation", name)(batch, advantage)
    found += 1.0  # the answer is an array of its own
    np.testing.assert_array_equal(advantage, passed)
    for column, values in snapshot(batch).items():
        np.testing.assert_array_equal(values, before[column], err_msg=column)


@every_level
def test_whole_numbers_are_taken_as_numbers(name, level, make_batch):
    batch = make_batch()
    whole = np.sign(advantage_of(batch, level)).astype(np.int64)
    method = resolve("modulation", name)
    np.testing.assert_array_equal(method(batch, whole), method(batch, whole.astype(np.float64)))


@every_level
def test_the_same_batch_gives_the_same_bits(name, level, make_batch):
    method = resolve("modulation", name)
    first, second = (method(make_batch(), advantage_of(make_batch(), level)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@every_level
@pytest.mark.parametrize("seed", range(3))
def test_permuting_episodes_permutes_the_answer(name, level, seed, make_batch):
    batch = make_batch(seed)
    advantage = advantage_of(batch, level)
    order = np.random.default_rng(seed).permutation(batch.num_episodes)
    at = axis_index(level, batch, order)
    method = resolve("modulation", name)
    np.testing.assert_allclose(method(batch.select(order), advantage[at]), method(batch, advantage)[at], atol=1e-12)


@every_level
@pytest.mark.parametrize("group", [2, 4, 7, 9])
def test_other_groups_do_not_leak_in_unless_the_scope_is_the_batch(name, level, group, make_batch):
    if module(name).SCOPE == "batch":
        return  # By its own word the whole batch may influence every number.
    batch = make_batch()
    advantage = advantage_of(batch, level)
    at = axis_index(level, batch, np.flatnonzero(batch.group == group))
    changed = 5.0 - 2.0 * advantage
    changed[at] = advantage[at]
    method = resolve("modulation", name)
    expected = method(batch, advantage)[at]
    np.testing.assert_allclose(method(batch, changed)[at], expected, atol=1e-12)
    np.testing.assert_allclose(method(batch.select(batch.group == group), advantage[at]), expected, atol=1e-12)


@every_level
def test_a_batch_without_episodes_gives_nothing(name, level, make_batch):
    batch = make_batch()
    empty = batch.select(np.zeros(batch.num_episodes, dtype=bool))
    assert resolve("modulation", name)(empty, np.zeros(0)).shape == (0,)


@every_method
def test_an_advantage_of_a_wrong_length_is_refused(name, make_batch):
    batch = make_batch()
    wrong = [batch.num_steps + batch.num_tokens, batch.num_episodes]
    for length in wrong + ([batch.num_tokens] if module(name).LEVEL == "step" else []):
        with pytest.raises(LapwingError, match=rf"{name} .*\({length},\)"):
            resolve("modulation", name)(batch, np.zeros(length))


@every_method
def test_unknown_settings_are_refused(name, make_batch):
    batch = make_batch()
    with pytest.raises(TypeError, match="no_such_setting"):
        resolve("modulation", name)(batch, advantage_of(batch, "step"), no_such_setting=1)


@every_method
def test_it_is_documented_and_tested(name, assert_documented, assert_tested):
    assert_documented(resolve("modulation", name))
    assert_tested("modulation", name)

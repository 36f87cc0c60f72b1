"""What every method in `credit/` promises, found by listing the folder."""

import dataclasses
import importlib

import numpy as np
import pytest

from lapwing.core.columns import COLUMNS
from lapwing.core.memory import bound
from lapwing.core.ragged import take_segments
from lapwing.core.registry import describe, names, resolve

every_method = pytest.mark.parametrize("name", names("credit"))
with_memory = pytest.mark.parametrize(
    "name",
    [name for name in names("credit") if hasattr(importlib.import_module(f"lapwing.credit.{name}"), "initial_state")],
)


def module(name):
    return importlib.import_module(f"lapwing.credit.{name}")


def credit(name, **settings):
    """The method with its settings bound; one with memory begins anew."""
    return bound(resolve("credit", name), settings)


def axis_index(name, batch, episode):
    """Where an episode, or several, stand in the answer of a method."""
    steps, _ = take_segments(batch.step_splits, np.atleast_1d(episode))
    if module(name).LEVEL == "step":
        return steps
    return take_segments(batch.token_splits, steps)[0]


def snapshot(batch):
    base = {f.name: np.copy(getattr(batch, f.name)) for f in dataclasses.fields(batch) if f.name != "extra"}
    return {**base, **{name: np.copy(values) for name, values in batch.extra.items()}}


@every_method
def test_the_module_says_what_the_method_is(name):
    assert module(name).LEVEL in {"step", "token"}
    assert module(name).SCOPE in {"group", "batch"}
    assert set(module(name).NEEDS) <= set(COLUMNS)
    entry = describe("credit", name)
    assert (entry.level, entry.scope, entry.needs) == (module(name).LEVEL, module(name).SCOPE, module(name).NEEDS)
    assert entry.source


@every_method
def test_there_is_one_finite_float64_per_step_or_token(name, make_batch):
    batch = make_batch()
    advantage = credit(name)(batch)
    size = batch.num_steps if module(name).LEVEL == "step" else batch.num_tokens
    assert advantage.dtype == np.float64
    assert advantage.shape == (size,)
    assert np.isfinite(advantage).all()


@every_method
def test_the_inputs_stay_as_they_are(name, make_batch):
    batch = make_batch()
    before = snapshot(batch)
    credit(name)(batch)
    after = snapshot(batch)
    for column, values in before.items():
        np.testing.assert_array_equal(after[column], values, err_msg=column)


@every_method
def test_the_same_batch_gives_the_same_bits(name, make_batch):
    np.testing.assert_array_equal(credit(name)(make_batch()), credit(name)(make_batch()))


@every_method
@pytest.mark.parametrize("seed", range(3))
def test_permuting_episodes_permutes_the_answer(name, seed, make_batch):
    batch = make_batch(seed)
    order = np.random.default_rng(seed).permutation(batch.num_episodes)
    expected = credit(name)(batch)[axis_index(name, batch, order)]
    np.testing.assert_allclose(credit(name)(batch.select(order)), expected, atol=1e-12)


@every_method
@pytest.mark.parametrize("group", [2, 4, 7, 9])
def test_other_groups_do_not_leak_in_unless_the_scope_is_the_batch(name, group, make_batch):
    # Fails when a baseline is taken over the batch instead of the group.
    if module(name).SCOPE == "batch":
        return  # By its own word the whole batch may influence every number.
    batch = make_batch()
    mine = np.flatnonzero(batch.group == group)
    other = batch.group != group
    changed = batch.with_columns(
        reward=np.where(other[batch.episode_of_step], 5.0 - 2.0 * batch.reward, batch.reward),
        outcome=np.where(other, 3.0, batch.outcome),
    )
    at = axis_index(name, batch, mine)
    expected = credit(name)(batch)[at]
    np.testing.assert_allclose(credit(name)(changed)[at], expected, atol=1e-12)
    np.testing.assert_allclose(credit(name)(batch.select(mine)), expected, atol=1e-12)


@with_memory
def test_a_state_is_plain_arrays_and_the_given_one_stays_as_it_is(name, make_batch):
    batch = make_batch()
    given = importlib.import_module(f"lapwing.credit.{name}").initial_state()
    for _ in range(3):
        before = {key: array.copy() for key, array in given.items()}
        _, state = resolve("credit", name)(batch, state=given)
        assert set(state) == set(before)
        for key, array in before.items():
            np.testing.assert_array_equal(given[key], array, err_msg=key)
            assert state[key].dtype == array.dtype
            assert state[key].dtype.kind in "fiub"
        given = state


@every_method
def test_unknown_settings_are_refused(name, make_batch):
    with pytest.raises(TypeError, match="no_such_setting"):
        credit(name, no_such_setting=1)(make_batch())


@every_method
def test_it_is_documented_and_tested(name, assert_documented, assert_tested):
    assert_documented(resolve("credit", name))
    assert_tested("credit", name)

"""What every method in `shaping/` promises, found by listing the folder."""

import dataclasses
import importlib
import inspect

import numpy as np
import pytest

from lapwing.core.columns import COLUMNS
from lapwing.core.memory import bound
from lapwing.core.ragged import take_segments
from lapwing.core.registry import describe, names, resolve

every_method = pytest.mark.parametrize("name", names("shaping"))
REMEMBERED = {"otc": {"memory": 4}, "router_r1": {"window": 5}}
with_memory = pytest.mark.parametrize(
    "name",
    [name for name in names("shaping") if hasattr(importlib.import_module(f"lapwing.shaping.{name}"), "initial_state")],
)


def with_parts(name, batch):
    """The batch with the parts that a method reads by default."""
    parameters = inspect.signature(resolve("shaping", name)).parameters
    parts = [parameters["part"].default] if "part" in parameters else []
    parts += parameters["parties"].default if "parties" in parameters else ()
    rng = np.random.default_rng(3)
    return batch.with_columns(**{f"part:{part}": rng.integers(0, 2, batch.num_steps) for part in parts})


def required(name):
    """A setting without a default gets 8 of its type."""
    keywords = [p for p in inspect.signature(resolve("shaping", name)).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return {p.name: p.annotation(8) for p in keywords if p.default is p.empty and p.name != "state"}


def shape(name, batch, **settings):
    """The method's batch; one with memory begins anew."""
    return bound(resolve("shaping", name), {**required(name), **settings})(batch)


def snapshot(batch):
    base = {f.name: np.copy(getattr(batch, f.name)) for f in dataclasses.fields(batch) if f.name != "extra"}
    return {**base, **{name: np.copy(values) for name, values in batch.extra.items()}}


@every_method
def test_the_module_says_what_the_method_is(name):
    found = importlib.import_module(f"lapwing.shaping.{name}")
    assert found.SCOPE in {"group", "batch"}
    assert set(found.NEEDS) <= set(COLUMNS)
    entry = describe("shaping", name)
    assert (entry.scope, entry.needs) == (found.SCOPE, found.NEEDS)
    assert entry.source


@every_method
def test_the_rewards_or_the_outcomes_change_and_nothing_else_does(name, make_batch):
    # Above all not the domain reward and the success, which are reported.
    batch = with_parts(name, make_batch())
    before = snapshot(batch)
    shaped = shape(name, batch)
    for column, values in snapshot(batch).items():
        np.testing.assert_array_equal(values, before[column], err_msg=column)
    after = snapshot(shaped)
    assert set(after) == set(before)
    (changed,) = [column for column in after if not np.array_equal(after[column], before[column])]
    assert changed in ("reward", "outcome")
    assert after[changed].dtype == np.float64
    assert np.isfinite(after[changed]).all()


@every_method
@pytest.mark.parametrize("seed", range(3))
def test_permuting_episodes_permutes_the_answer(name, seed, make_batch):
    batch = with_parts(name, make_batch(seed))
    order = np.random.default_rng(seed).permutation(batch.num_episodes)
    steps, _ = take_segments(batch.step_splits, order)
    shaped, expected = shape(name, batch.select(order)), shape(name, batch)
    np.testing.assert_allclose(shaped.reward, expected.reward[steps], atol=1e-12)
    np.testing.assert_allclose(shaped.outcome, expected.outcome[order], atol=1e-12)


@every_method
@pytest.mark.parametrize("group", [2, 4, 7, 9])
def test_other_groups_do_not_leak_in_unless_the_scope_is_the_batch(name, group, make_batch):
    if importlib.import_module(f"lapwing.shaping.{name}").SCOPE == "batch":
        return  # By its own word the whole batch may influence every reward.
    batch = with_parts(name, make_batch())
    mine = batch.group == group
    alone, expected = shape(name, batch.select(mine)), shape(name, batch).select(mine)
    np.testing.assert_allclose(alone.reward, expected.reward, atol=1e-12)
    np.testing.assert_allclose(alone.outcome, expected.outcome, atol=1e-12)


@every_method
def test_a_batch_without_episodes_stays_one(name, make_batch):
    batch = with_parts(name, make_batch())
    empty = batch.select(np.zeros(batch.num_episodes, dtype=bool))
    assert shape(name, empty).num_steps == 0


@with_memory
def test_a_state_is_plain_arrays_and_the_given_one_stays_as_it_is(name, make_batch):
    batch = with_parts(name, make_batch())
    given = importlib.import_module(f"lapwing.shaping.{name}").initial_state(**required(name))
    for _ in range(3):
        before = {key: array.copy() for key, array in given.items()}
        _, state = resolve("shaping", name)(batch, **required(name), **REMEMBERED.get(name, {}), state=given)
        assert set(state) == set(before)
        for key, array in before.items():
            np.testing.assert_array_equal(given[key], array, err_msg=key)
            assert state[key].dtype == array.dtype
            assert state[key].dtype.kind in "fiub"
        given = state


@every_method
def test_unknown_settings_are_refused(name, make_batch):
    with pytest.raises(TypeError, match="no_such_setting"):
        shape(name, with_parts(name, make_batch()), no_such_setting=1)


@every_method
def test_it_is_documented_and_tested(name, assert_documented, assert_tested):
    assert_documented(resolve("shaping", name))
    assert_tested("shaping", name)

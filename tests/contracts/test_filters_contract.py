"""What every method in `filters/` promises, found by listing the folder."""

import importlib

import numpy as np
import pytest

from lapwing.core.memory import bound
from lapwing.core.registry import names, resolve

every_method = pytest.mark.parametrize("name", names("filters"))


@every_method
def test_the_module_says_what_the_method_is(name):
    found = importlib.import_module(f"lapwing.filters.{name}")
    assert found.SCOPE in {"group", "batch"}
    assert isinstance(found.NEEDS, tuple)


@every_method
def test_there_is_one_bool_per_episode(name, make_batch):
    batch = make_batch()
    keep = bound(resolve("filters", name), {})(batch)
    assert keep.dtype == bool
    assert keep.shape == (batch.num_episodes,)


@every_method
def test_permuting_episodes_permutes_the_answer(name, make_batch):
    batch = make_batch()
    order = np.random.default_rng(1).permutation(batch.num_episodes)
    keep = bound(resolve("filters", name), {})(batch)
    np.testing.assert_array_equal(bound(resolve("filters", name), {})(batch.select(order)), keep[order])


@every_method
@pytest.mark.parametrize("group", [2, 4, 7, 9])
def test_other_groups_do_not_leak_in_unless_the_scope_is_the_batch(name, group, make_batch):
    if importlib.import_module(f"lapwing.filters.{name}").SCOPE == "batch":
        return  # By its own word the whole batch may influence every answer.
    batch = make_batch()
    mine = batch.group == group
    keep = bound(resolve("filters", name), {})(batch)
    np.testing.assert_array_equal(bound(resolve("filters", name), {})(batch.select(mine)), keep[mine])


@every_method
def test_a_batch_without_episodes_keeps_nothing(name, make_batch):
    # What an earlier filter left may be nothing.
    batch = make_batch()
    empty = batch.select(np.zeros(batch.num_episodes, dtype=bool))
    assert bound(resolve("filters", name), {})(empty).shape == (0,)


@every_method
def test_it_is_documented_and_tested(name, assert_documented, assert_tested):
    assert_documented(resolve("filters", name))
    assert_tested("filters", name)

"""What every method in `pairing/` promises, found by listing the folder."""

import importlib

import numpy as np
import pytest

from lapwing.core.columns import COLUMNS
from lapwing.core.pair_batch import PairBatch
from lapwing.core.registry import describe, names, resolve

every_method = pytest.mark.parametrize("name", names("pairing"))


def module(name):
    return importlib.import_module(f"lapwing.pairing.{name}")


def identified(pairs):
    """The pairs in a form that tells what was paired, whatever the numbers of the episodes."""
    batch = pairs.batch

    def episode(number):
        steps = slice(*batch.step_splits[number : number + 2].tolist())
        return (
            int(batch.group[number]),
            tuple(batch.view_key[steps].tolist()),
            tuple(batch.action_key[steps].tolist()),
        )

    numbers = zip(np.round(pairs.weight, 9).tolist(), np.round(pairs.margin, 9).tolist(), strict=True)
    sides = zip(pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True)
    return sorted((episode(c), episode(r), *of) for (c, r), of in zip(sides, numbers, strict=True))


@every_method
def test_the_module_says_what_the_method_is(name):
    assert module(name).SCOPE in {"group", "batch"}
    assert set(module(name).NEEDS) <= set(COLUMNS)
    assert describe("pairing", name).scope == module(name).SCOPE


@every_method
def test_there_are_pairs_of_one_group_whose_weights_count(name, make_batch):
    pairs = resolve("pairing", name)(make_batch())
    assert isinstance(pairs, PairBatch)
    assert pairs.num_pairs > 0
    np.testing.assert_array_equal(pairs.batch.group[pairs.chosen], pairs.batch.group[pairs.rejected])
    assert (pairs.weight > 0).all()
    # Every episode of a pair has something to learn from.
    tokens = np.bincount(pairs.batch.episode_of_step[pairs.batch.step_of_token], minlength=pairs.batch.num_episodes)
    assert (tokens[np.concatenate([pairs.chosen, pairs.rejected])] > 0).all()


@every_method
def test_the_input_stays_as_it_is(name, make_batch):
    batch, before = make_batch(), make_batch()
    resolve("pairing", name)(batch)
    np.testing.assert_array_equal(batch.reward, before.reward)
    np.testing.assert_array_equal(batch.outcome, before.outcome)


@every_method
def test_permuting_episodes_pairs_the_same(name, make_batch):
    batch = make_batch()
    order = np.random.default_rng(1).permutation(batch.num_episodes)
    found = resolve("pairing", name)(batch.select(order))
    assert identified(found) == identified(resolve("pairing", name)(batch))


@every_method
@pytest.mark.parametrize("group", [2, 4, 7, 9])
def test_other_groups_do_not_leak_in_unless_the_scope_is_the_batch(name, group, make_batch):
    if module(name).SCOPE == "batch":
        return  # By its own word the whole batch may influence every answer.
    batch = make_batch()
    alone = identified(resolve("pairing", name)(batch.select(batch.group == group)))
    assert alone == [pair for pair in identified(resolve("pairing", name)(batch)) if pair[0][0] == group]


@every_method
def test_a_batch_without_episodes_gives_no_pairs(name, make_batch):
    batch = make_batch()
    empty = batch.select(np.zeros(batch.num_episodes, dtype=bool))
    assert resolve("pairing", name)(empty).num_pairs == 0


@every_method
def test_a_group_of_one_gives_no_pairs(name, make_batch):
    batch = make_batch()
    pairs = resolve("pairing", name)(batch.select(batch.group == 7))
    assert all(pairs.batch.group[pairs.chosen] == 7)
    if name != "step_siblings":  # an episode may come to the same place twice
        assert pairs.num_pairs == 0


@every_method
def test_unknown_settings_are_refused(name, make_batch):
    with pytest.raises(TypeError, match="no_such_setting"):
        resolve("pairing", name)(make_batch(), no_such_setting=1)


@every_method
def test_it_is_documented_and_tested(name, assert_documented, assert_tested):
    assert_documented(resolve("pairing", name))
    assert "\nProvenance: " in (resolve("pairing", name).__doc__ or "").replace("\n    ", "\n")
    assert_tested("pairing", name)

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from lapwing.core.rng import fold, fold_many, generator, has_drawn, lazy_generator, uniform

KEYS = st.integers(0, 2**64 - 1)


@given(KEYS, st.integers(-(2**70), 2**70))
def test_folding_one_number_is_folding_an_array_of_one(key, part):
    # Fails when the two finalisers differ in any constant or shift.
    assert int(fold_many(np.array([key], dtype=np.uint64), part)[0]) == fold(key, part)


@given(st.lists(st.tuples(KEYS, st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=8))
def test_folding_arrays_is_folding_element_by_element(pairs):
    keys = np.array([key for key, _ in pairs], dtype=np.uint64)
    parts = np.array([part for _, part in pairs], dtype=np.int64)
    assert fold_many(keys, parts).tolist() == [fold(key, part) for key, part in pairs]


def test_a_key_may_be_extended_bit_by_bit():
    assert fold(fold(0, "chance", 3), "train") == fold(0, "chance", 3, "train")


@pytest.mark.parametrize(
    ("one", "other"),
    [(("ab", "c"), ("a", "bc")), ((1, 2), (2, 1)), ((1,), ("1",)), ((0,), (0, 0)), ((12,), (1, 2)), (("",), ())],
)
def test_different_keys_give_different_numbers(one, other):
    # Fails when the parts are added up, or joined to one text.
    assert fold(0, *one) != fold(0, *other)
    assert generator(*one).random() != generator(*other).random()


def test_the_order_of_drawing_changes_nothing():
    # Fails when the generators share any state.
    names = [("chance", i) for i in range(20)]
    forward = {name: generator(*name).random() for name in names}
    backward = {}
    for name in reversed(names):
        stream = generator(*name)
        backward[name] = stream.random()
        stream.random(100)
    assert forward == backward


def test_a_lazy_generator_draws_the_same_numbers():
    lazy, eager = lazy_generator("chance", 4, "x"), generator("chance", 4, "x")
    assert lazy.random() == eager.random()
    assert lazy.integers(0, 1000, 10).tolist() == eager.integers(0, 1000, 10).tolist()
    assert lazy.permutation(10).tolist() == eager.permutation(10).tolist()


def test_a_lazy_generator_can_be_copied_and_the_copy_goes_on_alone():
    # Fails when __getattr__ answers the names that the copy module asks for.
    lazy = lazy_generator("chance", 4)
    first = copy.deepcopy(lazy).random()
    assert lazy.random() == first
    assert copy.deepcopy(lazy).random() == lazy.random()


@pytest.mark.parametrize(
    "draws", [lambda r: r.random(), lambda r: r.bit_generator, copy.copy, copy.deepcopy, pickle.dumps]
)
def test_it_is_known_whether_anything_can_depend_on_a_lazy_generator(draws):
    # Fails when a game that draws from a copy seems to draw nothing.
    lazy = lazy_generator("chance", 4)
    assert not has_drawn(lazy)
    draws(lazy)
    assert has_drawn(lazy)


def test_uniform_numbers_lie_in_the_half_open_unit_interval():
    # Fails when all 64 bits are divided by 2⁶⁴, which rounds the largest key up to 1.
    ends = uniform(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert ends[0] == 0.0
    assert 0.999 < ends[1] < 1.0


@pytest.mark.parametrize("base", [("reply", 0), ("reply", 1), ("x",)])
def test_numbers_of_consecutive_keys_are_uniform(base):
    numbers = uniform(fold_many(np.array([fold(0, *base)], dtype=np.uint64), np.arange(100_000)))
    counts = np.bincount((numbers * 64).astype(int), minlength=64)
    assert chisquare(counts).pvalue > 1e-3
    pairs = (numbers[::2] * 16).astype(int) * 16 + (numbers[1::2] * 16).astype(int)
    assert chisquare(np.bincount(pairs, minlength=256)).pvalue > 1e-3


def test_one_position_under_many_keys_is_uniform_too():
    keys = np.array([fold(0, "reply", member) for member in range(20_000)], dtype=np.uint64)
    counts = np.bincount((uniform(fold_many(keys, 0)) * 32).astype(int), minlength=32)
    assert chisquare(counts).pvalue > 1e-3


def test_the_numbers_of_a_key_never_change():
    # These are what makes old runs repeatable; a change of any is a new format.
    assert fold(0, "chance", 7) == 300794767536846772
    assert fold(0, "reply", 1, "train", 2) == 1587151475420492709
    assert generator("chance", 7).integers(0, 1000, 4).tolist() == [25, 625, 559, 365]


def test_a_fresh_process_draws_the_same_numbers():
    # Fails when the built-in hash() of a string gets into a key.
    code = (
        "from lapwing.core.rng import fold, generator; "
        "print(fold(0, 'split', 3, 'shared'), generator('split', 3).random())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert printed == {f"{fold(0, 'split', 3, 'shared')} {generator('split', 3).random()}"}

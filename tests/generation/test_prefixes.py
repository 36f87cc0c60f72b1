import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.generation._prefixes import Prefixes

LAYERS, HEADS, WIDTH = 2, 1, 4
TOKEN_BYTES = LAYERS * 2 * HEADS * WIDTH * 4


def layers(token):
    """Keys and values that say which tokens they belong to."""
    keys = torch.tensor(token, dtype=torch.float32)[None, :, None].expand(HEADS, -1, WIDTH).clone()
    return [(keys, keys), (keys, keys)]


def add(prefixes, *tokens):
    for token in tokens:
        array = np.array(token, dtype=np.int32)
        if prefixes.wants(array):
            prefixes.add(array, layers(token))


def known(prefixes, token):
    found = prefixes.find(np.array(token, dtype=np.int32))
    return [] if not found.length else found.layers[0][0][0, : found.length, 0].int().tolist()


@pytest.fixture
def prefixes():
    store = Prefixes()
    store.begin(10**6)
    return store


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=12), st.lists(st.integers(0, 2), min_size=1)
)
def test_the_longest_known_beginning_is_found(kept, asked):
    # Fails when the order of keys is not that of tokens, or only one neighbour is looked at.
    prefixes = Prefixes()
    prefixes.begin(10**6)
    add(prefixes, *kept)
    longest = max((n for n in range(len(asked) + 1) if any(one[:n] == asked[:n] for one in kept)), default=0)
    assert known(prefixes, asked) == asked[:longest]


def test_a_sequence_that_another_one_begins_with_is_kept_once(prefixes):
    add(prefixes, [1, 2], [1, 2, 3], [1, 2])
    assert prefixes.bytes == 3 * TOKEN_BYTES
    assert known(prefixes, [1, 2, 4]) == [1, 2]


def test_room_is_made_by_what_was_not_asked_for():
    prefixes = Prefixes()
    prefixes.begin(6 * TOKEN_BYTES)
    add(prefixes, [1, 1], [2, 2], [3, 3])
    prefixes.begin(6 * TOKEN_BYTES)
    assert known(prefixes, [1, 1, 5]) == [1, 1]
    assert known(prefixes, [3, 3, 5]) == [3, 3]
    add(prefixes, [4, 4])
    assert known(prefixes, [2, 2]) == []
    assert [known(prefixes, [n, n]) for n in (1, 3, 4)] == [[1, 1], [3, 3], [4, 4]]


def test_what_lives_on_is_not_dropped_for_what_is_new():
    # Fails when the least recently used goes: with one sequence too many in turn, none would ever be found.
    prefixes = Prefixes()
    for _ in range(3):
        prefixes.begin(4 * TOKEN_BYTES)
        found = [known(prefixes, [n, n]) for n in (1, 2, 3)]
        add(prefixes, [1, 1], [2, 2], [3, 3])
    assert found == [[1, 1], [2, 2], []]
    assert prefixes.bytes == 4 * TOKEN_BYTES


def test_an_extension_without_room_leaves_the_beginning():
    prefixes = Prefixes()
    prefixes.begin(3 * TOKEN_BYTES)
    add(prefixes, [1, 2], [1, 2, 3, 4])
    assert known(prefixes, [1, 2, 3, 4]) == [1, 2]
    add(prefixes, [1, 2, 3])
    assert known(prefixes, [1, 2, 3, 4]) == [1, 2, 3]
    assert prefixes.bytes == 3 * TOKEN_BYTES


def test_without_room_nothing_is_wanted_and_after_clear_nothing_is_known(prefixes):
    add(prefixes, [1, 2])
    prefixes.clear()
    assert prefixes.bytes == 0
    assert known(prefixes, [1, 2]) == []
    prefixes.begin(0)
    assert not prefixes.wants(np.array([1]))

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.models.scorer import next_token_logits
from lapwing.models.tree import grow

TOKENS = st.integers(0, 3)  # few different ones, so that beginnings are shared
SEQUENCES = st.lists(st.lists(TOKENS, min_size=1, max_size=8), min_size=1, max_size=10)


def arrays(sequences):
    return [np.array(sequence, dtype=np.int32) for sequence in sequences]


@given(SEQUENCES, st.integers(1, 20))
def test_a_token_sees_exactly_its_ancestors_and_itself(sequences, row_tokens):
    # Fails when the path of a branch is not cut back to what it shares, or the triangle is the upper one.
    tree = grow(arrays(sequences), row_tokens=row_tokens)
    width = tree.token.shape[1]
    for sequence, node, last in zip(sequences, tree.node, tree.last, strict=True):
        assert tree.token.reshape(-1)[node].tolist() == sequence
        assert tree.position.reshape(-1)[node].tolist() == list(range(len(sequence)))
        assert last == node[-1]
        assert len(set((node // width).tolist())) == 1
        for depth, at in enumerate(node):
            seen = np.flatnonzero(tree.keep[at // width, 0, at % width]) + at // width * width
            assert seen.tolist() == sorted(node[: depth + 1].tolist())


@given(SEQUENCES, st.integers(1, 20), st.randoms())
def test_the_layout_does_not_depend_on_the_order_of_arrival(sequences, row_tokens, random):
    # Fails when the sequences are laid out as they come.
    tree = grow(arrays(sequences), row_tokens=row_tokens)
    order = list(range(len(sequences)))
    random.shuffle(order)
    other = grow(arrays([sequences[i] for i in order]), row_tokens=row_tokens)
    for name in ("token", "position", "keep"):
        np.testing.assert_array_equal(getattr(tree, name), getattr(other, name))
    for at, i in enumerate(order):
        np.testing.assert_array_equal(other.node[at], tree.node[i])


def test_what_is_shared_is_stored_once():
    tree = grow(arrays([[1, 2, 3], [1, 2], [1, 2, 4, 5], [1, 2, 3]]))
    #   1 2 3 | 4 5 : five nodes for twelve tokens
    assert tree.num_tokens == 5
    assert tree.token.tolist() == [[1, 2, 3, 4, 5]]
    assert tree.position.tolist() == [[0, 1, 2, 2, 3]]
    assert [node.tolist() for node in tree.node] == [[0, 1, 2], [0, 1], [0, 1, 3, 4], [0, 1, 2]]


@given(SEQUENCES, st.integers(1, 20))
def test_a_row_outgrows_the_aim_only_for_a_single_longer_sequence(sequences, row_tokens):
    tree = grow(arrays(sequences), row_tokens=row_tokens)
    assert tree.token.shape[1] <= max(row_tokens, max(map(len, sequences)))


CASES = {
    "a single token": [[3]],
    "duplicates": [[1, 2, 3], [1, 2, 3], [1, 2, 3]],
    "beginnings of each other": [[4], [4, 5], [4, 5, 6], [4, 5, 6, 7]],
    "nothing in common": [[1, 2], [3, 4, 5], [6]],
    "longer than a row": [list(range(10, 40)), list(range(10, 41)), [10, 11, 2], [10] * 30],
    "branches of branches": [[1, 2, 3, 4], [1, 2, 3, 5, 6], [1, 2, 7, 8], [1, 9, 3, 4], [1, 2, 3]],
}


@pytest.mark.parametrize("sequences", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("row_tokens", [1, 12, 160])
def test_the_packed_forward_is_the_forward_of_each_sequence_alone(model, sequences, row_tokens):
    # Fails when a token sees a sibling, or its position is its place in the row.
    assert_packed_equals_plain(model, arrays(sequences), row_tokens)


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=25), min_size=1, max_size=8), st.integers(1, 60))
def test_the_packed_forward_is_the_plain_one_for_any_sequences(model, sequences, row_tokens):
    assert_packed_equals_plain(model, arrays(sequences), row_tokens)


def assert_packed_equals_plain(model, sequences, row_tokens):
    tree = grow(sequences, row_tokens=row_tokens)
    for sequence, node in zip(sequences, tree.node, strict=True):
        packed = next_token_logits(model, tree, node)
        plain = model(torch.from_numpy(sequence.astype(np.int64))[None]).logits[0]
        torch.testing.assert_close(packed, plain, atol=1e-5, rtol=0)

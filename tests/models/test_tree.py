import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.models.scorer import next_token_logits
from lapwing.models.tree import grow, parts

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


def cut(sequences, batch_tokens, row_tokens=160):
    """The passes over all last nodes, and the tree."""
    tree = grow(arrays(sequences), row_tokens=row_tokens)
    return tree, list(parts(tree, tree.last, batch_tokens=batch_tokens))


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=25)


def unlike(lengths):
    """Sequences of these lengths without a common beginning."""
    return [[number] * length for number, length in enumerate(lengths)]


@given(LENGTHS, st.integers(1, 120), st.integers(1, 50))
def test_every_wanted_node_is_in_one_pass_and_no_pass_is_too_large(lengths, batch_tokens, row_tokens):
    # Fails when nodes are numbered by the whole tree's width, a row is lost, or padding is not counted.
    _, passes = cut(unlike(lengths), batch_tokens, row_tokens)
    assert sorted(np.concatenate([part.chosen for part in passes]).tolist()) == list(range(len(lengths)))
    for part in passes:
        rows, width = part.tree.token.shape
        assert rows * width <= batch_tokens or rows == 1
        last = part.tree.token.reshape(-1)[part.nodes][part.inverse]
        assert last.tolist() == part.chosen.tolist()
        assert part.tree.keep.shape == (rows, 1, width, width)


@given(LENGTHS, st.integers(1, 120), st.randoms())
def test_passes_do_not_depend_on_the_order_of_arrival(lengths, batch_tokens, random):
    sequences = unlike(lengths)
    order = list(range(len(sequences)))
    random.shuffle(order)
    first = cut(sequences, batch_tokens, row_tokens=1)[1]
    second = cut([sequences[i] for i in order], batch_tokens, row_tokens=1)[1]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.tree.token, other.tree.token)


def test_rows_of_unequal_length_are_grouped_so_that_little_is_padding():
    # Rows as they come would have 20 places each: 6 · 20 places for 66 tokens. Grouped: 2 · 20 + 4 · 8.
    tree, passes = cut(unlike([20, 5, 19, 6, 8, 8]), 40, row_tokens=1)
    assert tree.num_tokens == 66
    assert [part.tree.token.shape for part in passes] == [(2, 20), (4, 8)]
    assert sum(part.tree.num_tokens for part in passes) == 66
    assert [[int(row[0]) for row in part.tree.token] for part in passes] == [[0, 2], [4, 5, 3, 1]]


def test_rows_of_much_the_same_length_stay_in_lexicographic_order():
    # Fails when all rows are sorted: recorded results of small models were computed in this order.
    _, passes = cut(unlike([8, 9, 10, 9]), 20, row_tokens=1)
    assert [part.tree.token[:, 0].tolist() for part in passes] == [[0, 1], [2, 3]]
    assert [part.tree.token.shape for part in passes] == [(2, 10), (2, 10)]


def test_a_single_pass_keeps_its_rows_in_lexicographic_order():
    _, (part,) = cut(unlike([1, 10, 2]), 30, row_tokens=1)
    assert part.tree.token[:, 0].tolist() == [0, 1, 2]


def test_arrays_are_made_pass_by_pass():
    # Fails when the mask of all rows is built at once: 200 rows of 300 tokens would take 18 MB, one takes 90 kB.
    tracemalloc.start()
    tree = grow(arrays(unlike([300] * 200)), row_tokens=300)
    before, _ = tracemalloc.get_traced_memory()
    for part in parts(tree, tree.last, batch_tokens=300):
        assert part.tree.keep.sum() == 300 * 301 / 2
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < 1e6


def test_another_mask_leaves_the_tree_as_it_was():
    tree = grow(arrays([[1, 2], [1, 3]]))
    changed = tree.with_keep(np.ones((1, 1, 3, 3), dtype=bool))
    assert changed.keep.all()
    assert not tree.keep.all()
    assert changed.token.tolist() == tree.token.tolist()


def transcript(steps, added=25, seed=0):
    """The contexts of a transcript's steps, each of which extends the one before it."""
    token = np.random.default_rng(seed).integers(3, 60, size=steps * added)
    return [token[: added * (step + 1)] for step in range(steps)]


@pytest.mark.parametrize("steps", [4, 40, 400])
def test_the_tokens_of_a_transcript_are_linear_in_its_steps(steps):
    # Fails when a row ends at its aim though what comes next extends it: 400 steps would take 2,000,000 tokens.
    tree = grow(transcript(steps))
    assert tree.num_tokens == 25 * steps
    assert tree.size.tolist() == [25 * steps]
    assert tree.is_chain.tolist() == [True]


def test_what_branches_off_each_step_of_a_transcript_computes_it_a_few_times_and_not_once_a_step():
    steps = 40
    asked = [np.append(context, [61, 62]) for context in transcript(steps)]
    tree = grow(asked)
    needed = 27 * steps
    assert needed <= tree.num_tokens < 3 * needed
    assert tree.width <= len(asked[-1])


def test_rows_without_branches_are_known():
    tree = grow(arrays([[1, 2, 3], [1, 2], [4, 5], [4, 6], [7]]), row_tokens=1)
    assert tree.token[:, 0].tolist() == [1, 4, 4, 7]
    assert tree.is_chain.all()
    assert grow(arrays([[1, 2, 3], [1, 2, 4]])).is_chain.tolist() == [False]
    assert tree.take(np.array([1, 3]), 2).is_chain.tolist() == [True, True]
    assert not tree.with_keep(tree.keep).is_chain.any()


def test_positions_go_on_counting_after_a_single_sequence():
    # Fails when padding has position 0: models without a mask would take what follows for another sequence.
    tree = grow(arrays([[1, 2, 3, 4], [5, 6]]), row_tokens=1)
    assert tree.position.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert tree.token.tolist() == [[1, 2, 3, 4], [5, 6, 5, 5]]


def places(passes):
    return sum(part.tree.token.size for part in passes)


@given(st.lists(st.integers(1, 900), min_size=2, max_size=40), st.randoms())
@settings(max_examples=25)
def test_transcripts_of_unequal_length_leave_little_padding_in_passes_that_pay(lengths, random):
    # Fails when a pass is as wide as its longest row whatever the others need.
    random.shuffle(lengths)
    tree, passes = cut(unlike(lengths), 16384)
    plain = 512 * -(-len(tree.size) // (16384 // tree.width)) + len(tree.size) * tree.width
    assert places(passes) + 512 * len(passes) <= plain
    for part in passes:
        # No single cut of a pass would spare more than what another pass costs.
        size = np.sort(part.tree.size)[::-1]
        spared = np.arange(len(size), 0, -1) * (size[0] - size)
        assert spared.max() <= 512 or part.tree.width == tree.width


def test_passes_of_unequal_transcripts_by_hand():
    # One pass would hold 4 · 700 = 2,800 places, and 2,800 + 512 with its call. Cut after the long ones, which spares
    # 2 · 600, it holds 1,400 + 200 in two calls; cutting once more would spare 100 and cost 512.
    _, passes = cut(unlike([100, 700, 700, 100]), 16384, row_tokens=1)
    assert [part.tree.token.shape for part in passes] == [(2, 700), (2, 100)]


def test_long_rows_without_branches_are_apart_from_rows_with_some():
    # Fails when they wait for a tenth to be spared: a mask for all of them costs more.
    branches = [np.append(np.full(550, 1), [number]) for number in range(2, 52)]
    tree, passes = cut([*branches, *transcript(1, 1500), *transcript(1, 1400, seed=1)], 16384, row_tokens=600)
    assert sorted(tree.size.tolist()) == [600, 1400, 1500]
    assert [(part.tree.token.shape, part.tree.is_chain.all()) for part in passes] == [
        ((2, 1500), True),
        ((1, 600), False),
    ]
    # Without the branches nothing is spared that is worth another order.
    _, passes = cut([*transcript(1, 1500), *transcript(1, 1400, seed=1)], 16384)
    assert [part.tree.size.tolist() for part in passes] == [
        cut_sizes([*transcript(1, 1500), *transcript(1, 1400, seed=1)])
    ]


def cut_sizes(sequences):
    """Lengths in lexicographic order."""
    return [len(sequence) for sequence in sorted(sequences, key=lambda one: one.tolist())]

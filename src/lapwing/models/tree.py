"""Lay sequences that share beginnings into trees, so that every shared prefix is computed once.

Prompts of one map share the map, replies share their prompt, the steps of a transcript share all that came before.
A row of the packed batch is a tree of tokens in depth-first order; a token attends to its ancestors and to itself
only, and its position is its depth, so that every token sees exactly what it would see in its own sequence.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Tree(NamedTuple):
    """B packed rows of S tokens.

    Attributes:
      token: token ids, int64 [B, S]; padding is 0 and seen by nobody.
      position: depth of each token, int64 [B, S].
      keep: True where a query (third axis) may attend to a key (fourth), bool [B, 1, S, S].
      last: for each input sequence, the flat index b·S + s of its last token, int64 [rows].
      node: for each input sequence, the flat indices of all its tokens.
      num_tokens: tokens that are not padding.
    """

    token: np.ndarray
    position: np.ndarray
    keep: np.ndarray
    last: np.ndarray
    node: list[np.ndarray]
    num_tokens: int


def grow(sequences: Sequence[np.ndarray], *, row_tokens: int = 160) -> Tree:
    """Pack sequences into trees.

    Sequences are laid out in lexicographic order, so that the layout depends on their content and not on the order
    of arrival. A new row begins where the current one would outgrow `row_tokens` (a single longer sequence gets a
    row of its own).

    Args:
      sequences: int arrays, each with at least one token; repetitions share their nodes.
      row_tokens: aim for the tokens of one packed row.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].tolist())
    rows: list[list[tuple[int, int, np.ndarray]]] = []  # per packed row: (sequence, tokens shared with the one before)
    sizes: list[int] = []
    previous: np.ndarray | None = None
    for i in order:
        sequence = sequences[i]
        shared = 0 if previous is None else _common_prefix(previous, sequence)
        new = len(sequence) - shared
        if previous is None or (new and sizes[-1] + new > row_tokens):
            rows.append([])
            sizes.append(0)
            shared, new = 0, len(sequence)
        rows[-1].append((i, shared, sequence))
        sizes[-1] += new
        previous = sequence
    return _lay_out(rows, max(sizes, default=0), len(sequences), sum(sizes))


class Part(NamedTuple):
    """Some rows of a tree, for one forward pass.

    Attributes:
      tree: the rows.
      chosen: which of the wanted nodes lie in them.
      nodes: the different flat indices of these within the part.
      inverse: for each of the chosen, which of `nodes` it is.
    """

    tree: Tree
    chosen: np.ndarray
    nodes: np.ndarray
    inverse: np.ndarray


def parts(tree: Tree, wanted: np.ndarray, *, batch_tokens: int) -> Iterator[Part]:
    """Cut a tree into forward passes; rows without a wanted node are left out.

    Args:
      tree: B packed rows.
      wanted: flat indices of nodes.
      batch_tokens: tokens, padding included, that one forward pass may hold.
    """
    width = tree.token.shape[1]
    per_batch = max(1, batch_tokens // width)
    batch_of = wanted // width // per_batch
    for b in range(0, len(tree.token), per_batch):
        chosen = np.flatnonzero(batch_of == b // per_batch)
        if len(chosen) == 0:
            continue
        rows = slice(b, b + per_batch)
        nodes, inverse = np.unique(wanted[chosen] - b * width, return_inverse=True)
        part = tree._replace(token=tree.token[rows], position=tree.position[rows], keep=tree.keep[rows])
        yield Part(part, chosen, nodes, inverse.reshape(-1))


def _lay_out(rows: list[list[tuple[int, int, np.ndarray]]], width: int, count: int, num_tokens: int) -> Tree:
    token = np.zeros((len(rows), width), dtype=np.int64)
    position = np.zeros((len(rows), width), dtype=np.int64)
    keep = np.zeros((len(rows), 1, width, width), dtype=bool)
    keep[:, 0, np.arange(width), np.arange(width)] = True
    last = np.zeros(count, dtype=np.int64)
    node: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * count
    for b, row in enumerate(rows):
        used = 0
        path = np.zeros(0, dtype=np.int64)
        for i, shared, sequence in row:
            new = len(sequence) - shared
            fresh = np.arange(used, used + new)
            path = np.concatenate([path[:shared], fresh])
            token[b, fresh] = sequence[shared:]
            position[b, fresh] = np.arange(shared, len(sequence))
            if new:
                keep[b, 0, used : used + new, path[:shared]] = True
                keep[b, 0, used : used + new, used : used + new] = _lower_triangle(new)
            used += new
            node[i] = b * width + path
            last[i] = b * width + path[-1]
    return Tree(token, position, keep, last, node, num_tokens)


def _lower_triangle(size: int) -> np.ndarray:
    return np.tri(size, dtype=bool)


def _common_prefix(first: np.ndarray, second: np.ndarray) -> int:
    length = min(len(first), len(second))
    differs = np.flatnonzero(first[:length] != second[:length])
    return int(differs[0]) if len(differs) else length

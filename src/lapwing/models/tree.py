"""Lay sequences that share beginnings into trees, so that every shared prefix is computed once.

Prompts of one map share the map, replies share their prompt, the steps of a transcript share all that came before.
A row of the packed batch is a tree of tokens in depth-first order; a token attends to its ancestors and to itself
only, and its position is its depth, so that every token sees exactly what it would see in its own sequence.
"""

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

# Rows of unequal length are grouped by their length where more than this share of the passes would be padding.
_PADDING = 0.2


class Tree:
    """B packed rows of at most S tokens.

    Attributes:
      size: tokens of each row, int64 [B].
      width: S, the columns of the arrays.
      last: for each input sequence, the flat index b·S + s of its last token, int64 [rows].
      node: for each input sequence, the flat indices of all its tokens.
      num_tokens: tokens that are not padding.
    """

    def __init__(self, sequences: Sequence[np.ndarray], members: list[list[tuple[int, int]]], size: np.ndarray) -> None:
        """Number the nodes; the arrays are made when they are first asked for.

        Args:
          sequences: token ids.
          members: of each row, which sequences lie in it, and how many tokens each shares with the one before it.
          size: tokens of each row.
        """
        self.size = size
        self.width = int(size.max(initial=0))
        self.num_tokens = int(size.sum())
        self.last = np.zeros(len(sequences), dtype=np.int64)
        self.node: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * len(sequences)
        self._sequences, self._members = sequences, members
        self._base = np.arange(len(size)) * self.width
        for base, row in zip(self._base.tolist(), members, strict=True):
            path, used = np.zeros(0, dtype=np.int64), base
            for i, shared in row:
                new = len(sequences[i]) - shared
                path = np.concatenate([path[:shared], np.arange(used, used + new)])
                used += new
                self.node[i] = path
                self.last[i] = path[-1]

    def take(self, rows: np.ndarray, width: int) -> "Tree":
        """Some of the rows, in arrays of another width; `last` and `node` still number the nodes of the whole tree."""
        part = copy.copy(self)
        for name in ("_arrays", "keep"):
            part.__dict__.pop(name, None)
        part._members, part._base = [self._members[b] for b in rows], self._base[rows]
        part.size, part.width = self.size[rows], width
        part.num_tokens = int(part.size.sum())
        return part

    def with_keep(self, keep: np.ndarray) -> "Tree":
        """The same tokens with another mask."""
        changed = copy.copy(self)
        changed.keep = keep
        return changed

    @property
    def token(self) -> np.ndarray:
        """Token ids, int64 [B, S]; padding is 0 and seen by nobody."""
        return self._arrays[0]

    @property
    def position(self) -> np.ndarray:
        """Depth of each token, int64 [B, S]."""
        return self._arrays[1]

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        token = np.zeros((len(self.size), self.width), dtype=np.int64)
        position = np.zeros_like(token)
        for b, row in enumerate(self._members):
            used = 0
            for i, shared in row:
                own = self._sequences[i][shared:]
                token[b, used : used + len(own)] = own
                position[b, used : used + len(own)] = np.arange(shared, shared + len(own))
                used += len(own)
        return token, position

    @cached_property
    def keep(self) -> np.ndarray:
        """True where a query (third axis) may attend to a key (fourth), bool [B, 1, S, S]."""
        keep = np.zeros((len(self.size), 1, self.width, self.width), dtype=bool)
        keep[:, 0, np.arange(self.width), np.arange(self.width)] = True
        triangle = np.tri(self.width, dtype=bool)
        for b, row in enumerate(self._members):
            used = 0
            for i, shared in row:
                new = len(self._sequences[i]) - shared
                if new:
                    queries = slice(used, used + new)
                    keep[b, 0, queries, self.node[i][:shared] - self._base[b]] = True
                    keep[b, 0, queries, queries] = triangle[:new, :new]
                used += new
        return keep


def grow(sequences: Sequence[np.ndarray], *, row_tokens: int = 160) -> Tree:
    """Pack sequences into trees.

    Sequences are laid out in lexicographic order, so that the layout depends on their content and not on the order
    of arrival. A new row begins where the current one would outgrow `row_tokens` (a single longer sequence gets a
    row of its own).

    Args:
      sequences: int arrays, each with at least one token; repetitions share their nodes.
      row_tokens: aim for the tokens of one packed row.
    """
    # Unsigned numbers with the highest byte first compare as bytes do, and bytes compare fast.
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())
    members: list[list[tuple[int, int]]] = []
    sizes: list[int] = []
    previous: np.ndarray | None = None
    for i in order:
        sequence = sequences[i]
        shared = 0 if previous is None else _common_prefix(previous, sequence)
        new = len(sequence) - shared
        if previous is None or (new and sizes[-1] + new > row_tokens):
            members.append([])
            sizes.append(0)
            shared, new = 0, len(sequence)
        members[-1].append((i, shared))
        sizes[-1] += new
        previous = sequence
    return Tree(sequences, members, np.array(sizes, dtype=np.int64))


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
    """Cut a tree into forward passes; passes without a wanted node are left out.

    Rows of much the same length are taken as they come. Where that would make more than a fifth of the passes
    padding, the longest rows come first and each pass is as wide as its longest row. A row that is longer than
    `batch_tokens` is alone.

    Args:
      tree: B packed rows.
      wanted: flat indices of nodes.
      batch_tokens: tokens, padding included, that one forward pass may hold.
    """
    row, place = np.divmod(wanted, max(tree.width, 1))
    for rows, width in _passes(tree, batch_tokens):
        at = np.full(len(tree.size), -1)
        at[rows] = np.arange(len(rows))
        chosen = np.flatnonzero(at[row] >= 0)
        if len(chosen) == 0:
            continue
        nodes, inverse = np.unique(at[row[chosen]] * width + place[chosen], return_inverse=True)
        yield Part(tree.take(rows, width), chosen, nodes, inverse.reshape(-1))


def _passes(tree: Tree, batch_tokens: int) -> Iterator[tuple[np.ndarray, int]]:
    """The rows of each forward pass, and how wide it is."""
    count, per_pass = len(tree.size), max(1, batch_tokens // max(tree.width, 1))
    if count <= per_pass or tree.num_tokens >= (1.0 - _PADDING) * count * tree.width:
        for b in range(0, count, per_pass):
            yield np.arange(b, min(b + per_pass, count)), tree.width
        return
    order, first = np.argsort(-tree.size, kind="stable"), 0
    while first < count:
        width = int(tree.size[order[first]])
        end = first + max(1, batch_tokens // width)
        yield order[first:end], width
        first = end


def _common_prefix(first: np.ndarray, second: np.ndarray) -> int:
    length = min(len(first), len(second))
    differs = np.flatnonzero(first[:length] != second[:length])
    return int(differs[0]) if len(differs) else length

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

# What a forward pass costs whatever it holds, in places of a row: fewer would be spared by cutting one in two.
_CALL = 512
# Rows are taken as they come unless sorting them spares this share: sums come out in the order of their content.
_SPARED = 0.1
# A longer row costs more attention, a new one what it shares with the last: this share of a sequence decides.
_SHARED = 0.9
# Without branches a longer row is faster without a mask; a shorter one is not.
_LONG = 512


class Tree:
    """B packed rows of at most S tokens.

    Attributes:
      size: tokens of each row, int64 [B].
      width: S, the columns of the arrays.
      last: for each input sequence, the flat index b·S + s of its last token, int64 [rows].
      node: for each input sequence, the flat indices of all its tokens.
      is_chain: whether a row is a single sequence and its beginnings, bool [B].
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
        longest = [max(len(sequences[i]) for i, _ in row) for row in members]
        self.is_chain = size == np.array(longest, dtype=np.int64)
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
        part.size, part.is_chain, part.width = self.size[rows], self.is_chain[rows], width
        part.num_tokens = int(part.size.sum())
        return part

    def with_keep(self, keep: np.ndarray) -> "Tree":
        """The same tokens with another mask."""
        changed = copy.copy(self)
        changed.keep, changed.is_chain = keep, np.zeros_like(self.is_chain)
        return changed

    @property
    def token(self) -> np.ndarray:
        """Token ids, int64 [B, S]; padding is the row's first token again, and seen by nobody."""
        return self._arrays[0]

    @property
    def position(self) -> np.ndarray:
        """Depth of each token, int64 [B, S]; padding is 0, and goes on counting after a single sequence."""
        return self._arrays[1]

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        # A special token of padding may be all zeros, of which some architectures have no gradient.
        first = np.array([self._sequences[row[0][0]][0] for row in self._members], dtype=np.int64)
        token = np.repeat(first, self.width).reshape(len(first), self.width)
        position = np.zeros_like(token)
        # Models take a row whose positions start again for several sequences, if they get no mask.
        position[self.is_chain] = np.arange(self.width)
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


def grow(sequences: Sequence[np.ndarray], *, row_tokens: int = 160, share: bool = True) -> Tree:
    """Pack sequences into trees.

    Sequences are laid out in lexicographic order, so that the layout depends on their content and not on the order
    of arrival. A new row begins where the current one would outgrow `row_tokens`; a single longer sequence gets a
    row of its own, which its beginnings share, and others of which most is shared, as long as it stays within the
    longest of all sequences.

    Args:
      sequences: int arrays, each with at least one token; repetitions share their nodes.
      row_tokens: aim for the tokens of one packed row.
      share: without it every sequence has a row of its own, whatever others begin with.
    """
    # Unsigned numbers with the highest byte first compare as bytes do, and bytes compare fast.
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())
    longest = max(map(len, sequences), default=0)
    members: list[list[tuple[int, int]]] = []
    sizes: list[int] = []
    previous: np.ndarray | None = None
    for i in order:
        sequence = sequences[i]
        shared = 0 if previous is None else _common_prefix(previous, sequence)
        new = len(sequence) - shared
        # The steps of a transcript extend each other: a row that is nothing but this sequence may be as long as it is.
        # What is asked after each of them branches off: without the second bound all would be computed again for each.
        most = max(row_tokens, longest if shared >= _SHARED * len(sequence) else len(sequence))
        if previous is None or not share or (new and sizes[-1] + new > most):
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

    Rows are taken as they come, in as few passes as hold them. Where it spares a tenth of the places, padding included,
    the longest rows come first, each pass is as wide as its longest row, and is cut where that spares more than a pass
    costs. Long rows without branches are apart from the others then, since they need no mask; where there are both,
    anything spared is enough. A row that is longer than `batch_tokens` is alone.

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


def _passes(tree: Tree, batch_tokens: int) -> list[tuple[np.ndarray, int]]:
    """The rows of each forward pass, and how wide it is."""
    count, per_pass = len(tree.size), max(1, batch_tokens // max(tree.width, 1))
    plain = [(np.arange(b, min(b + per_pass, count)), tree.width) for b in range(0, count, per_pass)]
    long = tree.is_chain & (tree.size > _LONG)
    cut: list[tuple[np.ndarray, int]] = []
    for rows in (np.flatnonzero(long), np.flatnonzero(~long)):
        order, first = rows[np.argsort(-tree.size[rows], kind="stable")], 0
        while first < len(order):
            end = first + max(1, batch_tokens // int(tree.size[order[first]]))
            cut += [(part, int(tree.size[part[0]])) for part in _cut(order[first:end], tree.size)]
            first = end
    # Among rows with branches long ones without would have a mask, which costs more than being sorted changes.
    spared = 0.0 if long.any() and not tree.is_chain.all() else _SPARED
    return cut if _cost(cut) < (1.0 - spared) * _cost(plain) else plain


def _cut(rows: np.ndarray, size: np.ndarray) -> list[np.ndarray]:
    """Cut a pass in two, and these again, where that spares most padding, as long as it pays; longest rows first."""
    spared = np.arange(len(rows), 0, -1) * (size[rows[0]] - size[rows])
    at = int(spared.argmax())
    return [*_cut(rows[:at], size), *_cut(rows[at:], size)] if spared[at] > _CALL else [rows]


def _cost(passes: list[tuple[np.ndarray, int]]) -> int:
    return sum(_CALL + len(rows) * width for rows, width in passes)


def _common_prefix(first: np.ndarray, second: np.ndarray) -> int:
    length = min(len(first), len(second))
    differs = np.flatnonzero(first[:length] != second[:length])
    return int(differs[0]) if len(differs) else length

"""Regular expressions whose matching takes time linear in the text, whoever wrote the text."""

import re
import warnings
from typing import NamedTuple

LONGEST_TEXT = 10_000
_LONGEST_PATTERN = 1_000
_MOST_POSITIONS = 500
_MOST_PARTS = 5_000
_DEEPEST = 50
_MOST_REMEMBERED = 4_096

_QUANTIFIER = re.compile(r"(?:([*+?])|\{([0-9]+)\}|\{([0-9]*),([0-9]*)\})\??")
_ESCAPE = re.compile(
    r"\\(?:[dDwWsSnrtfva]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[^0-9A-Za-z])", flags=re.DOTALL
)
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", flags=re.DOTALL)


class Pattern:
    r"""A regular expression in the narrow sense, held against a whole text.

    Supported, with the meaning that Python's `re` gives them: literals, `[...]`, `\d \D \w \W \s \S` and the
    escapes of single characters, `( )`, `(?: )`, `|`, and `* + ? {m} {m,} {,n} {m,n}`. `.` is any character, a line
    break included. `^` may open and `$` may close the pattern; they change nothing. What is not regular (references
    back, looking around) or has a state (flags) is refused.

    Python's own matcher needs time exponential in the text for patterns as harmless as `(a+)+b`, and the text comes
    from a model. This one follows all the ways to read a text at once (Glushkov's automaton, a bit for each of the
    at most 500 positions of a pattern): a character costs at most one look at every position.

    Raises:
      ValueError: the pattern is none, or is not supported; says why.
    """

    def __init__(self, source: str) -> None:
        if len(source) > _LONGEST_PATTERN:
            raise ValueError(f"it has {len(source)} characters, and {_LONGEST_PATTERN} are the most")
        self._follow: list[int] = [0]
        # One-character patterns with the positions that they are at.
        self._positions: dict[str, int] = {}
        self._parts = 0
        whole = self._build(_Parser(_without_anchors(source)).whole())
        self._follow[0] = whole.first
        self._last = whole.last | int(whole.nullable)
        self._sets = [(re.compile(text, re.DOTALL), positions) for text, positions in self._positions.items()]
        self._reach: dict[int, int] = {}
        self._readers: dict[str, int] = {}

    def matches(self, text: str) -> bool:
        """Whether the pattern matches the whole text."""
        active = 1
        for character in text:
            active = self._reached(active) & self._reading(character)
            if not active:
                return False
        return bool(active & self._last)

    def _reached(self, active: int) -> int:
        """The positions that may follow on any of the active ones."""
        known = self._reach.get(active)
        if known is None:
            known = 0
            for position in _bits(active):
                known |= self._follow[position]
            _remember(self._reach, active, known)
        return known

    def _reading(self, character: str) -> int:
        """The positions that read a character."""
        known = self._readers.get(character)
        if known is None:
            known = 0
            for one, positions in self._sets:
                if one.fullmatch(character):
                    known |= positions
            _remember(self._readers, character, known)
        return known

    def _build(self, node: "_Node") -> "_Piece":
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise ValueError("it repeats too much; make the bounds in { } smaller")
        if isinstance(node, _One):
            return self._position(node.source)
        if isinstance(node, _Either):
            pieces = [self._build(part) for part in node.parts]
            first, last = 0, 0
            for piece in pieces:
                first, last = first | piece.first, last | piece.last
            return _Piece(any(piece.nullable for piece in pieces), first, last)
        if isinstance(node, _Repeat):
            return self._repeat(node)
        piece = _EMPTY
        for part in node.parts:
            piece = self._join(piece, self._build(part))
        return piece

    def _position(self, source: str) -> "_Piece":
        position = len(self._follow)
        if position > _MOST_POSITIONS:
            raise ValueError(f"it reads more than {_MOST_POSITIONS} characters; make the bounds in {{ }} smaller")
        self._follow.append(0)
        self._positions[source] = self._positions.get(source, 0) | 1 << position
        return _Piece(False, 1 << position, 1 << position)

    def _join(self, left: "_Piece", right: "_Piece") -> "_Piece":
        for position in _bits(left.last):
            self._follow[position] |= right.first
        return _Piece(
            left.nullable and right.nullable,
            left.first | (right.first if left.nullable else 0),
            right.last | (left.last if right.nullable else 0),
        )

    def _repeat(self, node: "_Repeat") -> "_Piece":
        """The part written out: as often as it must be there, then as often as it may."""
        piece = _EMPTY
        for _ in range(node.low):
            piece = self._join(piece, self._build(node.part))
        if node.high is None:
            more = self._build(node.part)
            return self._join(piece, self._join(more, more)._replace(nullable=True))
        for _ in range(node.high - node.low):
            piece = self._join(piece, self._build(node.part)._replace(nullable=True))
        return piece


class _Piece(NamedTuple):
    """A part of the automaton: may it be empty, and the positions that may come first and last in it."""

    nullable: bool
    first: int
    last: int


_EMPTY = _Piece(True, 0, 0)


class _One(NamedTuple):
    source: str


class _Sequence(NamedTuple):
    parts: tuple["_Node", ...]


class _Either(NamedTuple):
    parts: tuple["_Node", ...]


class _Repeat(NamedTuple):
    part: "_Node"
    low: int
    high: int | None


_Node = _One | _Sequence | _Either | _Repeat


class _Parser:
    """Reads a pattern from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def whole(self) -> _Node:
        node = self._alternatives()
        if self.at < len(self.text):
            raise ValueError("a ')' closes nothing")
        return node

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _alternatives(self) -> _Node:
        branches = [self._sequence()]
        while self._next() == "|":
            self.at += 1
            branches.append(self._sequence())
        return _Either(tuple(branches))

    def _sequence(self) -> _Node:
        parts = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._repeated())
        return _Sequence(tuple(parts))

    def _repeated(self) -> _Node:
        part = self._group() if self._next() == "(" else self._one()
        found = _QUANTIFIER.match(self.text, self.at)
        if found is None:
            return part
        self.at = found.end()
        if self._next() == "+" or _QUANTIFIER.match(self.text, self.at):
            raise ValueError(f"{found[0]!r} is followed by another quantifier; put a group around the first")
        sign, exactly, low, high = found.groups()
        if sign:
            return _Repeat(part, *{"*": (0, None), "+": (1, None), "?": (0, 1)}[sign])
        bounds = (int(exactly), int(exactly)) if exactly else (int(low or 0), int(high) if high else None)
        if bounds[1] is not None and bounds[0] > bounds[1]:
            raise ValueError(f"{found[0]!r} has a lower bound above the upper one")
        return _Repeat(part, *bounds)

    def _group(self) -> _Node:
        is_plain = self.text.startswith("(?:", self.at)
        if self.text.startswith("(?", self.at) and not is_plain:
            raise ValueError("of what begins with '(?' only '(?:' is supported; a negation is the predicate 'not'")
        self.at += 3 if is_plain else 1
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError(f"its groups are nested more than {_DEEPEST} deep")
        node = self._alternatives()
        if self._next() != ")":
            raise ValueError("a '(' is never closed")
        self.at += 1
        self.depth -= 1
        return node

    def _one(self) -> _Node:
        character = self._next()
        if character in "*+?{":
            raise ValueError(f"{character!r} has nothing to repeat; write \\{character} for the character itself")
        if character in "^$":
            raise ValueError(f"{character!r} stands inside; the whole text is matched anyway, so leave it out")
        if character not in "[\\":
            self.at += 1
            return _One("." if character == "." else re.escape(character))
        found = (_CLASS if character == "[" else _ESCAPE).match(self.text, self.at)
        if found is None:
            what = "a '[' is never closed" if character == "[" else "it has a '\\' that is no supported escape"
            raise ValueError(what)
        self.at = found.end()
        return _One(_checked_set(found[0]))


def _checked_set(source: str) -> str:
    """A one-character pattern, if `re` takes it without a word."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(source, re.DOTALL)
    except (re.error, Warning) as error:
        raise ValueError(f"{source!r} is no set of characters: {error}") from error
    return source


def _without_anchors(source: str) -> str:
    """The pattern without `^` before and `$` after it, which say nothing about a whole text."""
    source = source.removeprefix("^")
    body = source.removesuffix("$")
    is_escaped = (len(body) - len(body.rstrip("\\"))) % 2 == 1
    return source if is_escaped else body


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def _remember(memo: dict, key: object, value: int) -> None:
    # What is remembered depends on a model's text and therefore needs a bound.
    if len(memo) >= _MOST_REMEMBERED:
        memo.clear()
    memo[key] = value

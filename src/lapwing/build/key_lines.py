"""On which line of a TOML file each key is: `tomllib` reads the values and forgets where they were.

The grammar followed here is that of TOML 1.0 (https://toml.io/en/v1.0.0), for text that `tomllib` accepts. Where a text
is no TOML the scan ends early, and `tomllib` says what is wrong.
"""

import contextlib
import re
import tomllib
from dataclasses import dataclass, field

KeyPath = tuple[str | int, ...]

# Deeper than any recipe; `tomllib` takes a time that grows with the square of the depth, or ends at the stack's.
DEEPEST = 32
_BLANK = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*+"')
_LITERAL = re.compile(r"'[^'\n]*'")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_STOP = re.compile(r'\\|"""')


class TooDeep(Exception):
    """Tables, lists or dotted keys inside one another beyond any use; `line` says where."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _NoTOML(Exception):
    """The text ends or goes on in a way that TOML does not know."""


@dataclass
class KeyLines:
    """Where the keys of a text are.

    Attributes:
      lines: from the path of a key (names, and numbers in lists) to its line, from 1.
      twice: of keys that are set again, the path, the first line and the line of the repetition.
    """

    lines: dict[KeyPath, int] = field(default_factory=dict)
    twice: list[tuple[KeyPath, int, int]] = field(default_factory=list)


def key_lines(text: str) -> KeyLines:
    """Find the line of every key, table and list item.

    Args:
      text: TOML with lines that end in a line feed.

    Returns:
      The lines; of a text that is no TOML, those up to where it ceases to be.

    Raises:
      TooDeep: something is nested more than 32 levels deep.
    """
    scan = _Scan(text)
    with contextlib.suppress(_NoTOML):
        scan.document()
    return scan.found


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found = KeyLines()
        # Line breaks are counted once: up to `counted` there were `line` - 1.
        self.counted, self.line = 0, 1
        # Of each array of tables, how many there are.
        self.tables: dict[KeyPath, int] = {}
        self.declared: set[KeyPath] = set()

    def here(self) -> int:
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.line

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise _NoTOML
        self.at = match.end()
        return match[0]

    def starts(self, mark: str) -> bool:
        """Go past a mark, if it is next."""
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def need(self, mark: str) -> None:
        if not self.starts(mark):
            raise _NoTOML

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self.take(_BETWEEN)
            if self.at == len(self.text):
                return
            line = self.here()
            if self.starts("[["):
                table = self.header(line, "]]")
            elif self.starts("["):
                table = self.header(line, "]")
            else:
                self.pair(table, 1)

    def header(self, line: int, end: str) -> KeyPath:
        *before, last = self.key()
        self.need(end)
        path = (*self.inside(before, line), last)
        if end == "]":
            if path in self.declared or path in self.tables:
                self.found.twice.append((path, self.found.lines[path], line))
            self.declared.add(path)
            self.found.lines[path] = line
            return path
        self.found.lines.setdefault(path, line)
        number = self.tables[path] = self.tables.get(path, -1) + 1
        self.found.lines[(*path, number)] = line
        return (*path, number)

    def inside(self, parts: list[str], line: int) -> KeyPath:
        """The path of a header's parts: a list of tables stands for the last of them."""
        path: KeyPath = ()
        for part in parts:
            path = (*path, part)
            self.found.lines.setdefault(path, line)
            if path in self.tables:
                path = (*path, self.tables[path])
        return path

    def key(self) -> list[str]:
        parts = []
        while True:
            self.take(_BLANK)
            parts.append(self.part())
            if len(parts) > DEEPEST:
                raise TooDeep(self.here())
            self.take(_BLANK)
            if not self.starts("."):
                return parts

    def part(self) -> str:
        if self.text.startswith('"', self.at):
            quoted = self.take(_BASIC)
            try:
                return tomllib.loads(f"key = {quoted}")["key"]
            except ValueError:
                raise _NoTOML from None
        if self.text.startswith("'", self.at):
            return self.take(_LITERAL)[1:-1]
        return self.take(_BARE)

    def pair(self, table: KeyPath, depth: int) -> None:
        line = self.here()
        path = table
        *before, last = self.key()
        for part in before:
            path = (*path, part)
            self.found.lines.setdefault(path, line)
        path = (*path, last)
        if path in self.found.lines:
            self.found.twice.append((path, self.found.lines[path], line))
        self.found.lines.setdefault(path, line)
        self.need("=")
        self.take(_BLANK)
        self.value(path, depth)

    def value(self, path: KeyPath, depth: int) -> None:
        if depth > DEEPEST:
            raise TooDeep(self.here())
        if self.starts('"""'):
            self.long_basic()
        elif self.starts("'''"):
            self.long_literal()
        elif self.text.startswith('"', self.at):
            self.take(_BASIC)
        elif self.text.startswith("'", self.at):
            self.take(_LITERAL)
        elif self.starts("["):
            self.array(path, depth)
        elif self.starts("{"):
            self.inline_table(path, depth)
        else:
            self.take(_SCALAR)

    def long_basic(self) -> None:
        while (match := _STOP.search(self.text, self.at)) is not None:
            self.at = match.end()
            if match[0] == "\\":
                self.at += 1
            else:
                self.closing('"')
                return
        raise _NoTOML

    def long_literal(self) -> None:
        end = self.text.find("'''", self.at)
        if end < 0:
            raise _NoTOML
        self.at = end + 3
        self.closing("'")

    def closing(self, quote: str) -> None:
        """Up to two quotes before the closing three belong to the text."""
        for _ in range(2):
            self.starts(quote)

    def array(self, path: KeyPath, depth: int) -> None:
        number = 0
        self.take(_BETWEEN)
        while not self.starts("]"):
            self.found.lines[(*path, number)] = self.here()
            self.value((*path, number), depth + 1)
            number += 1
            self.take(_BETWEEN)
            if not self.starts(","):
                self.need("]")
                return
            self.take(_BETWEEN)

    def inline_table(self, path: KeyPath, depth: int) -> None:
        self.take(_BLANK)
        if self.starts("}"):
            return
        while True:
            self.take(_BLANK)
            self.pair(path, depth + 1)
            self.take(_BLANK)
            if self.starts("}"):
                return
            self.need(",")

"""Where a recipe says what: a file and its line, or an override of the command line."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lapwing.build.key_lines import DEEPEST, KeyPath, TooDeep, key_lines
from lapwing.core.errors import UserError, shortened, shown

_LONGEST_OVERRIDE = 60
_LONGEST_SENTENCE = 500
MOST_SENTENCES = 20
_POSITION = re.compile(r" \(at line (\d+), column (\d+)\)")
_KEY = re.compile(r"[\w-]{1,60}")
_QUOTES = ("'", '"')  # a key that is not plain is written in them
_GOES_ON = re.compile(r"[\w-]")
_WORD = re.compile(r"[A-Za-z]\w*(?:\.\w+)*|(?<!\w)'[^']{0,60}'")
# What follows a key that a sentence speaks of, and not a word that is one by chance, such as `every`.
_SAYS = re.compile(r" is\b| are\b| must\b| \(|:")


@dataclass(frozen=True)
class Source:
    """A text of TOML that was read.

    Attributes:
      label: what people call it: a file's path, or "recipe NAME" of a shipped one.
      lines: from the path of each key in the text to its line.
    """

    label: str
    lines: Mapping[KeyPath, int]

    def before(self, *path: str | int) -> str:
        """What stands before a sentence about a key: its place and a colon."""
        return f"{place}: " if (place := self.place(*path)) else ""

    def place(self, *path: str | int) -> str:
        """The file with the line of a key, or of what is around it where there is no such key."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{self.label}, line {self.lines[path[:length]]}"
        return self.label


@dataclass
class Places:
    """From the path of a setting, (stage, section, key, …), to the place that says it."""

    _of: dict[KeyPath, str] = field(default_factory=dict)

    @staticmethod
    def of(source: Source, stages: list[dict[str, Any]]) -> "Places":
        """The places of a text's stages, by their names."""
        names = {number: stage["name"] for number, stage in enumerate(stages)}
        found = {
            (names[path[1]], *path[2:]): source.place(*path)
            for path in source.lines
            if len(path) > 1 and path[0] == "stage" and path[1] in names
        }
        return Places(found)

    def add(self, other: "Places") -> None:
        """Another text says something too; where both do, it is the other's."""
        self._of |= other._of

    def forget(self, path: KeyPath) -> None:
        """A path and all that is inside it are said elsewhere now."""
        self._of = {key: place for key, place in self._of.items() if key[: len(path)] != path}

    def set(self, path: KeyPath, place: str) -> None:
        """An override says a path; tables around it that nobody else names are its own too."""
        self.forget(path)
        for length in range(1, len(path)):
            self._of.setdefault(path[:length], place)
        self._of[path] = place

    def texts(self, path: KeyPath) -> dict[KeyPath, str]:
        """The file, recipe or override that says a setting and each that is inside it, by their paths."""
        inside = {said: place for said, place in self._of.items() if said[: len(path)] == path}
        return {said: place.rpartition(", line ")[0] or place for said, place in inside.items()}

    def find(self, path: KeyPath, shared: tuple[str, ...]) -> str | None:
        """The place of a setting, or of what is around it.

        Args:
          path: of the setting.
          shared: sections that a stage takes from the main one where it says nothing itself.
        """
        if not path:
            return None
        has_main = len(path) > 1 and path[1] in shared
        for length in range(len(path), 0, -1):
            if path[:length] in self._of:
                return self._of[path[:length]]
            if has_main and length > 1 and ("main", *path[1:length]) in self._of:
                return self._of[("main", *path[1:length])]
        return None


def parse_toml(text: str, label: str) -> tuple[dict[str, Any], Source]:
    """The tables of a text, and where its keys are.

    Args:
      text: with lines that end in a line feed.
      label: what people call it.

    Raises:
      UserError: it is no TOML.
    """
    try:
        found = key_lines(text)
    except TooDeep as error:
        raise UserError(f"{label}, line {error.line}: this is nested more than {DEEPEST} levels deep.") from error
    source = Source(label, found.lines)
    try:
        return tomllib.loads(text), source
    except ValueError as error:
        for path, first, line in found.twice:
            key = ".".join(map(str, path))
            raise UserError(f"{label}, line {line}: {shown(key)} is there twice; line {first} has it first.") from error
        if not isinstance(error, tomllib.TOMLDecodeError):  # a number of more than 4,300 digits
            raise UserError(f"{label}: a number has too many digits.") from error
        at = _POSITION.search(str(error))
        place = f", line {at[1]}, column {at[2]}" if at else ""
        raise UserError(f"{label}{place}: this is no TOML: {_POSITION.sub('', str(error))}.") from error


def all_at_once(name: str, sentences: Sequence[str]) -> str:
    """One sentence, or all of them in a list; of very many the first.

    Args:
      name: of the recipe.
      sentences: what is wrong, each with its place.
    """
    sentences = [shortened(sentence, _LONGEST_SENTENCE) for sentence in sentences]
    if len(sentences) == 1:
        return sentences[0]
    listed = [f"  - {sentence}" for sentence in sentences[:MOST_SENTENCES]]
    if len(sentences) > MOST_SENTENCES:
        listed.append(f"  - … and {len(sentences) - MOST_SENTENCES} more")
    return "\n".join([f"Recipe '{name}' has {len(sentences)} errors:", *listed])


def override_place(override: str) -> str:
    """An override as a sentence names it."""
    return f"--set {shortened(' '.join(override.split()), _LONGEST_OVERRIDE)}"


def spoken_of(sentence: str, stages: Mapping[str, Mapping[str, Any]]) -> KeyPath:
    """The path of the setting that a sentence about a recipe is about.

    Args:
      sentence: it begins with a path, as in "main.sampler: sampler.groups is at least 1, not 0."
      stages: the tables of the stages by name.

    Returns:
      The path in the recipe's own words: sections by their keys, the entries of lists by numbers.
    """
    path: KeyPath = ()
    table: Any = stages
    rest = sentence
    while (step := _next_step(table, rest)) is not None:
        keys, rest = step
        path = (*path, *keys)
        for key in keys:
            table = table[key]
        if not rest.startswith("."):
            return path if not isinstance(table, (dict, list)) else _mentioned(rest, path, table)
        rest = rest[1:]
    return path


def plain_key(key: str) -> str:
    """A key as a sentence writes it: as it is, or in quotes where it has blanks and the like."""
    return key if _KEY.fullmatch(key) else shown(key)


def _next_step(table: Any, text: str) -> tuple[KeyPath, str] | None:
    """The keys with which a text's path goes on inside a table, and what is left of the text."""
    found = [
        (len(name), keys)
        for name, keys in _names(table, text)
        if text.startswith(name) and not _GOES_ON.match(text, len(name))
    ]
    if not found:
        return None
    length, keys = max(found, key=lambda pair: pair[0])
    return keys, text[length:]


def _names(table: Any, text: str) -> Iterator[tuple[str, KeyPath]]:
    """What a sentence may call the things in a table: sections by what they are too, entries of lists by number.

    Of thousands of keys only those that the text may begin with are written as a sentence writes them.
    """
    items = table.items() if isinstance(table, Mapping) else enumerate(table) if isinstance(table, list) else ()
    for key, value in items:
        if text.startswith((str(key), *_QUOTES)):
            yield plain_key(str(key)), (key,)
        entries = [((key,), value)]
        if isinstance(value, list):
            entries = [((key, number), entry) for number, entry in enumerate(value)]
        for keys, entry in entries:
            if isinstance(entry, Mapping) and isinstance(entry.get("name"), str) and isinstance(key, str):
                yield entry["name"], keys
            if isinstance(key, int) and isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
                yield entry["name"], keys


def _mentioned(text: str, path: KeyPath, table: Any) -> KeyPath:
    """The setting below a path that a text speaks of, if it speaks of one; else the path."""
    every = list(_inside(table, path))
    for match in _WORD.finditer(text):
        word = match[0]
        if word.startswith("'"):
            quoted = [found for found, value in every if value == word[1:-1]]
            if len(quoted) == 1:
                return quoted[0]
        elif "." in word or "_" in word or _SAYS.match(text, match.end()):
            # `sampler.groups` in a sentence about the sampler: the section need not be said.
            parts = tuple(word.split("."))
            keys = [found for found, _ in every if found[-len(parts) :] == parts and found[-1] != "name"]
            keys = keys or [found for found, _ in every if found[-1] == parts[-1] and parts[:-1] == path[-1:]]
            if len(keys) == 1:
                return keys[0]
    return path


def _inside(table: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    items = table.items() if isinstance(table, Mapping) else enumerate(table) if isinstance(table, list) else ()
    for name, value in items:
        yield (*path, name), value
        yield from _inside(value, (*path, name))

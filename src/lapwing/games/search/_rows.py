"""The rows of files of documents and questions, each with the place where it stands."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lapwing.core.errors import UserError

_LONGEST_LINE = 256 * 2**20
_LONGEST_VALUE = 60


class Row(NamedTuple):
    """One row, and where it stands, as "corpus.jsonl, line 3"."""

    where: str
    value: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """A field as text, whole numbers included; None where it is missing or null.

        Raises:
          UserError: it is something else.
        """
        value = self.value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise UserError(f"{self.where}: the field '{name}' is a text, not {shown(value)}.")
        return clean(str(value))

    def needed(self, name: str) -> str:
        """A field that has to be there, as text.

        Raises:
          UserError: it is missing, blank or no text.
        """
        found = self.text(name)
        if found is None or not found.strip():
            present = ", ".join(sorted(map(str, self.value)))[:200] or "none"
            raise UserError(f"{self.where} has no field '{name}' with a text; its fields are: {present}.")
        return found


def clean(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode("utf-8")


def shown(value: Any) -> str:
    """A value as short ASCII text: what a file holds cannot steer a terminal."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def read_lines(path: Path) -> Iterator[Row]:
    """Every row of a JSONL file; blank lines are passed over.

    Raises:
      UserError: the file cannot be read, or a line is no JSON object in UTF-8; the sentence names file and line.
    """
    number = 0
    try:
        with path.open("rb") as stream:
            while line := stream.readline(_LONGEST_LINE + 1):
                number += 1
                where = f"{path.name}, line {number}"
                if len(line) > _LONGEST_LINE:
                    raise UserError(f"{where} is longer than 256 MiB; give one row a line.")
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if line.strip():
                    yield _object(_parsed(line, where), where)
    except OSError as error:
        raise UserError(f"{path} could not be read: {error.strerror or error}.") from error


def read_array(path: Path) -> Iterator[Row]:
    """Every row of a JSON file that holds an array of objects.

    Raises:
      UserError: the file cannot be read or holds something else.
    """
    try:
        value = _parsed(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), path.name)
    except OSError as error:
        raise UserError(f"{path} could not be read: {error.strerror or error}.") from error
    if not isinstance(value, list):
        raise UserError(f"{path.name} is no JSON array but {shown(value)}; give an array of rows, or one row a line.")
    for number, row in enumerate(value, 1):
        yield _object(row, f"{path.name}, row {number}")


def _parsed(data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 text at byte {error.start + 1}; write the file as UTF-8.") from error
    except RecursionError as error:
        raise UserError(f"{where} is nested too deeply to be a row.") from error
    except ValueError as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{where} is not JSON ({reason}); give one JSON object a line.") from error


def _object(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{where} is no JSON object but {shown(value)}; give every row as an object.")
    return Row(where, value)

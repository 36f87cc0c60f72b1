"""The rows of JSONL files, one line at a time, plain or gzipped."""

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from lapwing.core.errors import UserError

_LONGEST_LINE = 256 * 2**20
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_BOM = b"\xef\xbb\xbf"
_LONGEST_VALUE = 60


class Line(NamedTuple):
    """One line of a file, not yet read, and where it stands, as "episodes.jsonl, line 3"."""

    where: str
    text: bytes


class Row(NamedTuple):
    """One object of a file and where it stands."""

    where: str
    value: dict[str, Any]


def shown(value: Any) -> str:
    """A value as short ASCII text: what a file holds cannot steer a terminal."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def read_lines(file: Path, *, of: str = "episode") -> Iterator[Line]:
    """Every line of a file that is not empty.

    Args:
      file: plain or gzipped; its first bytes decide, not its name.
      of: what a line holds, for messages.

    Raises:
      UserError: the file cannot be read, or a line is longer than any sensible one.
    """
    number = 0
    try:
        with _open(file) as stream:
            while line := stream.readline(_LONGEST_LINE + 1):
                number += 1
                where = f"{file.name}, line {number}"
                text = line.removeprefix(_BOM) if number == 1 else line
                if len(text) > _LONGEST_LINE:
                    raise UserError(f"{where} is longer than 256 MiB; give one {of} a line.")
                if text.strip():
                    yield Line(where, text)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{file} could not be read after line {number}: {reason}.") from error


def read_row(line: Line, *, of: str = "episode") -> Row:
    """The object that a line holds.

    Args:
      line: of `read_lines`.
      of: what a line holds, for messages.

    Raises:
      UserError: it is no JSON object; the sentence names file and line.
    """
    where = line.where
    try:
        value = json.loads(line.text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 text at byte {error.start + 1}; write the file as UTF-8.") from error
    except RecursionError as error:
        raise UserError(f"{where} is nested too deeply to be read.") from error
    except ValueError as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{where} is not JSON ({reason}); give one JSON object a line.") from error
    if not isinstance(value, dict):
        raise UserError(f"{where} is no JSON object but {shown(value)}; give one {of} a line, as an object.")
    return Row(where, value)


@contextlib.contextmanager
def _open(file: Path) -> Iterator[IO[bytes]]:
    with file.open("rb") as stream:
        # The first bytes decide, because files are renamed.
        start = stream.peek(4)[:4]
        if start == _PARQUET:
            raise UserError(
                f"{file} is a Parquet file; write it as JSONL first: "
                "pandas.read_parquet(…).to_json(…, orient='records', lines=True)."
            )
        yield gzip.GzipFile(fileobj=stream) if start[:2] == _GZIP else stream  # pyright: ignore[reportReturnType]

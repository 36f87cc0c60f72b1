"""The rows of JSONL files, one line at a time, plain or gzipped."""

import contextlib
import gzip
import json
import re
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


class Row(NamedTuple):
    """One object of a file and where it stands, as "episodes.jsonl, line 3"."""

    where: str
    value: dict[str, Any]


def shown(value: Any) -> str:
    """A value as short ASCII text: what a file holds cannot steer a terminal."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def find_files(path: Path) -> list[Path]:
    """The files that a path stands for: itself, or the JSONL files of a folder in the order of their numbers.

    Of the folder of a run, the files of its `episodes/` are meant.

    Raises:
      UserError: there is no such path, or the folder holds no such file.
    """
    if not path.exists():
        raise UserError(f"There is no file or folder {path}.")
    if not path.is_dir():
        return [path]
    is_run = (path / "recipe.toml").is_file() or (path / "episodes").is_dir()
    folder = path / "episodes" if is_run else path
    try:
        inside = sorted(folder.iterdir(), key=_by_number) if folder.is_dir() else []
    except OSError as error:
        raise UserError(f"{folder} could not be read: {error.strerror}.") from error
    found = [file for file in inside if file.is_file() and file.name.endswith((".jsonl", ".jsonl.gz"))]
    if not found:
        raise UserError(f"{folder} holds no file *.jsonl or *.jsonl.gz; name a file of transcripts.")
    return found


def _by_number(file: Path) -> list[Any]:
    # "9.jsonl" comes before "10.jsonl".
    parts = re.split(r"([0-9]+)", file.name)
    return [(int(part[:18]), part) if part.isdecimal() else (-1, part) for part in parts]


def read_rows(files: list[Path]) -> Iterator[Row]:
    """Every row of some files in order; empty lines are passed over.

    Raises:
      UserError: a file cannot be read, or a line is no JSON object; the sentence names file and line.
    """
    for file in files:
        number = 0
        try:
            with _open(file) as stream:
                while line := stream.readline(_LONGEST_LINE + 1):
                    number += 1
                    where = f"{file.name}, line {number}"
                    text = line.removeprefix(_BOM) if number == 1 else line
                    if len(text) > _LONGEST_LINE:
                        raise UserError(f"{where} is longer than 256 MiB; give one episode a line.")
                    if text.strip():
                        yield Row(where, _parse(text, where))
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"{file} could not be read after line {number}: {reason}.") from error


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


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 text at byte {error.start + 1}; write the file as UTF-8.") from error
    except RecursionError as error:
        raise UserError(f"{where} is nested too deeply to be an episode.") from error
    except ValueError as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{where} is not JSON ({reason}); give one JSON object a line.") from error
    if not isinstance(value, dict):
        raise UserError(f"{where} is no JSON object but {shown(value)}; give one episode a line, as an object.")
    return value

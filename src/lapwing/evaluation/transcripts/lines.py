"""Files of transcripts: which ones a path stands for, and their rows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lapwing.core.errors import UserError
from lapwing.core.json_lines import Row, read_lines, read_row, shown

__all__ = ["Row", "find_files", "read_rows", "shown"]


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
        for line in read_lines(file):
            yield read_row(line)

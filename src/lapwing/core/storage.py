"""Files that are either whole or absent, canonical JSON, hashes."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lapwing.core.errors import LapwingError

_TEMPORARY = re.compile(r"\..+\.lapwing-(\d+)-[0-9a-f]{8}\.tmp")
_PLAIN = frozenset({str, int, float, bool, type(None)})
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def temporary_beside(path: Path) -> Path:
    """A new name in the folder of `path`, by which `leftovers` knows it again and who was writing it."""
    return path.with_name(f".{path.name}.lapwing-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def leftovers(folder: Path) -> list[Path]:
    """What dead writers left half-written in a folder: names of `temporary_beside` whose process is gone.

    A process of another machine cannot be seen here: ask only where nobody else writes.
    """
    found = []
    for path in folder.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match is not None and not _is_alive(int(match[1])):
            found.append(path)
    return sorted(found)


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # what this process is writing now it does not ask for
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a power cut, where the system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems
        pass
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and rename it over `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; lone surrogates are replaced."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors="replace"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all; NaN and infinities are refused."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """The text that `write_json` writes."""
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
      LapwingError: the file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LapwingError(f"{path} could not be read as JSON: {error}.") from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a JSONL file; a half-written last line is left out.

    Raises:
      LapwingError: a whole line is no JSON object.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_object(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line]


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LapwingError(f"{where} is damaged: {error}.") from error
    if not isinstance(value, dict):
        raise LapwingError(f"{where} is damaged: it holds no object.")
    return value


@functools.lru_cache(maxsize=1024)
def _field_names(kind: type[Any]) -> tuple[str, ...]:
    return tuple([field.name for field in dataclasses.fields(kind)])


def to_plain(value: Any) -> Any:
    """Turn frozen data into JSON types: dataclasses to objects, tuples to lists, NumPy scalars to numbers."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is tuple or kind is list:
        return [v if type(v) in _PLAIN else to_plain(v) for v in value]
    if dataclasses.is_dataclass(kind):
        return {name: to_plain(getattr(value, name)) for name in _field_names(kind)}
    if isinstance(value, dict):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((to_plain(v) for v in value), key=repr)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no blanks."""
    return _CANONICAL.encode(to_plain(value))


def key_of(value: Any) -> int:
    """The 64-bit key of a view or an action, blake2b-64 of its canonical JSON; never 0."""
    return bytes_key(canonical_json(value).encode("utf-8", errors="replace"))


def bytes_key(data: bytes) -> int:
    """The 64-bit key of some bytes, blake2b-64; never 0."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") or 1


def content_hash(value: Any) -> str:
    """A short hash of a value's canonical JSON, for cache names."""
    return hashlib.blake2b(canonical_json(value).encode("utf-8", errors="replace"), digest_size=12).hexdigest()
